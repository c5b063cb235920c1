"""A mesh from pictures: images and PyTorch3D cameras in, the visual hull as a start, then the driver ``optimize``.

    python examples/from_pictures.py

The pictures are of a pretzel made in code; put images (N, H, W, 4) and cameras of your own in their place. Writes the mesh,
out/from_pictures/pretzel.obj, and pictures.png: pictures of the target above those of the result.
Needs: pip install 'pt3d_largesteps[optimize]'
"""

from pathlib import Path

import torch
from matplotlib import image
from pytorch3d.io import save_obj
from pytorch3d.renderer import FoVPerspectiveCameras, look_at_view_transform

from pt3d_largesteps import OptimizationConfig, Stage, optimize, visual_hull
from pt3d_largesteps.metrics import surface_distance
from pt3d_largesteps.reconstruction.loading import into_unit_ball
from pt3d_largesteps.reconstruction.shapes import SHAPES
from pt3d_largesteps.renderers import ImageLoss, PyTorch3DRenderer, SphericalHarmonicsLight


def take_pictures(target, num_views, resolution):
    """A renderer, cameras around the target from above and from below, and the pictures (N, H, W, 4): colours, silhouette."""
    turn = torch.arange(num_views) * 360 / num_views  # degrees
    R, T = look_at_view_transform(dist=2.7, elev=torch.tensor([50.0, -30.0]).repeat(num_views // 2), azim=turn)
    cameras = FoVPerspectiveCameras(R=R, T=T, fov=45.0)
    renderer = PyTorch3DRenderer(resolution, light=SphericalHarmonicsLight.default())
    with torch.no_grad():
        return renderer, cameras, renderer(target, cameras)


def main(steps=80, num_views=12, resolution=64, out=Path("out/from_pictures")):
    target = into_unit_ball(SHAPES["pretzel"]())
    renderer, cameras, pictures = take_pictures(target, num_views, resolution)

    # What the silhouettes leave of space has the three holes already
    start = visual_hull(pictures[..., 3], cameras, resolution=64, num_verts=1500)
    loss = ImageLoss(renderer, cameras, pictures, channel_weights=(1, 1, 1, 3))
    stages = (Stage(0.0, lambda_=4.0), Stage(0.5, lambda_=1.0, num_verts=3000))
    result = optimize(start, loss, OptimizationConfig(steps=steps, stages=stages))

    out.mkdir(parents=True, exist_ok=True)
    save_obj(out / "pretzel.obj", *result.meshes.get_mesh_verts_faces(0))
    with torch.no_grad():
        rows = [pictures[::3], renderer(result.meshes, cameras[list(range(0, num_views, 3))])]
    image.imsave(out / "pictures.png", torch.cat([torch.cat(list(row), dim=1) for row in rows])[..., :3].clamp(0, 1).numpy())
    before, after = (surface_distance(meshes, target).chamfer for meshes in (start, result.meshes))
    print(f"{num_views} pictures, {steps} steps, {len(result.meshes.verts_packed())} vertices")
    print(f"chamfer distance to the target: {before:.5f} of the visual hull, {after:.5f} of the result; written to {out}")
    return before, after


if __name__ == "__main__":
    main()
