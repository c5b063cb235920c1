"""A knobbly ball with one picture on it and two uv maps for it, and pictures of it.

The map of the globe is longitude and latitude: its first and last column coincide on the surface, and so do all texels of its
first row, and of its last row. The atlas cuts the ball into 32 squares, which are shuffled and rotated in the map.
"""

from __future__ import annotations

import math

import torch
from pytorch3d.renderer import FoVPerspectiveCameras, TexturesUV, look_at_view_transform
from pytorch3d.structures import Meshes
from torch import Tensor

from fields.descent import Loss
from fields.targets import texture
from pt3d_largesteps.reconstruction.views import DISTANCE, FIELD_OF_VIEW
from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight
from pt3d_largesteps.uv.texels import texel_graph

ROWS, COLUMNS = 48, 96  # of squares
ISLAND = 12  # squares along a side of an island of the atlas
MARGIN = 2.0  # texels around an island
MAPS = ("globe", "atlas")


class Globe:
    """The ball; it is called with a map (1, 3, H, W) and cameras, and returns pictures (N, 3, height, width).

    Args:
        name: "globe" or "atlas".
        width: texels of a row of the map, which has half as many rows; the globe has one column more.
        device: of everything.

    Attributes:
        meshes: of one mesh, with a black map.
        graph: of the covered texels.
        target: (1, 3, H, W), the map of the picture.
    """

    def __init__(self, name: str = "globe", width: int = 96, device: str | torch.device = "cpu") -> None:
        row, column = torch.meshgrid(torch.arange(ROWS + 1), torch.arange(COLUMNS + 1), indexing="ij")
        polar, azimuth = math.pi * row / ROWS, 2 * math.pi * column / COLUMNS
        radius = 0.92 + 0.05 * torch.sin(polar) ** 2 * torch.cos(4 * azimuth) + 0.04 * torch.cos(5 * polar)
        ring = radius * torch.sin(polar)
        places = torch.stack([ring * torch.sin(azimuth), radius * torch.cos(polar), ring * torch.cos(azimuth)], dim=-1)
        corners = torch.arange(row.numel()).view(row.shape)
        a, b, c, d = corners[:-1, :-1], corners[:-1, 1:], corners[1:, :-1], corners[1:, 1:]
        # at a pole, one of the two triangles of a square is a line
        upper, lower = torch.stack([a, c, d], -1)[:-1], torch.stack([a, d, b], -1)[1:]
        faces = torch.cat([upper.reshape(-1, 3), lower.reshape(-1, 3)])
        square = torch.arange(ROWS * COLUMNS).view(ROWS, COLUMNS)
        square = torch.cat([square[:-1].flatten(), square[1:].flatten()])
        # The surface is closed: the vertices of the last column are those of the first, and each pole is one.
        vertex = row * COLUMNS + column % COLUMNS
        vertex[0], vertex[-1] = 0, ROWS * COLUMNS
        size = (max(2, width // 2), width + 1) if name == "globe" else (max(2, width // 2), width)
        uvs = torch.stack([column / COLUMNS, 1 - row / ROWS], dim=-1).view(-1, 2)[faces]
        if name == "atlas":
            uvs = _shuffled(torch.stack([column, row], dim=-1).view(-1, 2)[faces].float(), square, size)
        flat, faces_uvs = uvs.reshape(-1, 2).unique(dim=0, return_inverse=True)
        maps = torch.zeros(1, *size, 3)
        textures = TexturesUV(maps, [faces_uvs.view(-1, 3)], [flat], align_corners=name == "globe")
        self.meshes = Meshes([places[:, :-1].reshape(-1, 3)], [vertex.view(-1)[faces]], textures).to(device)
        self.graph = texel_graph(self.meshes, size, gutter=1)
        self.target = self._painted(texture(*size).to(device))

    def __call__(self, field: Tensor, cameras: FoVPerspectiveCameras, resolution: int, background: float = 0.0) -> Tensor:
        uvs = self.meshes.textures
        textures = TexturesUV(
            field.permute(0, 2, 3, 1), uvs.faces_uvs_list(), uvs.verts_uvs_list(), align_corners=uvs.align_corners
        )
        mesh = Meshes(self.meshes.verts_list(), self.meshes.faces_list(), textures)
        light = SphericalHarmonicsLight.ambient()
        renderer = PyTorch3DRenderer(resolution, light, background=(background,) * 3, antialiased=False)
        return renderer(mesh, cameras)[..., :3].permute(0, 3, 1, 2)

    def cameras(self, eyes: Tensor, field_of_view: float = FIELD_OF_VIEW) -> FoVPerspectiveCameras:
        """Cameras that look at the center from the directions (N, 3)."""
        rotation, translation = look_at_view_transform(eye=DISTANCE * eyes.cpu())
        return FoVPerspectiveCameras(R=rotation, T=translation, fov=field_of_view, znear=0.1, device=self.meshes.device)

    def jump(self, field: Tensor) -> float:
        """The mean absolute difference of texels that coincide across a seam, divided by that of neighbours elsewhere."""
        values = self.graph.gather(field.permute(0, 2, 3, 1))
        first, second = self.graph.edges.unbind(1)
        differences = (values[first] - values[second]).abs().mean(1)
        count = len(differences) - self.graph.num_seam_edges
        return float(differences[count:].mean() / differences[:count].mean())

    def _painted(self, picture: Tensor) -> Tensor:
        """The map of a picture in longitude and latitude (1, 3, H, W), by what each texel sees from the middle."""
        x, y, z = self.graph.positions.unbind(1)
        across = torch.atan2(x, z) / math.pi % 2 - 1  # the picture, closed to a ring, from -1 to 1
        down = 2 * torch.atan2(torch.hypot(x, z), y) / math.pi - 1
        ring = torch.cat([picture, picture[..., :1]], dim=-1)
        grid = torch.stack([across, down], dim=1)[None, None]
        values = torch.nn.functional.grid_sample(ring, grid, padding_mode="border", align_corners=True)[0, :, 0].T
        return self.graph.scatter(values).permute(0, 3, 1, 2)


def pictures(globe: Globe, views: int, resolution: int, seed: int) -> Loss:
    """The mean squared difference of pictures from random directions, redrawn at each call."""
    generator = torch.Generator().manual_seed(seed)

    def loss(values: Tensor) -> Tensor:
        eyes = torch.nn.functional.normalize(torch.randn(views, 3, generator=generator), dim=1)
        cameras = globe.cameras(eyes)
        return (globe(values, cameras, resolution) - globe(globe.target, cameras, resolution)).square().mean()

    return loss


def _shuffled(corners: Tensor, square: Tensor, size: tuple[int, int]) -> Tensor:
    """The uvs (F, 3, 2) of the corners (F, 3, 2), in squares across and down, of faces in the atlas; ``square`` is (F,)."""
    down, across = ROWS // ISLAND, COLUMNS // ISLAND
    row, column = square // COLUMNS // ISLAND, square % COLUMNS // ISLAND
    generator = torch.Generator().manual_seed(0)
    cell = torch.randperm(down * across, generator=generator)[row * across + column]
    turns = torch.randint(4, (down * across,), generator=generator)[cell]
    inside = corners / ISLAND - torch.stack([column, row], dim=-1)[:, None]  # in [0, 1]
    for turn in (1, 2, 3):
        turned = torch.stack([1 - inside[..., 1], inside[..., 0]], dim=-1)
        inside = torch.where((turns >= turn)[:, None, None], turned, inside)
    room = torch.tensor([size[1] / across, size[0] / down])
    margin = torch.minimum(torch.tensor(MARGIN), room / 4)
    texels = torch.stack([cell % across, cell // across], dim=-1)[:, None] * room + margin + inside * (room - 2 * margin)
    return torch.stack([texels[..., 0] / size[1], 1 - texels[..., 1] / size[0]], dim=-1)
