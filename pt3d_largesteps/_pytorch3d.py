"""Is PyTorch3D here, and does it work? It has no official wheel, so this is what goes wrong first."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

HOW_TO_GET = (
    "see https://github.com/facebookresearch/pytorch3d/blob/main/INSTALL.md, or take a prebuilt wheel that fits your torch,"
    ' such as "pip install torch==2.11.0 easypytorch3d==0.7.9.post1"'
)


def why_not() -> Exception | None:
    """What an import of PyTorch3D and of its compiled part raises; None where both work.

    ``ModuleNotFoundError`` with the name ``pytorch3d`` means that it is not installed, anything else that it is broken.
    """
    try:
        importlib.import_module("torch")  # whose libraries the compiled part needs
        importlib.import_module("pytorch3d")
        importlib.import_module("pytorch3d._C")
    except Exception as error:  # ImportError of a library that does not fit, but also OSError, RuntimeError, ...
        return error
    return None


def is_missing(error: Exception) -> bool:
    """Whether an error of :func:`why_not` says that there is no PyTorch3D at all."""
    return isinstance(error, ModuleNotFoundError) and error.name == "pytorch3d"


def check() -> None:
    """One sentence where PyTorch3D is missing or broken.

    Raises:
        ImportError: it is.
    """
    error = why_not()
    if error is None:
        return
    if is_missing(error):
        raise ImportError(f"pt3d_largesteps needs PyTorch3D, which is not installed here: {HOW_TO_GET}") from error
    raise ImportError(
        f"pt3d_largesteps needs PyTorch3D, and the one installed here is broken ({type(error).__name__}: {error}); it was"
        f" probably built for another torch: {HOW_TO_GET}"
    ) from error


@contextmanager
def required() -> Iterator[None]:
    """Around imports: if one fails because of PyTorch3D, the error is the sentence of :func:`check`.

    Example:
        >>> with required():
        ...     from pytorch3d.structures import Meshes
    """
    try:
        yield
    except ImportError:
        check()
        raise
