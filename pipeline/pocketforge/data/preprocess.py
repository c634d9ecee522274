"""From a raw sample to the model's input, and the same in words that an app can follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pocketforge.data.base import Array, PreprocessStep
from pocketforge.data.geometry import Geometry, stretched
from pocketforge.errors import ModelError, ToolMissing
from pocketforge.outcomes.data import Preprocessing
from pocketforge.recipe import Preprocess

# ITU-R 601-2 luma, as Pillow's convert("L").
LUMA = (0.299, 0.587, 0.114)
_CHANNELS = (1, 3, 4)


def effective(preprocess: Preprocess | None, value_max: float) -> Preprocess | None:
    """The preprocessing that happens: image sources (value_max > 0) are scaled and laid out even when none is asked."""
    return Preprocess() if preprocess is None and value_max > 0 else preprocess


def apply(preprocess: Preprocess | None, value_max: float, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """One sample's raw inputs → the model's inputs, without a batch dimension.

    With preprocessing: one H×W×C or H×W image → float32 (C, H, W), or (H, W, C) for layout NHWC. value_max is 0 where
    nothing says the largest value: floats then stay as they are, and integers are refused without a scale. Without
    preprocessing: floats become float32, integers (token ids) keep their type. Raises ModelError when the sample does
    not fit the preprocessing.
    """
    plan = effective(preprocess, value_max)
    if plan is None:
        return tuple(_as_it_is(x) for x in inputs)
    if len(inputs) != 1:
        raise ModelError(
            f"data.preprocess is for one image input, this source has {len(inputs)} inputs",
            "leave out data.preprocess and prepare the inputs in a module.py:function source",
        )
    image = inputs[0]
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3:
        raise ModelError(f"data.preprocess is for images (height, width, channels), found shape {image.shape}")
    _check_layout(image)
    scale = _scale(image, plan, value_max)
    image = _color(image, plan.color)
    if plan.resize:
        image = _resize(image, plan.resize[0], plan.resize[1])
    result: Array = np.asarray(image, np.float32)
    if scale:
        result = result / np.float32(scale)
    if plan.mean:
        channels = result.shape[2]
        if len(plan.mean) not in (1, channels):
            raise ModelError(
                f"data.preprocess: mean and std have {len(plan.mean)} values, the image has {channels} channels",
                'set data.preprocess.color to "rgb" or "grayscale", or give one value a channel',
            )
        result = (result - np.asarray(plan.mean, np.float32)) / np.asarray(plan.std, np.float32)
    if plan.layout == "NCHW":
        result = result.transpose(2, 0, 1)
    return (np.ascontiguousarray(result),)


def geometry_of(preprocess: Preprocess | None, value_max: float, inputs: tuple[Array, ...]) -> Geometry | None:
    """Where the pixels of one sample's image come to lie in the model's input; None for what is no image."""
    if len(inputs) != 1 or inputs[0].ndim not in (2, 3):
        return None
    plan, image = effective(preprocess, value_max), inputs[0]
    if plan is None:  # fed as it is: planes first or last, a mask's size tells which
        planes_first = image.ndim == 3 and image.shape[0] in _CHANNELS and image.shape[2] not in _CHANNELS
        raw = image.shape[1:] if planes_first else image.shape[:2]
    else:
        raw = image.shape[:2]
    size = (raw[0], raw[1])
    wanted = (plan.resize[0], plan.resize[1]) if plan and plan.resize else size
    return stretched(size, wanted)


def _as_it_is(array: Array) -> Array:
    """Floats in single precision, in this machine's byte order: torch knows no other."""
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # an infinity is refused with the sample's name
            return np.asarray(array, np.float32)
    return np.asarray(array, array.dtype.newbyteorder("="))


def _check_layout(image: Array) -> None:
    """Channels come last. A first axis of 1, 3 or 4 and a last one of more are the planes of a C×H×W array."""
    first, _, last = image.shape
    if first in _CHANNELS and last not in _CHANNELS:
        raise ModelError(
            f"data.preprocess is for images (height, width, channels), found shape {image.shape}, which looks like "
            "(channels, height, width)",
            "give x as (N, height, width, channels): x.transpose(0, 2, 3, 1); or leave out data.preprocess and give "
            "samples as the model takes them",
        )


def _scale(image: Array, plan: Preprocess, value_max: float) -> float:
    if plan.scale is not None:
        return plan.scale
    if not value_max and image.dtype.kind in "iu":
        raise ModelError(
            f"data.preprocess: images are {image.dtype}, and nothing says which value is white",
            "write data.preprocess.scale: the value that becomes 1.0 (255, 65535), or 0 to leave values as they are; "
            "uint8 images are divided by 255 without",
        )
    return value_max


def describe(preprocess: Preprocess | None, value_max: float, reading: Sequence[PreprocessStep] = ()) -> Preprocessing:
    """The steps of `apply` in order, as an artifact's sidecar has them.

    {"input": "HWC", "output": "NCHW", "steps": [{"step": "resize", …}, {"step": "divide", "by": 255.0}, …]};
    no steps (and input and output null) when the data is fed as is. reading: steps that made the raw sample.
    """
    plan = effective(preprocess, value_max)
    if plan is None:
        return Preprocessing(None, None, ())
    steps: list[PreprocessStep] = list(reading)
    if plan.color == "grayscale":
        steps.append({"step": "grayscale", "weights": list(LUMA)})
    elif plan.color == "rgb":
        steps.append({"step": "rgb", "alpha": "drop", "grayscale": "repeat"})
    if plan.resize:
        height, width = plan.resize
        steps.append(
            # Half-pixel centres, and a wider filter when shrinking: Pillow's BILINEAR, tf.image's antialias=True.
            {"step": "resize", "height": height, "width": width, "filter": "bilinear", "antialias": True}
        )
    scale = value_max if plan.scale is None else plan.scale
    if scale:
        steps.append({"step": "divide", "by": float(scale)})
    if plan.mean:
        steps.append({"step": "normalize", "mean": list(plan.mean), "std": list(plan.std)})
    if plan.layout == "NCHW":
        steps.append({"step": "transpose", "from": "HWC", "to": "CHW"})
    return Preprocessing("HWC", plan.layout, tuple(steps))


def _color(image: Array, color: str) -> Array:
    channels = image.shape[2]
    if color == "as_is" or (color == "grayscale" and channels == 1):
        return image
    if channels not in (1, 3, 4):
        raise ModelError(f"data.preprocess.color {color!r} needs an image of 1, 3 or 4 channels, found {channels}")
    if color == "rgb":
        return image.repeat(3, axis=2) if channels == 1 else image[:, :, :3]
    if image.dtype == np.uint8:
        # Pillow's own integer arithmetic, so that a grayscale made by Pillow elsewhere is the same to the bit.
        r, g, b = (image[:, :, channel].astype(np.uint32) for channel in range(3))
        return ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16).astype(np.uint8)[:, :, None]
    luma: NDArray[np.float32] = image[:, :, :3].astype(np.float32) @ np.asarray(LUMA, np.float32)
    return luma[:, :, None]


def _resize(image: Array, height: int, width: int) -> Array:
    if image.shape[:2] == (height, width):
        return image
    try:
        from PIL import Image
    except ImportError as error:
        raise ToolMissing("data.preprocess.resize needs Pillow", "pip install pillow") from error
    if image.dtype == np.uint8 and image.shape[2] in (1, 3, 4):
        # 8-bit images are resized in 8 bits, as Pillow and torchvision do for a file that they opened.
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image))
        resized = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        return resized.reshape(height, width, image.shape[2])
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(image[:, :, channel], np.float32)).resize(
                (width, height), Image.Resampling.BILINEAR
            )
        )
        for channel in range(image.shape[2])
    ]
    return np.stack(planes, axis=2)
