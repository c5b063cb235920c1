"""PyTorch3D's recipe that deforms a sphere to a mesh, and the same in large steps: the two code blocks of the README.

python benchmarks/bm_deform.py                        # the shape made in code
python benchmarks/bm_deform.py spot.obj bunny.obj     # your own
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from common.machine import heading
from common.readme import marked_block
from pt3d_largesteps.metrics import flipped_faces, self_intersecting_faces, surface_distance
from pt3d_largesteps.reconstruction.loading import into_unit_ball, load_target
from pt3d_largesteps.reconstruction.shapes import animal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("targets", nargs="*", type=Path)
    parser.add_argument("--steps", type=int, nargs="+", default=[500])
    options = parser.parse_args()
    print(heading())
    print("\n| target | recipe | steps | chamfer / noise | normals (best) | self-intersecting % | flipped % | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for path in options.targets or [None]:
        target = load_target(path) if path else into_unit_ball(animal())
        noise = surface_distance(target, target)
        for num_steps in options.steps:
            for label, name in (
                ("PyTorch3D's, four losses", "deform: before"),
                ("large steps, chamfer alone", "deform: after"),
            ):
                torch.manual_seed(0)
                names = {"trg_mesh": target, "num_steps": num_steps}
                start = time.perf_counter()
                exec(marked_block(name), names)
                seconds = time.perf_counter() - start
                result = names["new_src_mesh"].detach()
                distance = surface_distance(result, target)
                print(
                    f"| {path.name if path else 'made in code'} | {label} | {num_steps}"
                    f" | {distance.chamfer / noise.chamfer:.2f}"
                    f" | {distance.normal_consistency:.3f} ({noise.normal_consistency:.3f})"
                    f" | {100 * float(self_intersecting_faces(result)):.2f}"
                    f" | {100 * float(flipped_faces(result, target)):.2f} | {seconds:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
