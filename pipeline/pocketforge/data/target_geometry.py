"""Targets with places in them go through their image's geometry: masks by the nearest pixel, boxes and keypoints by the
map; boxes are clipped, and those that a crop leaves outside are dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketforge.data.geometry import Geometry
from pocketforge.errors import ModelError
from pocketforge.recipe.roles import TargetName

Array = NDArray[Any]
_IGNORED_PIXEL = 255


def move(
    found: Mapping[str, Array], kinds: Mapping[str, TargetName], geometry: Geometry | None, wheres: Mapping[str, str]
) -> dict[str, Array]:
    """Checked targets in the raw image's pixels → in the model input's.

    kinds: name → kind. wheres: name → how its errors begin. Raises ModelError for a mask of another size than its image
    and for a box wholly outside of the raw image.
    """
    moved = dict(found)
    if geometry is None:
        return moved
    for name, kind in kinds.items():
        if kind == "mask":
            moved[name] = _mask(found[name], geometry, wheres[name])
        elif kind == "boxes":
            moved |= _boxes(found, name, geometry, wheres[name])
        elif kind == "keypoints":
            moved |= _keypoints(found, name, geometry)
    return moved


def _mask(mask: Array, geometry: Geometry, where: str) -> Array:
    if mask.shape != geometry.raw_size:
        wanted, given = (" by ".join(map(str, size)) for size in (geometry.raw_size, mask.shape))
        raise ModelError(
            f"{where} is {given}, its image {wanted} (height by width)",
            "a mask has a value for each pixel of its image",
        )
    if geometry.is_identity:
        return mask
    rows, columns = geometry.source_pixels()
    moved = mask[np.maximum(rows, 0)][:, np.maximum(columns, 0)]
    moved[rows < 0, :] = _IGNORED_PIXEL
    moved[:, columns < 0] = _IGNORED_PIXEL
    return moved


def _boxes(found: Mapping[str, Array], name: str, geometry: Geometry, where: str) -> dict[str, Array]:
    boxes = found[name]
    height, width = geometry.raw_size
    outside = (boxes[:, 0] >= width) | (boxes[:, 1] >= height) | (boxes[:, 2] <= 0) | (boxes[:, 3] <= 0)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        raise ModelError(
            f"{where}: box {first} ({', '.join(f'{v:g}' for v in boxes[first])}) lies outside of its image of "
            f"{width} by {height} pixels (width by height)",
            "boxes are x1 y1 x2 y2 in pixels of the raw image",
        )
    corners = np.clip(boxes.reshape(-1, 2, 2), 0, [width, height])
    moved = geometry.points(corners)
    limits = np.asarray([geometry.size[1], geometry.size[0]], np.float32)
    clipped = np.clip(moved, 0, limits).reshape(-1, 4)
    kept = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    others = [other for other in (beside(name, "classes"), beside(name, "crowd")) if other in found]
    return {name: clipped[kept], **{other: found[other][kept] for other in others}}


def _keypoints(found: Mapping[str, Array], name: str, geometry: Geometry) -> dict[str, Array]:
    keypoints = found[name].copy()
    places = geometry.points(keypoints[..., :2])
    height, width = geometry.size
    inside = (places[..., 0] >= 0) & (places[..., 0] <= width) & (places[..., 1] >= 0) & (places[..., 1] <= height)
    keypoints[..., :2] = places
    keypoints[..., 2] = np.where(inside, keypoints[..., 2], 0.0)  # what a crop left outside is not to be found
    areas = found[beside(name, "areas")] * np.float32(abs(geometry.scale_x * geometry.scale_y))
    return {name: keypoints, beside(name, "areas"): areas}


def beside(name: str, part: str) -> str:
    """The target that stands beside another: `classes` beside `boxes`, `left_classes` beside `left`."""
    return part if name in ("boxes", "keypoints") else f"{name}_{part}"
