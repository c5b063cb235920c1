"""The code blocks of the README, for running them."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def python_blocks() -> list[str]:
    """All of them, in order."""
    return re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def marked_block(name: str) -> str:
    """The block behind the comment ``<!-- name -->``."""
    (block,) = re.findall(rf"<!-- {re.escape(name)} -->\n```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    return block
