"""`imagefolder:DIR`: one folder a class, or DIR/{train,eval|test|val}/class/…; read with Pillow."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from pocketforge.data.base import Array, SplitName
from pocketforge.data.files import list_images
from pocketforge.errors import ModelError, ToolMissing
from pocketforge.files import Resolve


class ImageFolder:
    """H×W×1 for grayscale files, H×W×4 for files with transparency, else H×W×3; decoded when asked for.

    As torchvision's ImageFolder: classes in sorted order, EXIF orientation not applied.
    """

    value_max = 255.0

    def __init__(self, folder: Path) -> None:
        self.labels, images = list_images(folder)
        order = {name: index for index, name in enumerate(self.labels)}
        self.ids = [path.relative_to(folder).as_posix() for _, _, path in images]
        self.split: list[SplitName | None] = [split for split, _, _ in images]
        self._targets = [order[name] for _, name, _ in images]
        self._paths = [path for _, _, path in images]

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, index: int) -> tuple[tuple[Array, ...], Any]:
        return (read_image(self._paths[index]),), self._targets[index]

    def digest(self, index: int) -> str:
        # Of the file, not of the pixels: decoding every image of a large set would take minutes, and copies are what
        # leaks from train into eval. An image saved a second time in another format is not recognised.
        try:
            return hashlib.sha256(self._paths[index].read_bytes()).hexdigest()
        except OSError as error:
            raise ModelError(f"data.source: {self._paths[index]} cannot be read: {error.strerror or error}") from error


def read_image(path: Path) -> Array:
    """One image as uint8 H×W×C (16-bit grayscale as float32 with the same 0 to 255). ModelError if unreadable."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):
                return (np.asarray(image, np.float32) / 257.0)[:, :, None]
            if image.mode in ("1", "L"):
                return np.asarray(image.convert("L"))[:, :, None]
            transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            return np.asarray(image.convert("RGBA" if transparent else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ModelError(
            f"data.source: the image {path} cannot be read: {error}", "repair it or take it out of the folder"
        ) from error


def open_place(place: str, resolve: Resolve) -> ImageFolder:
    """Raises ModelError for a folder without classes or images, ToolMissing without Pillow."""
    try:
        import PIL  # noqa: F401 - asked here, so that it fails before the first sample
    except ImportError as error:
        raise ToolMissing("data source imagefolder needs Pillow", "pip install pillow") from error
    return ImageFolder(resolve(place))
