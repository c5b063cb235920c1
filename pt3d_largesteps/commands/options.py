"""Options that commands share, and their types; errors name the refused value."""

from __future__ import annotations

import argparse
import math
import sys

from pt3d_largesteps.reconstruction.settings import STARTS, Settings


def add_settings(parser: argparse.ArgumentParser, default_lr: str) -> None:
    """The options that every reconstruction has, with the names of ``Settings``."""
    defaults = Settings()
    parser.add_argument("--views", type=positive_int, default=defaults.views, help="of a target (default: %(default)s)")
    parser.add_argument("--resolution", type=positive_int, default=defaults.resolution, help="pixels (default: %(default)s)")
    parser.add_argument("--steps", type=positive_int, default=defaults.steps, help="default: %(default)s")
    start_help = "the visual hull of the silhouettes, or a sphere (default: %(default)s)"
    parser.add_argument("--start", choices=STARTS, default=defaults.start, help=start_help)
    lambda_help = "of large steps, in the first stage (default: 4 from a hull, 9 from a sphere)"
    parser.add_argument("--lambda", dest="lambda_", type=non_negative, help=lambda_help)
    parser.add_argument("--lr", type=non_negative, help=f"step size in mean edge lengths (default: {default_lr})")
    parser.add_argument("--seed", type=seed, default=defaults.seed, help="of the order of the views (default: %(default)s)")
    parser.add_argument("--device", type=device, default=defaults.device, help="cpu, cuda, cuda:1 (default: %(default)s)")
    parser.add_argument("--solver", type=solver, default=defaults.solver, help="by its name (default: %(default)s)")
    parser.add_argument("--no-remesh", dest="remesh", action="store_false", help="keep about 2,562 vertices to the end")


def refuse(message: str, status: int = 2) -> int:
    """Says why there is no result; returns the exit status."""
    print(message, file=sys.stderr)
    return status


def positive_int(text: str) -> int:
    value = int(text) if text.lstrip("+-").isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return value


def non_negative(text: str) -> float:
    value = _number(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"expected a finite number of at least 0, got {text}")
    return value


def positive(text: str) -> float:
    value = _number(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a finite number larger than 0, got {text}")
    return value


def fraction(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number in (0, 1], got {text}")
    return value


def seed(text: str) -> int:
    if not (text.isdigit() and int(text) < 2**63):
        raise argparse.ArgumentTypeError(f"expected a whole number in [0, 2^63), got {text}")
    return int(text)


def device(text: str) -> str:
    if text == "cpu":
        return text
    import torch  # only to look for a CUDA device; --help does not need it

    try:
        device = torch.device(text)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"expected cpu or a CUDA device, got {text}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(f"expected a device of this machine, got {text}, but CUDA is not available there")
    return text


def solver(text: str) -> str:
    if text == "auto":
        return text
    from pt3d_largesteps import available_solvers

    if text not in available_solvers():
        raise argparse.ArgumentTypeError(f"expected auto or one of {', '.join(available_solvers())}, got {text}")
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
