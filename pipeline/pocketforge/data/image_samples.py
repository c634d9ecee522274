"""An image folder's samples, decoded when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pocketforge.data.base import Array, PlainSource, SplitName
from pocketforge.data.image_layout import list_images
from pocketforge.data.read_image import STEPS, read_image
from pocketforge.errors import ModelError


class ImageFolder(PlainSource):
    """As `read_image` gives them; decoded when asked for. Classes in sorted order, as torchvision's ImageFolder."""

    value_max = 255.0
    as_images = True
    reading = STEPS

    def __init__(self, folder: Path, split_folders: Mapping[str, Sequence[str]] | None = None) -> None:
        listed = list_images(folder, split_folders)
        self.labels = listed.classes
        order = {name: index for index, name in enumerate(listed.classes)}
        self.ids = [path.relative_to(folder).as_posix() for _, _, path in listed.images]
        self.split: list[SplitName | None] = [split for split, _, _ in listed.images]
        self._targets = [order[name] for _, name, _ in listed.images]
        self._paths = [path for _, _, path in listed.images]
        self._animated: set[str] = set()

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, index: int) -> tuple[tuple[Array, ...], int]:
        pixels, animated = read_image(self._paths[index])
        if animated:
            self._animated.add(self.ids[index])
        return (pixels,), self._targets[index]

    def notes(self) -> tuple[str, ...]:
        if not self._animated:
            return ()
        some = ", ".join(ascii(name)[1:-1] for name in sorted(self._animated)[:3])
        return (f"{len(self._animated)} images have several frames, of which the first is read: {some}",)

    def digest(self, index: int) -> str:
        # Of the file, not of the pixels: decoding every image of a large set would take minutes, and copies are what
        # leaks from train into eval. An image saved a second time in another format is not recognised.
        try:
            return hashlib.sha256(self._paths[index].read_bytes()).hexdigest()
        except OSError as error:
            raise ModelError(f"data.source: {self._paths[index]} cannot be read: {error.strerror or error}") from error
