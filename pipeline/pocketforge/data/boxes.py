"""Boxes of objects as targets: in pixels of the raw image, inside of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from pocketforge.data.base import Array
from pocketforge.errors import ModelError

# Annotators' rounding: COCO's own boxes end up to half a pixel outside.
SLACK_PX = 1.0


@dataclass(slots=True)
class BoxNotes:
    """What was done to boxes that are not quite right.

    Attributes:
        clipped: So many ended less than a pixel outside of their image.
        flat: So many have no area and were left out.
    """

    clipped: set[str] = field(default_factory=set)
    flat: set[str] = field(default_factory=set)

    def lines(self) -> list[str]:
        """For the user; empty where there was nothing."""
        told = (
            (self.clipped, f"end at most {SLACK_PX:g} px outside of their image, and are cut there"),
            (self.flat, "have no area, and are left out"),
        )
        return [f"{len(found)} boxes {what}: {', '.join(sorted(found)[:3])}" for found, what in told if found]


def check_box(box: tuple[float, float, float, float], size: tuple[int, int], where: str, notes: BoxNotes) -> bool:
    """Whether a box (x1, y1, x2, y2) is to be kept. size: height and width of its image.

    Raises ModelError for one that is no box or lies outside of its image by more than a pixel. where: names it.
    """
    if not all(map(math.isfinite, box)):
        raise ModelError(f"data.source: {where} has a box that is no number: {list(box)}")
    x1, y1, x2, y2 = box
    height, width = size
    if x2 < x1 or y2 < y1:
        raise ModelError(
            f"data.source: {where} has a box that ends before it begins: {_shown(box)} (x1 y1 x2 y2)",
            "boxes have a width and a height of 0 or more; a table's are corners, not x, y, width and height",
        )
    outside = max(-x1, -y1, x2 - width, y2 - height)
    if outside > SLACK_PX:
        raise ModelError(
            f"data.source: {where} has a box outside of its image: {_shown(box)} (x1 y1 x2 y2), the image is "
            f"{width}×{height} (width×height)",
            "correct it; if all boxes are off, they are of another size of the image",
        )
    if min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
        notes.flat.add(where)
        return False
    if outside > 0:
        notes.clipped.add(where)
    return True


def clip_boxes(boxes: Array, size: tuple[int, int]) -> Array:
    """float32 (n, 4), cut at the image's edges. size: height and width."""
    array = np.asarray(boxes, np.float32).reshape(-1, 4)
    limits = np.asarray([size[1], size[0], size[1], size[0]], np.float32)
    return np.clip(array, np.float32(0), limits)


def _shown(box: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in box) + "]"
