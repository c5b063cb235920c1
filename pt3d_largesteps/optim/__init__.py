"""Optimisers, and a parameter that knows which vertices belong to which mesh."""

from pt3d_largesteps.optim.large_steps_adam import LargeStepsAdam
from pt3d_largesteps.optim.packed import PackedParameter
from pt3d_largesteps.optim.replacing import replace_parameter
from pt3d_largesteps.optim.uniform_adam import UniformAdam

__all__ = ["LargeStepsAdam", "PackedParameter", "UniformAdam", "replace_parameter"]
