"""Where nothing is compiled, torch draws, and says so once."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from pytorch3d.renderer import FoVPerspectiveCameras, look_at_view_transform
from pytorch3d.utils import ico_sphere

from pt3d_largesteps.renderers import ImageLoss, PyTorch3DRenderer, SphericalHarmonicsLight

SCRIPT = """
import sys, warnings
import torch
from renderers.test_without_compiled_code import pictures_and_loss
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    images, loss = pictures_and_loss()
torch.save((images, loss, [str(one.message) for one in caught if one.category is RuntimeWarning]), sys.argv[1])
"""


def pictures_and_loss() -> tuple[torch.Tensor, torch.Tensor]:
    rotation, translation = look_at_view_transform(2.7, 10.0, torch.tensor([0.0, 120, 240]))
    cameras = FoVPerspectiveCameras(R=rotation, T=translation)
    renderer = PyTorch3DRenderer(24, SphericalHarmonicsLight.default())
    images = renderer(ico_sphere(2), cameras)
    loss = ImageLoss(renderer, cameras, torch.full((3, 24, 24, 4), 0.3), (1, 1, 1, 3), difference="l2")
    return images, loss(ico_sphere(2).scale_verts(0.8), [2, 0])


def test_the_same_pictures_with_one_warning(tmp_path):
    environment = {**os.environ, "PT3D_LARGESTEPS_NO_EXTENSION": "1"}
    folders = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    environment["PYTHONPATH"] = os.pathsep.join([*folders, *filter(None, [environment.get("PYTHONPATH")])])
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "result.pt")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    images, loss, warned = torch.load(tmp_path / "result.pt")
    assert [
        message for message in warned if "the compiled code is not here (PT3D_LARGESTEPS_NO_EXTENSION=1)" in message
    ] == warned
    assert len(warned) == 1
    expected_images, expected_loss = pictures_and_loss()
    assert (images - expected_images).abs().amax(-1).gt(1e-5).float().mean() < 0.005  # a pixel may change hands by rounding
    torch.testing.assert_close(loss, expected_loss, rtol=1e-3, atol=0)
