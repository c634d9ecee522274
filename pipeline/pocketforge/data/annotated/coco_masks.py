"""Outlines of COCO's objects (polygons, RLE) as one mask of classes; polygons by COCO's own code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pocketforge.data.base import Array
from pocketforge.data.read_mask import IGNORED
from pocketforge.errors import ModelError, ToolMissing
from pocketforge.version import install


def paint(outlines: Sequence[tuple[int, object]], size: tuple[int, int], where: str) -> Array:
    """(H, W) uint8: 0 where nothing is, an object's value where it is, 255 (ignored) where two values overlap.

    As torchvision's reference for segmentation paints them. outlines: value and `segmentation` of each object.
    Raises ModelError for an outline that is none, ToolMissing without faster-coco-eval where there are polygons.
    """
    painted = np.zeros(size, np.uint8)
    for number, outline in outlines:
        if number >= IGNORED:
            raise ModelError(
                f"data.source: {where}: a class would be {number} in a mask, and {IGNORED} is ignored",
                f"masks tell {IGNORED - 1} classes and the background apart",
            )
        try:
            inside = _inside(outline, size)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise ModelError(
                f"data.source: {where} has a segmentation that cannot be read: {error}",
                "lists of x1, y1, x2, y2 … with three points or more, or RLE of the image's size",
            ) from error
        other = inside & (painted != 0) & (painted != number)
        painted[inside] = number
        painted[other] = IGNORED
    return painted


def _inside(outline: object, size: tuple[int, int]) -> Array:
    """(H, W) of whether a pixel is in the outline. Raises ValueError, TypeError or KeyError for what is none."""
    if isinstance(outline, list):
        filled: Array = np.logical_or.reduce([_filled(_polygon(part, size), size) for part in outline])
        return filled
    if not isinstance(outline, dict):
        raise TypeError(f"found a {type(outline).__name__}")
    if list(outline["size"]) != list(size):
        raise ValueError(f"RLE is of size {outline['size']}, the image {list(size)}")
    counts = outline["counts"]
    return _filled(_counts(counts) if isinstance(counts, str) else counts, size)


def _polygon(part: object, size: tuple[int, int]) -> list[int]:
    """A polygon as RLE, by COCO's own rule of which pixels it holds."""
    try:
        from faster_coco_eval.core import mask as coco
    except ImportError as error:
        raise ToolMissing("masks of polygons need faster-coco-eval", install("detection")) from error
    if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
        raise ValueError("a polygon has fewer than three points, or half a point")
    for places, side in ((part[::2], size[1]), (part[1::2], size[0])):
        # COCO's code walks along each edge: one that ends far away has no end.
        if not all(isinstance(place, int | float) and -side <= place <= 2 * side for place in places):
            raise ValueError("a polygon lies outside of the image")
    (encoded,) = coco.frPyObjects([part], *size)
    return _counts(encoded["counts"].decode("ascii"))


def _filled(counts: object, size: tuple[int, int]) -> Array:
    """RLE's counts, column by column, first of what is outside, as (H, W) of bool."""
    if not isinstance(counts, list) or not all(type(number) is int and number >= 0 for number in counts):
        raise ValueError("RLE counts are no whole numbers of 0 or more")
    if sum(counts) != size[0] * size[1]:
        raise ValueError(f"RLE counts {sum(counts)} pixels, the image has {size[0] * size[1]}")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(size[1], size[0]).T


def _counts(text: str) -> list[int]:
    """Of COCO's compressed RLE: six bits a letter, the lowest five first, each count less the one before the last."""
    counts: list[int] = []
    number, shift = 0, 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"RLE has the letter {letter!r}" if shift <= 60 else "RLE has a count of too many letters")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number, shift = 0, 0
    if shift:
        raise ValueError("RLE ends in the middle of a count")
    return counts
