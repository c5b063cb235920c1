"""Writes a benchmark's output to files row by row, so that an interrupted run keeps its measurements."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.timing import table_head, write_csv


class Report:
    """Prints lines and rows, and writes them to ``stem``.md as they come; the numbers of the rows go to ``stem``.csv.

    Args:
        stem: path without an ending; what is there already is overwritten.
        heading: machine, versions, command.
    """

    def __init__(self, stem: Path, heading: str) -> None:
        stem.parent.mkdir(parents=True, exist_ok=True)
        self._markdown, self._csv = stem.with_suffix(".md"), stem.with_suffix(".csv")
        self._markdown.write_text("")
        self._csv.unlink(missing_ok=True)  # rows of a run before must not stand beside this heading
        self._notes: list[str] = []
        self._left_out: dict[tuple[str, str], list[str]] = {}
        self.rows: list[dict[str, Any]] = []
        self.line(heading)

    def line(self, text: str = "") -> None:
        print(text, flush=True)
        with self._markdown.open("a") as file:
            file.write(text + "\n")

    def table(self, columns: Iterable[str]) -> None:
        self.line(table_head(columns))

    def row(self, cells: Iterable[Any], numbers: dict[str, Any]) -> None:
        self.line(f"| {' | '.join(map(str, cells))} |")
        self.rows.append(numbers)
        write_csv(self._csv, self.rows)

    def note(self, text: str) -> None:
        """A line below the table, once however often it comes; at once on stderr, where it cannot break the table."""
        if text not in self._notes:
            self._notes.append(text)
            print(text, file=sys.stderr, flush=True)

    def left_out(self, name: str, case: str, error: Exception) -> None:
        """A note that something could not be measured, one for all cases with one reason."""
        text = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
        cases = self._left_out.setdefault((name, reason), [])
        if not cases:
            print(f"{name} is left out of {case}: {reason}", file=sys.stderr, flush=True)
        cases.append(case)

    def close(self, lines: Iterable[str] = ()) -> None:
        """The notes, and these lines."""
        self.line()
        for text in self._notes:
            self.line(text)
        for (name, reason), cases in self._left_out.items():
            more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
            self.line(f"{name} is left out of {cases[0]}{more}: {reason}")
        for text in lines:
            self.line(text)
