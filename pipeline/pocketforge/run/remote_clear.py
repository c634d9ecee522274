"""Clearing a remote store: results by age and by size, and what broke off. Whoever reads meanwhile has no result then.

A result's manifest goes first, so that nobody begins with what is half gone. Parts without a manifest are of somebody
who is just sending them, until they are a day old; those of an earlier result under a key go with the later one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pocketforge.run.listing import MANIFEST
from pocketforge.run.remote_files import RemoteFile
from pocketforge.run.remote_store import ENTRIES, RemoteStore

# How long the parts of a result may be there before its manifest is.
GRACE_S = 86_400


@dataclass(frozen=True, slots=True)
class Collected:
    """What clearing a remote store removed.

    Attributes:
        removed: How many results.
        left: How many are there still.
        unfinished: How many files of none.
        size_bytes: Of all that was removed.
        left_bytes: Of all that is there still.
    """

    removed: int
    left: int
    unfinished: int
    size_bytes: int
    left_bytes: int


@dataclass(slots=True)
class _Found:
    """A result's files there, by name; `used` is when its manifest was written, 0 where there is none."""

    key: str
    files: dict[str, RemoteFile] = field(default_factory=dict)

    @property
    def used(self) -> float:
        return self.files[MANIFEST].written if MANIFEST in self.files else 0.0

    @property
    def size_bytes(self) -> int:
        return sum(each.size_bytes for each in self.files.values())


def stored_keys(remote: RemoteStore) -> list[str]:
    """Of every result that is there, whole or not. Raises RemoteStoreError."""
    return sorted(found.key for found in _all(remote) if MANIFEST in found.files) if remote.is_there() else []


def collect(remote: RemoteStore, *, older_than_s: float | None = None, keep_bytes: int | None = None) -> Collected:
    """Remove results that were not used for so long, then the least recently used until so much is left, and what broke
    off more than a day ago. Raises RemoteStoreError.
    """
    everything = sorted(_all(remote), key=lambda found: found.used) if remote.is_there() else []
    now = time.time()
    left = sum(found.size_bytes for found in everything)
    removed = unfinished = freed = kept = 0
    for found in everything:
        size_bytes, whole = found.size_bytes, MANIFEST in found.files
        too_old = older_than_s is not None and found.used < now - older_than_s
        too_much = keep_bytes is not None and left > keep_bytes
        if whole and (too_old or too_much):
            _remove(remote, found, list(found.files))
            removed += 1
            freed += size_bytes
            left -= size_bytes
            continue
        kept += whole
        loose = [] if whole else [name for name, file in found.files.items() if file.written < now - GRACE_S]
        if loose:
            gone_bytes = sum(found.files[name].size_bytes for name in loose)
            _remove(remote, found, loose)
            unfinished += len(loose)
            freed += gone_bytes
            left -= gone_bytes
    return Collected(removed, kept, unfinished, freed, left)


def _all(remote: RemoteStore) -> list[_Found]:
    by_key: dict[str, _Found] = {}
    for each in remote.files.all(ENTRIES):
        _, _, key, name = [*each.name.split("/", 3), "", "", "", ""][:4]
        if key and name:
            by_key.setdefault(key, _Found(key)).files[name] = each
    return list(by_key.values())


def _remove(remote: RemoteStore, found: _Found, names: list[str]) -> None:
    folder = f"{ENTRIES}/{found.key[:2]}/{found.key}"
    for name in sorted(names, key=lambda name: name != MANIFEST):
        remote.files.remove(f"{folder}/{name}")
    remote.files.remove_folder(folder)
