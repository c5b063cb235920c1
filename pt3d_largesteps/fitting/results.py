"""The results on disk: each is complete or absent, even if the process is killed."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import torch
from pytorch3d.io import save_obj
from pytorch3d.structures import Meshes

from pt3d_largesteps.reconstruction.measures import measure
from pt3d_largesteps.reconstruction.optimization import Run
from pt3d_largesteps.reconstruction.settings import Settings
from pt3d_largesteps.reconstruction.views import turntable_cameras
from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight

_COLUMNS = {
    "vertices": "vertices",
    "chamfer_over_noise": "chamfer / noise",
    "normal_consistency": "normals",
    "iou": "IoU",
    "self_intersecting_percent": "self-int. %",
    "flipped_percent": "flipped %",
    "seconds_total": "seconds",
}
_OF_RESULT = ("steps", "views", "resolution", "lambda_", "lr", "seed", "remesh", "start")  # what a result depends on


class Results:
    """The results of the targets of a folder, by name.

    Args:
        folder: created if missing. It belongs to one set of settings; other settings are refused.
        targets: files; each is called by its stem, or by its whole name where several share a stem.
        settings: the settings of all fits.

    Attributes:
        paths: the file of each name.
    """

    def __init__(self, folder: Path, targets: Sequence[Path], settings: Settings) -> None:
        stems = Counter(path.stem for path in targets)
        self.paths = {path.stem if stems[path.stem] == 1 else path.name.replace(".", "_"): path for path in targets}
        if len(self.paths) < len(targets):
            raise ValueError("--targets: expected file names that give different results, got some that differ only in a dot")
        self.folder = folder
        self.settings = settings
        folder.mkdir(parents=True, exist_ok=True)
        expected = {name: getattr(settings, name) for name in _OF_RESULT}
        for name, measures in self._read().items():
            found = {key: measures.get("settings", {}).get(key) for key in _OF_RESULT}
            if found != expected:
                different = [f"{key} {found[key]}" for key in _OF_RESULT if found[key] != expected[key]]
                raise ValueError(
                    f"--out: expected results of the same settings, got {name}.json of {', '.join(different)};"
                    " take another folder"
                )

    def finished(self) -> dict[str, dict[str, Any]]:
        """The measures of the finished targets."""
        return self._read()

    def missing(self) -> list[str]:
        """The names of the unfinished targets."""
        finished = self._read()
        return [name for name in self.paths if name not in finished]

    def write(self, name: str, target: Meshes, run: Run) -> None:
        """Writes mesh and picture first; the measures, written last, mark the result as complete."""
        self._whole(name, ".obj", lambda path: save_obj(path, run.meshes.verts_packed().cpu(), run.meshes.faces_packed().cpu()))
        self._whole(name, ".png", lambda path: iio.imwrite(path, _picture(target, run.meshes), extension=".png"))
        measures = {"settings": asdict(self.settings), **measure(run, target, self.settings)}
        self._whole(name, ".json", lambda path: path.write_text(json.dumps(measures, indent=2) + "\n"))

    def _whole(self, name: str, suffix: str, write: Any) -> None:
        path = self.folder / f"{name}{suffix}"
        partial = self.folder / f".{name}.{os.getpid()}{suffix}"
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)

    def _read(self) -> dict[str, dict[str, Any]]:
        paths = {name: self.folder / f"{name}.json" for name in self.paths}
        return {name: json.loads(path.read_text()) for name, path in paths.items() if path.is_file()}


def table(measures: dict[str, dict[str, Any]]) -> str:
    """A line for each target."""
    width = max([len("target"), *map(len, measures)])
    lines = [f"{'target':<{width}}" + "".join(f"{label:>17}" for label in _COLUMNS.values())]
    for name, numbers in sorted(measures.items()):
        lines.append(f"{name:<{width}}" + "".join(f"{numbers[key]:>17.4g}" for key in _COLUMNS))
    return "\n".join(lines)


@torch.no_grad()
def _picture(target: Meshes, result: Meshes) -> Any:
    """Target on the left, result on the right, from two sides."""
    renderer = PyTorch3DRenderer(256, SphericalHarmonicsLight.default(), background=(1.0, 1.0, 1.0))
    cameras = turntable_cameras(2)
    columns = [renderer(mesh.cpu(), cameras)[..., :3].flatten(0, 1) for mesh in (target, result)]
    return (torch.cat(columns, dim=1).clamp(0, 1) * 255).round().byte().numpy()
