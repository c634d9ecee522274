"""Outlines of COCO's objects (polygons, RLE) as one mask of classes, by COCO's own code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pocketforge.data.base import Array
from pocketforge.data.read_mask import IGNORED
from pocketforge.errors import ModelError, ToolMissing


def paint(outlines: Sequence[tuple[int, object]], size: tuple[int, int], where: str) -> Array:
    """(H, W): 0 where nothing is, k + 1 of class number k, 255 (ignored) where objects of two classes overlap.

    uint8; as torchvision's reference for segmentation paints them. outlines: class number and `segmentation` of each.
    Raises ModelError for an outline that is none, ToolMissing without pycocotools.
    """
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise ToolMissing("masks of COCO files need pycocotools", "pip install 'pocketforge[detection]'") from error
    painted = np.zeros(size, np.uint8)
    for number, outline in outlines:
        if number + 1 >= IGNORED:
            raise ModelError(
                f"data.source: {where}: class {number} would be {number + 1} in a mask, and {IGNORED} is ignored",
                f"masks tell {IGNORED - 1} classes and the background apart",
            )
        try:
            encoded = _encoded(outline, size)
            inside = np.asarray(coco.decode(encoded), bool)
        except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
            raise ModelError(
                f"data.source: {where} has a segmentation that cannot be read: {error}",
                "lists of x1, y1, x2, y2 … with three points or more, or RLE of the image's size",
            ) from error
        other = inside & (painted != 0) & (painted != number + 1)
        painted[inside] = number + 1
        painted[other] = IGNORED
    return painted


def _encoded(outline: object, size: tuple[int, int]) -> object:
    from pycocotools import mask as coco

    if isinstance(outline, list):
        if not all(isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0 for part in outline):
            raise ValueError("a polygon has fewer than three points, or half a point")
        return coco.merge(coco.frPyObjects(outline, *size))
    if not isinstance(outline, dict):
        raise TypeError(f"found a {type(outline).__name__}")
    if tuple(outline["size"]) != size:
        raise ValueError(f"RLE is of size {outline['size']}, the image {list(size)}")
    counts = outline["counts"]
    if isinstance(counts, list):
        if sum(counts) != size[0] * size[1] or min(counts, default=0) < 0:
            raise ValueError(f"RLE counts {sum(counts)} pixels, the image has {size[0] * size[1]}")
        return coco.frPyObjects(outline, *size)
    return {"size": list(size), "counts": counts.encode() if isinstance(counts, str) else counts}
