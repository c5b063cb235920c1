"""The names of ``largesteps``: the same signatures and steps as the released package, and a script of its kind."""

import copy
import inspect
import re

import largesteps.geometry
import largesteps.optimize
import largesteps.parameterize
import largesteps.solvers
import pytest
import torch
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import PackedParameter, compat
from pt3d_largesteps.compat.optimize import AdamUniform
from support.comparing import assert_same_path
from support.compat_cases import packed
from support.documents import ROOT
from support.shapes import ragged

MODULES = ("geometry", "optimize", "parameterize", "solvers")
# What only serves their cache; names that they import themselves, from others and from each other.
NOT_OFFERED = {"geometry": set(), "optimize": set(), "solvers": {"CholeskySolverF", "Function", "MatrixType"}}
NOT_OFFERED["parameterize"] = {"cache_put", "CholeskySolver", "ConjugateGradientSolver", "solve"}


def public_names(module):
    names = {name for name in dir(module) if callable(getattr(module, name)) and not name.startswith("_")}
    return names - NOT_OFFERED[module.__name__.rpartition(".")[2]]


def parameters_of(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


class TestSignatures:
    @pytest.mark.parametrize("module", MODULES)
    def test_every_public_name_with_its_parameters_and_defaults(self, module):
        theirs, ours = getattr(largesteps, module), getattr(compat, module)
        names = public_names(theirs)
        assert names
        for name in names:
            their_object, our_object = getattr(theirs, name), getattr(ours, name)
            assert parameters_of(our_object) == parameters_of(their_object), name
            methods = [m for m in vars(their_object) if not m.startswith("_")] if inspect.isclass(their_object) else []
            for method in methods:
                expected = parameters_of(getattr(their_object, method))
                # Theirs has no closure.
                assert parameters_of(getattr(our_object, method))[: len(expected)] == expected, (name, method)

    def test_the_package_has_them_all(self):
        for module in MODULES:
            assert public_names(getattr(largesteps, module)) <= set(compat.__all__)
        for name in compat.__all__:
            assert name == "solve" or getattr(compat, name).__doc__, name


class TestAdamUniform:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("options", [{}, {"lr": 3e-2}, {"lr": 1.0, "betas": (0.5, 0.9)}])
    def test_step_for_step(self, dtype, options, device):
        ours = torch.nn.Parameter(torch.randn(20, 3, dtype=dtype, device=device))
        theirs = copy.deepcopy(ours)
        optimizers = AdamUniform([ours], **options), largesteps.optimize.AdamUniform([theirs], **options)
        for step in range(40):
            gradient = torch.randn_like(ours) * torch.logspace(-3, 3, 3, dtype=dtype, device=device)
            for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
                parameter.grad = gradient.clone()
                optimizer.step()
            assert_same_path(ours, theirs, step + 1)

    def test_positions_of_the_arguments(self):
        (group,) = AdamUniform([torch.zeros(3, requires_grad=True)], 3e-2, (0.8, 0.99)).param_groups
        assert (group["lr"], group["betas"], group["eps"]) == (3e-2, (0.8, 0.99), 1e-8)

    def test_parameters_without_a_gradient(self):
        used, unused = (torch.nn.Parameter(torch.ones(4, 3)) for _ in range(2))
        used.grad = torch.ones(4, 3)
        with pytest.raises(AttributeError):
            largesteps.optimize.AdamUniform([used, unused]).step()
        used.data.fill_(1.0)
        AdamUniform([used, unused]).step()
        assert torch.equal(unused, torch.ones(4, 3))
        assert float(used.detach().max()) == pytest.approx(0.9)

    def test_a_state_that_they_have_saved(self):
        parameter = torch.nn.Parameter(torch.randn(9, 3))
        theirs = largesteps.optimize.AdamUniform([parameter], lr=0.02)
        gradients = torch.randn(8, 9, 3)
        for gradient in gradients[:4]:
            parameter.grad = gradient.clone()
            theirs.step()
        copied = torch.nn.Parameter(parameter.detach().clone())
        ours = AdamUniform([copied])
        ours.load_state_dict(copy.deepcopy(theirs.state_dict()))  # torch does not copy the tensors
        again = AdamUniform([copied])
        again.load_state_dict(ours.state_dict())
        for step, gradient in enumerate(gradients[4:], start=1):
            for one, optimizer in ((parameter, theirs), (copied, again)):
                one.grad = gradient.clone()
                optimizer.step()
            assert_same_path(copied, parameter, step)

    def test_each_mesh_of_a_packed_parameter_by_itself(self):
        sizes = ragged().num_verts_per_mesh().tolist()
        parameter = PackedParameter(torch.zeros(sum(sizes), 3), sizes)
        parameter.grad = torch.randn_like(parameter)
        AdamUniform([parameter], lr=0.5).step()
        for part in parameter.detach().split(sizes):
            assert float(part.abs().max()) == pytest.approx(0.5, rel=1e-4)


TUTORIAL = """
import torch
from largesteps.geometry import compute_matrix, laplacian_uniform
from largesteps.optimize import AdamUniform
from largesteps.parameterize import from_differential, to_differential
from pytorch3d.loss import chamfer_distance
from support.comparing import assert_same_path
from pytorch3d.utils import ico_sphere

target = ico_sphere(3).verts_packed() * torch.tensor([1.0, 0.6, 0.5])
source = ico_sphere(3)
v, f = source.verts_packed(), source.faces_packed()

steps = 60
step_size = 3e-2
lambda_ = 19

M = compute_matrix(v, f, lambda_)
u = to_differential(M, v)
u.requires_grad = True
opt = AdamUniform([u], step_size)
L = laplacian_uniform(v, f)
losses, roughness = torch.zeros(steps), torch.zeros(steps)
for it in range(steps):
    v = from_differential(M, u, 'Cholesky')
    loss, _ = chamfer_distance(v[None], target[None])
    with torch.no_grad():
        losses[it] = loss
        roughness[it] = (L @ v).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
"""


def run_tutorial(package: str) -> dict:
    names = {}
    exec(TUTORIAL.replace("from largesteps.", f"from {package}."), names)
    return names


class TestScript:
    def test_only_the_imports_change(self):
        names = run_tutorial("pt3d_largesteps.compat")
        assert float(names["losses"][-1]) < 0.05 * float(names["losses"][0])
        assert float(names["roughness"].max()) < 4 * float(names["roughness"][0])

    def test_it_goes_the_way_of_the_released_package(self, theirs_on_cpu):
        theirs, ours = run_tutorial("largesteps"), run_tutorial("pt3d_largesteps.compat")
        torch.testing.assert_close(ours["losses"], theirs["losses"], rtol=1e-2, atol=1e-6)
        torch.testing.assert_close(ours["v"], theirs["v"], rtol=0, atol=1e-3)

    def test_the_example_of_the_guide(self):
        text = (ROOT / "docs" / "migrating.md").read_text()
        first, *_ = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        verts, faces = packed(ico_sphere(1))
        names = {"v": verts, "f": faces, "steps": 5, "image_loss": lambda v, f: (v[f] - 0.1).square().mean()}
        exec(first, names)
        assert float(names["loss"].detach()) < float(names["image_loss"](verts, faces))

    def test_the_package_under_their_name(self):
        import pt3d_largesteps.compat as largesteps

        verts, faces = packed(ico_sphere(1))
        matrix = largesteps.geometry.compute_matrix(verts, faces, 19)
        u = largesteps.parameterize.to_differential(matrix, verts)
        torch.testing.assert_close(largesteps.parameterize.from_differential(matrix, u), verts)
