"""An image folder's samples, decoded when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pocketforge.data.base import Array
from pocketforge.data.file_samples import ImageFiles
from pocketforge.data.image_layout import list_images


class ImageFolder(ImageFiles):
    """Classes in sorted order, as torchvision's ImageFolder."""

    def __init__(self, folder: Path, split_folders: Mapping[str, Sequence[str]] | None = None) -> None:
        listed = list_images(folder, split_folders)
        super().__init__(
            [path for _, _, path in listed.images],
            [path.relative_to(folder).as_posix() for _, _, path in listed.images],
            [split for split, _, _ in listed.images],
        )
        self.labels = listed.classes
        order = {name: index for index, name in enumerate(listed.classes)}
        self._targets = [order[name] for _, name, _ in listed.images]

    def sample(self, index: int) -> tuple[tuple[Array, ...], int]:
        return (self.image(index),), self._targets[index]
