"""Steps of preprocessing that are done to an image, and where its pixels lie after each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketforge.data.base import Array
from pocketforge.data.geometry import Geometry, stretched
from pocketforge.data.preprocess_resize import resize, size_after
from pocketforge.errors import ModelError
from pocketforge.recipe.image_steps import CenterCrop, Color, Layout, Pad, Resize

# ITU-R 601-2 luma, as Pillow's convert("L").
LUMA = (0.299, 0.587, 0.114)
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image on its way to the model.

    Attributes:
        values: H×W×C; in another order after a layout step.
        geometry: Where the raw image's pixels are in it.
        order: Of its colours: RGB, or BGR once that was asked for.
    """

    values: Array
    geometry: Geometry
    order: str = "RGB"


def picture(raw: Array) -> Picture:
    """A raw sample as an image. Raises ModelError for what is none."""
    image = raw[:, :, None] if raw.ndim == 2 else raw
    if image.ndim != 3 or 0 in image.shape:
        raise ModelError(f"data.preprocess is for images (height, width, channels), found shape {raw.shape}")
    _check_layout(image)
    size = (image.shape[0], image.shape[1])
    return Picture(image, stretched(size, size))


def planes_first(image: Array) -> bool:
    """A first axis of 1, 3 or 4 and a last one of more are the planes of a C×H×W array."""
    return image.shape[0] in _CHANNELS and image.shape[2] not in _CHANNELS


def _check_layout(image: Array) -> None:
    """Channels come last."""
    if planes_first(image):
        raise ModelError(
            f"data.preprocess is for images (height, width, channels), found shape {image.shape}, which looks like "
            "(channels, height, width)",
            "give x as (N, height, width, channels): x.transpose(0, 2, 3, 1); or leave out data.preprocess and give "
            "samples as the model takes them",
        )


def do(step: object, image: Picture) -> Picture:
    """One step. Raises ModelError where the image does not fit it."""
    return _STEPS[type(step)](step, image)


def _resize(step: Resize, image: Picture) -> Picture:
    height, width = image.geometry.size
    size = size_after(step, height, width)
    geometry = image.geometry.stretched_to(size)
    return replace(image, values=resize(step, image.values, size), geometry=geometry)


def _center_crop(step: CenterCrop, image: Picture) -> Picture:
    height, width = image.geometry.size
    high, wide = step.size
    if high > height or wide > width:
        raise ModelError(
            f"data.preprocess: center_crop to {high} × {wide} is larger than the image, which has {height} × {width} "
            "pixels there",
            "resize it before (shorter = …), or pad it to the size",
        )
    # round() as torchvision's: half a pixel goes to the even number.
    top, left = (
        round(over / 2) if step.rounding == "half_even" else over // 2 for over in (height - high, width - wide)
    )
    values = image.values[top : top + high, left : left + wide]
    return replace(image, values=values, geometry=image.geometry.moved(-left, -top, (high, wide)))


def _pad(step: Pad, image: Picture) -> Picture:
    height, width = image.geometry.size
    if step.size:
        over = (step.size[0] - height, step.size[1] - width)
        if min(over) < 0:
            raise ModelError(
                f"data.preprocess: pad to {step.size[0]} × {step.size[1]} is less than the image, which has "
                f"{height} × {width} pixels there",
                "resize it before (fit = [height, width])",
            )
        top, left = (side // 2 if step.place == "center" else 0 for side in over)
        bottom, right = over[0] - top, over[1] - left
    else:
        left, top, right, bottom = step.by
    values = _padded(step, image.values, (top, bottom), (left, right))
    size = (height + top + bottom, width + left + right)
    return replace(image, values=values, geometry=image.geometry.moved(left, top, size))


def _padded(step: Pad, values: Array, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    if step.mode != "constant":
        if step.mode == "reflect" and (max(rows) >= values.shape[0] or max(columns) >= values.shape[1]):
            raise ModelError(
                f"data.preprocess: pad mirrors at most one pixel less than the image has, which is {values.shape[0]} × "
                f"{values.shape[1]} there, found {max(*rows, *columns)}",
                'use mode = "edge" or "constant"',
            )
        return np.pad(values, (rows, columns, (0, 0)), mode=step.mode)
    channels = values.shape[2]
    if len(step.value) not in (1, channels):
        raise ModelError(
            f"data.preprocess: pad has {len(step.value)} values, the image has {channels} channels",
            'put a step color ("rgb" or "grayscale") before it, or give one value',
        )
    fill = np.asarray(step.value, np.float32)
    if values.dtype.kind in "iu":
        limits = np.iinfo(values.dtype)
        if np.any(fill != np.rint(fill)) or fill.min() < limits.min or fill.max() > limits.max:
            raise ModelError(
                f"data.preprocess: pad's value {list(step.value)} is none of the image's type there, {values.dtype}",
                "values are in the image's units at that place: 114, not 0.447, before scale",
            )
    shape = (values.shape[0] + sum(rows), values.shape[1] + sum(columns), channels)
    result = np.empty(shape, values.dtype)
    result[:] = fill
    result[rows[0] : shape[0] - rows[1], columns[0] : shape[1] - columns[1]] = values
    return result


def _color(step: Color, image: Picture) -> Picture:
    values, order = image.values, image.order
    channels = values.shape[2]
    if step.to == "grayscale" and channels == 1:
        return image
    if channels not in _CHANNELS:
        raise ModelError(f"data.preprocess.color {step.to!r} needs an image of 1, 3 or 4 channels, found {channels}")
    values = values.repeat(3, axis=2) if channels == 1 else values[:, :, :3]
    values = values[:, :, ::-1] if order == "BGR" else values
    if step.to == "grayscale":
        return replace(image, values=_luma(values), order="RGB")
    return replace(image, values=values[:, :, ::-1] if step.to == "bgr" else values, order=step.to.upper())


def _luma(image: Array) -> Array:
    if image.dtype == np.uint8:
        # Pillow's own integer arithmetic, so that a grayscale made by Pillow elsewhere is the same to the bit.
        r, g, b = (image[:, :, channel].astype(np.uint32) for channel in range(3))
        return ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16).astype(np.uint8)[:, :, None]
    luma: NDArray[np.float32] = image.astype(np.float32) @ np.asarray(LUMA, np.float32)
    return luma[:, :, None]


def _layout(step: Layout, image: Picture) -> Picture:
    return replace(image, values=image.values.transpose(2, 0, 1)) if step.to == "NCHW" else image


_STEPS: dict[type, Callable[[Any, Picture], Picture]] = {
    Resize: _resize,
    CenterCrop: _center_crop,
    Pad: _pad,
    Color: _color,
    Layout: _layout,
}
