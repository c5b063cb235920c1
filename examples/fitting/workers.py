"""The processes of torchrun, or this one alone."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist


class Workers:
    """Who there is, and what they tell each other; used with ``with``.

    Attributes:
        rank, number: of this process, and of all.
        device: for this process; with CUDA each has one of its own.
        is_first: whether this one speaks.
    """

    def __init__(self, device: str) -> None:
        self.rank, self.number = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.is_first = self.rank == 0
        self.device = device
        if device == "cuda" and self.number > 1:
            self.device = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
            torch.cuda.set_device(self.device)

    def __enter__(self) -> Workers:
        if self.number > 1:
            # At the end they wait for the slowest, however long that takes.
            backend = "nccl" if self.device.startswith("cuda") else "gloo"
            dist.init_process_group(backend, timeout=timedelta(days=30))
        return self

    def __exit__(self, *error: Any) -> None:
        if self.number > 1:
            dist.destroy_process_group()

    def agree(self, thing: Any) -> Any:
        """What the first one has."""
        things = [thing]
        if self.number > 1:
            dist.broadcast_object_list(things, src=0)
        return things[0]

    def gather(self, mapping: dict[str, str]) -> dict[str, str]:
        """The mappings of all, joined."""
        mappings: list[Any] = [None] * self.number
        if self.number > 1:
            dist.all_gather_object(mappings, mapping)
        else:
            mappings = [mapping]
        return {name: text for one in mappings for name, text in one.items()}
