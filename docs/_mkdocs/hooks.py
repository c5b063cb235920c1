"""What MkDocs does not do by itself: pages of the repository outside docs/ that are linked to come into the site."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Where a reader of the site is sent for what has no page of its own.
INSTEAD = {ROOT / "README.md": DOCS / "index.md", ROOT / "benchmarks" / "results": DOCS / "measurements.md"}
ALWAYS = [ROOT / "CHANGELOG.md"]  # it is in the navigation

_LINK = re.compile(r"(\]\()(?!\w+:|#)([^)\s#]+)((?:#[^)\s]*)?\))")
_HIDDEN = re.compile(r"^<!-- (?:setup|not run).*?-->\n", flags=re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Adds the files outside docs/ that its pages link to, and those that these link to."""
    waiting = [*ALWAYS, *(Path(file.abs_src_path) for file in files.documentation_pages())]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if not path.is_relative_to(DOCS):
            inclusion = InclusionLevel.INCLUDED if path in ALWAYS else InclusionLevel.NOT_IN_NAV
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path), inclusion=inclusion))
        if path.suffix == ".md":
            targets = {_target(path, link) for _, link, _ in _LINK.findall(path.read_text())}
            new = {target for target in targets - seen if target.is_file() and not target.is_relative_to(DOCS)}
            seen |= new
            waiting.extend(sorted(new))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links lead to where the files are in the site; what is only for the tests is left out."""
    source = Path(page.file.abs_src_path)
    here = Path(page.file.src_uri).parent

    def moved(match: re.Match[str]) -> str:
        target = _target(source, match[2])
        if not target.exists():
            return match[0]  # MkDocs complains of it
        place = target.relative_to(DOCS if target.is_relative_to(DOCS) else ROOT)
        return f"{match[1]}{Path(os.path.relpath(place, here)).as_posix()}{match[3]}"

    return _HIDDEN.sub("", _LINK.sub(moved, markdown))


def _target(source: Path, link: str) -> Path:
    path = Path(os.path.normpath(source.parent / link))
    path = INSTEAD.get(path, path)
    return path / "README.md" if path.is_dir() else path
