"""The page about a run: what is in the file, where its viewer comes from, and what a browser makes of it."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import urllib.error

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import OptimizationConfig, Stage, optimize
from pt3d_largesteps.commands import reconstruct
from pt3d_largesteps.report import Report, ThreeError, three

FILES = {
    "build/three.core.min.js": "export const core = 1;",
    "build/three.module.min.js": 'export*from"./three.core.min.js";// </script>',
    "examples/jsm/controls/OrbitControls.js": "import { core } from 'three';",
    "LICENSE": "The MIT License <three@js.org>",
}


@pytest.fixture
def package(tmp_path):
    """A folder with files like those of three.js."""
    for name, text in FILES.items():
        (tmp_path / "three" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "three" / name).write_text(text)
    return tmp_path / "three"


@pytest.fixture
def registry(package, tmp_path, monkeypatch):
    """npm's registry with that package, and an empty cache; returns the list of what is fetched."""
    with tarfile.open(tmp_path / "three.tgz", "w:gz") as archive:
        archive.add(package, "package")
    content, fetched = (tmp_path / "three.tgz").read_bytes(), []
    monkeypatch.setattr(three, "INTEGRITY", base64.b64encode(hashlib.sha512(content).digest()).decode())
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, **_: fetched.append(url) or io.BytesIO(content))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(three.VARIABLE, raising=False)
    return fetched


def data_of(path):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1])


def unpacked(positions, dtype="<u2"):
    values = np.frombuffer(base64.b64decode(positions["data"]), dtype).reshape(-1, 3)
    return values / 65535 * positions["size"] + positions["low"] if dtype == "<u2" else values


class TestThree:
    def test_fetched_once(self, registry):
        first = three.find_three()
        assert (first.core, first.licence) == (FILES["build/three.core.min.js"], FILES["LICENSE"])
        assert first.module == 'export*from"three-core";// </script>'
        assert three.find_three() == first
        assert registry == [three.URL]

    def test_changed_on_its_way(self, registry, monkeypatch):
        monkeypatch.setattr(three, "INTEGRITY", "another")
        with pytest.raises(ThreeError, match=f"expected the SHA-512 another of {three.URL}"):
            three.find_three()
        assert not three.cached().exists()

    def test_changed_in_the_cache(self, registry):
        three.find_three()
        three.cached().write_bytes(b"something else")
        with pytest.raises(ThreeError, match=f"delete {three.cached()} to fetch it again"):
            three.find_three()

    def test_without_a_network(self, registry, monkeypatch):
        def fail(url, **_):
            raise urllib.error.URLError("Name or service not known")

        monkeypatch.setattr(urllib.request, "urlopen", fail)
        with pytest.raises(ThreeError, match="Name or service not known") as raised:
            three.find_three()
        assert f'"npm pack three@{three.VERSION}", and name the file by PT3D_LARGESTEPS_THREE' in str(raised.value)

    def test_a_copy_that_is_named(self, package, registry, tmp_path, monkeypatch):
        monkeypatch.setenv(three.VARIABLE, str(tmp_path / "three.tgz"))
        assert three.find_three() == three.find_three(package)
        assert registry == []

    @pytest.mark.parametrize(
        ("break_it", "message"),
        [
            (shutil.rmtree, "expected the file or folder of npm's package three, got "),
            (lambda folder: (folder / "LICENSE").unlink(), "with LICENSE, got "),
            (lambda folder: (folder / "build/three.core.min.js").unlink(), "0.172 or newer, with build/three.core.js, got "),
            (lambda folder: (folder / "build/three.module.min.js").write_text(""), "that imports three.core.js, got another"),
        ],
    )
    def test_what_is_none(self, package, break_it, message):
        break_it(package)
        with pytest.raises(ThreeError, match=message):
            three.find_three(package)


class TestViewer:
    def test_is_fetched_when_it_is_asked_for(self, registry, tmp_path):
        report = Report("run", target=ico_sphere(0))
        report.add_frame(0, ico_sphere(0))
        assert registry == []
        report.fetch_viewer()
        assert registry == [three.URL]
        three.cached().unlink()
        report.save(tmp_path / "run.html")  # it has it already
        assert registry == [three.URL]

    def test_is_fetched_at_the_end_else(self, registry, tmp_path):
        report = Report("run")
        report.add_frame(0, ico_sphere(0))
        report.save(tmp_path / "run.html")
        assert registry == [three.URL]

    def test_that_is_not_there(self, tmp_path):
        report = Report("run", three=tmp_path / "none.tgz")
        report.add_frame(0, ico_sphere(0))
        for call in (report.fetch_viewer, lambda: report.save(tmp_path / "run.html")):
            with pytest.raises(ThreeError, match="three: expected the file or folder of npm's package three, got "):
                call()
        assert not (tmp_path / "run.html").exists()


class TestFile:
    @pytest.mark.parametrize(("precision", "error"), [("uint16", 1.0 / 65535), ("float32", 0.0)])
    def test_vertices_and_faces(self, package, tmp_path, precision, error):
        shapes = [ico_sphere(2), ico_sphere(2).scale_verts(0.5), ico_sphere(3), ico_sphere(3).offset_verts_(torch.ones(3))]
        report = Report("run", target=ico_sphere(1), precision=precision, three=package)
        for step, meshes in zip((0, 10, 10, 20), shapes, strict=True):
            report.add_frame(step, (meshes.verts_packed(), meshes.faces_packed()) if step == 0 else meshes)
        report.save(tmp_path / "run.html")
        data = data_of(tmp_path / "run.html")
        assert [frame["topology"] for frame in data["frames"]] == [1, 1, 2, 2]
        assert [(part["vertices"], part["faces"]) for part in data["topologies"]] == [(42, 80), (162, 320), (642, 1280)]
        for frame, meshes in zip(data["frames"], shapes, strict=True):
            verts = unpacked(frame["positions"], "<u2" if precision == "uint16" else "<f4")
            verts = verts + np.array(data["origin"])
            assert np.abs(verts - meshes.verts_packed().numpy()).max() <= 1.01 * error
            faces = np.frombuffer(base64.b64decode(data["topologies"][frame["topology"]]["data"]), "<u2")
            assert (faces.reshape(-1, 3) == meshes.faces_packed().numpy()).all()

    @pytest.mark.parametrize("precision", ["uint16", "float32"])
    def test_far_from_the_origin(self, package, tmp_path, precision):
        # In float32 numbers near 1e7 are 1 apart: the sphere of radius 1 would be a few points.
        verts, far = ico_sphere(3).verts_packed().double(), torch.tensor([1e7, -2e7, 3e7], dtype=torch.float64)
        report = Report("run", precision=precision, three=package)
        report.add_frame(0, (verts + far, ico_sphere(3).faces_packed()))
        report.save(tmp_path / "run.html")
        data = data_of(tmp_path / "run.html")
        np.testing.assert_allclose(data["origin"], far.numpy(), atol=1e-6)
        positions = unpacked(data["frames"][0]["positions"], "<u2" if precision == "uint16" else "<f4")
        # uint16: half of one of 65,535 steps along 2; float32: the rounding of the sums in float64, at 3e7
        bound = 1.01 / 65535 if precision == "uint16" else 1e-7
        assert np.abs(positions + np.array(data["origin"]) - far.numpy() - verts.numpy()).max() <= bound

    def test_more_vertices_than_sixteen_bits_count(self, package, tmp_path):
        report = Report("run", three=package)
        report.add_frame(0, (torch.rand(70000, 3), torch.tensor([[0, 1, 69999]])))
        report.save(tmp_path / "run.html")
        (topology,) = data_of(tmp_path / "run.html")["topologies"]
        assert np.frombuffer(base64.b64decode(topology["data"]), "<u4").tolist() == [0, 1, 69999]

    def test_texts_are_escaped_and_the_licence_is_kept(self, package, tmp_path):
        report = Report("<b>a</b> & @@DATA@@", "</script>", three=package)
        report.add_frame(0, ico_sphere(0), "</script><script>")
        report.add_curve("</script>", [1, 2], [1.0, float("nan")])
        report.add_table("<i>", {"<u>": "<s>", "  part": 0.12345, "none": None, "yes": True, "many": 12345}, "<em>")
        report.save(tmp_path / "run.html")
        text = (tmp_path / "run.html").read_text()
        assert "&lt;b&gt;a&lt;/b&gt; &amp; @@DATA@@" in text
        assert not re.search(r"<(b|i|u|s|em)>", text.replace('const bold = document.createElement("b")', ""))
        assert text.count("</script>") == 3
        assert '<tr class="part"><th>part</th><td>0.1235</td></tr><tr><th>none</th><td>–</td></tr>' in text
        assert "The MIT License &lt;three@js.org&gt;" in text
        assert data_of(tmp_path / "run.html")["curves"][0]["values"] == [1.0, None]

    def test_of_a_run_of_the_driver(self, package, tmp_path):
        report = Report("run", three=package)
        stages = (Stage(0.0, lambda_=1.0), Stage(0.5, lambda_=4.0))
        config = OptimizationConfig(steps=10, stages=stages, untangle=False)

        def loss(meshes):
            return meshes.verts_packed().square().mean()

        result = optimize(ico_sphere(1), loss, config, held_out=loss, callbacks=[report.every(4)])
        report.add_history(result.history)
        report.save(tmp_path / "run.html")
        data = data_of(tmp_path / "run.html")
        assert [frame["step"] for frame in data["frames"]] == [1, 4, 5, 8, 10]
        assert data["curves"][0]["values"] == result.history.mean_losses
        assert data["curves"][1]["name"] == "held-out loss"
        assert [stage["step"] for stage in data["stages"]] == [0, 5]
        last = unpacked(data["frames"][-1]["positions"])
        assert np.abs(last - result.meshes.verts_packed().numpy()).max() < 1e-4

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda report: report.add_frame(5, "cow.obj"), TypeError, r"meshes: expected Meshes or a tuple \(verts, faces\)"),
            (lambda report: report.add_frame(2.0, ico_sphere(0)), ValueError, "step: expected an integer of at least 5, got"),
            (
                lambda report: report.add_frame(4, ico_sphere(0)),
                ValueError,
                "step: expected an integer of at least 5, got int 4",
            ),
            (
                lambda report: report.add_frame(6, (torch.full((3, 3), torch.nan), torch.tensor([[0, 1, 2]]))),
                ValueError,
                "meshes: expected finite vertices",
            ),
            (
                lambda report: report.add_frame(6, (torch.rand(3, 3), torch.tensor([[0, 1, 3]]))),
                ValueError,
                "expected faces of vertices 0 to 2, got 0 to 3",
            ),
            (lambda report: report.add_frame(6, (torch.rand(3, 2), torch.ones(1, 3).long())), ValueError, r"vertices \(V, 3\)"),
            (
                lambda report: report.add_frame(6, (torch.rand(3, 3), torch.rand(1, 3))),
                ValueError,
                r"faces \(F, 3\) of integers",
            ),
            (lambda report: report.add_curve("loss", [1, 2], [0.5]), ValueError, "values: expected 2, as many as steps, got 1"),
            (lambda report: report.every(0), ValueError, "steps: expected an integer of at least 1, got int 0"),
        ],
    )
    def test_what_is_refused(self, package, call, error, message):
        report = Report("run", three=package)
        report.add_frame(5, ico_sphere(0))
        with pytest.raises(error, match=message):
            call(report)

    def test_what_is_refused_at_its_ends(self, package, tmp_path):
        with pytest.raises(ValueError, match="precision: expected one of uint16, float32, got 'int8'"):
            Report("run", precision="int8", three=package)
        with pytest.raises(ValueError, match="frames: expected at least one"):
            Report("run", three=package).save(tmp_path / "run.html")


SMALL = ["--steps", "8", "--views", "4", "--resolution", "24", "--start", "sphere", "--no-remesh"]


class TestReconstruct:
    @pytest.mark.slow
    def test_report(self, package, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv(three.VARIABLE, str(package))
        path = tmp_path / "new" / "run.html"
        assert reconstruct.main([*SMALL, "--out", str(tmp_path), "--report", str(path)]) == 0
        assert f"report, for a browser: {path}, " in capsys.readouterr().out
        data = data_of(path)
        assert [frame["step"] for frame in data["frames"]] == list(range(9))
        assert len(data["curves"][0]["values"]) == 8
        numbers = json.loads((tmp_path / "metrics.json").read_text())
        assert f"<th>chamfer / noise</th><td>{numbers['chamfer_over_noise']:.4g}</td>" in path.read_text()
        assert "<th>step size in mean edge lengths, if given</th><td>–</td>" in path.read_text()

    def test_no_three_is_said_before_the_run(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv(three.VARIABLE, str(tmp_path / "none.tgz"))
        assert reconstruct.main([*SMALL, "--out", str(tmp_path), "--report", str(tmp_path / "run.html")]) == 2
        assert capsys.readouterr().err.startswith("three: expected the file or folder of npm's package three, got ")
        assert not (tmp_path / "result.obj").exists()


# Put behind the page's own script: what a user would do, and what came of it, into the document.
ACTIONS = """
function seen(color) {
  const copy = Object.assign(document.createElement("canvas"), { width: 200, height: 100 });
  const context = copy.getContext("2d", { willReadFrequently: true });
  viewer.draw();
  context.drawImage(at("canvas"), 0, 0, 200, 100);
  const { data } = context.getImageData(0, 0, 200, 100);
  let pixels = 0;
  for (let i = 0; i < data.length; i += 4) {
    const [red, green, blue, alpha] = data.slice(i, i + 4);
    const found = { blue: blue > red + 20, orange: red > blue + 20, dark: red + green + blue < 250 };
    pixels += alpha > 128 && found[color];
  }
  return pixels;
}
const told = { last: [at("frame").value, at("step").value, at("result-caption").textContent, seen("blue"), seen("orange")] };
at("frame").value = 0;
at("frame").dispatchEvent(new Event("input"));
told.first = [at("frame").value, at("step").value, at("result-caption").textContent, seen("blue"), seen("orange")];
document.querySelector("input[value=result]").click();
told.alone = [seen("blue"), seen("orange"), at("target-caption").hidden];
told.lines = [seen("dark")];
at("wireframe").click();
told.lines.push(seen("dark"));
at("play").click();
told.playing = at("play").textContent;
told.cursor = document.querySelector("#chart .cursor").getAttribute("x1");
told.scrolls = document.documentElement.scrollWidth > window.innerWidth;
document.body.dataset.told = JSON.stringify(told);
"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no chromium here")

    def run(path, *options):
        command = [found, "--headless", "--no-sandbox", "--enable-unsafe-swiftshader", "--hide-scrollbars"]
        command += ["--window-size=900,1000", "--virtual-time-budget=2000", *options, path.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False).stdout

    return run


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A sphere that shrinks away from its target, and is refined."""
    try:
        found = three.find_three()
    except ThreeError as error:
        pytest.skip(str(error))
    assert "SPDX-License-Identifier: MIT" in found.core
    report = Report("A sphere that shrinks", target=ico_sphere(3))
    for step in range(0, 50, 10):
        report.add_frame(step, ico_sphere(3 if step > 20 else 2).scale_verts(1 - step / 80))
    report.add_curve("loss", range(1, 41), [1 / step for step in range(1, 41)])
    path = tmp_path_factory.mktemp("page") / "run.html"
    report.save(path)
    return path


def acted(page, actions):
    """The page with something done at the end of its script."""
    text = page.read_text()
    end = text.rindex("</script>")
    path = page.with_name("acted.html")
    path.write_text(text[:end] + actions + text[end:])
    return path


class TestInABrowser:
    @pytest.mark.slow
    def test_the_slider_changes_the_shape(self, page, browser):
        document = browser(acted(page, ACTIONS), "--dump-dom")
        found = re.search(r'data-told="([^"]*)"', document)
        assert found, document[-2000:]
        told = json.loads(found[1].replace("&quot;", '"'))
        number, step, caption, blue, orange = told["first"]
        assert (number, step, caption) == ("0", "step 0 of 40", "result 162 vertices")
        assert told["last"][:3] == ["4", "step 40 of 40", "result 642 vertices"]
        assert blue > 2000
        assert told["last"][3] == pytest.approx(0.25 * blue, rel=0.2)  # of half the size
        assert told["last"][4] == orange == pytest.approx(blue, rel=0.1)
        assert told["alone"][0] > 1.2 * blue  # there is more room for it
        assert told["alone"][1:] == [0, True]
        assert told["lines"][1] > 2 * told["lines"][0]
        assert told["playing"] == "Pause"
        assert told["scrolls"] is False

    @pytest.mark.slow
    def test_what_is_seen(self, page, browser, tmp_path):
        pictures = []
        for index, actions in enumerate(("", "show(0);")):
            browser(acted(page, actions), f"--screenshot={tmp_path / f'{index}.png'}")
            pictures.append(iio.imread(tmp_path / f"{index}.png")[..., :3].astype(int))
        top = [picture[:600] for picture in pictures]
        blue = [int(((picture[..., 2] > picture[..., 0] + 40) & (picture[..., 0] > 40)).sum()) for picture in top]
        orange = [int((picture[..., 0] > picture[..., 2] + 60).sum()) for picture in top]
        assert orange[0] == orange[1] > 20000
        assert blue[1] > 2 * blue[0] > 10000
