"""Entry points for ``torch.hub``; ``torch.hub.list(repo)`` lists them, ``torch.hub.help(repo, name)`` shows their docstrings.

    repo = "OWNER/pt3d_largesteps"                                      # or a folder, with source="local"
    steps = torch.hub.load(repo, "large_steps", meshes, lambda_=19.0)   # meshes is a pytorch3d.structures.Meshes
    optimizer = torch.hub.load(repo, "uniform_adam", steps.parameters(), lr=3e-2)

If there is no compiled solver, the first ``load`` compiles the one for the CPU into torch's folder for extensions, in about
a minute. Without a compiler everything works with slower solvers, and a warning says so. Nothing is written into the
checkout. Only an installation has the solver for CUDA.
"""

import contextlib as _contextlib
import importlib as _importlib
import importlib.util as _importlib_util
import pathlib as _pathlib
import runpy as _runpy
import sys as _sys
import warnings as _warnings

dependencies = ["torch", "numpy", "scipy", "pytorch3d"]

_ROOT = _pathlib.Path(__file__).resolve().parent


def package():
    """The package ``pt3d_largesteps`` itself.

    Returns:
        The module; once loaded, ``import pt3d_largesteps`` finds it too.

    Example:
        >>> pt3d_largesteps = torch.hub.load(repo, "package")
        >>> config = pt3d_largesteps.OptimizationConfig(steps=500)
    """
    return _package()


def large_steps(meshes, lambda_=None, **options):
    """The parameterisation u = (I + lambda L) x of a batch of meshes, as a module with one parameter.

    Args:
        meshes: ``pytorch3d.structures.Meshes``, float32 or float64.
        lambda_: smoothing strength, at least 0: a number, or one per mesh or vertex; default: 19.
        **options: ``alpha``, ``laplacian``, ``solver``, ``pinned`` of ``pt3d_largesteps.LargeSteps``.

    Returns:
        ``LargeSteps``; a call returns the ``Meshes``, and ``parameters()`` are the parameters to optimise.

    Example:
        >>> steps = torch.hub.load(repo, "large_steps", ico_sphere(4), lambda_=19.0)
        >>> loss = any_loss(steps())
    """
    return _package().LargeSteps(meshes, lambda_, **options)


def uniform_adam(params, lr=0.1, **options):
    """Adam whose second moment is one number per mesh, the maximum: the optimiser for ``large_steps``.

    Args:
        params: tensors, or dicts of parameter groups.
        lr: step size, in the units of u.
        **options: ``betas``, ``eps``, ``weight_decay``, ... of ``pt3d_largesteps.UniformAdam``.

    Example:
        >>> optimizer = torch.hub.load(repo, "uniform_adam", steps.parameters(), lr=3e-2)
    """
    return _package().UniformAdam(params, lr, **options)


def large_steps_adam(params, system, lr=0.1, *, lambda_=None, **options):
    """Large steps as an optimiser, for pipelines whose parameters are the vertices themselves.

    Args:
        params: vertices, packed (V, 3).
        system: the ``Meshes`` they belong to; or a ``BatchSystem`` or matrix of this package.
        lr: step size, in the units of u.
        lambda_: smoothing strength, if ``system`` is ``Meshes``; default: 19.
        **options: as of ``uniform_adam``.

    Example:
        >>> verts = meshes.verts_packed().clone().requires_grad_()
        >>> optimizer = torch.hub.load(repo, "large_steps_adam", [verts], meshes, lr=3e-2)
    """
    pt3d_largesteps = _package()
    if hasattr(system, "verts_packed"):
        system = pt3d_largesteps.BatchSystem(system, lambda_=lambda_)
    elif lambda_ is not None:
        raise ValueError(f"lambda_: expected none beside a system that has one already, got {lambda_}")
    return pt3d_largesteps.LargeStepsAdam(params, system, lr, **options)


def compute_matrix(verts, faces=None, **options):
    """The matrix M = I + lambda L of a batch of meshes.

    Args:
        verts: ``Meshes``, or packed positions (V, 3).
        faces: packed vertex indices (F, 3), if ``verts`` is a tensor.
        **options: ``lambda_`` or ``alpha``, and ``laplacian``, of ``pt3d_largesteps.compute_matrix``.

    Returns:
        ``SystemMatrix``, for ``matrix @ x``, ``to_differential`` and ``from_differential``.

    Example:
        >>> matrix = torch.hub.load(repo, "compute_matrix", meshes, lambda_=19.0)
    """
    return _package().compute_matrix(verts, faces, **options)


def optimize(start, loss, config=None, **options):
    """Optimises meshes from coarse to fine, with remeshing, for any loss.

    Args:
        start: ``Meshes``.
        loss: function of the meshes, or of the meshes and the indices of views, to one number or one per mesh.
        config: ``OptimizationConfig``, or a dict of its fields, such as ``{"steps": 500}``.
        **options: ``held_out``, ``pinned``, ``callbacks``, ``checkpoint``, ... of ``pt3d_largesteps.optimize``.

    Returns:
        ``OptimizationResult``, whose ``meshes`` are the result.

    Raises:
        ImportError: a package that the config needs, such as gpytoolbox for remeshing, is not installed.

    Example:
        >>> result = torch.hub.load(repo, "optimize", meshes, loss, {"steps": 500})
    """
    pt3d_largesteps = _package()
    if isinstance(config, dict):
        config = pt3d_largesteps.OptimizationConfig(**config)
    return pt3d_largesteps.optimize(start, loss, config, **options)


def renderer(image_size=128, light="default", **options):
    """A differentiable renderer for PyTorch3D's meshes and cameras, fast enough on a CPU to optimise with.

    Args:
        image_size: pixels, (H, W) or one number for both.
        light: "default", a soft coloured one; a ``SphericalHarmonicsLight``; or None for silhouettes.
        **options: ``background``, ``cull_backfaces``, ... of ``pt3d_largesteps.renderers.PyTorch3DRenderer``.

    Returns:
        A function of (meshes, cameras) to images (N, H, W, 4), or (N, H, W, 1) of silhouettes.

    Example:
        >>> render = torch.hub.load(repo, "renderer", 256)
        >>> images = render(meshes, cameras)
    """
    _package()
    renderers = _importlib.import_module("pt3d_largesteps.renderers")
    if isinstance(light, str):
        if light != "default":
            raise ValueError(f'light: expected "default", None or a SphericalHarmonicsLight, got {light!r}')
        light = renderers.SphericalHarmonicsLight.default()
    return renderers.PyTorch3DRenderer(image_size, light, **options)


def visual_hull(masks, cameras, **options):
    """The largest closed surface with given silhouettes: a start of the right topology.

    Args:
        masks: (N, H, W) or (N, H, W, 1), silhouettes of N views.
        cameras: N cameras of PyTorch3D.
        **options: ``resolution``, ``num_verts``, ... of ``pt3d_largesteps.visual_hull``.

    Returns:
        ``Meshes`` of one mesh.

    Raises:
        ImportError: scikit-image is not installed.

    Example:
        >>> hull = torch.hub.load(repo, "visual_hull", masks, cameras, resolution=64)
    """
    return _package().visual_hull(masks, cameras, **options)


def reconstruct(**settings):
    """The demo: a function that moves a start until its pictures are those of a target.

    Args:
        **settings: of the demo: ``steps`` (1000), ``views`` (64), ``resolution`` (256), ``start`` ("hull" or "sphere"),
            ``method`` ("large-steps", "adam" or "laplacian"), ``lambda_``, ``lr``, ``reg``, ``seed``, ``remesh``, ``solver``.

    Returns:
        run(target, cameras=None, on_step=None), for

        * ``Meshes`` of one mesh, which is scaled into the unit ball (as is the result) and rendered from all around; * images
        (N, H, W, 4) in the renderer's default light, or silhouettes (N, H, W, 1), and their N cameras, which then replace the
        settings ``views`` and ``resolution``.

        It returns a ``Run`` with ``start``, ``meshes``, ``history``, ``loss`` and more. ``on_step`` is called with the
        ``Optimization`` after each step.

    Raises:
        TypeError, ValueError: an unknown setting; in a call, a target that is neither meshes nor images.
        ImportError: in a call, if libigl, gpytoolbox (for remesh) or scikit-image (for the hull) is not installed.

    Example:
        >>> run = torch.hub.load(repo, "reconstruct", steps=200)
        >>> result = run(meshes).meshes
    """
    _package()
    return _importlib.import_module("pt3d_largesteps.reconstruction.entry").reconstruction(**settings)


def _package():
    """``pt3d_largesteps``: the imported one, or the one of this checkout, with the compiled solver if possible."""
    package = _sys.modules.get("pt3d_largesteps")
    if package is None:
        with _first_on_path(_ROOT):
            package = _jit().import_package(_ROOT)
    version = _runpy.run_path(str(_ROOT / "pt3d_largesteps" / "_version.py"))["__version__"]
    if package.__version__ != version:
        _warnings.warn(
            f"pt3d_largesteps {package.__version__} is imported already, from {_pathlib.Path(package.__file__).parent};"
            f" version {version} in {_ROOT} is not used",
            RuntimeWarning,
            stacklevel=3,
        )
    return package


def _jit():
    """The file of this name, apart from its package, which is not to be imported yet."""
    spec = _importlib_util.spec_from_file_location("_pt3d_largesteps_jit", _ROOT / "pt3d_largesteps" / "native" / "jit.py")
    module = _importlib_util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@_contextlib.contextmanager
def _first_on_path(folder):
    _sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        _sys.path.remove(str(folder))
