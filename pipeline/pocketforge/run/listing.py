"""What lies in a store, in few words: remembered, so that listing and clearing read no manifest that was read before.

The memory is one JSON file beside the entries. A row counts while the file system says that the entry's manifest is as
it was (fingerprints.py has the reasons); the result's files are as its maker left them, so their size goes with it.
Losing the memory costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pocketforge.errors import ModelError
from pocketforge.files import replace_whole
from pocketforge.run.fingerprints import Stamp, folder_stamp, is_racy, stamp_of

FILE = "listing.json"
MANIFEST = "manifest.json"
DAMAGED = "damaged"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class StoredResult:
    """One stored result, not verified.

    Attributes:
        key: Of the step that made it.
        stage: That made it; "damaged" where nothing says which.
        lane: `trunk`, or the targets that it served then; empty of a damaged one.
        size_bytes: Of its files and its manifest.
        last_used: When it was made or used last, in seconds since 1970.
    """

    key: str
    stage: str
    lane: str
    size_bytes: int
    last_used: float

    def to_json(self) -> dict[str, object]:
        """Every field by its name."""
        return dataclasses.asdict(self)


class _Row(NamedTuple):
    """What is remembered of a result: its manifest's stamp, and what else a listing says of it."""

    stamp: Stamp
    stage: str
    lane: str
    size_bytes: int


def stored_keys(root: Path) -> Iterator[str]:
    """Of every entry under a store's root, whole or not, in no order."""
    with contextlib.suppress(FileNotFoundError), os.scandir(root / "entries") as groups:
        for group in groups:
            with contextlib.suppress(OSError), os.scandir(group.path) as entries:
                yield from [entry.name for entry in entries if entry.is_dir()]


def list_results(root: Path, *, remember: bool) -> list[StoredResult]:
    """Every entry under a store's root, by key. remember: whether the store may be written to."""
    remembered = _read(root / FILE)
    results, rows = [], {}
    read_ns = time.time_ns()
    for key in sorted(stored_keys(root)):
        folder = f"{root}/entries/{key[:2]}/{key}"
        try:
            stamp, whole = _stamp(folder)
        except OSError:  # somebody took it away meanwhile
            continue
        row = remembered.get(key)
        if row is None or row.stamp != stamp:
            row = _Row(stamp, *_told(folder), _size_bytes(folder))
        results.append(StoredResult(key, row.stage, row.lane, row.size_bytes, stamp.mtime_ns / 1e9))
        if whole and not is_racy(stamp, read_ns):
            rows[key] = row
    if remember and rows != remembered:
        written = {key: [*row.stamp, row.stage, row.lane, row.size_bytes] for key, row in rows.items()}
        with contextlib.suppress(OSError):
            replace_whole(root / FILE, json.dumps([_VERSION, written]).encode())
    return results


def _stamp(folder: str) -> tuple[Stamp, bool]:
    """Of the manifest, True; of the folder where that is none, or no file."""
    try:
        return stamp_of(f"{folder}/{MANIFEST}"), True
    except (FileNotFoundError, IsADirectoryError, ModelError):
        return folder_stamp(folder), False


def _told(folder: str) -> tuple[str, str]:
    """Stage and lane, as the maker noted them."""
    try:
        manifest = json.loads(Path(folder, MANIFEST).read_bytes())
        dict(manifest["files"])  # one without them is damaged
        meta = dict(manifest["meta"])
    except (OSError, ValueError, KeyError, TypeError):
        return DAMAGED, ""
    return str(meta.get("stage", DAMAGED)), str(meta.get("lane", ""))


def _size_bytes(folder: str) -> int:
    size_bytes = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size_bytes += os.stat(f"{place}/{name}").st_size
    return size_bytes


def _read(path: Path) -> dict[str, _Row]:
    try:
        version, rows = json.loads(path.read_bytes())
        if version != _VERSION:
            return {}
        return {
            key: _Row(Stamp(*stamp), stage, lane, size_bytes) for key, (*stamp, stage, lane, size_bytes) in rows.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
