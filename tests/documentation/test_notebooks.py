"""The notebooks are whole, carry the outputs of one run from top to bottom, and run."""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/(home|root|tmp|work|usr|opt|mnt|content|Users)/")


def code_cells(path):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def texts(cell):
    """What was printed, displayed as text, or raised."""
    for output in cell.outputs:
        yield output.get("text", "")
        yield from output.get("traceback", ())
        yield from (text for kind, text in output.get("data", {}).items() if kind.startswith("text/"))


def pictures(cells):
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)


def test_both_are_there():
    assert [path.stem for path in NOTEBOOKS] == ["deform_with_large_steps", "fit_textured_mesh_with_large_steps"]


@EACH
def test_outputs_of_one_run(path):
    nbformat.validate(nbformat.read(path, 4))
    assert path.stat().st_size < 600_000
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    for cell in cells:
        for text in (cell.source, *texts(cell)):
            assert not ABSOLUTE_PATH.search(text), text
    assert pictures(cells) >= 2


@EACH
def test_pictures_of_the_page(path):
    text = (FOLDER.parent / "docs" / "notebooks.md").read_text()
    assert f"](../notebooks/{path.name})" in text
    for name in re.findall(r"]\((images/[^)]+)\)", text):
        picture = FOLDER.parent / "docs" / name
        assert picture.stat().st_size < 300_000


@pytest.mark.slow
@EACH
def test_it_runs(path, monkeypatch):
    monkeypatch.setenv("PT3D_LARGESTEPS_NOTEBOOK_SMALL", "1")
    notebook = nbformat.read(path, 4)
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert pictures(cells) == pictures(code_cells(path))
    tables = [text for cell in cells for text in texts(cell) if "best possible" in text]
    assert tables
    assert not any("nan" in table for table in tables)
