"""Content-addressed results of steps: locked, published in one rename, verified on every read.

    ROOT/v1/entries/KK/KEY/          one entry: manifest.json and files/
    ROOT/v1/tmp/                     work in progress; nothing here is ever read as a result
    ROOT/v1/locks/KEY.lock           held while KEY is being made, so two builds make it once
    ROOT/v1/fingerprints.json        remembered file hashes (see facts/gather.py)

A crash leaves at most a folder under tmp/, which the next run removes once its maker is gone. The manifest
holds the SHA-256 of every file; an entry that no longer matches is moved out and made again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketforge.errors import DamagedEntry, StoreError
from pocketforge.files import explain_os_error, hash_file

LAYOUT = "v1"


@dataclass(frozen=True, slots=True)
class Entry:
    """A published result: `files` is its folder, `meta` what the maker recorded (stage, lane, wall_s …)."""

    key: str
    files: Path
    hashes: dict[str, str]
    size_bytes: int
    last_used: float
    meta: dict[str, Any]


class Store:
    """The results of earlier steps, under one folder of the user's cache."""

    def __init__(self, root: Path) -> None:
        self.root = root / LAYOUT
        with _store_errors(self.root):
            for name in ("entries", "tmp", "locks"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            # mkdir succeeds on an existing folder of a read-only disk: find out now, not in the middle of a build.
            probe = self.root / "tmp" / f"probe-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        self._remove_abandoned()

    def _entry_dir(self, key: str) -> Path:
        return self.root / "entries" / key[:2] / key

    def has(self, key: str) -> bool:
        """Whether a result is published under `key` (not verified)."""
        return (self._entry_dir(key) / "manifest.json").is_file()

    def get(self, key: str) -> Entry | None:
        """The entry, its every file verified, or None. Raises DamagedEntry when it does not match its hashes."""
        folder = self._entry_dir(key)
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            hashes, meta = dict(manifest["files"]), dict(manifest["meta"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            raise DamagedEntry(key, "manifest.json") from None
        size = 0
        for name, wanted in hashes.items():
            path = folder / "files" / name
            try:
                if hash_file(path) != wanted:
                    raise DamagedEntry(key, name)
                size += path.stat().st_size
            except (OSError, ValueError):
                raise DamagedEntry(key, name) from None
        return Entry(key, folder / "files", hashes, size, (folder / "manifest.json").stat().st_mtime, meta)

    def touch(self, key: str) -> None:
        """Note that an entry was used now, so that clearing by age keeps it."""
        with contextlib.suppress(OSError):
            os.utime(self._entry_dir(key) / "manifest.json")

    def discard(self, key: str) -> None:
        """Take an entry out of sight in one rename, then delete it."""
        grave = self.root / "tmp" / f"discard-{uuid.uuid4().hex}"
        with _store_errors(self.root), contextlib.suppress(FileNotFoundError):
            self._entry_dir(key).rename(grave)
            shutil.rmtree(grave, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, key: str, give_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Hold `key` alone; waits for another build that is making it. The kernel frees it if we die.

        give_up: asked while waiting; when true, StoreError is raised instead of waiting on.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.root / "locks" / f"{key}.lock")
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

        path = self.root / "tmp" / f"work-{uuid.uuid4().hex}"
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
        path = self.root / "partial" / key
        with _store_errors(self.root):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def forget_partial(self, key: str) -> None:
        """Remove half-done work: it is done, or not wanted."""
        shutil.rmtree(self.root / "partial" / key, ignore_errors=True)

    def publish(self, key: str, workspace: Path, meta: dict[str, Any]) -> Entry:
        """Hash what is in `workspace` and make it the result of `key` in one rename."""
        with _store_errors(self.root):
            names = sorted(p.relative_to(workspace).as_posix() for p in workspace.rglob("*") if p.is_file())
            manifest = {
                "key": key,
                "files": {name: hash_file(workspace / name) for name in names},
                "meta": meta,
            }
            path = workspace.parent / "manifest.json"
            with path.open("w", encoding="utf-8") as file:
                json.dump(manifest, file, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            target = self._entry_dir(key)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                workspace.parent.rename(target)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                # Half an entry from outside our own publishing (a copy that broke off): replace it.
                self.discard(key)
                workspace.parent.rename(target)
        entry = self.get(key)
        if entry is None:
            raise StoreError(f"the entry just published under {key[:12]} is gone", "is someone clearing the cache?")
        return entry

    def keys(self) -> list[str]:
        return sorted(p.name for p in (self.root / "entries").glob("*/*") if p.is_dir())

    def summaries(self) -> list[Entry]:
        """Every entry, unverified, for listing and clearing; damaged ones come with empty meta."""
        found = []
        for key in self.keys():
            folder = self._entry_dir(key)
            with contextlib.suppress(OSError):
                size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
                used = (folder / "manifest.json").stat().st_mtime if self.has(key) else folder.stat().st_mtime
                try:
                    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
                    hashes, meta = dict(manifest["files"]), dict(manifest["meta"])
                except (OSError, ValueError, KeyError, TypeError):
                    hashes, meta = {}, {}
                found.append(Entry(key, folder / "files", hashes, size, used, meta))
        return found

    def clear(self, *, older_than_s: float | None = None, keep_bytes: int | None = None) -> tuple[int, int]:
        """Remove entries; returns (count, bytes) removed. Without limits, everything goes.

        older_than_s: entries not used for so long. keep_bytes: then the least recently used, until so much is left.
        Half-done work goes too, unless it is younger than older_than_s.
        """
        entries = sorted(self.summaries(), key=lambda e: e.last_used)
        left = sum(e.size_bytes for e in entries)
        oldest = time.time() - older_than_s if older_than_s is not None else None
        removed = freed = 0
        for entry in entries:
            too_old = oldest is not None and entry.last_used < oldest
            too_much = keep_bytes is not None and left > keep_bytes
            if too_old or too_much or (oldest is None and keep_bytes is None):
                self.discard(entry.key)
                removed += 1
                freed += entry.size_bytes
                left -= entry.size_bytes
        for path in (self.root / "partial").glob("*"):
            if oldest is None or path.stat().st_mtime < oldest:
                shutil.rmtree(path, ignore_errors=True)
        return removed, freed

    def _remove_abandoned(self) -> None:
        """Delete what a crash left in tmp: work whose lock nobody holds, and anything else a day old."""
        paths = list((self.root / "tmp").iterdir())
        if not paths:
            return
        from filelock import FileLock, Timeout

        for path in paths:
            with contextlib.suppress(OSError, Timeout):
                if path.suffix == ".lock":
                    with FileLock(path, timeout=0):
                        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                        path.unlink(missing_ok=True)
                elif not path.with_suffix(".lock").exists() and path.stat().st_mtime < time.time() - 86_400:
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink()


@contextlib.contextmanager
def _store_errors(root: Path) -> Iterator[None]:
    """Turn the disk's own errors into one that says what to do."""
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        raise explain_os_error(error, root) from error
