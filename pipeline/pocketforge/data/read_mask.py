"""One mask file as class numbers: the values that are stored, not their colours."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pocketforge.data.base import Array
from pocketforge.data.image_files import image_formats
from pocketforge.errors import ModelError

IGNORED = 255
_MODES = frozenset({"1", "L", "P", "I", "I;16", "I;16L", "I;16B", "I;16N"})


def read_mask(path: Path, values: Sequence[int] = (), data: bytes | None = None) -> Array:
    """(H, W): uint8 class numbers, uint16 where one is more than 255; 255 is ignored.

    values: the stored value of each class, by class number; () where values are the numbers. data: the content, where
    the path only names it. Raises ModelError, with the path, for a damaged file, a mask of colours and a value that is
    of no class. An EXIF orientation is applied, as it is to its image.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(
            io.BytesIO(data) if data is not None else path, formats=sorted(set(image_formats().values()) - {"MPO"})
        ) as image:
            ImageOps.exif_transpose(image, in_place=True)
            mode = image.mode
            stored = np.asarray(image) if mode in _MODES else None
    except Exception as error:  # a damaged file raises whatever its bytes happen to ask for
        raise ModelError(
            f"data.source: the mask {path} cannot be read: {error or type(error).__name__}",
            "repair it or take it out of the folder",
        ) from error
    if stored is None:
        raise ModelError(
            f"data.source: the mask {path} holds colours ({mode}), not class numbers",
            "save it with one channel (or a palette) whose values are class numbers; 255 is ignored",
        )
    return _numbers(stored.astype(np.int64), values, path)


def _numbers(stored: Array, values: Sequence[int], path: Path) -> Array:
    numbers = stored
    if values:
        numbers = np.full(stored.shape, -1, np.int64)
        for number, value in enumerate(values):
            numbers[stored == value] = number
        # 255 may be one of the values; where it is none it is ignored as ever.
        numbers[(numbers < 0) & (stored == IGNORED)] = IGNORED
        if (numbers < 0).any():
            row, column = np.argwhere(numbers < 0)[0]
            raise ModelError(
                f"data.source: the mask {path} has value {stored[row, column]} at row {row}, column {column}, which is "
                f"none of data.mask_values {list(values)}",
                "give the value of every class, in the order of class numbers",
            )
    if numbers.min() < 0 or numbers.max() > 65_535:
        raise ModelError(
            f"data.source: the mask {path} has values {numbers.min()} to {numbers.max()}: wanted 0 to 65535"
        )
    return numbers.astype(np.uint8 if numbers.max() <= IGNORED else np.uint16)


def check_mask(mask: Array, image: Array, classes: int, where: str) -> None:
    """Raises ModelError for a mask that is not of its image's size, and for a class that there is not.

    classes: how many there are; 0 where that is not known. where: begins the error.
    """
    if mask.shape != image.shape[:2]:
        raise ModelError(
            f"{where} is {mask.shape[0]}×{mask.shape[1]} (height×width), its image {image.shape[0]}×{image.shape[1]}",
            "a mask has a pixel for each of its image's",
        )
    wrong = (mask >= classes) & (mask != IGNORED) if classes else None
    if wrong is not None and wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ModelError(
            f"{where} has class {mask[row, column]} at row {row}, column {column}, out of range: wanted 0 to "
            f"{classes - 1}, or {IGNORED} where nothing is judged"
        )
