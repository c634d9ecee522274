"""What was set up: every part with its version, where it came from, and the hash of each of its files.

FOLDER/manifest.json         the parts in use; replaced whole, so that a reader sees the old ones or the new ones
FOLDER/parts/NAME-…/         one part, with its own part.json: a finished one is kept when a later one fails
FOLDER/downloads/            the packages as they came, with SHA256SUMS: for repairs, and for machines without network
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketforge.files import hash_file

RECORD = "part.json"
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file as it was when it was set up.

    Attributes:
        sha256: Of its content.
        size: In bytes.
        mtime_ns: When it was changed last.
    """

    sha256: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Part:
    """One part.

    Attributes:
        name: Of the part, a folder's name.
        version: In words.
        origin: Where it is from.
        key: What it was made from; empty where that is the system's choice.
        folder: Where it lies.
        roles: What a main file is for → its name in `files`.
        files: Name in the folder → the file as it was set up.
    """

    name: str
    version: str
    origin: str
    key: str
    folder: Path
    roles: Mapping[str, str]
    files: Mapping[str, KeptFile]

    @property
    def size_bytes(self) -> int:
        return sum(file.size for file in self.files.values())

    def path(self, role: str) -> Path:
        return self.folder / self.roles[role]


def look(path: Path) -> KeptFile:
    """A file's record, read whole. Raises OSError."""
    found = path.stat()
    return KeptFile(hash_file(path), found.st_size, found.st_mtime_ns)


def look_at_folder(folder: Path) -> dict[str, KeptFile]:
    """Records of all files under a folder; a link counts as the file it leads to, so that a broken one is found."""
    paths = sorted(p for p in folder.rglob("*") if not p.is_dir() and p.name != RECORD)
    return {path.relative_to(folder).as_posix(): look(path) for path in paths}


def trouble(part: Part, *, deep: bool) -> str:
    """What is wrong with a part's files, or nothing.

    deep: read them all. Otherwise only those whose size or time of change is not as recorded.
    """
    for name, kept in part.files.items():
        path = part.folder / name
        try:
            found = path.stat()
            if found.st_size == kept.size and found.st_mtime_ns == kept.mtime_ns and not deep:
                continue
            sha256 = hash_file(path)
        except FileNotFoundError:
            return f"{path} is missing"
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
        if sha256 != kept.sha256:
            return f"{path} is damaged: sha256 wanted {kept.sha256}, found {sha256}"
    return ""


def read_part(path: Path, root: Path) -> Part | None:
    """A part's own record, or None where there is none that can be read."""
    try:
        return _part(json.loads(path.read_text(encoding="utf-8")), root)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_part(path: Path, part: Part, root: Path) -> None:
    path.write_text(json.dumps(_json(part, root), indent=1, sort_keys=True), encoding="utf-8")


def read(root: Path) -> dict[str, Part] | None:
    """The parts in use, or None where nothing was set up. Raises ValueError for a file that is none of ours."""
    try:
        text = (root / MANIFEST).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return {name: _part(part, root) for name, part in json.loads(text)["parts"].items()}
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"{root / MANIFEST} is damaged: {error!r}") from None


def write(root: Path, parts: Mapping[str, Part]) -> None:
    draft = root / f"{MANIFEST}.new"
    with draft.open("w", encoding="utf-8") as file:
        json.dump({"parts": {n: _json(p, root) for n, p in parts.items()}}, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(root / MANIFEST)


def digest_of(*texts: str) -> str:
    """One short name for several strings."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _json(part: Part, root: Path) -> dict[str, Any]:
    # Our own folders are named from the root, so that the whole may be moved; the system's are not ours to name.
    ours = part.folder.is_relative_to(root)
    return {
        "name": part.name,
        "version": part.version,
        "origin": part.origin,
        "key": part.key,
        "folder": part.folder.relative_to(root).as_posix() if ours else os.fspath(part.folder),
        "roles": dict(part.roles),
        "files": {n: {"sha256": f.sha256, "size": f.size, "mtime_ns": f.mtime_ns} for n, f in part.files.items()},
    }


def _part(found: dict[str, Any], root: Path) -> Part:
    return Part(
        name=found["name"],
        version=found["version"],
        origin=found["origin"],
        key=found["key"],
        folder=root / found["folder"],
        roles={str(role): str(name) for role, name in found["roles"].items()},
        files={n: KeptFile(f["sha256"], f["size"], f["mtime_ns"]) for n, f in found["files"].items()},
    )
