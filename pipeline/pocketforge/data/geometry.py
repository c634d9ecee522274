"""Where a raw image's pixels are in the model's input: what targets with places in them go through too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pocketforge.data.base import Array


@dataclass(frozen=True, slots=True)
class Geometry:
    """An affine map of pixel coordinates, raw image → model input.

    Coordinates are continuous: pixel (row r, column c) covers x from c to c + 1 and y from r to r + 1, its centre is at
    c + 0.5. So boxes that end at the image's edge end at its width.

    Attributes:
        scale_x: Factor from a raw x to one of the input.
        scale_y: Factor from a raw y.
        offset_x: Added after that, in pixels of the input: what was padded on the left, or minus what was cropped.
        offset_y: The same above.
        raw_size: Height and width of the raw image, in pixels.
        size: Height and width of the model's input, in pixels.
    """

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float
    raw_size: tuple[int, int]
    size: tuple[int, int]

    @property
    def is_identity(self) -> bool:
        return (self.scale_x, self.scale_y, self.offset_x, self.offset_y, self.size) == (1, 1, 0, 0, self.raw_size)

    def points(self, places: Array) -> Array:
        """(…, 2) x and y of the raw image → of the input, float32; not clipped."""
        factor = np.asarray([self.scale_x, self.scale_y], np.float64)
        moved = np.asarray(places, np.float64) * factor + np.asarray([self.offset_x, self.offset_y], np.float64)
        return moved.astype(np.float32)

    def source_pixels(self) -> tuple[Array, Array]:
        """For each row and each column of the input the raw one whose pixel its centre lies in; -1 where none."""
        rows, columns = (
            _nearest(number, raw, scale, offset)
            for number, raw, scale, offset in zip(
                self.size, self.raw_size, (self.scale_y, self.scale_x), (self.offset_y, self.offset_x), strict=True
            )
        )
        return rows, columns


def _nearest(number: int, raw: int, scale: float, offset: float) -> Array:
    places = np.floor((np.arange(number) + 0.5 - offset) / scale).astype(np.int64)
    return np.where((places >= 0) & (places < raw), places, -1)


def stretched(raw_size: tuple[int, int], size: tuple[int, int]) -> Geometry:
    """Resized without keeping its aspect."""
    return Geometry(size[1] / raw_size[1], size[0] / raw_size[0], 0.0, 0.0, raw_size, size)
