"""The builders of the released ``largesteps`` package, which want CUDA."""

from types import SimpleNamespace

import largesteps.geometry
import pytest
import torch


@pytest.fixture
def theirs_on_cpu(monkeypatch):
    """Their builders, which name the device "cuda", with a torch that stays on the CPU."""

    def on_cpu(function):
        return lambda *args, **kwargs: function(*args, **{**kwargs, "device": "cpu"})

    names = {name: getattr(torch, name) for name in dir(torch) if not name.startswith("__")}
    names |= {name: on_cpu(getattr(torch, name)) for name in ("arange", "ones", "sparse_coo_tensor")}
    monkeypatch.setattr(largesteps.geometry, "torch", SimpleNamespace(**names))
    return largesteps.geometry
