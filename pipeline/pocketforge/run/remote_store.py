"""A store of results that several machines share: read through, written back, every byte checked on arrival.

    URL/store.json                         says that it is one, and of which format
    URL/entries/KK/KEY/manifest.json       one result (remote_manifest.py); written last
    URL/entries/KK/KEY/SHA256              a part of its files, of at most 4 MiB

A part's name is its content's hash, so what broke off is gone on with: parts that are there are not sent again, and
those that came are not fetched again. Two who write one result write the same parts; of two manifests the later one
stays, and the parts of both. Nothing is locked: who reads while somebody clears finds a part gone, and has no result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pocketforge.errors import DamagedEntry, RefusedEntry, RemoteStoreError, StoreError
from pocketforge.files import explain_os_error
from pocketforge.run.listing import MANIFEST
from pocketforge.run.remote_files import RemoteFiles
from pocketforge.run.remote_manifest import (
    FORMAT,
    MOST_MANIFEST_BYTES,
    PART_BYTES,
    Check,
    File,
    Manifest,
    Part,
    Signer,
    sealed,
    unsealed,
)
from pocketforge.run.store import Entry, Store

MARK = "store.json"
ENTRIES = "entries"
_DAY_S = 86_400
# How much has been moved, in bytes, and how much of it now.
Tell = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Moved:
    """What a transfer came to.

    Attributes:
        size_bytes: Of the result's files.
        moved_bytes: What was sent or fetched for it now.
        there: Whether all of it was there before.
    """

    size_bytes: int
    moved_bytes: int
    there: bool = False


def quietly(done_bytes: int, moved_bytes: int) -> None:
    """A `Tell` for callers that want no news."""


class RemoteStore:
    """sign: of what is written. check: of what is read; None takes what anybody wrote."""

    def __init__(self, files: RemoteFiles, *, sign: Signer | None = None, check: Check | None = None) -> None:
        self.files = files
        self._sign, self._check = sign, check
        self._is_there: bool | None = None

    @property
    def words(self) -> str:
        return self.files.place.words

    def is_there(self) -> bool:
        """Whether somebody has written there before. Raises RemoteStoreError for what is no store of this format."""
        if self._is_there is None:
            mark = self.files.read(MARK)
            if mark is not None:
                try:
                    found = json.loads(mark)["pocketforge_remote_store"]
                except (ValueError, KeyError, TypeError):
                    found = None
                if found != FORMAT:
                    raise RemoteStoreError(
                        f"{self.words}/{MARK} is not of a remote store of format {FORMAT}",
                        "choose another folder there, or the version of Pocketforge that wrote it",
                    )
            self._is_there = mark is not None
        return self._is_there

    def manifest(self, key: str) -> Manifest | None:
        """What is there under a key; None where that is nothing whole. Raises RefusedEntry, RemoteStoreError."""
        if not self.is_there():
            return None
        folder = _folder(key)
        # Sizes first: what is there may be of any, and is read whole.
        sizes = self.files.sizes(folder)
        if sizes.get(MANIFEST, 0) > MOST_MANIFEST_BYTES:
            raise RefusedEntry(key, f"its manifest has {sizes[MANIFEST]:,} bytes")
        data = self.files.read(f"{folder}/{MANIFEST}") if MANIFEST in sizes else None
        if data is None:
            return None
        manifest = unsealed(data, key, self._check)
        for sha256, size_bytes in manifest.parts().items():
            if sha256 not in sizes:  # cleared in part, or another has just sent another result
                return None
            if sizes[sha256] != size_bytes:
                raise RefusedEntry(key, _wrong(sha256, size_bytes, sizes[sha256]))
        return manifest

    def fetch(self, manifest: Manifest, store: Store, tell: Tell = quietly) -> Moved | None:
        """Put a result into the local store; None where a part of it is gone. Hold the store's lock of its key.

        tell: gets the bytes of its files that are here, and how many of those were moved now. Raises RefusedEntry,
        RemoteStoreError, StoreError.
        """
        key, half_done = manifest.key, f"{manifest.key}.fetch"
        # The lock keeps a clearing away from what has come so far.
        with store.lock(half_done, self.files.give_up):
            folder = store.partial(half_done)
            coming = _Coming(tell)
            try:
                for file in {file.sha256: file for file in manifest.files.values()}.values():
                    if not self._fetch_file(key, file, folder / file.sha256, coming):
                        return None
                entry = _publish(manifest, folder, store)
            except RefusedEntry:
                store.forget_partial(half_done)
                raise
            except OSError as error:
                raise explain_os_error(error, store.root) from error
            store.forget_partial(half_done)
        if entry.hashes != manifest.entry().hashes:  # somebody changed it here
            raise DamagedEntry(key, MANIFEST)
        return Moved(manifest.size_bytes, coming.moved)

    def _fetch_file(self, key: str, file: File, path: Path, coming: _Coming) -> bool:
        """Whether all of it is here now: what had come before is gone on with. Raises RefusedEntry."""
        whole = hashlib.sha256()
        path.touch()
        with path.open("r+b") as out:
            wanting = False
            for part in file.parts:
                data = None if wanting else _had_before(out, part)
                if data is None:
                    wanting = True
                    data = self._fetch_part(key, part)
                    if data is None:
                        return False
                    out.write(data)
                    coming.moved += len(data)
                whole.update(data)
                coming.done += len(data)
                coming.tell(coming.done, coming.moved)
            out.truncate()
        if whole.hexdigest() != file.sha256:
            raise RefusedEntry(key, "its parts are as said, and the file of them is not")
        return True

    def _fetch_part(self, key: str, part: Part) -> bytes | None:
        found = 0
        for _ in range(2):  # what a link did to it is another the second time
            data = self.files.read(f"{_folder(key)}/{part.sha256}")
            if data is None:
                return None
            if hashlib.sha256(data).hexdigest() == part.sha256:
                return data
            found = len(data)
        raise RefusedEntry(key, _wrong(part.sha256, part.size_bytes, found))

    def publish(self, entry: Entry, *, again: bool = False, tell: Tell = quietly) -> Moved:
        """Keep a result there. again: send also what is there, in the place of what may be wrong in it.

        Raises RemoteStoreError; DamagedEntry where the local files are no longer the entry's.
        """
        manifest = _cut(entry)
        data = sealed(manifest, self._sign)
        folder = _folder(entry.key)
        if not self.is_there():
            self.files.write(MARK, json.dumps({"pocketforge_remote_store": FORMAT}).encode())
            self._is_there = True
        sizes = {} if again else self.files.sizes(folder)
        parts = manifest.parts()
        missing = {sha256 for sha256, size_bytes in parts.items() if sizes.get(sha256) != size_bytes}
        if not missing and MANIFEST in sizes and self.files.read(f"{folder}/{MANIFEST}") == data:
            return Moved(manifest.size_bytes, 0, there=True)
        moved = self._send(entry, manifest, missing, tell)
        # A store that is full, or a link that was cut, may have kept half of a part without a word.
        sizes = self.files.sizes(folder)
        wrong = next((sha256 for sha256, size_bytes in parts.items() if sizes.get(sha256) != size_bytes), None)
        if wrong is not None:
            raise RemoteStoreError(
                f"{self.words} has {sizes.get(wrong, 0):,} of the {parts[wrong]:,} bytes that were sent of a part",
                "is it full, or is somebody clearing it?",
            )
        self.files.write(f"{folder}/{MANIFEST}", data)
        return Moved(manifest.size_bytes, moved)

    def _send(self, entry: Entry, manifest: Manifest, missing: set[str], tell: Tell) -> int:
        done = moved = 0
        for name, file in manifest.files.items():
            with _reading(entry, name) as source:
                for part in file.parts:
                    data = source.read(part.size_bytes)
                    if hashlib.sha256(data).hexdigest() != part.sha256:
                        raise DamagedEntry(entry.key, name)
                    if part.sha256 in missing:
                        self.files.write(f"{_folder(entry.key)}/{part.sha256}", data)
                        missing.discard(part.sha256)
                        moved += len(data)
                    done += len(data)
                    tell(done, moved)
        return moved

    def freshen(self, key: str) -> None:
        """Note that a result was used: clearing goes by when its manifest was written, the one time that all kinds
        of servers tell. So it is written again, as it is, once a day. Raises RemoteStoreError."""
        name = f"{_folder(key)}/{MANIFEST}"
        written = self.files.written(name)
        if written is not None and written < time.time() - _DAY_S:
            data = self.files.read(name)
            if data is not None:
                self.files.write(name, data)


class _Coming:
    """Bytes of a result: here so far, and moved now."""

    def __init__(self, tell: Tell) -> None:
        self.done = self.moved = 0
        self.tell = tell


def _folder(key: str) -> str:
    return f"{ENTRIES}/{key[:2]}/{key}"


def _wrong(sha256: str, size_bytes: int, found_bytes: int) -> str:
    found = "has other bytes" if found_bytes == size_bytes else f"has {found_bytes:,} bytes"
    return f"its part {sha256[:12]} of {size_bytes:,} bytes {found}"


def _had_before(out: BinaryIO, part: Part) -> bytes | None:
    """The next part, where it came before; else None, and it is written here."""
    start = out.tell()
    data = out.read(part.size_bytes)
    if hashlib.sha256(data).hexdigest() == part.sha256:
        return data
    out.seek(start)
    return None


def _publish(manifest: Manifest, folder: Path, store: Store) -> Entry:
    """What has come, as a result of the local store."""
    left = [file.sha256 for file in manifest.files.values()]
    with store.workspace() as out:
        for name, file in manifest.files.items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            left.remove(file.sha256)
            if file.sha256 in left:
                shutil.copyfile(folder / file.sha256, path)
            else:
                (folder / file.sha256).rename(path)
        return store.publish(manifest.key, out, dict(manifest.meta))


def _cut(entry: Entry) -> Manifest:
    """A result's files in parts. Raises DamagedEntry."""
    files = {}
    for name, recorded in entry.hashes.items():
        whole, parts = hashlib.sha256(), []
        with _reading(entry, name) as source:
            while data := source.read(PART_BYTES):
                whole.update(data)
                parts.append(Part(hashlib.sha256(data).hexdigest(), len(data)))
        if whole.hexdigest() != recorded:
            raise DamagedEntry(entry.key, name)
        files[name] = File(recorded, tuple(parts))
    return Manifest(entry.key, files, entry.meta)


@contextlib.contextmanager
def _reading(entry: Entry, name: str) -> Iterator[BinaryIO]:
    try:
        with (entry.files / name).open("rb") as source:
            yield source
    except OSError as error:
        raise StoreError(f"a stored result cannot be read: {error.filename}: {error.strerror}") from error
