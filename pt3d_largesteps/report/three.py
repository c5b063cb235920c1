"""Finds three.js, which shows the meshes in a browser: your own copy, an earlier download, or npm's registry."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import re
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

VERSION = "0.180.0"
URL = f"https://registry.npmjs.org/three/-/three-{VERSION}.tgz"
# The registry's own checksum of this file (dist.integrity): SHA-512.
INTEGRITY = "o+qycAMZrh+TsE01GqWUxUIKR1AL0S8pq7zDkYOQw8GqfX8b8VoCKYUoHbhiX5j+7hr8XsuHDVU6+gkQJQKg9w=="
VARIABLE = "PT3D_LARGESTEPS_THREE"
SECONDS = 60  # without a byte from the registry

_CORE = re.compile(r"""(["'])\./three\.core(\.min)?\.js\1""")


class ThreeError(RuntimeError):
    """There is no three.js, or not the expected one; the message says what to do."""


@dataclass(frozen=True)
class Three:
    """Texts of modules, which import each other as "three" and "three-core"; and of the licence."""

    core: str
    module: str
    orbit_controls: str
    licence: str


def find_three(given: str | Path | None = None) -> Three:
    """three.js from ``given`` or from the path in the variable PT3D_LARGESTEPS_THREE: the file that "npm pack three" writes, or
    an unpacked one (``node_modules/three``). Without either, version ``VERSION`` from the user's cache, into which the first
    use downloads it from npm's registry.

    Raises:
        ThreeError: it is missing, is another file, or cannot be downloaded.
    """
    given = given or os.environ.get(VARIABLE) or None
    if given is not None:
        return _read(Path(given))
    path = cached()
    if not path.is_file():
        _fetch(path)
    _check(path.read_bytes(), str(path), f"delete {path} to fetch it again")
    return _read(path)


def cached() -> Path:
    """Where the file from the registry is kept."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "pt3d_largesteps" / f"three-{VERSION}.tgz"


def _fetch(path: Path) -> None:
    try:
        with urllib.request.urlopen(URL, timeout=SECONDS) as response:
            content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise ThreeError(
            f"three.js {VERSION} is not on this machine and could not be fetched from {URL} ({error}); fetch it elsewhere, by"
            f' "npm pack three@{VERSION}", and name the file by {VARIABLE} or the argument three'
        ) from error
    _check(content, URL, "it may have been changed on the way")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise ThreeError(
            f"three.js cannot be kept in {path} ({error.strerror}); XDG_CACHE_HOME names another folder"
        ) from error


def _check(content: bytes, where: str, what_to_do: str) -> None:
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != INTEGRITY:
        raise ThreeError(f"three.js: expected the SHA-512 {INTEGRITY} of {where}, got {found}; {what_to_do}")


def _read(path: Path) -> Three:
    """From the file of npm or the folder that it unpacks to."""
    core, module = _member(path, "build/three.core"), _member(path, "build/three.module")
    if not _CORE.search(module):
        raise ThreeError(f"three: expected a three.module.js that imports three.core.js, got another one in {path}")
    return Three(
        core,
        _CORE.sub('"three-core"', module),
        _member(path, "examples/jsm/controls/OrbitControls"),
        _member(path, "LICENSE", ("",)),
    )


def _member(path: Path, name: str, endings: tuple[str, ...] = (".min.js", ".js")) -> str:
    try:
        if path.is_dir():
            found = [path / f"{name}{ending}" for ending in endings if (path / f"{name}{ending}").is_file()]
            if found:
                return found[0].read_text(encoding="utf-8")
        else:
            with tarfile.open(path) as archive:
                names = set(archive.getnames())
                for ending in endings:
                    file = archive.extractfile(f"package/{name}{ending}") if f"package/{name}{ending}" in names else None
                    if file is not None:
                        return file.read().decode()
    except (OSError, tarfile.TarError) as error:
        raise ThreeError(f"three: expected the file or folder of npm's package three, got {path} ({error})") from error
    raise ThreeError(f"three: expected three.js 0.172 or newer, with {name}{endings[-1]}, got {path} without it")
