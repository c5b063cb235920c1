"""``python -m pt3d_largesteps``: what it finds and runs, and what it says where torch or PyTorch3D is missing or broken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pt3d_largesteps
from pt3d_largesteps import _pytorch3d
from pt3d_largesteps.commands import benchmarks, info, main
from pt3d_largesteps.native import library
from pt3d_largesteps.reconstruction import settings, shapes

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--steps", "2", "--views", "2", "--resolution", "16", "--start", "sphere", "--no-remesh"]
MISSING = "raise ModuleNotFoundError(\"No module named '{0}'\", name='{0}')"


@pytest.fixture
def instead(tmp_path):
    """Puts packages in front of those that are installed; returns the folder to run with."""

    def put(packages):
        for name, text in packages.items():
            path = tmp_path / "packages" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "packages"

    return put


def run(*arguments, first="", folder=ROOT):
    """A command in a fresh process."""
    paths = [str(first), str(folder), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "pt3d_largesteps", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def lines_of(result):
    """What ``info`` says, by the names in front."""
    return {line[:16].strip(): line[17:] for line in result.stdout.split("\n\n")[0].splitlines()}


class TestHelp:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--help"], "fit-many     a folder of meshes, each from pictures of it, in batches"),
            (["--version"], f"pt3d_largesteps {pt3d_largesteps.__version__}"),
            (["reconstruct", "--help"], "usage: python -m pt3d_largesteps reconstruct [-h] [--target TARGET]"),
            (["fit-many", "--help"], "For each target the output folder gets NAME.obj, the reconstructed mesh"),
            (["info", "--help"], "usage: python -m pt3d_largesteps info [-h]"),
            (["benchmark"], "solve        Solves with a factorised matrix"),
        ],
    )
    def test_needs_neither_torch_nor_numpy(self, instead, arguments, expected):
        packages = dict.fromkeys(("torch", "numpy", "pytorch3d"), "raise RuntimeError('imported')")
        result = run(*arguments, first=instead(packages))
        assert (result.returncode, result.stderr) == (0, "")
        assert expected in result.stdout
        assert "head of this file" not in result.stdout

    @pytest.mark.parametrize("arguments", [[], ["reconstuct"]])
    def test_which_commands_there_are(self, arguments, capsys):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert "usage: python -m pt3d_largesteps [--version] command [arguments]" in capsys.readouterr().err

    def test_the_names_of_the_shapes(self):
        assert sorted(shapes.SHAPES) == list(settings.SHAPES)


class TestInfo:
    @pytest.mark.slow
    def test_of_this_environment(self):
        result = run("info")
        assert result.returncode == 0
        lines = lines_of(result)
        assert lines["torch"].startswith(sys.modules["torch"].__version__)
        assert lines["PyTorch3D"].startswith(sys.modules["pytorch3d"].__version__)
        assert lines["OMP_NUM_THREADS"] == "1"
        assert lines["threads"] == "1 of torch"
        compiled = library.is_compiled()
        assert lines["solver, CPU"].startswith("compiled, /" if compiled else "not compiled: ")

    @pytest.mark.slow
    def test_without_torch(self, instead):
        result = run("info", first=instead({"torch": MISSING.format("torch")}))
        assert result.returncode == 1
        assert lines_of(result)["torch"] == "NOT INSTALLED"
        assert lines_of(result)["PyTorch3D"] == "not tried, because torch is missing"
        assert "\n  torch: pip install torch==" in result.stdout

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (ModuleNotFoundError("No module named 'pytorch3d'", name="pytorch3d"), "NOT INSTALLED"),
            (ImportError("_C.so: undefined symbol: _ZN3c10"), "BROKEN: ImportError: _C.so: undefined symbol: _ZN3c10"),
        ],
    )
    def test_without_pytorch3d(self, error, expected, monkeypatch, capsys):
        monkeypatch.setattr(_pytorch3d, "why_not", lambda: error)
        assert main(["info"]) == 1
        printed = capsys.readouterr().out
        assert f"PyTorch3D        {expected}\n" in printed
        assert "pip install torch==2.11.0 easypytorch3d==0.7.9.post1" in printed

    def test_what_is_broken_is_called_broken(self, monkeypatch, capsys):
        def import_module(name):
            if name == "matplotlib":
                raise OSError("libfreetype.so: no such file")
            if name == "trimesh":
                raise ModuleNotFoundError("No module named 'trimesh'", name="trimesh")
            return sys.modules.get(name)

        monkeypatch.setattr(info.importlib, "import_module", import_module)
        assert main(["info"]) == 0
        printed = capsys.readouterr().out
        assert "matplotlib       BROKEN: OSError: libfreetype.so: no such file\n" in printed
        assert "trimesh          not installed; for the commands: files other than OBJ and PLY\n" in printed
        assert "matplotlib, for plots: pip install matplotlib --force-reinstall" in printed


class TestImport:
    def test_a_broken_pytorch3d(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pytorch3d._C", None)
        with pytest.raises(ImportError, match=r"needs PyTorch3D, and the one installed here is broken \(ModuleNotFoundError: "):
            _pytorch3d.check()

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("packages", "expected"),
        [
            ({"pytorch3d": MISSING.format("pytorch3d")}, "needs PyTorch3D, which is not installed here"),
            (
                {"pytorch3d/__init__": "", "pytorch3d/_C": "raise ImportError('undefined symbol')"},
                "needs PyTorch3D, and the one installed here is broken (ImportError: undefined symbol)",
            ),
        ],
    )
    def test_a_sentence_by_import_and_by_command(self, instead, packages, expected):
        folder = instead(packages)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
        for code in (["-c", "from pt3d_largesteps import visual_hull"], ["-m", "pt3d_largesteps", "reconstruct", *SMALL]):
            result = subprocess.run([sys.executable, *code], env=environment, capture_output=True, text=True, check=False)
            assert result.returncode == 1
            assert f"pt3d_largesteps {expected}" in result.stderr.splitlines()[-1]
            assert "easypytorch3d" in result.stderr

    def test_names_come_when_a_command_asks_for_them(self):
        # --solver looks for the names of solvers in the package, which until then is without any
        result = run("reconstruct", "--solver", "fast")
        assert result.returncode == 2
        assert f"expected auto or one of {', '.join(pt3d_largesteps.available_solvers())}, got fast" in result.stderr


class TestScripts:
    @pytest.mark.slow
    def test_reconstruct(self, tmp_path, capsys):
        assert main(["reconstruct", *SMALL, "--out", str(tmp_path)]) == 0
        assert (tmp_path / "result.obj").is_file()
        assert "chamfer / noise" in capsys.readouterr().out

    def test_fit_many(self, tmp_path, capsys):
        assert main(["fit-many", "--targets", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
        assert "--targets: expected a folder with mesh files" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("given", "passed"),
        [
            (["solve", "--quick"], ["bm_solve.py", "--quick", "--out-dir", "out/benchmarks"]),
            (["solve", "--out-dir=here"], ["bm_solve.py", "--out-dir=here"]),
            (["solvers", "--help"], ["bm_solvers.py", "--help"]),  # writes no file
        ],
    )
    def test_benchmark(self, tmp_path, monkeypatch, given, passed):
        commands = []
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(benchmarks, "_run", lambda command: commands.append(command) or 7)
        assert main(["benchmark", *given]) == 7
        ((python, script, *rest),) = commands
        assert python == sys.executable
        assert [Path(script).name, *rest] == passed
        assert Path(script).is_file()

    def test_no_such_benchmark(self, capsys):
        assert main(["benchmark", "solved"]) == 2
        assert "expected the name of a benchmark, one of ablation, accuracy, " in capsys.readouterr().err

    @pytest.mark.parametrize("command", [["benchmark"], ["benchmark", "solve"]])
    def test_without_benchmarks(self, command, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(benchmarks, "_CHECKOUT", tmp_path)
        assert main(command) == 1
        assert f"expected a checkout of the sources, with a folder {tmp_path / 'benchmarks'}" in capsys.readouterr().err

    @pytest.mark.slow
    def test_what_a_wheel_does_by_itself(self, tmp_path):
        build = ["egg_info", "--egg-base", str(tmp_path), "build_py", "--build-lib", str(tmp_path / "lib")]
        subprocess.run([sys.executable, "setup.py", "-q", *build], cwd=ROOT, check=True, capture_output=True)
        assert run("benchmark", folder=tmp_path / "lib").returncode == 1  # the sources have them
        result = run("reconstruct", *SMALL, folder=tmp_path / "lib")
        assert result.returncode == 0, result.stderr
        assert (tmp_path / "lib/out/reconstruct/result.obj").is_file()
        assert (tmp_path / "lib/pt3d_largesteps/report/page.html").is_file()
