"""Images in another size, by Pillow's, OpenCV's, TensorFlow's, PyTorch's or MediaPipe's arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from pocketforge.data.base import Array
from pocketforge.errors import ModelError, ToolMissing
from pocketforge.recipe.image_steps import MOST_PIXELS, Resize
from pocketforge.version import install

# OpenCV's warps know so many places between two pixels.
_PARTS = 32


def size_after(step: Resize, height: int, width: int) -> tuple[int, int]:
    """Height and width of what an image of these sides becomes.

    shorter: as torchvision's Resize(int); longest and fit: as Ultralytics' letterbox. Raises ModelError for a picture
    so narrow that its other side would be enormous.
    """
    if step.size:
        return step.size[0], step.size[1]
    if step.shorter:
        shorter, longer = sorted((height, width))
        follows = step.shorter * longer // shorter
        if step.rounds == "nearest":
            follows = round(step.shorter * longer / shorter)
        found = (step.shorter, follows) if height <= width else (follows, step.shorter)
    else:
        box = step.fit or (step.longest, step.longest)
        ratio = min(box[0] / height, box[1] / width)
        keep = round if step.rounds == "nearest" else int
        # At least a pixel: a line of 1 × 2000 has no half one. The side that decides is the box's own.
        high, wide = (max(1, min(most, keep(side * ratio))) for most, side in zip(box, (height, width), strict=True))
        found = (high, wide)
    if found[0] * found[1] > MOST_PIXELS:
        raise ModelError(
            f"data.preprocess: resize makes {found[0]} × {found[1]} pixels of an image of {height} × {width}, wanted "
            f"at most {MOST_PIXELS:,} in all",
            "take it out, or use longest, fit or size",
        )
    return found


def resize(step: Resize, image: Array, size: tuple[int, int]) -> Array:
    """An H×W×C image in size (height, width): uint8 stays so as with Pillow, OpenCV or MediaPipe, else it is float32.

    Raises ToolMissing where the step's library is not installed.
    """
    if step.like == "tf":
        return _like_tensorflow(step, image, size)
    if image.shape[:2] == size:
        return image
    return _WAYS[step.like](step, image, size)


def _like_pillow(step: Resize, image: Array, size: tuple[int, int]) -> Array:
    try:
        from PIL import Image
    except ImportError as error:
        raise ToolMissing("data.preprocess.resize needs Pillow", "pip install pillow") from error
    names = {"area": "BOX", "nearest": "NEAREST", "bilinear": "BILINEAR", "bicubic": "BICUBIC", "lanczos": "LANCZOS"}
    way = Image.Resampling[names[step.filter]]
    height, width = size
    channels = image.shape[2]
    if image.dtype == np.uint8 and channels in (1, 3, 4):
        # 8-bit images are resized in 8 bits, as Pillow and torchvision do for a file that they opened.
        picture = Image.fromarray(image[:, :, 0] if channels == 1 else np.ascontiguousarray(image))
        return np.asarray(picture.resize((width, height), way)).reshape(height, width, channels)
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(image[:, :, channel], np.float32)).resize((width, height), way))
        for channel in range(channels)
    ]
    return np.stack(planes, axis=2)


def _like_opencv(step: Resize, image: Array, size: tuple[int, int]) -> Array:
    try:
        import cv2
    except ImportError as error:
        raise ToolMissing('resize with like = "opencv" needs OpenCV', install("vision")) from error
    names = {
        "area": cv2.INTER_AREA,
        "nearest": cv2.INTER_NEAREST,
        "bilinear": cv2.INTER_LINEAR,
        "bicubic": cv2.INTER_CUBIC,
        "lanczos": cv2.INTER_LANCZOS4,
    }
    values = np.ascontiguousarray(image if image.dtype == np.uint8 else image.astype(np.float32))
    height, width = size
    resized = cv2.resize(values, (width, height), interpolation=names[step.filter])
    return np.asarray(resized).reshape(height, width, image.shape[2])


def _like_tensorflow(step: Resize, image: Array, size: tuple[int, int]) -> Array:
    """tf.image.resize of TensorFlow 2: pixels' centres lie at halves; float32 comes out, but of nearest."""
    if step.filter == "nearest":
        rows, columns = (
            # In float32 as there: where a centre falls between two pixels, the last bit says which.
            np.minimum(np.floor((np.arange(n, dtype=np.float32) + np.float32(0.5)) * np.float32(side / n)), side - 1)
            for n, side in zip(size, image.shape[:2], strict=True)
        )
        picked: Array = image[rows.astype(np.int64)][:, columns.astype(np.int64)]
        return picked
    values = np.asarray(image, np.float32)
    if step.filter == "area":
        down, across = (_shares(n, side) for n, side in zip(size, image.shape[:2], strict=True))
    else:
        radius, kernel = _KERNELS[step.filter]
        table = 1024 if step.filter == "bicubic" and not step.smooths else 0
        down, across = (
            _spans(n, side, radius, kernel, smooths=step.smooths, table=table)
            for n, side in zip(size, image.shape[:2], strict=True)
        )
    return _weighted(_weighted(values, down, 0), across, 1)


def _corners_aligned(_: Resize, image: Array, size: tuple[int, int]) -> Array:
    """The first and the last pixel stay where they are: PyTorch's interpolate(align_corners=True)."""
    down, across = (
        _places(np.arange(n) * ((side - 1) / max(n - 1, 1)), side)
        for n, side in zip(size, image.shape[:2], strict=True)
    )
    return _weighted(_weighted(np.asarray(image, np.float32), down, 0), across, 1)


def _places(places: Array, side: int) -> _Spans:
    """Between two neighbours, by how near each is."""
    before = np.floor(places).astype(np.int64)
    after = (places - before).astype(np.float32)
    return np.minimum(np.stack([before, before + 1], 1), side - 1), np.stack([1 - after, after], 1)


def _like_mediapipe(_: Resize, image: Array, size: tuple[int, int]) -> Array:
    """Pixel i is read at i × scale from the first one, in steps of a 32nd of a pixel: OpenCV 4's warpPerspective, which
    MediaPipe makes a task's tensor with, in its own integers; shrunk to a half it is image[::2, ::2].

    It takes 8-bit pictures alone; other values are read at the same places, and not rounded.
    """
    rows, columns = (
        np.rint(np.arange(n) * (side / n) * _PARTS).astype(np.int64)
        for n, side in zip(size, image.shape[:2], strict=True)
    )
    if image.dtype != np.uint8:
        down, across = (_places(at / _PARTS, side) for at, side in zip((rows, columns), image.shape[:2], strict=True))
        return _weighted(_weighted(np.asarray(image, np.float32), down, 0), across, 1)
    across_rows = _in_parts(image.astype(np.int64), columns, 1)
    rounded = _in_parts(across_rows, rows, 0) + _PARTS * _PARTS // 2
    return (rounded // (_PARTS * _PARTS)).astype(np.uint8)


def _in_parts(values: Array, places: Array, axis: int) -> Array:
    """Between two neighbours along an axis, `_PARTS` times as large: exact in integers."""
    before, last = places // _PARTS, values.shape[axis] - 1
    after = (places % _PARTS).reshape([-1 if k == axis else 1 for k in range(values.ndim)])
    one, other = (np.take(values, np.minimum(at, last), axis=axis) for at in (before, before + 1))
    found: Array = one * (_PARTS - after) + other * after
    return found


_WAYS = {
    "pil": _like_pillow,
    "opencv": _like_opencv,
    "align_corners": _corners_aligned,
    "mediapipe": _like_mediapipe,
}


def _triangle(x: Array) -> Array:
    found: Array = np.maximum(0.0, 1.0 - np.abs(x))
    return found


def _keys(x: Array) -> Array:
    """Keys' cubic with a = -0.5."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: Array) -> Array:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


_KERNELS: dict[str, tuple[float, Any]] = {
    "bilinear": (1.0, _triangle),
    "bicubic": (2.0, _keys),
    "lanczos": (3.0, _lanczos),
}
# For each result: the pixels that it is made of, and the weight of each.
_Spans = tuple[Array, Array]


def _spans(number: int, side: int, radius: float, kernel: Any, *, smooths: bool, table: int) -> _Spans:
    """TensorFlow's ComputeSpans: pixels that the image has not count for nothing, and the others' weights make 1.

    table: distances are rounded to so many parts of a pixel, as its bicubic kernel's table has them; 0: not.
    """
    scale = side / number
    wide = max(scale, 1.0) if smooths else 1.0
    centres = (np.arange(number) + 0.5) * scale
    first = np.ceil(centres - wide * radius - 0.5).astype(np.int64)
    taps = first[:, None] + np.arange(int(np.ceil(2 * wide * radius)) + 1)
    distances = (taps + 0.5 - centres[:, None]) / wide
    if table:
        part = centres - 0.5 - np.floor(centres - 0.5)
        distances = distances + (part - np.rint(part * table) / table)[:, None]
    weights = kernel(distances) * ((taps >= 0) & (taps < side))
    # One after the other, as generated code adds them: NumPy's own sum takes eight at a time.
    sums = np.add.accumulate(weights, axis=1)[:, -1:]
    return np.clip(taps, 0, side - 1), (weights / sums).astype(np.float32)


def _shares(number: int, side: int) -> _Spans:
    """The share of each pixel in the area that a result covers."""
    scale = side / number
    starts = np.arange(number) * scale
    taps = np.floor(starts).astype(np.int64)[:, None] + np.arange(int(np.ceil(scale)) + 1)
    low, high = np.maximum(taps, starts[:, None]), np.minimum(taps + 1, starts[:, None] + scale)
    weights = np.maximum(high - low, 0.0) / scale * (taps < side)
    return np.minimum(taps, side - 1), weights.astype(np.float32)


def _weighted(image: Array, spans: _Spans, axis: int) -> Array:
    """Products are added one by one: a matrix product's order, and its last bits, hang on the processor."""
    taps, weights = spans
    result = np.zeros([len(taps) if k == axis else n for k, n in enumerate(image.shape)], np.float32)
    shape = [-1 if k == axis else 1 for k in range(image.ndim)]
    for tap in range(taps.shape[1]):
        result += np.take(image, taps[:, tap], axis=axis) * weights[:, tap].reshape(shape)
    return result
