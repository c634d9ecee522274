"""Content-addressed results of steps: locked, published in one rename, verified on every read.

    ROOT/v1/entries/KK/KEY/          one entry: manifest.json and files/
    ROOT/v1/tmp/                     work in progress; nothing here is ever read as a result
    ROOT/v1/locks/KEY.lock           held while KEY is being made, so two builds make it once
    ROOT/v1/fingerprints.sqlite      remembered hashes of the user's files (see fingerprints.py)

A crash leaves at most a folder under tmp/, which the next run removes once its maker is gone. The manifest
holds the SHA-256 of every file; an entry that no longer matches is moved out and made again.

Whoever has an `Entry` has its manifest open and locked (run/pins.py): clearing leaves such entries be. A store that
cannot be written to is read, and what is made goes into a store of this process's own, beside TMPDIR's other files.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pocketforge.errors import DamagedEntry, StoreError
from pocketforge.files import check_writable, exchange, explain_os_error, hash_file
from pocketforge.run.listing import MANIFEST, StoredResult, list_results, stored_keys
from pocketforge.run.pins import Pin, unless_pinned

LAYOUT = "v1"
_FOLDERS = ("entries", "tmp", "locks")
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
# Errors of this process, which say nothing of an entry.
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
# Stores that cannot be written to → the folder that takes their place for what this process makes.
_own_roots: dict[Path, Path] = {}


@dataclass(frozen=True, slots=True)
class Entry:
    """A published result.

    Attributes:
        key: Of the step that made it.
        files: Folder of what the stage wrote.
        hashes: Path in `files` → SHA-256.
        size_bytes: Of all files; 0 where nobody asked.
        last_used: When it was last made or reused, in seconds of the clock; 0 where nobody asked.
        meta: What the maker noted beside the files (run/made.py); empty for a damaged entry.
        pin: Holds the entry against clearing while this object lives.
    """

    key: str
    files: Path
    hashes: dict[str, str]
    size_bytes: int
    last_used: float
    meta: dict[str, Any]
    pin: Pin | None = field(default=None, compare=False, repr=False)


class Cleared(NamedTuple):
    """What clearing removed, and how many entries it left although they were to go: somebody uses them."""

    removed: int
    size_bytes: int
    in_use: int


class Store:
    """The results of earlier steps, under one folder of the user's cache."""

    def __init__(self, root: Path) -> None:
        self.root = root / LAYOUT
        # Why nothing can be written here, where that is so: for whoever must write.
        self._refusal: StoreError | None = None
        self._given_up: set[Path] = set()
        try:
            _make(self.root)
        except OSError as error:
            refusal = explain_os_error(error, self.root)
            if error.errno not in _FORBIDDEN or not os.access(self.root / "entries", os.R_OK | os.X_OK):
                raise refusal from error
            self._refusal = refusal
            return
        self._remove_abandoned(self.root)

    @property
    def read_only(self) -> str:
        """Why nothing can be written into this store; empty when it can. What is made is then this process's own."""
        return self._refusal.message if self._refusal else ""

    def must_be_writable(self) -> None:
        """For who wants to change what is stored. Raises StoreError."""
        if self._refusal:
            raise self._refusal

    def _writes(self) -> Path:
        """Where what is new goes."""
        if not self._refusal:
            return self.root
        own = _own_roots.get(self.root)
        if own is None or not own.is_dir():
            own = Path(tempfile.mkdtemp(prefix="pocketforge-cache-")) / LAYOUT
            atexit.register(shutil.rmtree, own.parent, ignore_errors=True)
            with _store_errors(own):
                _make(own)
            _own_roots[self.root] = own
        return own

    def _new_dir(self, key: str) -> Path:
        return _entry_dir(self._writes(), key)

    def _entry_dir(self, key: str) -> Path:
        """Where an entry is, or would be."""
        if self._refusal and self.root in _own_roots:
            own = _entry_dir(_own_roots[self.root], key)
            if (own / MANIFEST).exists():
                return own
        return _entry_dir(self.root, key)

    def has(self, key: str) -> bool:
        """Whether a result is published under `key` (not verified)."""
        return (self._entry_dir(key) / MANIFEST).is_file()

    def get(self, key: str) -> Entry | None:
        """The entry, its every file verified, or None. Raises DamagedEntry when it does not match its hashes.

        It stays as long as the answer is kept, whoever clears the store.
        """
        folder = self._entry_dir(key)
        try:
            pin = None if folder in self._given_up else Pin.of(folder / MANIFEST)
            if pin is None:
                return None
            content, last_used = pin.read()
            manifest = json.loads(content)
            hashes, meta = dict(manifest["files"]), dict(manifest["meta"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(error, key, MANIFEST) from None
        size = 0
        for name, recorded in hashes.items():
            path = folder / "files" / name
            try:
                sha256 = hash_file(path)
                size += path.stat().st_size
                fault: StoreError | None = None if sha256 == recorded else DamagedEntry(key, name)
            except (OSError, ValueError) as error:
                fault = _unreadable(error, key, name)
            if fault and not pin.is_in_place():
                return self.get(key)  # somebody made it again meanwhile, or took it away without asking
            if fault:
                raise fault
        return Entry(key, folder / "files", hashes, size, last_used, meta, pin)

    def peek(self, key: str) -> Entry | None:
        """The entry as its manifest tells of it, its files unread; None when there is none, or no whole manifest."""
        folder = self._entry_dir(key)
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            return Entry(key, folder / "files", dict(manifest["files"]), 0, 0.0, dict(manifest["meta"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def touch(self, key: str) -> None:
        """Note that an entry was used now, so that clearing by age keeps it."""
        with contextlib.suppress(OSError):
            os.utime(self._entry_dir(key) / MANIFEST)

    def discard(self, key: str) -> None:
        """Take an entry out of sight in one rename, then delete it. One that cannot be deleted is not read any more."""
        if self._refusal:
            self._given_up.add(_entry_dir(self.root, key))
        self._bury(key)

    def _bury(self, key: str) -> bool:
        grave = self._writes() / "tmp" / f"discard-{uuid.uuid4().hex}"
        with _store_errors(self.root), contextlib.suppress(FileNotFoundError):
            self._new_dir(key).rename(grave)
            shutil.rmtree(grave, ignore_errors=True)
            return True
        return False

    @contextlib.contextmanager
    def lock(self, key: str, give_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Hold `key` alone; waits for another build that is making it. The kernel frees it if we die.

        give_up: asked while waiting; when true, StoreError is raised instead of waiting on.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self._writes() / "locks" / f"{key}.lock")
        while True:
            try:
                with _store_errors(self.root):
                    lock.acquire(timeout=0.2)
                break
            except Timeout:
                if give_up():
                    raise StoreError(f"gave up waiting for another build that makes {key[:12]}") from None
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """An empty folder on the store's own disk, removed afterwards unless it was published."""
        from filelock import FileLock

        path = self._writes() / "tmp" / f"work-{uuid.uuid4().hex}"
        # Held for as long as we live, so that another process can tell our work from what a crash left.
        lock = FileLock(path.with_suffix(".lock"))
        with _store_errors(self.root):
            lock.acquire()
            (path / "files").mkdir(parents=True)
        try:
            yield path / "files"
        finally:
            shutil.rmtree(path, ignore_errors=True)
            path.with_suffix(".lock").unlink(missing_ok=True)
            lock.release()

    def partial(self, key: str) -> Path:
        """A folder for half-done work on `key` that outlives a kill. Use it while holding `lock(key)`."""
        path = self._writes() / "partial" / key
        with _store_errors(self.root):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def forget_partial(self, key: str) -> None:
        """Remove half-done work: it is done, or not wanted."""
        shutil.rmtree(self._writes() / "partial" / key, ignore_errors=True)

    def publish(self, key: str, workspace: Path, meta: dict[str, Any]) -> Entry:
        """Hash what is in `workspace` and make it the result of `key` in one rename."""
        with _store_errors(self.root):
            names = sorted(p.relative_to(workspace).as_posix() for p in workspace.rglob("*") if p.is_file())
            manifest = {
                "key": key,
                "files": {name: hash_file(workspace / name) for name in names},
                "meta": meta,
            }
            path = workspace.parent / MANIFEST
            with path.open("w", encoding="utf-8") as file:
                json.dump(manifest, file, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            target = self._new_dir(key)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                workspace.parent.rename(target)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                # An earlier result, or half of one (a copy that broke off). Another build may be reading it: its
                # path is never without a result. The earlier one goes with the workspace.
                if not exchange(workspace.parent, target):
                    self.discard(key)
                    workspace.parent.rename(target)
        entry = self.get(key)
        if entry is None:
            raise StoreError(f"the entry just published under {key[:12]} is gone", "is someone clearing the cache?")
        return entry

    def _roots(self) -> set[Path]:
        return {self.root, self._writes()} if self.root in _own_roots else {self.root}

    def keys(self) -> list[str]:
        return sorted({key for root in self._roots() for key in stored_keys(root)})

    def summaries(self) -> list[StoredResult]:
        """Every entry, unverified, for listing and clearing."""
        by_key: dict[str, StoredResult] = {}
        for root in sorted(self._roots(), key=lambda root: root != self.root):  # ours last: it goes first
            by_key |= {each.key: each for each in list_results(root, remember=not self._refusal)}
        return [by_key[key] for key in sorted(by_key)]

    def clear(self, *, older_than_s: float | None = None, keep_bytes: int | None = None) -> Cleared:
        """Remove entries that nobody uses now. Without limits, all of them go.

        older_than_s: entries not used for so long. keep_bytes: then the least recently used, until so much is left.
        Half-done work goes too, unless it is younger than older_than_s or somebody is at it.
        """
        self.must_be_writable()
        entries = sorted(self.summaries(), key=lambda e: e.last_used)
        left = sum(e.size_bytes for e in entries)
        oldest = time.time() - older_than_s if older_than_s is not None else None
        removed = freed = in_use = 0
        for entry in entries:
            too_old = oldest is not None and entry.last_used < oldest
            too_much = keep_bytes is not None and left > keep_bytes
            if not too_old and not too_much and (oldest is not None or keep_bytes is not None):
                continue
            with unless_pinned(self._entry_dir(entry.key) / MANIFEST) as free:
                gone = free and self._bury(entry.key)
            if not free:
                in_use += 1
                continue
            left -= entry.size_bytes
            if gone:  # and not by another clearing
                removed += 1
                freed += entry.size_bytes
        self._clear_partial(oldest)
        return Cleared(removed, freed, in_use)

    def _clear_partial(self, oldest: float | None) -> None:
        for path in (self.root / "partial").glob("*"):
            # Gone meanwhile, or its maker is at work.
            with contextlib.suppress(OSError, StoreError):
                if oldest is None or path.stat().st_mtime < oldest:
                    with self.lock(path.name, lambda: True):
                        shutil.rmtree(path, ignore_errors=True)

    @staticmethod
    def _remove_abandoned(root: Path) -> None:
        """Delete what a crash left in tmp: work whose lock nobody holds, discarded entries, what is a day old."""
        with _store_errors(root):
            paths = list((root / "tmp").iterdir())
        if not paths:
            return
        from filelock import FileLock, Timeout

        for path in paths:
            with contextlib.suppress(OSError, Timeout):
                if path.suffix == ".lock":
                    with FileLock(path, timeout=0):
                        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                        path.unlink(missing_ok=True)
                elif path.name.startswith("discard-"):  # also one that somebody is just deleting
                    shutil.rmtree(path, ignore_errors=True)
                elif not path.with_suffix(".lock").exists() and path.stat().st_mtime < time.time() - 86_400:
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink()


def _make(root: Path) -> None:
    """Make a store's folders, and find out now, not in the middle of a build, whether they can be written to."""
    for name in _FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    # mkdir succeeds on an existing folder of a read-only disk.
    check_writable(root / "tmp")


def _entry_dir(root: Path, key: str) -> Path:
    return root / "entries" / key[:2] / key


def _unreadable(error: Exception, key: str, name: str) -> StoreError:
    """Damage, unless the error says nothing of the entry."""
    if isinstance(error, OSError) and error.errno in _OUT_OF_FILES:
        return StoreError(f"cannot read a stored result: {error.strerror}", "allow more open files: ulimit -n 4096")
    return DamagedEntry(key, name)


@contextlib.contextmanager
def _store_errors(root: Path) -> Iterator[None]:
    """Turn the disk's own errors into one that says what to do."""
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        raise explain_os_error(error, root) from error
