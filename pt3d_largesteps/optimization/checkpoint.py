"""Files from which an optimisation goes on where it was: written whole or not at all, and read without running code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

_FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes beside the file first: who is killed meanwhile leaves the old one as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            torch.save({"format": _FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load_checkpoint(path: Path, expected: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The state that was saved.

    Args:
        path: of the file.
        expected: what has to be the same for the run to be the same.
        device: for its tensors.

    Raises:
        ValueError: no such file of ours, or one of another run.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"checkpoint: expected a file that optimize has written, got {path}: {reason}") from None
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise ValueError(f"checkpoint: expected a file that optimize has written, got {path}")
    for name, value in expected.items():
        if state[name] != value:
            raise ValueError(
                f"checkpoint: expected one of a run with the same {name}, got {path}, of a run with {state[name]}"
                f" and not {value}; remove it to begin anew"
            )
    return state


def random_states() -> list[torch.Tensor]:
    """Of torch's own generators, which losses may use."""
    states = [torch.get_rng_state()]
    return states + (torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [])


def set_random_states(states: list[torch.Tensor]) -> None:
    """Puts the generators where they were; with fewer devices than then, those that there are."""
    torch.set_rng_state(states[0].cpu())
    if len(states) > 1 and torch.cuda.is_available():
        for device, state in enumerate(states[1 : 1 + torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state.cpu(), device)
