"""Other differentiable renderers to compare with: a forward and a backward pass of all views, with an L1 loss to pictures.

They draw the same mesh from the same cameras, each in its own light, and find the gradient of the vertices; the target is a
smaller mesh, as in bm_render.py.

DEODR (La Gorce et al., "Model-based 3D hand pose estimation from monocular video", PAMI 2011) computes in float64 with one
thread, in C++ and around it in NumPy: three colour channels, antialiased, without the faces that are seen from behind. "DEODR's
C++" is what its C++ takes of that. `pip install deodr`.

Mitsuba 3 renders with its integrator ``direct_projective`` in a constant light: as many samples of each pixel as its name says,
as many again of the outlines for their gradient, and none of shadows. `pip install mitsuba`; it needs LLVM 16 or later (on
Debian, `apt-get install libllvm19`), and DRJIT_LIBLLVM_PATH says which library if the system has several.

PyTorch3D's is ``MeshRasterizer`` at one face per pixel without blur, and the backward pass through its barycentric coordinates
and depths: the least that a differentiable picture needs of it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from pytorch3d.renderer import MeshRasterizer, RasterizationSettings
from pytorch3d.structures import Meshes
from torch import Tensor

Step = Callable[[], Any]


class RenderPeer:
    def step(self) -> Any:
        """A forward and a backward pass."""
        raise NotImplementedError

    def steps(self, name: str) -> dict[str, Step]:
        """What to time, by name."""
        return {name: self.step}


class PyTorch3D(RenderPeer):
    def __init__(self, meshes: Meshes, cameras: Any, size: int) -> None:
        self._meshes = meshes
        self._count = len(cameras)
        self.rasterizer = MeshRasterizer(cameras, RasterizationSettings(image_size=size, faces_per_pixel=1))

    def step(self) -> Tensor:
        verts = self._meshes.verts_padded().clone().requires_grad_()
        fragments = self.rasterizer(self._meshes.update_padded(verts).extend(self._count))
        (fragments.bary_coords.square().sum() + fragments.zbuf.sum()).backward()
        return verts.grad

    def faces(self) -> Tensor:
        """(N, H, W): the visible face, -1 where there is none."""
        return self.rasterizer(self._meshes.extend(self._count)).pix_to_face[..., 0]


class Deodr(RenderPeer):
    def __init__(self, meshes: Meshes, cameras: Any, size: int) -> None:
        from deodr import Camera, ColoredTriMesh, Scene3D

        self._verts = meshes.verts_packed().double().numpy()
        colors = np.ones((len(self._verts), 3))
        self._mesh = ColoredTriMesh(meshes.faces_packed().numpy(), self._verts, colors=colors, nb_colors=3)
        self._scene = Scene3D(integer_pixel_centers=False)
        self._scene.set_mesh(self._mesh)
        self._scene.set_light((0.0, 0.0, -0.6), 0.4)
        self._scene.set_background_color((0.0, 0.0, 0.0))
        focal = size / 2 / np.tan(np.radians(float(cameras.fov[0]) / 2))
        intrinsic = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
        flip = np.diag([-1.0, -1.0, 1.0])  # x to the right and y down, where PyTorch3D has them to the left and up
        self._cameras = []
        for rotation, translation in zip(cameras.R.double().numpy(), cameras.T.double().numpy(), strict=True):
            extrinsic = flip @ np.column_stack([rotation.T, translation])
            self._cameras.append(Camera(extrinsic, intrinsic, size, size, checks=False))
        self._mesh.set_vertices(0.9 * self._verts)
        self.targets = [self._scene.render(camera) for camera in self._cameras]

    def step(self) -> np.ndarray:
        self._mesh.set_vertices(self._verts)
        total = np.zeros_like(self._verts)
        for camera, target in zip(self._cameras, self.targets, strict=True):
            image = self._scene.render(camera)
            self._scene.render_backward(np.sign(image - target) / (image.size * len(self.targets)))
            total += self._mesh._vertices_b
        return total

    def steps(self, name: str) -> dict[str, Step]:
        return {name: self.step, f"{name}'s C++": self._cpp_alone()}

    def _cpp_alone(self) -> Step:
        """What the step calls of C++."""
        self._mesh.set_vertices(self._verts)
        views = []
        for camera, target in zip(self._cameras, self.targets, strict=True):
            image = self._scene.render(camera)
            views.append((self._scene.scene_2d, np.sign(image - target) / (image.size * len(self.targets))))

        def step() -> None:
            for scene, gradient in views:
                scene.render(self._scene.sigma)
                scene.render_backward(gradient, make_copies=False)

        return step


class Mitsuba(RenderPeer):
    def __init__(self, meshes: Meshes, cameras: Any, size: int, *, samples: int) -> None:
        import drjit as dr
        import mitsuba as mi

        mi.set_variant("llvm_ad_rgb")
        mi.set_log_level(mi.LogLevel.Error)
        self._dr, self._mi, self._samples = dr, mi, samples
        verts, faces = meshes.verts_packed(), meshes.faces_packed()
        mesh = mi.Mesh("mesh", len(verts), len(faces), has_vertex_normals=True)
        made = mi.traverse(mesh)
        made["faces"] = mi.UInt32(faces.flatten().numpy().astype(np.uint32))
        made["vertex_positions"] = mi.Float(0.9 * verts.flatten().numpy())
        made.update()
        transform = mi.ScalarTransform4f()
        sensors = {
            f"sensor{view:03}": {
                "type": "perspective",
                "fov": float(cameras.fov[0]),
                "to_world": transform.look_at(origin=center, target=[0, 0, 0], up=[0, 1, 0]),
                "film": {"type": "hdrfilm", "width": size, "height": size, "rfilter": {"type": "box"}},
            }
            for view, center in enumerate(cameras.get_camera_center().tolist())
        }
        self._scene = mi.load_dict({"type": "scene", "mesh": mesh, "light": {"type": "constant"}, **sensors})
        self._params = mi.traverse(self._scene)
        (self._key,) = (key for key in self._params.keys() if key.endswith("vertex_positions"))  # noqa: SIM118 it is no dict
        kinds = {"sppc": samples, "sppp": samples, "sppi": 0}
        self._integrator = mi.load_dict({"type": "direct_projective", **kinds})
        self._verts = mi.Float(verts.flatten().numpy())
        self._views = range(len(sensors))
        self.targets = [mi.render(self._scene, sensor=view, integrator=self._integrator, spp=64) for view in self._views]
        dr.eval(self.targets)
        self.step()  # the first call compiles

    def step(self) -> np.ndarray:
        dr, mi = self._dr, self._mi
        dr.set_thread_count(torch.get_num_threads())
        verts = mi.Float(self._verts)
        dr.enable_grad(verts)
        self._params[self._key] = verts
        self._params.update()
        for view, target in zip(self._views, self.targets, strict=True):
            image = mi.render(self._scene, self._params, sensor=view, integrator=self._integrator, spp=self._samples, seed=view)
            dr.backward(dr.mean(dr.abs(image - target), axis=None) / len(self.targets))
        return dr.grad(verts).numpy()


_PEERS: dict[str, tuple[str, Callable[..., Any], int]] = {  # the package that is needed, how to make it, the most pixels
    "PyTorch3D's rasteriser": ("pytorch3d", PyTorch3D, 128),
    "DEODR": ("deodr", Deodr, 512),
    "Mitsuba, 1 sample": ("mitsuba", partial(Mitsuba, samples=1), 512),
    "Mitsuba, 4 samples": ("mitsuba", partial(Mitsuba, samples=4), 128),
}


def available_render_peers() -> tuple[dict[str, tuple[Callable[..., Any], int]], list[str]]:
    """How to make each that works here, with the largest size to draw; and a line for each package that does not."""
    reasons = {package: _reason_against(package) for package in dict.fromkeys(package for package, _, _ in _PEERS.values())}
    peers = {name: (make, largest) for name, (package, make, largest) in _PEERS.items() if reasons[package] is None}
    return peers, [f"{package} is left out: {reason}" for package, reason in reasons.items() if reason is not None]


def _reason_against(package: str) -> str | None:
    """Tries it in a process of its own: Mitsuba ends a process in which its LLVM is too old."""
    if not importlib.util.find_spec(package):
        return "not installed"
    tried = subprocess.run([sys.executable, __file__, package], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"does not run: {(tried.stderr.strip().splitlines() or ['no message'])[0][:120]}"


if __name__ == "__main__":
    from pytorch3d.utils import ico_sphere

    from pt3d_largesteps.reconstruction.views import fibonacci_cameras

    _, make_peer, _ = next(peer for peer in _PEERS.values() if peer[0] == sys.argv[1])
    make_peer(ico_sphere(1), fibonacci_cameras(1), 16).step()
