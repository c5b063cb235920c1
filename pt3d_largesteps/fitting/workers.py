"""The processes of torchrun, or this one alone."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist


class Workers:
    """The workers and their communication; used as a context manager.

    Attributes:
        rank, number: rank of this process, and number of processes.
        device: of this process; with CUDA each process has its own.
        is_first: whether this process prints messages.
    """

    def __init__(self, device: str) -> None:
        self.rank, self.number = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.is_first = self.rank == 0
        self.device = device
        if device == "cuda" and self.number > 1:
            self.device = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
            torch.cuda.set_device(self.device)

    def __enter__(self) -> Workers:
        # Workers exchange two short texts, for which torchrun's store is enough. The threads of a process group may still hold
        # tensors when the interpreter ends, and then abort it (PyTorch, pull request 179291).
        if self.number > 1:
            self._store = next(dist.rendezvous("env://", timeout=timedelta(days=30)))[0]  # wait for the slowest worker
        return self

    def __exit__(self, *error: Any) -> None:
        if self.number == 1 or error[0] is not None:
            return
        self._store.set(f"left/{self.rank}", "")
        if self.is_first:  # the store may live in the first process, so it leaves last
            self._store.wait([f"left/{rank}" for rank in range(self.number)])

    def agree(self, thing: Any) -> Any:
        """The value of the first worker, for all; it must be serialisable as JSON."""
        if self.number == 1:
            return thing
        if self.is_first:
            self._store.set("agreed", json.dumps(thing))
        return json.loads(self._store.get("agreed"))

    def gather(self, mapping: dict[str, str]) -> dict[str, str]:
        """The mappings of all workers, merged."""
        if self.number == 1:
            return mapping
        self._store.set(f"gathered/{self.rank}", json.dumps(mapping))
        mappings = [json.loads(self._store.get(f"gathered/{rank}")) for rank in range(self.number)]
        return {name: text for one in mappings for name, text in one.items()}
