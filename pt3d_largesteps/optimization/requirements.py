"""The optional packages that a config needs."""

from __future__ import annotations

import importlib.util

from pt3d_largesteps.optimization.config import OptimizationConfig


def check_installed(config: OptimizationConfig) -> None:
    """Checks before the run for packages that are needed in the middle or at the end."""
    needed = {"igl.predicates": config.untangle, "gpytoolbox": any(stage.remeshing for stage in config.stages)}
    missing = [name.partition(".")[0] for name, is_needed in needed.items() if is_needed and not _is_installed(name)]
    if missing:
        raise ImportError(
            f"optimize needs {' and '.join(missing)} for this config (untangle, stages that are remeshed):"
            " pip install 'pt3d_largesteps[optimize]'"
        )


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False
