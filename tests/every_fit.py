"""Recipes' steps that make pictures fit, all that generated code has, for tests in each language."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketforge.recipe.image_steps import Cast, CenterCrop, Color, Pad, Resize
from pocketforge.recipe.preprocess import Step

# Each on what the one before gives: a bit that is wrong anywhere goes through to the end. uint8 [5, 7, 3] comes out.
EVERY_STEP: tuple[Step, ...] = (
    Resize(size=(23, 19), filter="bicubic"),
    Resize(size=(31, 40), like="mediapipe"),
    Pad(by=(1, 2, 3, 0), mode="reflect"),
    Resize(shorter=20, rounding="nearest", filter="area"),
    Resize(longest=27),
    Resize(fit=(25, 22), like="opencv", filter="nearest", rounding="down"),
    Pad(size=(30, 28), mode="edge", place="top_left"),
    Resize(size=(60, 13), filter="nearest"),
    Resize(size=(30, 26), like="opencv"),
    Resize(size=(15, 13), like="opencv"),
    Resize(size=(14, 12), like="tf", filter="nearest"),
    Resize(size=(17, 15), like="tf", antialias=True),
    Cast("uint8"),
    Resize(size=(20, 31), like="tf", filter="bicubic"),
    Cast("uint8"),
    Resize(size=(9, 22), like="tf", filter="bicubic", antialias=True),
    Resize(size=(13, 8), like="tf", filter="area"),
    Resize(size=(7, 11), like="align_corners"),
    Color("bgr"),
    Resize(size=(8, 9), like="tf"),
    Resize(size=(6, 10), like="tf", filter="nearest"),
    CenterCrop((4, 7), rounding="down"),
    Cast("uint8"),
    Pad(size=(5, 7), value=(1.0, 2.0, 255.0)),
)
# Name → steps, what comes out, and its type.
FITTED: dict[str, tuple[tuple[Step, ...], tuple[int, int, int], str]] = {
    "every_step": (EVERY_STEP, (5, 7, 3), "uint8"),
    "any_size": ((Color("bgr"), Resize(shorter=12), CenterCrop((9, 10))), (9, 10, 3), "uint8"),
    "floats_picked": (
        (Cast("uint8"), Resize(size=(9, 8), like="tf"), Resize(size=(7, 5), filter="nearest"), CenterCrop((6, 5))),
        (6, 5, 3),
        "float32",
    ),
    "gray_of_bgr": ((Color("bgr"), Resize(size=(6, 5)), Cast("uint8"), Color("grayscale")), (6, 5, 1), "uint8"),
    "bgr_again": ((Color("bgr"), Resize(size=(7, 6)), Color("bgr"), CenterCrop((6, 5))), (6, 5, 3), "uint8"),
    "gray_floats": ((Color("grayscale"), Resize(size=(6, 5), like="tf")), (6, 5, 1), "float32"),
}
SIZES = ((40, 33), (9, 61), (128, 20), (24, 24), (11, 12), (150, 111))


def pictures() -> tuple[NDArray[np.uint8], ...]:
    """Noise, without black and white: bicubic goes beyond them, and no byte is there."""
    rng = np.random.default_rng(3)
    return tuple(rng.integers(40, 216, (*size, 3), dtype=np.uint8) for size in SIZES)
