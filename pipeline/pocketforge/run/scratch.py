"""Temporary folders that say whose they are: each holds a lock that the kernel frees when its maker dies.

A command puts all that it and its processes write into TMPDIR into one such folder, so that libraries' own are in it
too; each stage has one of its own, which is removed however the stage ended. What a kill -9 leaves is removed
by the next command: only folders of ours, and only of the dead.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pocketforge.folders import locks_dir

_PREFIX = "pocketforge-"
_LOCK, _UNLOCKED = ".lock", ".lock.new"
_DAY_S = 86_400
_LONGEST_SOCKET_BYTES, _SOCKET_NAME_BYTES = 107, len("/listener-abcdefgh")
_SHORT = Path("/tmp")  # noqa: S108 - folders in it are made by mkdtemp
# The folder that stands in for a TMPDIR in this process, until it ends: sockets in it may be in use by then.
_stand_ins: dict[str, Path] = {}
_outer: list[str] = []


class Marked:
    """A temporary folder with its lock, held until it is removed or kept."""

    def __init__(self, name: str = "", where: str | None = None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{name}", dir=where))
        self._pid = os.getpid()
        # Under its name only once it is locked: nobody may take it for a dead one's.
        self._descriptor = os.open(self.path / _UNLOCKED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):  # a disk without locks: the folder is never taken for ours
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (self.path / _UNLOCKED).rename(self.path / _LOCK)

    def remove(self) -> None:
        if os.getpid() == self._pid:  # and not a fork of its maker
            shutil.rmtree(self.path, ignore_errors=True)
            self._close()

    def keep(self) -> None:
        """It is the user's from now on."""
        for name in (_LOCK, _UNLOCKED):
            (self.path / name).unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


@contextlib.contextmanager
def scratch(name: str = "") -> Iterator[Path]:
    """A temporary folder, removed at the end. Raises OSError."""
    marked = Marked(name)
    try:
        yield marked.path
    finally:
        marked.remove()


@contextlib.contextmanager
def own_tmpdir() -> Iterator[None]:
    """All temporary files of this process and of those it starts go into one folder, which goes when we end."""
    if _outer:
        yield
        return
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    try:
        tempfile.tempdir = None
        outer = tempfile.gettempdir()
        _stand_in(outer)
    except OSError:  # whoever needs a temporary file will say so
        tempfile.tempdir = before[1]
        yield
        return
    _outer.append(outer)
    os.environ["TMPDIR"] = tempfile.tempdir = str(_stand_ins[outer])
    try:
        yield
    finally:
        _outer.pop()
        os.environ.pop("TMPDIR", None)
        if before[0] is not None:
            os.environ["TMPDIR"] = before[0]
        tempfile.tempdir = before[1]


def own_sockets() -> None:
    """The same for the sockets of the stages' server alone: temporary files of a program that builds are its own."""
    with contextlib.suppress(OSError):  # whoever needs a temporary file will say so
        if not _outer:
            _stand_in(tempfile.gettempdir())


def _stand_in(outer: str) -> None:
    """Make the folder that stands in for a TMPDIR, and remove those of the dead."""
    sweep(Path(outer))
    if outer not in _stand_ins or not _stand_ins[outer].is_dir():
        marked = Marked()
        atexit.register(marked.remove)
        _stand_ins[outer] = marked.path
    _use_for_sockets(_stand_ins[outer])


def _use_for_sockets(folder: Path) -> None:
    """multiprocessing keeps its sockets in a folder of its own, pymp-…, which outlives a kill. Ours serves as well, but
    where the path is so long that a socket's, of at most 107 bytes, does not fit: there one in /tmp does.
    """
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    if config.get("tempdir") is None:
        if len(os.fsencode(folder)) + _SOCKET_NAME_BYTES > _LONGEST_SOCKET_BYTES:
            sweep(_SHORT)
            marked = Marked(where=str(_SHORT))
            atexit.register(marked.remove)
            folder = marked.path
        config["tempdir"] = str(folder)


def lasting_tmpdir() -> str:
    """The user's own TMPDIR, for what a command may leave."""
    return _outer[-1] if _outer else tempfile.gettempdir()


def sweep(place: Path) -> None:
    """Remove the folders of ours in `place` whose makers are dead."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(place):
            own = entry.name.startswith(_PREFIX) and Path(entry.path) != locks_dir()
            if own and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                        _sweep_one(Path(entry.path))


def _sweep_one(folder: Path) -> None:
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        # Not marked: of a user, or of a maker killed before it had a lock. An empty one is nobody's after a day.
        if folder.stat().st_mtime < time.time() - _DAY_S and {path.name for path in folder.iterdir()} <= {_UNLOCKED}:
            shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
