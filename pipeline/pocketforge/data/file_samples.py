"""Samples that are a file each: what reading an image and comparing two files comes to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from pocketforge.data.base import Array, PlainSource, SplitName
from pocketforge.data.read_image import STEPS, read_image
from pocketforge.errors import ModelError

_PIECE = 256


def file_digest(path: Path) -> str:
    """Of the file, not of what is in it: decoding every image of a large set would take minutes, and copies are what
    leaks from train into eval. An image saved a second time in another format is not recognised."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"data.source: {path} cannot be read: {error.strerror or error}") from error


def file_sketch(path: Path) -> bytes:
    """8 bytes of a file's size, end and middle: a copy has the same, and few other files do."""
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            pieces = [os.pread(file.fileno(), _PIECE, max(0, place)) for place in (size // 2, size - _PIECE)]
    except OSError as error:
        raise ModelError(f"data.source: {path} cannot be read: {error.strerror or error}") from error
    return hashlib.blake2b(b"".join([size.to_bytes(8, "little"), *pieces]), digest_size=8).digest()


class ImageFiles(PlainSource):
    """Images as `read_image` gives them; decoded when asked for. What else a sample has is the subclass's.

    paths: absolute, each with the id that it is known by and its official split.
    """

    value_max = 255.0
    as_images = True
    reading = STEPS
    labels: tuple[str, ...] = ()

    def __init__(self, paths: Sequence[Path], ids: Sequence[str], split: Sequence[SplitName | None]) -> None:
        self._paths, self.ids, self.split = paths, ids, split
        self._animated: set[str] = set()

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> Array:
        """Raises ModelError with its path for one that cannot be read."""
        pixels, animated = read_image(self._paths[index])
        if animated:
            self._animated.add(self.ids[index])
        return pixels

    def notes(self) -> Sequence[str]:
        if not self._animated:
            return ()
        some = ", ".join(ascii(name)[1:-1] for name in sorted(self._animated)[:3])
        return (f"{len(self._animated)} images have several frames, of which the first is read: {some}",)

    def digest(self, index: int) -> str:
        return file_digest(self._paths[index])

    def sketch(self, index: int) -> bytes:
        return file_sketch(self._paths[index])
