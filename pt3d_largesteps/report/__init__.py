"""The report of an optimisation: one HTML file with its shapes on a slider, its losses, its numbers; needs no PyTorch3D."""

from pt3d_largesteps.report.report import Report
from pt3d_largesteps.report.three import ThreeError

__all__ = ["Report", "ThreeError"]
