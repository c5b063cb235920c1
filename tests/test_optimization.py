"""optimize: stages, step sizes, ends, files to go on from, bad input; with losses that need no pictures."""

import dataclasses
import math
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch3d.renderer import TexturesUV, TexturesVertex
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps import LargeSteps, OptimizationConfig, Stage, UniformAdam, optimize
from pt3d_largesteps.optimization import History, Optimization, large_steps, mean_edge_lengths
from pt3d_largesteps.optimization.progress import Progress
from pt3d_largesteps.optimization.views import ShuffledViews
from pt3d_largesteps.solvers import symbolic

ONE_STAGE = (Stage(0.0, lambda_=9.0),)
TWO_STAGES = (Stage(0.0, lambda_=9.0), Stage(0.5, lambda_=4.0, num_verts=300))
SHORT = OptimizationConfig(steps=12, stages=ONE_STAGE, untangle=False)
SMALL = OptimizationConfig(steps=12, stages=TWO_STAGES, untangle=False)


def to_ellipsoid(meshes: Meshes) -> torch.Tensor:
    """(N,), 0 where a mesh lies on an ellipsoid."""
    sums = [((verts / verts.new_tensor([1.0, 0.6, 0.8])).square().sum(1) - 1).square().mean() for verts in meshes.verts_list()]
    return torch.stack(sums)


class NoisyViews:
    """A loss that depends on the views and on torch's own random numbers."""

    num_views = 5

    def __call__(self, meshes: Meshes, views: list[int]) -> torch.Tensor:
        verts = meshes.verts_packed()
        noise = 0.01 * torch.randn(len(views), 3)
        target = torch.stack([torch.tensor([math.cos(v), math.sin(v), 0.0]) for v in views])
        return to_ellipsoid(meshes) + 0.1 * (verts.mean(0) - target - noise).square().mean()


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
        start, config = ico_sphere(2), SHORT
        result = optimize(start, to_ellipsoid, config)
        steps = LargeSteps(start, lambda_=9.0)
        optimizer = UniformAdam(steps.parameters(), betas=(0.9, 0.99))
        edge = float(mean_edge_lengths(start))
        for step in range(config.steps):
            optimizer.param_groups[0]["lr"] = edge * config.lr * config.lr_decay ** (step / config.steps)
            optimizer.zero_grad()
            to_ellipsoid(steps()).sum().backward()
            optimizer.step()
        torch.testing.assert_close(result.meshes.verts_packed(), steps.verts_packed().detach(), atol=1e-5, rtol=0)

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

    def test_each_mesh_goes_as_it_goes_alone(self):
        shapes = [ico_sphere(2), ico_sphere(1).scale_verts(0.5), torus(0.2, 0.7, 8, 12)]
        together = optimize(join_meshes_as_batch(shapes), to_ellipsoid, SMALL).meshes
        for index, shape in enumerate(shapes):
            alone = optimize(shape, to_ellipsoid, SMALL).meshes.verts_packed()
            torch.testing.assert_close(together[index].verts_packed(), alone, atol=1e-5, rtol=0)

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
        """The loss falls to the end, what is held out does not."""
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


class TestCheckpoints:
    def test_gone_on_with_to_the_same_bits(self, tmp_path):
        path = tmp_path / "new" / "run.pt"
        start = join_meshes_as_batch([ico_sphere(2), torus(0.2, 0.7, 8, 12)])
        start.textures = TexturesVertex([verts.clone() for verts in start.verts_list()])
        for stop in (4, 8):  # before the second stage begins, and after
            torch.manual_seed(0)
            whole = optimize(start, NoisyViews(), SMALL)
            torch.manual_seed(0)
            optimize(
                start,
                NoisyViews(),
                SMALL,
                checkpoint=path,
                callbacks=[lambda run, stop=stop: run.stop() if run.step == stop else None],
            )
            torch.manual_seed(1)
            resumed = optimize(start, NoisyViews(), SMALL, checkpoint=path)
            assert resumed.history.losses == whole.history.losses
            assert resumed.history.stages == whole.history.stages
            assert torch.equal(resumed.meshes.verts_packed(), whole.meshes.verts_packed())
            assert torch.equal(resumed.meshes.faces_packed(), whole.meshes.faces_packed())
            torch.testing.assert_close(
                resumed.meshes.textures.verts_features_packed(), whole.meshes.textures.verts_features_packed(), rtol=0, atol=0
            )
            again = optimize(start, NoisyViews(), SMALL, checkpoint=path)  # there is nothing left to do
            assert torch.equal(again.meshes.verts_packed(), whole.meshes.verts_packed())
            path.unlink()

    def test_an_analysis_from_other_positions(self, tmp_path, monkeypatch):
        """Stages of one set of triangles share an analysis; another process has to find the same one."""
        stages = (Stage(0.0, lambda_=9.0), Stage(0.3, lambda_=4.0, num_verts=3000), Stage(0.6, lambda_=2.0))
        config, path = dataclasses.replace(SMALL, stages=stages), tmp_path / "run.pt"

        def fresh(**options) -> torch.Tensor:
            monkeypatch.setattr(symbolic, "_kept", type(symbolic._kept)())
            return optimize(ico_sphere(3), to_ellipsoid, config, **options).meshes.verts_packed()

        whole = fresh()
        fresh(checkpoint=path, callbacks=[lambda run: run.stop() if run.step == 10 else None])
        assert torch.equal(fresh(checkpoint=path), whole)

    def test_killed_in_mid_run(self, tmp_path):
        program = textwrap.dedent("""
            import sys, time, torch
            sys.path.insert(0, sys.argv[2])
            from pytorch3d.utils import ico_sphere
            from test_optimization import NoisyViews, SMALL, dataclasses, optimize
            torch.manual_seed(0)
            config = dataclasses.replace(SMALL, steps=60)

            class Slow(NoisyViews):
                def __call__(self, meshes, views):
                    time.sleep(float(sys.argv[3]))
                    return super().__call__(meshes, views)

            result = optimize(ico_sphere(2), Slow(), config, checkpoint=sys.argv[1], checkpoint_every=3)
            torch.save((result.history.losses, result.meshes.verts_packed()), sys.argv[1] + ".result")
        """)
        tests = os.path.dirname(__file__)

        def command(name: str, seconds: float) -> list[str]:
            return [sys.executable, "-c", program, str(tmp_path / name), tests, str(seconds)]

        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command("killed", 0.1), env=one_thread, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 120
        while not (tmp_path / "killed").exists():
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(1.0)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        at = torch.load(tmp_path / "killed", weights_only=True)["step"]
        assert 0 < at < 60
        for name in ("killed", "whole"):
            subprocess.run(command(name, 0), env=one_thread, check=True, capture_output=True)
        resumed, whole = (torch.load(tmp_path / f"{name}.result") for name in ("killed", "whole"))
        assert resumed[0] == whole[0]
        assert torch.equal(resumed[1], whole[1])
        assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {
            "killed", "whole", "killed.result", "whole.result",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"config": dataclasses.replace(SHORT, seed=1)}, "seed 0 and not 1"),
            ({"start": ico_sphere(1).scale_verts(2.0)}, "another start"),
            ({"start": ico_sphere(2)}, "another start"),
            ({"pinned": torch.tensor([3])}, "another start"),
            ({"loss": NoisyViews()}, "number of views 0 and not 5"),
            ({"checkpoint_label": "other"}, "label '' and not 'other'"),
        ],
    )
    def test_of_another_run(self, tmp_path, changes, message):
        run = {"start": ico_sphere(1), "loss": to_ellipsoid, "config": SHORT, "checkpoint": tmp_path / "run.pt"}
        optimize(**run)
        with pytest.raises(ValueError, match=f"checkpoint: expected one of the same run, .*{message}"):
            optimize(**{**run, **changes})
        optimize(**{**run, "config": dataclasses.replace(SHORT, min_improvement=0.01)})

    def test_textures_that_no_remesher_has_seen(self, tmp_path):
        start, stages = ico_sphere(1), (Stage(0.0, lambda_=9.0), Stage(0.5, lambda_=1.0))
        start.textures = TexturesUV(torch.rand(1, 4, 4, 3), start.faces_padded(), torch.rand(1, 42, 2))
        run = {"config": dataclasses.replace(SHORT, stages=stages), "checkpoint": tmp_path / "run.pt"}
        optimize(start, to_ellipsoid, **run)
        again = optimize(start, to_ellipsoid, **run).meshes
        assert torch.equal(again.textures.maps_padded(), start.textures.maps_padded())

    def test_a_folder_in_its_place(self, tmp_path):
        with pytest.raises(ValueError, match="checkpoint: expected a file, got the folder"):
            optimize(ico_sphere(1), to_ellipsoid, SHORT, checkpoint=tmp_path)
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            optimize(ico_sphere(1), to_ellipsoid, SHORT, checkpoint=tmp_path / "file" / "run.pt")

    @pytest.mark.parametrize("content", [b"", b"garbage", b"hello", None])
    def test_no_checkpoint_of_ours(self, tmp_path, content):
        path = tmp_path / "run.pt"
        if content is None:
            torch.save({"x": 1}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(ValueError, match="checkpoint: expected a file that optimize has written"):
            optimize(ico_sphere(1), to_ellipsoid, SHORT, checkpoint=path)

    def test_a_cut_one(self, tmp_path):
        path = tmp_path / "run.pt"
        optimize(ico_sphere(1), to_ellipsoid, SHORT, checkpoint=path)
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(ValueError, match="checkpoint: expected a file that optimize has written"):
            optimize(ico_sphere(1), to_ellipsoid, SHORT, checkpoint=path)


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
            ({"loss": lambda meshes: torch.tensor(1.0)}, "loss: expected one that depends on the vertices"),
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
