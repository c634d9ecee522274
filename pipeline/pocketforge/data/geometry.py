"""Where a raw image's pixels are in the model's input: what targets with places in them go through too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pocketforge.data.base import Array

# x1, y1, x2, y2 in pixels of the model's input.
Edges = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Geometry:
    """An affine map of pixel coordinates, raw image → model input, and what of the raw image can be seen there.

    Coordinates are continuous: pixel (row r, column c) covers x from c to c + 1 and y from r to r + 1, its centre is at
    c + 0.5. So boxes that end at the image's edge end at its width.

    Attributes:
        scale_x: Factor from a raw x to one of the input.
        scale_y: Factor from a raw y.
        offset_x: Added after that, in pixels of the input: what was padded on the left, or minus what was cropped.
        offset_y: The same above.
        raw_size: Height and width of the raw image, in pixels.
        size: Height and width of the model's input, in pixels.
        window: Where the raw image was cut before it was padded: what lies outside is not there. None: nowhere.
    """

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float
    raw_size: tuple[int, int]
    size: tuple[int, int]
    window: Edges | None = None

    @property
    def is_identity(self) -> bool:
        same = (self.scale_x, self.scale_y, self.offset_x, self.offset_y, self.size) == (1, 1, 0, 0, self.raw_size)
        return same and self.visible == (0, 0, self.size[1], self.size[0])

    @property
    def visible(self) -> Edges:
        """The part of the input that shows the raw image; all around it was padded."""
        height, width = self.raw_size
        edges = (
            self.offset_x,
            self.offset_y,
            self.offset_x + width * self.scale_x,
            self.offset_y + height * self.scale_y,
        )
        return _within(edges if self.window is None else _within(edges, self.window), (0, 0, *self.size[::-1]))

    def stretched_to(self, size: tuple[int, int]) -> Geometry:
        """The same, with the input resized to another height and width."""
        high, wide = (new / old for new, old in zip(size, self.size, strict=True))
        offset_x, offset_y = self.offset_x * wide, self.offset_y * high
        x1, y1, x2, y2 = self.visible
        window = (x1 * wide, y1 * high, x2 * wide, y2 * high)
        return Geometry(self.scale_x * wide, self.scale_y * high, offset_x, offset_y, self.raw_size, size, window)

    def moved(self, right: float, down: float, size: tuple[int, int]) -> Geometry:
        """The same, padded (or cropped, where negative) on the left by `right` pixels and above by `down`, to a height
        and width."""
        x1, y1, x2, y2 = self.visible
        window = _within((x1 + right, y1 + down, x2 + right, y2 + down), (0, 0, *size[::-1]))
        offset_x, offset_y = self.offset_x + right, self.offset_y + down
        return Geometry(self.scale_x, self.scale_y, offset_x, offset_y, self.raw_size, size, window)

    def points(self, places: Array) -> Array:
        """(…, 2) x and y of the raw image → of the input, float32; not clipped."""
        factor = np.asarray([self.scale_x, self.scale_y], np.float64)
        moved = np.asarray(places, np.float64) * factor + np.asarray([self.offset_x, self.offset_y], np.float64)
        return moved.astype(np.float32)

    def source_pixels(self) -> tuple[Array, Array]:
        """For each row and each column of the input the raw one whose pixel its centre lies in; -1 where none."""
        x1, y1, x2, y2 = self.visible
        (height, width), (raw_height, raw_width) = self.size, self.raw_size
        rows = _nearest(height, raw_height, self.scale_y, self.offset_y, (y1, y2))
        return rows, _nearest(width, raw_width, self.scale_x, self.offset_x, (x1, x2))


def _nearest(number: int, raw: int, scale: float, offset: float, visible: tuple[float, float]) -> Array:
    centres = np.arange(number) + 0.5
    places = np.floor((centres - offset) / scale).astype(np.int64)
    seen = (places >= 0) & (places < raw) & (centres >= visible[0]) & (centres < visible[1])
    return np.where(seen, places, -1)


def _within(edges: Edges, other: Edges) -> Edges:
    """The part of one rectangle that another covers; without area where they do not meet."""
    x1, y1 = max(edges[0], other[0]), max(edges[1], other[1])
    return x1, y1, max(x1, min(edges[2], other[2])), max(y1, min(edges[3], other[3]))


def stretched(raw_size: tuple[int, int], size: tuple[int, int]) -> Geometry:
    """Resized without keeping its aspect."""
    return Geometry(size[1] / raw_size[1], size[0] / raw_size[0], 0.0, 0.0, raw_size, size)
