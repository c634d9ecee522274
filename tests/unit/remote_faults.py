"""A remote store's file system that does wrong when it is told: tears, fills up, forbids, hangs, goes away."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from pocketforge.run import remote_files
from pocketforge.run.remote_files import RemoteFiles
from pocketforge.run.remote_place import RemotePlace, place_of


class Faulty(LocalFileSystem):
    """Files of this machine. Each fault is for calls to come.

    Attributes:
        calls: How often each kind of call was made.
        torn: Writes keep half of the bytes, and say nothing.
        full: So many more bytes fit.
        forbidden: Nothing may be written.
        down: Nothing answers.
        breaks: So many more calls break, as a link does.
        hangs: Calls wait for this.
    """

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.torn = self.forbidden = self.down = False
        self.full: int | None = None
        self.breaks = 0
        self.hangs: threading.Event | None = None

    def _come(self, call: str) -> None:
        self.calls[call] += 1
        if self.hangs is not None:
            self.hangs.wait()
        if self.down:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused by secret:pa/ss")
        if self.breaks:
            self.breaks -= 1
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    def cat_file(self, path: str, *arguments: Any, **more: Any) -> Any:
        self._come("read")
        return super().cat_file(path, *arguments, **more)

    def ls(self, path: str, *arguments: Any, **more: Any) -> Any:
        self._come("list")
        return super().ls(path, *arguments, **more)

    def pipe_file(self, path: str, value: bytes, **more: Any) -> Any:
        self._come("write")
        if self.forbidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        if self.full is not None:
            self.full -= len(value)
            if self.full < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return super().pipe_file(path, value[: len(value) // 2] if self.torn else value, **more)


def place(folder: Path) -> RemotePlace:
    found = place_of(f"file://{folder}")
    assert found is not None
    return found


def faulty(folder: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> tuple[RemoteFiles, Faulty]:
    """A remote store's files in a folder, and what makes them go wrong."""
    system = Faulty()
    monkeypatch.setattr(remote_files, "_connect", lambda place: (system, place.path))
    return RemoteFiles(place(folder), **more), system
