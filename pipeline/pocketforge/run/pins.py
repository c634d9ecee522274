"""Stored results in use: an open manifest with a shared lock, which the kernel drops when its holder dies.

Nothing is written for it, so a full or read-only disk has pins too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pocketforge.run.locks import is_file_of


class Pin:
    """Keeps an entry where it is for as long as this object lives. Copies nothing, so not to be copied."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path

    @classmethod
    def of(cls, manifest: Path) -> Pin | None:
        """None when there is no such entry. Raises OSError for one that cannot be read."""
        while True:
            try:
                pin = cls(os.open(manifest, os.O_RDONLY | os.O_CLOEXEC), manifest)
            except (FileNotFoundError, NotADirectoryError):
                return None
            with contextlib.suppress(OSError):  # a disk without locks has no pins
                # Waits for a clearing that is just taking the entry away.
                fcntl.flock(pin._descriptor, fcntl.LOCK_SH)
            if pin.is_in_place():
                return pin

    def is_in_place(self) -> bool:
        """Whether what was pinned is still there under its name."""
        return is_file_of(self._descriptor, self._path)

    def read(self) -> tuple[bytes, float]:
        """The manifest's bytes and when it was last touched."""
        status = os.fstat(self._descriptor)
        return os.pread(self._descriptor, status.st_size, 0), status.st_mtime

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self._descriptor)  # bound above: at the interpreter's end `os` may be gone


@contextlib.contextmanager
def unless_pinned(manifest: Path) -> Iterator[bool]:
    """Whether nobody has the entry pinned; within, nobody can."""
    try:
        descriptor = _opened(manifest)
    except OSError:
        yield True  # half an entry: nobody can have it
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # a disk without locks has no pins
            pass
        yield True
    finally:
        os.close(descriptor)


def _opened(manifest: Path) -> int:
    try:
        return os.open(manifest, os.O_RDWR | os.O_CLOEXEC)  # as network file systems want it for locks
    except PermissionError:
        return os.open(manifest, os.O_RDONLY | os.O_CLOEXEC)
