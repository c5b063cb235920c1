"""The pages of the documentation as the tests read them: their code, commands, links and headings."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A page defines what its code takes for granted in a comment, and excuses a block that cannot run in the comment before it.
_BLOCK = re.compile(
    r"^<!-- setup\n(?P<setup>.*?)^-->$"
    r"|(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_COMMAND = re.compile(r"(?:\w+=\S+ +)*(?:\.venv/bin/)?(?:python3?|make|bash|torchrun|mkdocs)\b .*")


@dataclass(frozen=True)
class Block:
    line: int
    language: str  # "setup" for code that readers do not see
    code: str
    reason: str | None  # why it does not run


def pages() -> list[Path]:
    """All of docs/, as it is in the repository."""
    return sorted(path for path in (ROOT / "docs").rglob("*.md"))


@cache
def text(page: Path) -> str:
    return page.read_text()


def blocks(page: Path) -> list[Block]:
    found = []
    for match in _BLOCK.finditer(text(page)):
        line = text(page).count("\n", 0, match.start("code" if match["code"] is not None else "setup")) + 1
        code = textwrap.dedent(match["code"] if match["code"] is not None else match["setup"])
        found.append(Block(line, match["language"] or "setup", code, match["reason"]))
    return found


def prose(page: Path) -> str:
    """The text without its code blocks."""
    return _BLOCK.sub("", text(page))


def commands(page: Path) -> list[str]:
    """In blocks of shell and in the text."""
    lines = [line for block in blocks(page) if block.language in ("sh", "bash") for line in block.code.splitlines()]
    found = [line.split("  #")[0].split(" # ")[0].strip() for line in lines] + _INLINE.findall(prose(page))
    return [command for command in found if _COMMAND.fullmatch(command)]


def links(page: Path) -> list[str]:
    """Targets within the repository; those of the network are not looked for."""
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if not re.match(r"\w+:", link)]


@cache
def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings, and as the site does."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text(page), flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in plain}
