"""SHA-256 of files, remembered while the file system says that they are as they were: as git's index does.

A hash goes by path, size, both times, inode and device. The status-change time (ctime) is what no program can set:
`touch -d`, `cp -p` and a rename back leave it later than it was. A file that changed moments before it was read is
hashed anew each time, since a second change in the same tick of the clock would not show.

The memory is one small SQLite file in the cache, shared by all builds. Losing it costs time and nothing else: one that
cannot be read or written is done without, and a damaged one is thrown away.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from pocketforge.errors import ChangedInput, ModelError
from pocketforge.files import hash_file

FILE = "fingerprints.sqlite"
# Of earlier versions: grew for ever, and did not go by ctime.
_FORMER = "fingerprints.json"
_SCHEMA = 1
# The coarsest clock of a file system (FAT's). Kernels keep times in ticks of milliseconds.
_TICK_NS = 2_000_000_000
_DAY_S = 86_400
# When a file was last used is written down once in so many days: not at every build.
_USED_DAYS = 7
_LIMIT = 1_000_000
_SIGNED = 2**63 - 1
_LOOK_UP, _WRITE = 500, 5_000
_OF_THE_PLACE = (
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
)  # fmt: skip

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class Stamp(NamedTuple):
    """What the file system says of a file, without its content."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


class Print(NamedTuple):
    """A file's content and its stamp of the same moment; `racy` where a later change might not show in the stamp."""

    sha256: str
    stamp: Stamp
    racy: bool


def stamp_of(path: str | Path) -> Stamp:
    """Raises OSError; ModelError for what is no file (a pipe or a device would be read for ever)."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(21, "Is a directory", str(path))
        raise ModelError(f"{path} is not a file but a pipe, socket or device", "copy its content into a file")
    # SQLite's integers have a sign; some network file systems use all 64 bits.
    return Stamp(
        status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & _SIGNED, status.st_dev & _SIGNED
    )


def folder_stamp(path: str | Path) -> Stamp:
    """The same of a folder: whatever is added, taken out or renamed in it changes it. Raises OSError."""
    status = os.stat(path)
    return Stamp(0, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def is_racy(stamp: Stamp, read_ns: int) -> bool:
    """Whether a file that was read at `read_ns` changed so shortly before that another change may have the same times.

    True also for times after that moment, of a clock that was set back.
    """
    return stamp.ctime_ns > read_ns - _TICK_NS or abs(stamp.mtime_ns - read_ns) < _TICK_NS


class Fingerprints:
    """Hashes of files; remembered in `folder` (a store's), or nowhere. Use it as a context or call `close`."""

    def __init__(self, folder: Path | None) -> None:
        # One that its own thread may take again: a ^C on the way out of `with` leaves it taken, and `close` comes then.
        self._lock = threading.RLock()
        self._path = folder / FILE if folder is not None else None
        self._today = int(time.time()) // _DAY_S
        self._new: dict[int, tuple[Stamp, str]] = {}
        self._wrote = False
        self._data = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def sha256(self, path: Path) -> str:
        """Of one file. Raises as `prints`."""
        return next(iter(self.prints([path]))).sha256

    def prints(self, paths: Iterable[Path]) -> Iterator[Print]:
        """Of each file, in order. Raises OSError; ModelError for what is no file, ChangedInput for a file that goes on
        changing."""
        for part in _parts(paths, _LOOK_UP):
            stamps = [stamp_of(path) for path in part]
            ids = [_id(path) for path in part]
            known = self._look_up(ids)
            for path, number, stamp in zip(part, ids, stamps, strict=True):
                read_ns = time.time_ns()
                if number in known and known[number][0] == stamp:
                    yield Print(known[number][1], stamp, is_racy(stamp, read_ns))
                    continue
                sha256, stamp = _hash(path, stamp)
                racy = is_racy(stamp, read_ns)
                if not racy:
                    self._remember(number, stamp, sha256)
                yield Print(sha256, stamp, racy)

    def close(self) -> None:
        """Write back what was learnt, and keep no more than a million files."""
        with self._lock:
            self._write()
            if self._wrote:
                with self._trouble():
                    self._prune()
            if self._data is not None:
                self._data.close()
                self._data = None

    def _look_up(self, ids: Sequence[int]) -> dict[int, tuple[Stamp, str]]:
        with self._lock:
            found = {number: self._new[number] for number in ids if number in self._new}
            with self._trouble():
                if self._data is None:
                    return found
                marks = ",".join("?" * len(ids))
                rows = self._data.execute(f"SELECT * FROM files WHERE id IN ({marks})", ids).fetchall()  # noqa: S608
                stale = []
                for number, size, mtime_ns, ctime_ns, inode, device, sha256, used in rows:
                    found.setdefault(number, (Stamp(size, mtime_ns, ctime_ns, inode, device), sha256.hex()))
                    if not self._today - _USED_DAYS < used <= self._today:
                        stale.append((self._today, number))
                if stale:
                    with self._data:
                        self._data.executemany("UPDATE files SET used = ? WHERE id = ?", stale)
            return found

    def _remember(self, number: int, stamp: Stamp, sha256: str) -> None:
        with self._lock:
            self._new[number] = (stamp, sha256)
            if len(self._new) >= _WRITE and self._data is not None:
                self._write()

    def _write(self) -> None:
        if self._data is None or not self._new:
            return
        rows = [(number, *stamp, bytes.fromhex(sha256), self._today) for number, (stamp, sha256) in self._new.items()]
        with self._trouble():
            with self._data:
                self._data.executemany("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?,?)", rows)
            self._wrote = True
            self._new.clear()

    def _prune(self) -> None:
        if self._data is None:
            return
        (count,) = self._data.execute("SELECT count(*) FROM files").fetchone()
        if count > _LIMIT:
            with self._data:
                # A tenth more, so that the next builds need not do it again.
                self._data.execute(
                    "DELETE FROM files WHERE id IN (SELECT id FROM files ORDER BY used LIMIT ?)",
                    (count - _LIMIT + _LIMIT // 10,),
                )

    def _open(self) -> sqlite3.Connection | None:
        if self._path is None:
            return None
        with contextlib.suppress(OSError):
            self._path.with_name(_FORMER).unlink()
        for _ in range(2):
            try:
                return _connect(self._path)
            except sqlite3.Error as error:
                if _passes(error):
                    _LOG.debug("file hashes are not remembered: %s: %s", self._path, error)
                    return None
                self._throw_away(error)
        return None

    @contextlib.contextmanager
    def _trouble(self) -> Iterator[None]:
        """Nothing that goes wrong with the memory is the build's trouble: it goes on without."""
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError, AttributeError) as error:
            if _passes(error):
                _LOG.debug("file hashes are not remembered: %s: %s", self._path, error)
                return
            if self._data is not None:
                self._data.close()
                self._data = None
            self._throw_away(error)

    def _throw_away(self, error: Exception) -> None:
        _LOG.debug("the remembered file hashes are damaged and thrown away: %s: %s", self._path, error)
        if self._path is not None:
            for name in (FILE, f"{FILE}-journal"):
                with contextlib.suppress(OSError):
                    self._path.with_name(name).unlink()


def _passes(error: Exception) -> bool:
    """Whether it is of the place or the moment (busy, read-only, full), and the memory itself may be whole."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _OF_THE_PLACE


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are ours: a SELECT opens none. The walk's threads share it under our own lock.
    data = sqlite3.connect(path, timeout=2.0, isolation_level="IMMEDIATE", check_same_thread=False)
    try:
        (schema,) = data.execute("PRAGMA user_version").fetchone()
        if schema != _SCHEMA:
            with data:
                data.execute("BEGIN IMMEDIATE")
                data.execute("DROP TABLE IF EXISTS files")
                data.execute(
                    "CREATE TABLE files (id INTEGER PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,"
                    " inode INTEGER, device INTEGER, sha256 BLOB, used INTEGER)"
                )
                data.execute("CREATE INDEX used ON files (used)")
                data.execute(f"PRAGMA user_version = {_SCHEMA}")
    except BaseException:
        data.close()
        raise
    return data


def _id(path: Path) -> int:
    # Two paths of one number overwrite each other and nothing worse: the stamp has the inode.
    return int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=8).digest(), "big", signed=True)


def _hash(path: Path, before: Stamp) -> tuple[str, Stamp]:
    for _ in range(3):
        sha256 = hash_file(path)
        after = stamp_of(path)
        if after == before:
            return sha256, after
        before = after
    raise ChangedInput(path, "goes on changing while it is read", "let what writes it finish, then run again")


def _parts(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    part: list[_T] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
