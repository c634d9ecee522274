"""Mistakes with pictures: colours, which way is up, and how they were made as large as the file takes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pocketforge.data.base import Array
from pocketforge.data.preprocess_image import planes_first
from pocketforge.recipe.image_steps import CenterCrop, Color, Filter, Like, Pad, Resize
from pocketforge.recipe.preprocess import Step
from pocketforge.why.app_chain import Chain, Change
from pocketforge.why.app_mistakes import Changes, Mistake

_SIZES = (Resize, CenterCrop, Pad)
_MARGIN = 256 / 224  # ImageNet's usual resize for its usual crop


def _raw(change: Change) -> Changes:
    return lambda chain: replace(chain, before=(*chain.before, change))


def _reversed(chain: Chain) -> Chain | None:
    return replace(chain, before=(*chain.before, _swapped)) if _takes_colours(chain) else None


def _swapped(raw: Array) -> Array:
    if raw.ndim != 3:
        return raw
    return raw[::-1] if planes_first(raw) else np.concatenate([raw[:, :, 2::-1], raw[:, :, 3:]], axis=2)


def _gray(chain: Chain) -> Chain | None:
    kept = tuple(step for step in chain.steps if not isinstance(step, Color))
    return chain.with_steps((Color("grayscale"), Color("rgb"), *kept)) if _takes_colours(chain) else None


def _takes_colours(chain: Chain) -> bool:
    shape = chain.taken.shape
    return len(shape) == 4 and shape[3 if chain.channels_last else 1] == 3


def _turned(by: int) -> Change:
    """by: quarter turns, clockwise."""
    return lambda raw: np.rot90(raw, -by, (0, 1))


_TURNS: tuple[tuple[str, str, Change], ...] = (
    ("rotated_90", "turned by 90° clockwise", _turned(1)),
    ("rotated_180", "turned by 180° (upside down)", _turned(2)),
    ("rotated_270", "turned by 270° clockwise (90° to the left)", _turned(3)),
    ("mirrored", "mirrored left to right", lambda raw: raw[:, ::-1]),
    ("flipped", "flipped top to bottom", lambda raw: raw[::-1]),
    ("transposed", "with rows and columns swapped", lambda raw: raw.swapaxes(0, 1)),
    ("transposed_back", "with rows and columns swapped and turned by 180°", lambda raw: raw[::-1, ::-1].swapaxes(0, 1)),
)
_TURN_FIX = (
    "turn the camera's buffer by its rotation (ImageProxy.imageInfo.rotationDegrees, EXIF) and mirror no picture"
)


@dataclass(frozen=True, slots=True)
class _Way:
    """How a resize makes its pixels."""

    filter: Filter
    like: Like
    antialias: bool | None = None

    def of(self, step: Resize) -> Resize:
        return replace(step, filter=self.filter, like=self.like, antialias=self.antialias)


_FILTERS: tuple[tuple[str, str, _Way], ...] = (
    ("nearest", "resized to the nearest pixel's centre", _Way("nearest", "tf")),
    ("nearest_corner", "resized to the nearest pixel's corner (cv2.INTER_NEAREST)", _Way("nearest", "opencv")),
    (
        "bilinear_plain",
        "resized bilinearly without smoothing (Bitmap.createScaledBitmap, canvas, cv2.resize)",
        _Way("bilinear", "tf", antialias=False),
    ),
    ("bilinear_smooth", "resized bilinearly with smoothing (Pillow, torchvision)", _Way("bilinear", "pil")),
    ("align_corners", "resized bilinearly with align_corners", _Way("bilinear", "align_corners")),
    (
        "corner_sampled",
        "resized as MediaPipe does on the CPU (from the corner, without smoothing)",
        _Way("bilinear", "mediapipe"),
    ),
    ("bicubic", "resized bicubically with smoothing (Pillow)", _Way("bicubic", "pil")),
    ("bicubic_plain", "resized bicubically without smoothing", _Way("bicubic", "tf", antialias=False)),
    ("area", "resized by the mean of the area", _Way("area", "tf")),
    ("lanczos", "resized by Lanczos (Pillow)", _Way("lanczos", "pil")),
)


def _filtered(way: _Way) -> Changes:
    def change(chain: Chain) -> Chain | None:
        asked = [step for step in chain.steps if isinstance(step, Resize)]
        if not asked or (way.like == "mediapipe" and not all(step.size for step in asked)):
            return None
        found = tuple(way.of(step) if isinstance(step, Resize) else step for step in chain.steps)
        return chain.with_steps(found) if found != chain.steps else None

    return change


def _made(chain: Chain, *steps: Step) -> Chain | None:
    """With these in place of all that makes the size, each resize by the recipe's own filter."""
    places = [place for place, step in enumerate(chain.steps) if isinstance(step, _SIZES)]
    if not places:
        return None
    own = next((step for step in chain.steps if isinstance(step, Resize)), Resize(shorter=1))
    way = _Way(own.filter, "pil" if own.like == "mediapipe" else own.like, own.antialias)
    new = tuple(way.of(step) if isinstance(step, Resize) else step for step in steps)
    kept = [step for step in chain.steps[places[0] :] if not isinstance(step, _SIZES)]
    found = (*chain.steps[: places[0]], *new, *kept)
    return chain.with_steps(found) if found != chain.steps else None


def _size(chain: Chain) -> tuple[int, int]:
    shape = chain.taken.shape
    height, width = shape[1:3] if chain.channels_last else shape[2:4]
    return height, width


def _stretched(chain: Chain) -> Chain | None:
    return _made(chain, Resize(size=_size(chain)))


def _cropped(margin: float) -> Changes:
    def change(chain: Chain) -> Chain | None:
        return _made(chain, Resize(shorter=round(max(_size(chain)) * margin)), CenterCrop(_size(chain)))

    return change


def _plain_crop(chain: Chain) -> Chain | None:
    return _made(chain, CenterCrop(_size(chain)))


def _letterboxed(value: float) -> Changes:
    def change(chain: Chain) -> Chain | None:
        return _made(chain, Resize(fit=_size(chain)), Pad(size=_size(chain), value=(value,)))

    return change


def _resizes() -> Iterator[Mistake]:
    as_told = "resize as the sidecar's preprocessing says"
    for name, words, way in _FILTERS:
        yield Mistake(name, "filter", words, f"{as_told} (filter, antialias, like)", _filtered(way))
    for name, words, change in (
        ("stretched", "stretched to the size, whatever its aspect", _stretched),
        ("cropped", "cropped to the middle after its shorter side was resized to the size", _cropped(1.0)),
        ("cropped_with_margin", "cropped to the middle of a picture a seventh larger", _cropped(_MARGIN)),
        ("cropped_only", "cropped to the middle without resizing", _plain_crop),
        ("letterboxed", "letterboxed with black", _letterboxed(0.0)),
        ("letterboxed_gray", "letterboxed with gray (114)", _letterboxed(114.0)),
    ):
        yield Mistake(name, "fit", words, f"{as_told} (its resize, center_crop and pad)", change)


MISTAKES: tuple[Mistake, ...] = (
    Mistake("bgr", "colours", "channels in the other order (BGR for RGB, or RGB for BGR)",
            "swap red and blue: Android's getPixels gives ARGB ints, so red is (pixel shr 16) and 255; "
            "OpenCV reads BGR", _reversed),
    Mistake("gray", "colours", "in grayscale", "feed all three channels: a YUV frame's Y plane alone is gray", _gray),
    *(Mistake(name, "turn", words, _TURN_FIX, _raw(change)) for name, words, change in _TURNS),
    *_resizes(),
)  # fmt: skip
