"""Which compiled library belongs to this Python code: both bear one number.

A library registers its operators as it is loaded, and nothing takes them back. So the number is read from the file, where it
stands as text, before that. This file stands alone: ``jit.py`` runs it where the package is not imported yet.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path

# Goes up with every change of a schema, of what an operator means, or of a buffer's format: csrc/bindings/version.h.
VERSION = 2
_MARKER, _MAX_DIGITS = b"pt3d_largesteps library version ", 10


def version_of(library: Path) -> int | None:
    """The number of a compiled library, or None if it tells none.

    Raises:
        OSError: a file that cannot be read.
    """
    if library.stat().st_size == 0:  # which mmap refuses
        return None
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        begin = content.find(_MARKER)
        if begin < 0:
            return None
        begin += len(_MARKER)
        number = re.match(rb"(\d+);", content[begin : begin + _MAX_DIGITS])
    return None if number is None else int(number[1])
