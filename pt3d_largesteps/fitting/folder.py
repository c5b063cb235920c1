"""Fits a folder of targets batch by batch; if a batch fails, its targets are tried one by one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

from pytorch3d.structures import Meshes
from tqdm import tqdm

from pt3d_largesteps.fitting.batches import fits, make_batches, memory_limit
from pt3d_largesteps.fitting.results import Results, table
from pt3d_largesteps.fitting.workers import Workers
from pt3d_largesteps.reconstruction.loading import TargetError, load_target
from pt3d_largesteps.reconstruction.optimization import reconstruct_together
from pt3d_largesteps.reconstruction.settings import Settings

SUFFIXES = (".obj", ".ply", ".off", ".stl", ".glb", ".gltf", ".3mf")


def fit_folder(options: argparse.Namespace, workers: Workers) -> int:
    """Fits the missing targets of a folder; ``options`` are those of fit-many. Returns the exit status, 1 if a target
    failed."""
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
    """Fits the missing targets; returns why targets failed, for all workers."""
    missing = workers.agree(results.missing())
    failed: dict[str, str] = {}
    size = max(1, min(options.batch, -(-len(missing) // workers.number)))
    size = fits(size, memory_limit(options.memory, settings.device, workers.number), settings)
    batches = make_batches(missing, size)[workers.rank :: workers.number]
    if workers.is_first and len(missing) < len(results.paths):
        print(f"{len(results.paths) - len(missing)} of {len(results.paths)} targets are done already")
    every = 0.1 if sys.stderr.isatty() else 5.0  # seconds between two updates; a log file needs fewer
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
