"""Fits many targets: every mesh of a folder is reconstructed from pictures of it, several at a time.

    python examples/fit_many.py --targets FOLDER --out FOLDER
    python examples/fit_many.py --targets FOLDER --out FOLDER --batch 4 --memory 8
    torchrun --nproc_per_node=2 examples/fit_many.py --targets FOLDER --out FOLDER

Each target of the folder (OBJ, PLY or whatever trimesh reads) is put into the unit ball and rendered; the hull of its
silhouettes becomes it, by large steps, as in reconstruct.py. Targets are taken together in ragged batches, of at most --batch
and of no more than fit into --memory; none of them feels the others. With torchrun the batches are shared among the workers.
Of each target the output folder gets, as soon as its batch is done,

    NAME.obj      the reconstructed mesh
    NAME.png      target and result
    NAME.json     its measures; written last, so that what has one is complete

Killed at any moment and started again it goes on with what is missing. A file that cannot be used is reported and skipped; the
exit status is then 1, after all others are done.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from pytorch3d.structures import Meshes
from tqdm import tqdm

from command_line import add_settings, non_negative, positive_int, refuse
from fitting.batches import fits, make_batches, memory_limit
from fitting.results import Results, table
from fitting.workers import Workers
from reconstruction.loading import TargetError, load_target
from reconstruction.optimization import Settings, reconstruct_together

SUFFIXES = (".obj", ".ply", ".off", ".stl", ".glb", ".gltf", ".3mf")


def main(arguments: list[str] | None = None) -> int:
    """Fits the folder; returns the exit status: 0, 1 if a target failed, 2 for what it was given, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        with Workers(options.device) as workers:  # an error leaves it, so that no worker waits for one that is gone
            return _run(options, workers)
    except OSError as error:
        return refuse(f"cannot read or write {error.filename} ({error.strerror})")
    except ValueError as error:
        return refuse(str(error))
    except KeyboardInterrupt:
        return refuse("interrupted; what was complete by then is in the output folder, start again to go on", status=130)


def _run(options: argparse.Namespace, workers: Workers) -> int:
    given = {field.name: getattr(options, field.name) for field in fields(Settings) if hasattr(options, field.name)}
    settings = Settings(**{**given, "device": workers.device})
    paths = sorted(path for path in options.targets.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"--targets: expected a folder with mesh files ({', '.join(SUFFIXES)}), got none in {options.targets}")
    if options.out.resolve() == options.targets.resolve():
        raise ValueError(f"--out: expected another folder than that of the targets, got {options.out}")
    results = Results(options.out, paths, settings)
    failed = _fit(results, settings, options, workers)
    if workers.is_first:
        print(table(results.finished()))
        for name, reason in sorted(failed.items()):
            print(f"skipped: {name}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _fit(results: Results, settings: Settings, options: argparse.Namespace, workers: Workers) -> dict[str, str]:
    """Fits what is missing; returns why targets failed, of all workers."""
    missing = workers.agree(results.missing())
    failed: dict[str, str] = {}
    size = max(1, min(options.batch, -(-len(missing) // workers.number)))
    size = fits(size, memory_limit(options.memory, settings.device, workers.number), settings)
    batches = make_batches(missing, size)[workers.rank :: workers.number]
    if workers.is_first and len(missing) < len(results.paths):
        print(f"{len(results.paths) - len(missing)} of {len(results.paths)} targets are done already")
    every = 0.1 if sys.stderr.isatty() else 5.0  # seconds between two looks; a log file needs fewer
    total = sum(len(batch) for batch in batches) * settings.steps
    with tqdm(total=total, unit="step", mininterval=every, maxinterval=2 * every, disable=not workers.is_first) as progress:
        while batches:
            targets = {}
            for name in batches.pop(0):
                try:
                    targets[name] = load_target(results.paths[name]).to(settings.device)
                except TargetError as error:
                    failed[name] = str(error)
                    progress.update(settings.steps)
            if not targets:
                continue
            progress.set_description(", ".join(targets) if len(targets) < 4 else f"{len(targets)} targets")
            before = progress.n
            try:
                _fit_batch(targets, results, settings, partial(progress.update, len(targets)))
            except (RuntimeError, ValueError, MemoryError) as error:  # of one of them, or of all together
                progress.update(before - progress.n)
                names = list(targets)
                if len(names) > 1:
                    batches = make_batches(names, len(names) // 2) + batches
                    continue
                failed[names[0]] = str(error).splitlines()[0] if str(error) else type(error).__name__
                progress.update(settings.steps)
    return workers.gather(failed)


def _fit_batch(targets: dict[str, Meshes], results: Results, settings: Settings, on_step: Callable[[], Any]) -> None:
    runs = reconstruct_together(list(targets.values()), settings, lambda _: on_step())
    for (name, target), run in zip(targets.items(), runs, strict=True):
        results.write(name, target, run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="See the head of this file for the output.")
    parser.add_argument("--targets", type=_folder, required=True, help="folder of mesh files")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--batch", type=positive_int, default=8, help="targets at a time, at most (default: %(default)s)")
    parser.add_argument("--memory", type=non_negative, help="GiB for all workers together (default: half of what is free)")
    add_settings(parser, "1.3, of each mesh")
    return parser


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder, got {text}")
    return path


if __name__ == "__main__":
    sys.exit(main())
