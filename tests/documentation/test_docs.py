"""The documentation is true: its code runs, its commands and links exist, and the site contains all of it."""

import contextlib
import doctest
import importlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pytorch3d.utils import ico_sphere

import pt3d_largesteps
from pt3d_largesteps import LargeSteps, PackedParameter, UniformAdam, compat, metrics, optimization, renderers, report, solvers
from pt3d_largesteps.commands import main
from support.documents import ROOT, anchors, blocks, commands, links, pages, text

README = ROOT / "README.md"
SLOW = {"docs/optimization.md"}  # its example remeshes to thousands of vertices
SHORTER = {"docs/optimization.md": ("OptimizationConfig(stages", "OptimizationConfig(steps=4, stages")}  # a whole run
# What a page takes for granted and does not say in a comment of its own: here a small triangle in a large map.
STAND_INS = {
    "docs/grids.md": """
from pytorch3d.renderer import TexturesUV
from pytorch3d.structures import Meshes
corners, maps = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]]), torch.rand(1, 512, 512, 3)
meshes = Meshes([torch.eye(3)], [torch.tensor([[0, 1, 2]])], TexturesUV(maps, [torch.tensor([[0, 1, 2]])], [corners]))
"""
}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


WITH_CODE = [page for page in pages() if any(block.language == "python" for block in blocks(page))]


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=name(page), marks=[pytest.mark.slow] if name(page) in SLOW else []) for page in WITH_CODE]
)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page", "torch": torch}
    exec(STAND_INS.get(name(page), ""), names)
    for block in blocks(page):
        if block.language not in ("python", "setup") or block.reason:
            continue
        if block.code.startswith(">>>"):
            examples = doctest.DocTestParser().get_doctest(block.code, names, name(page), str(page), block.line)
            said = io.StringIO()
            failed = doctest.DocTestRunner().run(examples, out=said.write, clear_globs=False).failed
            assert not failed, said.getvalue()
        else:  # lines are counted as in the page
            code = block.code.replace(*SHORTER.get(name(page), ("", "")))
            exec(compile("\n" * (block.line - 1) + code, str(page), "exec"), names)


def test_excuses_have_a_reason():
    markers = [line for page in pages() for line in re.findall(r"^<!-- not run.*$", text(page), re.MULTILINE)]
    excused = [block.reason for page in pages() for block in blocks(page) if block.reason]
    assert len(markers) == len(excused)
    assert all(len(reason.split()) > 2 for reason in excused)


def help_of(script: str) -> str:
    """What a script, or a command of the package, says of its options, without another process."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        if script.endswith(".py"):
            patch.setattr(sys, "argv", [script, "--help"])
            runpy.run_path(str(ROOT / script), run_name="__main__")
        else:
            main([script.split()[-1], "--help"])
    return said.getvalue()


def handed_on(command: str) -> str:
    """The script that a benchmark is."""
    return re.sub(r"-m pt3d_largesteps benchmark (\w+)", r"benchmarks/bm_\1.py", command)


SCRIPT = r"(?:examples|experiments|benchmarks)/\S+\.py|pt3d_largesteps (?:reconstruct|fit-many)"
COMMANDS = sorted({handed_on(command) for page in [README, *pages()] for command in commands(page)})
SCRIPTS = sorted({script for command in COMMANDS for script in re.findall(SCRIPT, command)})


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_have_the_options_that_are_named(script):
    assert not script.endswith(".py") or (ROOT / script).is_file()
    used = {option for command in COMMANDS if script in command for option in options_after(command, script)}
    if used:
        known = set(re.findall(r"--[\w-]+", help_of(script)))
        assert used <= known


def options_after(command: str, script: str) -> list[str]:
    return [word.split("=")[0] for word in shlex.split(command.partition(script)[2]) if word.startswith("--")]


def test_other_commands_are_there():
    makefile = (ROOT / "Makefile").read_text()
    seen = 0
    for command in COMMANDS:
        words = shlex.split(command)
        while "=" in words[0]:
            words = words[1:]
        if words[0] == "make":
            seen += 1
            for word in words[1:]:
                variable = word.split("=")[0]
                wanted = rf"\$\({variable}\)" if "=" in word else rf"^{word}:"
                assert re.search(wanted, makefile, re.MULTILINE), command
        elif words[0] == "bash":
            seen += 1
            source = (ROOT / words[1]).read_text()
            if stages := re.search(r"all_stages=\((.*?)\)", source):
                assert set(words[2:]) <= {*stages[1].split(), "teaser"}, command
        elif words[1] != "-m":  # modules are those of other packages
            assert any(script in command for script in SCRIPTS) or (ROOT / words[1]).is_file(), command
    assert seen >= 5


@pytest.mark.parametrize("page", [pytest.param(page, id=name(page)) for page in [README, *pages()] if links(page)])
def test_links_lead_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_tests_that_are_named_are_there():
    named = {one for page in pages() for one in re.findall(r"`((?:\w+/)?test_\w+\.py(?:::\w+)+)`", text(page))}
    assert len(named) > 15
    for one in named:
        file, *names = one.split("::")
        source = (ROOT / "tests" / file).read_text()
        assert all(re.search(rf"^ *(?:class|def) {each}\b", source, re.MULTILINE) for each in names), one


def test_images_say_what_they_show():
    for page in [README, *pages()]:
        for alternative in re.findall(r"!\[([^\]]*)\]\(", text(page)):
            assert alternative, name(page)


@pytest.mark.parametrize(
    "module", [pt3d_largesteps, optimization, renderers, report, solvers, compat], ids=lambda module: module.__name__
)
def test_every_public_name_is_in_the_api(module):
    shown = set(re.findall(r"^::: (\S+)", "\n".join(text(page) for page in pages()), re.MULTILINE))
    objects = {id(resolved(path)) for path in shown}
    missing = [one for one in module.__all__ if one != "__version__" and id(getattr(module, one)) not in objects]
    assert missing == []


def resolved(path: str) -> object:
    module, _, attribute = path.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_every_measure_is_in_the_api():
    shown = text(ROOT / "docs/api/metrics.md")
    ours = [one for one, value in vars(metrics).items() if getattr(value, "__module__", None) == metrics.__name__]
    public = [one for one in ours if not one.startswith("_")]
    assert len(public) >= 8
    assert [one for one in public if f"::: {metrics.__name__}.{one}\n" not in shown] == []


def test_every_table_of_the_benchmarks_is_in_the_index():
    index = text(ROOT / "docs/measurements.md")
    tables = sorted(path.name for path in (ROOT / "benchmarks/results").glob("*.md"))
    assert [table for table in tables if f"results/{table})" not in index] == []


def test_every_picture_is_in_the_gallery():
    gallery = text(ROOT / "docs/gallery.md")
    pictures = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs/images").rglob("*.png")]
    assert [picture for picture in pictures if f"({picture})" not in gallery] == []


def test_inside_distributed_data_parallel(tmp_path):
    # docs/composition.md says it: gradients of u are averaged, and the parameter still knows its meshes.
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        steps, alone = LargeSteps(ico_sphere(1).extend(2)), LargeSteps(ico_sphere(1).extend(2))
        parallel = torch.nn.parallel.DistributedDataParallel(steps)
        for module, own in ((parallel, steps), (alone, alone)):
            optimizer = UniformAdam(own.parameters(), lr=0.1)
            (module().verts_packed() - 1).square().sum().backward()
            optimizer.step()
        assert isinstance(steps.u, PackedParameter)
        assert torch.equal(steps.u, alone.u)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_wants_nothing_of_the_network(tmp_path):
    pytest.importorskip("mkdocs", reason="the site is built by make docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "search/search_index.js").is_file()  # what is searched without a server
    html = sorted(tmp_path.rglob("*.html"))
    assert len(html) > len(pages())
    for page in html:
        content = page.read_text()
        fetched = re.findall(r'<(?:script|img|iframe)[^>]* src="?(https?:[^" >]+)', content)
        fetched += re.findall(r'<link[^>]* rel="?stylesheet"?[^>]* href="?(https?:[^" >]+)', content)
        fetched += re.findall(r'<link[^>]* href="?(https?:[^" >]+)[^>]* rel="?stylesheet', content)
        assert fetched == [], page
        assert "<!-- setup" not in content, page
        assert not re.search(r":(?:class|func|meth|mod):", content), page  # roles of docstrings have become links
    assert "#pt3d_largesteps.UniformAdam" in (tmp_path / "api/steps.html").read_text()
