"""Files of a folder that somebody else wrote: read without following links, and not while they change."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_CHUNK_BYTES = 2**20


class UnfitFile(Exception):
    """A name in a folder that is no file to be read. `kind` is one of release/verify.py's kinds of faults."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind
        self.words = words


@dataclass(frozen=True, slots=True)
class Hashed:
    """A file's content.

    Attributes:
        sha256: Of its bytes.
        size_bytes: How many they are.
    """

    sha256: str
    size_bytes: int


def hash_regular(path: Path) -> Hashed:
    """Raises UnfitFile, and OSError where it cannot be read."""
    digest, size = hashlib.sha256(), 0
    with _steady(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return Hashed(digest.hexdigest(), size)


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Raises UnfitFile, also for a file of more than `most_bytes`, and OSError where it cannot be read."""
    with _steady(path) as file:
        content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise UnfitFile("malformed", f"wanted at most {most_bytes:,} bytes, found more")
    return content


@contextlib.contextmanager
def _steady(path: Path) -> Iterator[BinaryIO]:
    """The file, open. Raises UnfitFile at the end if it is not the file that it was at the beginning."""
    try:
        # A pipe that nobody writes into would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UnfitFile("missing", "it is not there") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnfitFile("link", "it is a symbolic link, and a release holds its files themselves") from None
        if error.errno == errno.ENXIO:  # a socket
            raise UnfitFile("special", "it is no regular file") from None
        raise
    with os.fdopen(descriptor, "rb") as file:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise UnfitFile("special", "it is no regular file")
        yield file
        # The name, too: who takes it away or gives it to another file changes this one's ctime.
        if _marks(os.fstat(descriptor)) != _marks(before):
            raise UnfitFile("changing", "it changed while it was read")


def _marks(about: os.stat_result) -> tuple[int, ...]:
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
