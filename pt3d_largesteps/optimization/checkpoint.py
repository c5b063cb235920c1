"""Checkpoint files, from which an optimisation resumes: written completely or not at all, and read without running code."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

_FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes a temporary file first, then replaces the old one: a crash leaves the old file intact."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            torch.save({"format": _FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load_checkpoint(path: Path, names: Mapping[str, Any], run_of: dict[str, Any]) -> dict[str, Any]:
    """The state that was saved, on the CPU.

    Args:
        path: of the file.
        names: of the parts of a state, each with the names of its own parts, or with None.
        run_of: the arguments that must equal those of the saved run.

    Raises:
        ValueError: the file is not a checkpoint, is one of another version of this package, or of another run.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch's reader raises many kinds of errors for other files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"checkpoint: expected a file that optimize has written, got {path}: {reason}") from None
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise ValueError(f"checkpoint: expected a file that optimize has written, got {path}")
    missing, unknown = _compared({"format": None, **names}, state)
    if missing or unknown:
        got = " and ".join([f"without {', '.join(missing)}"] * bool(missing) + [f"with {', '.join(unknown)}"] * bool(unknown))
        raise ValueError(
            f"checkpoint: expected one that this version of pt3d_largesteps has written, got {path} of another version, {got};"
            " resume it with that version, or remove it to begin anew"
        )
    different = _different(state["run_of"], run_of)
    if different:
        raise ValueError(
            f"checkpoint: expected one of the same run, got {path}, of a run with {', '.join(different)};"
            " remove it to start again"
        )
    return state


def _compared(names: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The names that a state lacks, and those that it has besides."""
    missing, unknown = sorted(set(names) - set(state)), sorted(map(str, set(state) - set(names)))
    for name, parts in names.items():
        if parts is not None and name in state:
            of_parts = _compared(parts, state[name])
            missing += [f"{name}.{part}" for part in of_parts[0]]
            unknown += [f"{name}.{part}" for part in of_parts[1]]
    return missing, unknown


def _different(saved: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """The differences between two runs, in words."""
    words = []
    for name, value in given.items():
        if name == "config":
            words += [f"{key} {saved[name][key]} instead of {now}" for key, now in value.items() if saved[name][key] != now]
        elif saved[name] != value:
            words.append(f"another {name}" if name == "start" else f"{name} {saved[name]!r} instead of {value!r}")
    return words


def digest(tensors: Sequence[torch.Tensor | None]) -> str:
    """A hash of the tensors' shapes, dtypes and numbers."""
    total = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        total.update(b"none" if tensor is None else repr((tensor.shape, tensor.dtype)).encode())
        total.update(b"" if tensor is None else tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def checked_path(path: str | Path) -> Path:
    """A path at which a file can be written; its folder is made now, to fail before the first step.

    Raises:
        OSError, TypeError, ValueError: no file can be written there.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"checkpoint: expected a file, got the folder {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def random_states() -> list[torch.Tensor]:
    """The states of torch's own generators, which losses may use."""
    states = [torch.get_rng_state()]
    return states + (torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [])


def set_random_states(states: list[torch.Tensor]) -> None:
    """Restores the generators; with fewer devices than before, only those that exist."""
    torch.set_rng_state(states[0].cpu())
    if len(states) > 1 and torch.cuda.is_available():
        for device, state in enumerate(states[1 : 1 + torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state.cpu(), device)
