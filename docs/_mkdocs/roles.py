"""Docstrings as they are written here, for mkdocstrings: Sphinx's roles become links, ``Example:`` a section with code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:class|func|meth|mod):`~?([\w.]+)`")
_PAGES = Path(__file__).resolve().parents[1] / "api"


class Roles(Extension):
    """What the pages of docs/api show is linked to; other names are set as code."""

    def on_package(self, *, pkg: Any, **_: Any) -> None:
        names = [name for page in sorted(_PAGES.glob("*.md")) for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)]
        shown = {_canonical(pkg, name): name for name in names}
        self._rewrite(pkg, pkg, shown, set())

    def _rewrite(self, pkg: Any, obj: Object, shown: dict[str, str], seen: set[str]) -> None:
        if obj.is_alias or obj.path in seen:
            return
        seen.add(obj.path)
        if obj.docstring is not None:
            text = _ROLE.sub(lambda match: _link(pkg, obj, match[1], shown), obj.docstring.value)
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.M)
        for member in list(obj.members.values()):
            self._rewrite(pkg, member, shown, seen)


def _link(pkg: Any, obj: Object, name: str, shown: dict[str, str]) -> str:
    text = f"`{name.rsplit('.', 1)[-1]}`"
    path = _canonical(pkg, name if name.startswith(f"{pkg.name}.") else _resolved(obj, name))
    if path in shown:
        return f"[{text}][{shown[path]}]"
    parent = path.rpartition(".")[0]
    return f"[{text}][{path}]" if parent in shown else text


def _resolved(obj: Object, name: str) -> str:
    scope = obj if obj.is_class or obj.is_module else obj.parent
    if scope.is_class and name in scope.members:
        return f"{scope.path}.{name}"
    try:
        return obj.resolve(name)
    except Exception:  # a name of another library, or none: it stays code
        return name


def _canonical(pkg: Any, path: str) -> str:
    """The place where a name is defined, whichever package hands it on."""
    try:
        return pkg[path.removeprefix(f"{pkg.name}.")].canonical_path
    except Exception:
        return path
