"""The tables of the paper's experiments, with this machine and its versions above them.

    make figures MESHES=FOLDER
    python benchmarks/bm_figures.py out/figures > benchmarks/results/figures.md

Each experiment of experiments/figures writes its table there; this script combines them into one file.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from common.machine import heading


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="that the experiments have written to")
    folder = parser.parse_args().folder
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        print(
            f"{folder}: expected a folder with the tables of experiments, got none; make figures writes them", file=sys.stderr
        )
        return 2
    print(heading())
    for path in paths:
        with path.open(newline="") as file:
            names, *lines = csv.reader(file)
        about = path.with_suffix(".txt").read_text().strip()
        print(f"\n## {path.stem}: {about}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}")
        for line in lines:
            print(f"| {' | '.join(map(_rounded, line))} |")
    return 0


def _rounded(text: str) -> str:
    try:
        return f"{float(text):.4g}" if "." in text or "e" in text else text
    except ValueError:
        return text


if __name__ == "__main__":
    sys.exit(main())
