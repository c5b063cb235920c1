"""The HTML file, assembled from the files next to this one."""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path
from typing import Any

from pt3d_largesteps._version import __version__
from pt3d_largesteps.report.three import Three

_HERE = Path(__file__).parent


def make_page(
    title: str, subtitle: str, data: dict[str, Any], tables: list[tuple[str, str, dict[str, Any]]], three: Three
) -> str:
    """The text of the file; titles, labels and cells are escaped. A table is a name, a note and its rows."""
    imports = {"three-core": three.core, "three": three.module, "orbit-controls": three.orbit_controls}
    parts = {
        "TITLE": escape(title),
        "SUBTITLE": escape(subtitle),
        "STYLE": _read("page.css"),
        "IMPORTS": _json({"imports": {name: _as_url(text) for name, text in imports.items()}}),
        "DATA": _json(data),
        "SCRIPT": "\n".join(_read(name) for name in ("viewer.js", "chart.js", "page.js")),
        "TABLES": "\n".join(_table(name, note, rows) for name, note, rows in tables),
        "VERSION": escape(__version__),
        "LICENCE": escape(three.licence.strip()),
    }
    pieces = _read("page.html").split("@@")  # text, name, text, name, ... so that inserted text is not searched again
    return "".join(parts[piece] if index % 2 else piece for index, piece in enumerate(pieces))


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """Escapes text for a script element, which the first "</" might end."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _as_url(text: str) -> str:
    return "data:text/javascript;base64," + base64.b64encode(text.encode()).decode()


def _table(name: str, note: str, rows: dict[str, Any]) -> str:
    lines = []
    for label, value in rows.items():
        style = ' class="part"' if label.startswith(" ") else ""
        lines.append(f"<tr{style}><th>{escape(label.strip())}</th><td>{escape(_cell(value))}</td></tr>")
    heading = f"{escape(name)} <small>{escape(note)}</small>"
    return f"<section><h2>{heading}</h2><table>{''.join(lines)}</table></section>"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
