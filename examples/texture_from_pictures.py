"""The texture of a mesh from pictures of it, in large steps across the seams of its uv map.

    python examples/texture_from_pictures.py

A torus with a grey map gets the map that its pictures show. Each step sees two pictures; what it learns of their texels
reaches the others through the solve, so that what no picture shows well is smooth. Writes
out/texture_from_pictures/maps.png: the target, grey at first, and the result.
Needs: pip install matplotlib
"""

from math import pi
from pathlib import Path

import torch
from matplotlib import image
from pytorch3d.renderer import FoVPerspectiveCameras, TexturesUV, look_at_view_transform
from pytorch3d.structures import Meshes

from pt3d_largesteps import LargeStepsTexture, UniformAdam
from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight


def textured_torus(texture, rows=24, cols=48):
    """A torus whose map (H, W, 3) is cut along two circles: vertices there have several uvs."""
    k, m = torch.meshgrid(torch.arange(rows + 1), torch.arange(cols + 1), indexing="ij")
    uvs = torch.stack([m / cols, k / rows], dim=-1).reshape(-1, 2)
    corner = (k[:-1, :-1] * (cols + 1) + m[:-1, :-1]).flatten()
    right, below = corner + 1, corner + cols + 1
    faces_uvs = torch.cat([torch.stack([corner, right, below], 1), torch.stack([right, below + 1, below], 1)])
    a, b = 2 * pi * torch.arange(rows).repeat_interleave(cols) / rows, 2 * pi * torch.arange(cols).repeat(rows) / cols
    radius = 0.7 + 0.3 * a.cos()
    verts = torch.stack([radius * b.cos(), 0.3 * a.sin(), radius * b.sin()], dim=1)
    faces = (faces_uvs // (cols + 1) % rows) * cols + faces_uvs % (cols + 1) % cols
    return Meshes([verts], [faces], TexturesUV(texture[None], [faces_uvs], [uvs]))


def painted(size=128):
    """A map (H, W, 3) with stripes and blots, that closes where it is cut."""
    v, u = torch.meshgrid(*[2 * pi * torch.linspace(0, 1, size)] * 2, indexing="ij")
    waves = [(6 * u + 2 * v).sin(), (4 * u).cos() * (3 * v).sin(), ((5 * u - 3 * v).sin() > 0.3).float()]
    return 0.5 + 0.4 * torch.stack(waves, dim=-1)


def main(steps=60, num_views=16, resolution=96, out=Path("out/texture_from_pictures")):
    torch.manual_seed(0)
    texture = painted()
    R, T = look_at_view_transform(dist=2.4, elev=torch.tensor([65.0, -65.0, 35.0, -35.0]).repeat(num_views // 4),
                                  azim=torch.arange(num_views) * 360 / num_views)  # fmt: skip
    cameras = FoVPerspectiveCameras(R=R, T=T, fov=45.0)
    renderer = PyTorch3DRenderer(resolution, light=SphericalHarmonicsLight.ambient())  # textures as they are
    with torch.no_grad():
        pictures = renderer(textured_torus(texture), cameras)

    grey = torch.full_like(texture, 0.5)
    steps_of_map = LargeStepsTexture(textured_torus(grey), lambda_=1.0)
    optimizer = UniformAdam(steps_of_map.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.02 ** (1 / steps))
    losses = []
    for _ in range(steps):
        views = torch.randperm(num_views)[:2].tolist()
        optimizer.zero_grad()
        loss = (renderer(steps_of_map(), cameras[views]) - pictures[views]).abs().mean()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())

    out.mkdir(parents=True, exist_ok=True)
    result = steps_of_map.maps()[0].detach()
    image.imsave(out / "maps.png", torch.cat([texture, grey, result], dim=1).clamp(0, 1).numpy())
    before, after = ((maps - texture).abs().mean().item() for maps in (grey, result))
    print(f"loss of the pictures: {losses[0]:.4f} at first, {losses[-1]:.4f} after {steps} steps")
    print(f"mean difference of the map: {before:.4f} at first, {after:.4f} at the end; written to {out}")
    return before, after


if __name__ == "__main__":
    main()
