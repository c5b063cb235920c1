"""optimize: stages, step sizes, ends, bad input; with losses that need no pictures."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch3d.renderer import TexturesVertex
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps import LargeSteps, OptimizationConfig, Stage, UniformAdam, optimize
from pt3d_largesteps.optimization import History, Optimization, large_steps, mean_edge_lengths
from pt3d_largesteps.optimization.progress import Progress
from pt3d_largesteps.optimization.views import ShuffledViews
from support.descents import SHORT, SMALL, TWO_STAGES, NoisyViews, to_ellipsoid
from support.optimising import double


class TestStages:
    def test_it_reaches_the_surface(self):
        result = optimize(ico_sphere(2), to_ellipsoid, OptimizationConfig(steps=150, stages=TWO_STAGES))
        assert result.ended == "steps"
        assert float(to_ellipsoid(result.meshes)) < 1e-4 * float(to_ellipsoid(ico_sphere(2)))
        assert len(result.history.losses) == len(result.history.seconds) == 150
        assert result.history.stages[0] == (0, 162)
        assert result.history.stages[1][0] == 75
        assert 200 < result.history.stages[1][1] < 450
        assert len(result.meshes.verts_packed()) == result.history.stages[1][1]
        assert result.repaired.tolist() == [0]
        assert not result.meshes.verts_packed().requires_grad

    def test_it_is_the_loop_that_one_would_write(self):
        start, config = double(ico_sphere(2)), SHORT
        result = optimize(start, to_ellipsoid, config)
        steps = LargeSteps(start, lambda_=9.0)
        optimizer = UniformAdam(steps.parameters(), betas=(0.9, 0.99))
        edge = float(mean_edge_lengths(start))
        for step in range(config.steps):
            optimizer.param_groups[0]["lr"] = edge * config.lr * config.lr_decay ** (step / config.steps)
            optimizer.zero_grad()
            to_ellipsoid(steps()).sum().backward()
            optimizer.step()
        # The driver keeps step sizes in float32, so that a way of length 1 is off by an eps of it; and what follows from that.
        atol = 8 * torch.finfo(torch.float32).eps
        torch.testing.assert_close(result.meshes.verts_packed(), steps.verts_packed().detach(), atol=atol, rtol=0)

    @pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
    def test_the_scale_of_the_shape_does_not_matter(self, scale):
        def loss(meshes):
            return to_ellipsoid(meshes.scale_verts(1 / scale))

        config = dataclasses.replace(SHORT, steps=40)
        expected = optimize(ico_sphere(2), to_ellipsoid, config).meshes.verts_packed()
        scaled = optimize(ico_sphere(2).scale_verts(scale), loss, config).meshes.verts_packed() / scale
        torch.testing.assert_close(scaled, expected, atol=1e-3, rtol=0)
        stages = dataclasses.replace(config, stages=TWO_STAGES)
        remeshed = optimize(ico_sphere(2).scale_verts(scale), loss, stages)
        assert remeshed.history.mean_losses[-1] < 0.01 * remeshed.history.mean_losses[0]

    def test_absolute_steps_do_not_follow_the_edges(self):
        config = dataclasses.replace(SHORT, lr=0.01, lr_unit="absolute")
        history = optimize(ico_sphere(2), to_ellipsoid, config).history
        assert history.lrs[0] == [pytest.approx(0.01)]
        assert history.lrs[-1] == [pytest.approx(0.01 * 0.1 ** (11 / 12))]

    def test_another_lambda_on_the_same_triangles(self):
        stages = (Stage(0.0, lambda_=9.0), Stage(0.5, lambda_=1.0))
        seen = []
        config = dataclasses.replace(SHORT, stages=stages)
        optimize(ico_sphere(2), to_ellipsoid, config, callbacks=[lambda run: seen.append((run.module.lambda_, run.module.u))])
        assert [lambda_ for lambda_, _ in seen] == [9.0] * 6 + [1.0] * 6
        assert len({id(u) for _, u in seen}) == 2

    @pytest.mark.parametrize(("moments", "steps_of_optimizer"), [("reset", 6), ("interpolate", 12)])
    def test_moments(self, moments, steps_of_optimizer):
        counts = []

        def callback(run: Optimization) -> None:
            (state,) = run.optimizer.state.values()
            assert run.optimizer.param_groups[0]["params"][0] is run.module.u
            counts.append(int(state["step"]))

        optimize(ico_sphere(2), to_ellipsoid, dataclasses.replace(SMALL, moments=moments), callbacks=[callback])
        assert counts[-1] == steps_of_optimizer

    def test_moments_of_parameters_that_are_not_packed(self):
        class Padded(torch.nn.Module):
            def __init__(self, meshes: Meshes) -> None:
                super().__init__()
                self.template, self.verts = meshes, torch.nn.Parameter(meshes.verts_padded().clone())

            def forward(self) -> Meshes:
                return self.template.update_padded(self.verts)

        def padded(meshes: Meshes, lambda_: float, pinned: torch.Tensor | None) -> tuple:
            module = Padded(meshes)
            return module, torch.optim.Adam(module.parameters())

        with pytest.raises(ValueError, match=r"moments: 'interpolate' expects parameters of packed vertices, .* got \(1, "):
            optimize(ico_sphere(2), to_ellipsoid, dataclasses.replace(SMALL, moments="interpolate"), parameterize=padded)
        optimize(ico_sphere(2), to_ellipsoid, SMALL, parameterize=padded)

    def test_each_mesh_goes_as_it_goes_alone(self):
        shapes = [ico_sphere(2), ico_sphere(1).scale_verts(0.5), torus(0.2, 0.7, 8, 12)]
        # The remesher compares lengths, and of the equal ones of a symmetric shape rounding would decide which is split: so
        # none are equal, and rounding is that of float64.
        shapes = [double(shape.offset_verts(0.01 * torch.randn_like(shape.verts_packed()))) for shape in shapes]
        together = optimize(join_meshes_as_batch(shapes), to_ellipsoid, SMALL).meshes
        for index, shape in enumerate(shapes):
            alone = optimize(shape, to_ellipsoid, SMALL).meshes.verts_packed()
            torch.testing.assert_close(together[index].verts_packed(), alone, atol=1e-11, rtol=0)

    def test_an_empty_mesh_among_them(self):
        empty = Meshes([torch.zeros(0, 3)], [torch.zeros(0, 3, dtype=torch.int64)])

        def loss(meshes):
            return meshes.verts_packed().square().mean()

        result = optimize(join_meshes_as_batch([ico_sphere(1), empty]), loss, SHORT)
        assert [len(verts) for verts in result.meshes.verts_list()] == [42, 0]
        assert result.history.lrs[0][1] == 0.0

    def test_pins_and_colours_go_along(self):
        start = ico_sphere(2)
        start.textures = TexturesVertex(start.verts_padded().clone())
        pinned = start.verts_packed()[:, 2] > 0.8
        result = optimize(start, to_ellipsoid, SMALL, pinned=pinned)
        for vertex in start.verts_packed()[pinned]:
            assert (result.meshes.verts_packed() - vertex).norm(dim=1).min() < 1e-6
        colors = result.meshes.textures.verts_features_packed()
        assert colors.shape == result.meshes.verts_packed().shape
        assert (colors - result.meshes.verts_packed()).norm(dim=1).max() < 0.6  # where the vertex has come from

    def test_another_parameterisation(self):
        seen = []
        optimize(
            ico_sphere(2),
            to_ellipsoid,
            SHORT,
            parameterize=large_steps(laplacian="cotangent", betas=(0.5, 0.6)),
            callbacks=[lambda run: seen.append((run.module.laplacian, run.optimizer.param_groups[0]["betas"]))],
        )
        assert seen == [("cotangent", (0.5, 0.6))] * 12

    def test_an_optimiser_that_takes_one_step_size_for_all(self):
        """As torch's own, for meshes of one size."""

        def adam(meshes, lambda_, pinned):
            module = LargeSteps(meshes, lambda_)
            return module, torch.optim.Adam(module.parameters())

        config = dataclasses.replace(SHORT, lr=0.01, lr_unit="absolute")
        shapes = join_meshes_as_batch([ico_sphere(1), ico_sphere(2)])
        result = optimize(shapes, to_ellipsoid, config, parameterize=adam)
        assert (to_ellipsoid(result.meshes) < to_ellipsoid(shapes)).all()

    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_nothing_but_empty_meshes(self, number):
        empty = Meshes([torch.zeros(0, 3)] * number, [torch.zeros(0, 3, dtype=torch.int64)] * number)
        result = optimize(empty, lambda meshes: torch.zeros(len(meshes)), SMALL)
        assert len(result.meshes) == number


class TestEnds:
    def test_a_callback_ends_it(self):
        stop_at_3 = [lambda run: run.stop() if run.step == 3 else None]
        result = optimize(ico_sphere(1), to_ellipsoid, SHORT, callbacks=stop_at_3)
        assert (result.ended, len(result.history.losses)) == ("stopped", 3)

    def test_what_callbacks_return_does_not_matter(self):
        assert optimize(ico_sphere(1), to_ellipsoid, SHORT, callbacks=[lambda run: True]).ended == "steps"

    def test_a_stopped_one_goes_on(self):
        optimization = Optimization(
            ico_sphere(1), to_ellipsoid, SMALL, callbacks=[lambda run: run.stop() if run.step == 3 else None]
        )
        assert optimization.run().ended == "stopped"
        result = optimization.run()
        assert result.ended == "steps"
        assert torch.equal(result.meshes.verts_packed(), optimize(ico_sphere(1), to_ellipsoid, SMALL).meshes.verts_packed())

    def test_the_end_of_each_stage_is_known(self):
        ends = []
        optimize(ico_sphere(1), to_ellipsoid, SMALL, callbacks=[lambda run: ends.append(run.stage_ends)])
        assert ends == [False] * 5 + [True] + [False] * 5 + [True]

    def test_a_negative_loss_stalls_too(self):
        config = dataclasses.replace(SHORT, steps=1000, patience=20, check_every=10)
        result = optimize(ico_sphere(1), lambda meshes: (0 * meshes.verts_packed()).sum() - 1, config)
        assert (result.ended, len(result.history.losses)) == ("stalled", 30)

    def test_a_loss_that_does_not_fall_ends_stage_after_stage(self):
        config = dataclasses.replace(SMALL, steps=1000, patience=20, check_every=10)
        result = optimize(ico_sphere(1), lambda meshes: (0 * meshes.verts_packed()).sum() + 1, config)
        assert result.ended == "stalled"
        assert [step for step, _ in result.history.stages] == [0, 30]
        assert len(result.history.losses) == 60

    def test_the_held_out_loss_decides(self):
        """The loss falls until the end, the held-out loss does not."""
        values = iter([5.0, 4.0, 3.0, 3.5, 2.99, 9.0])
        config = dataclasses.replace(SHORT, steps=1000, patience=20, check_every=10, min_improvement=0.1)
        held_out = optimize(
            ico_sphere(1), to_ellipsoid, config, held_out=lambda meshes: torch.tensor(next(values))
        ).history.held_out
        assert held_out == [(10, 5.0), (20, 4.0), (30, 3.0), (40, 3.5), (50, pytest.approx(2.99))]

    def test_without_patience_it_does_every_step_and_looks_at_what_is_held_out(self):
        result = optimize(ico_sphere(1), to_ellipsoid, dataclasses.replace(SHORT, check_every=5), held_out=NoisyViews())
        assert result.ended == "steps"
        assert [step for step, _ in result.history.held_out] == [5, 10, 12]

    def test_ctrl_c_leaves_what_there_is(self):
        def interrupt(run: Optimization) -> None:
            if run.step == 4:
                raise KeyboardInterrupt

        optimization = Optimization(ico_sphere(1), to_ellipsoid, SHORT, callbacks=[interrupt])
        with pytest.raises(KeyboardInterrupt):
            optimization.run()
        assert len(optimization.history.losses) == 4
        assert float(to_ellipsoid(optimization.meshes())) < float(to_ellipsoid(ico_sphere(1)))

    @given(steps=st.integers(1, 60), begins=st.lists(st.floats(0.01, 0.99), unique=True, max_size=5), leap=st.integers(0, 60))
    @settings(max_examples=200, deadline=None)
    def test_the_clock_goes_forward_and_ends(self, steps, begins, leap):
        stages = tuple(Stage(begin, 1.0) for begin in [0.0, *sorted(begins)])
        config = OptimizationConfig(steps=steps, stages=stages, patience=1 + leap, check_every=1)
        progress, history, step = Progress(config), History(stages=[(0, 1)]), 0
        ended = None
        while ended is None:
            if progress.stage_is_due:
                progress.begin_stage()
                history.stages.append((step, 1))
            before = progress.tick
            history.losses.append([1.0])
            step += 1
            ended = progress.advance(step, history, lambda: None)
            assert progress.tick > before
            assert 0 < progress.lr <= config.lr
        assert step <= steps
        assert step == steps or leap < steps


def test_each_view_before_any_is_taken_again():
    views = ShuffledViews(7, OptimizationConfig(views_per_step=3, seed=5))
    drawn = [view for _ in range(14) for view in views.draw()]
    assert [sorted(drawn[i : i + 7]) for i in range(0, 42, 7)] == [list(range(7))] * 6
    assert drawn != [view for _ in range(14) for view in ShuffledViews(7, OptimizationConfig(views_per_step=3)).draw()]
    assert ShuffledViews(0, OptimizationConfig()).draw() == []
    assert sorted(ShuffledViews(2, OptimizationConfig()).draw()) == [0, 1]


def test_mean_edge_lengths():
    square = Meshes([torch.tensor([[0.0, 0, 0], [3, 0, 0], [3, 4, 0], [0, 4, 0]])], [torch.tensor([[0, 1, 2], [0, 2, 3]])])
    empty = Meshes([torch.zeros(0, 3)], [torch.zeros(0, 3, dtype=torch.int64)])
    lengths = mean_edge_lengths(join_meshes_as_batch([square, empty, square.scale_verts(2.0)]))
    torch.testing.assert_close(lengths, torch.tensor([19 / 5, 0.0, 38 / 5]))


def test_the_plot(tmp_path):
    history = optimize(ico_sphere(1), to_ellipsoid, SMALL, held_out=to_ellipsoid).history
    axis = history.plot(tmp_path / "loss.png").axes[0]
    assert axis.get_lines()[0].get_ydata() == pytest.approx(history.mean_losses)
    assert (tmp_path / "loss.png").stat().st_size > 10_000
    History().plot()


class TestBadInput:
    @pytest.mark.parametrize(
        ("loss", "error", "message"),
        [
            (lambda meshes: 1.0, TypeError, "loss: expected a tensor of one number"),
            (lambda meshes: meshes.verts_packed(), TypeError, "loss: expected a tensor of one number"),
            (
                lambda meshes: meshes.verts_packed().sum() * math.nan,
                ValueError,
                "loss: expected finite numbers, got nan",
            ),
        ],
    )
    def test_losses(self, loss, error, message):
        with pytest.raises(error, match=message):
            optimize(ico_sphere(1), loss, SHORT)

    def test_it_names_the_mesh(self):
        with pytest.raises(ValueError, match=r"at step 0 of mesh 1"):
            optimize(ico_sphere(1).extend(2), lambda meshes: to_ellipsoid(meshes) * torch.tensor([1.0, math.inf]), SHORT)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"start": torch.zeros(3)}, "start: expected pytorch3d.structures.Meshes"),
            ({"loss": 3}, "loss: expected a function"),
            ({"held_out": 3}, "held_out: expected a function"),
            ({"config": {"steps": 3}}, "config: expected an OptimizationConfig"),
            ({"callbacks": [3]}, "callbacks: expected functions"),
            ({"loss": lambda meshes: torch.tensor(1.0)}, "loss: expected a tensor that depends on the vertices"),
            ({"checkpoint_every": 0}, "checkpoint_every: expected an integer of at least 1"),
            ({"pinned": torch.zeros(3, dtype=torch.bool)}, "pinned: expected"),
        ],
    )
    def test_arguments(self, arguments, message):
        with pytest.raises((TypeError, ValueError), match=message):
            optimize(**{"start": ico_sphere(1), "loss": to_ellipsoid, "config": SHORT, **arguments})

    def test_what_is_not_installed_is_said_at_once(self, monkeypatch):
        def find_spec(name: str) -> None:
            if "." in name:
                raise ModuleNotFoundError(name)

        monkeypatch.setattr("importlib.util.find_spec", find_spec)
        with pytest.raises(ImportError, match="optimize needs igl and gpytoolbox"):
            Optimization(ico_sphere(1), to_ellipsoid)
        Optimization(ico_sphere(1), to_ellipsoid, SHORT)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"steps": 0}, "steps: expected an integer of at least 1"),
            ({"views_per_step": 1.5}, "views_per_step: expected an integer"),
            ({"patience": 0}, "patience: expected an integer"),
            ({"seed": -1}, "seed: expected an integer"),
            ({"seed": 2**70}, "seed: expected an integer below"),
            ({"lr": math.nan}, "lr: expected a finite number"),
            ({"lr_decay": 0.0}, "lr_decay: expected a finite number"),
            ({"min_improvement": 1.0}, "min_improvement: expected"),
            ({"lr_unit": "metre"}, "lr_unit: expected 'edge' or 'absolute'"),
            ({"moments": "keep"}, "moments: expected 'reset' or 'interpolate'"),
            ({"untangle": 1}, "untangle: expected True or False"),
            ({"stages": ()}, "stages: expected a sequence of Stage"),
            ({"stages": (Stage(0.1, 1.0),)}, "stages: expected the first to begin at 0"),
            ({"stages": (Stage(0.0, 1.0), Stage(0.5, 1.0), Stage(0.5, 2.0))}, "each after the one before"),
        ],
    )
    def test_config(self, options, message):
        with pytest.raises((TypeError, ValueError), match=message):
            OptimizationConfig(**options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"begin": 1.0}, "begin: expected"),
            ({"lambda_": -1.0}, "lambda_: expected"),
            ({"num_verts": 10, "edge_scale": 0.5}, "num_verts: expected one of"),
            ({"num_verts": 3}, "num_verts: expected an integer in"),
            ({"edge_length": -1.0}, "edge_length: expected"),
        ],
    )
    def test_stage(self, options, message):
        with pytest.raises(ValueError, match=message):
            Stage(**{"begin": 0.0, "lambda_": 1.0, **options})
