"""The output of an experiment: a picture, as PNG and PDF, and a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def write(out: Path, name: str, figure: Figure, rows: Sequence[dict[str, Any]], about: str) -> None:
    """The files ``name``.png, .pdf, .csv and, with what the table is ``about``, .txt; the table is printed too."""
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / f"{name}.png", dpi=100)
    figure.savefig(out / f"{name}.pdf", dpi=200)
    with (out / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (out / f"{name}.txt").write_text(f"{about}\n")
    print(table(rows))
    print(f"written to {out}: {name}.png, {name}.pdf, {name}.csv")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """As Markdown."""

    def cell(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return "\n".join(lines + ["| " + " | ".join(map(cell, row.values())) + " |" for row in rows])
