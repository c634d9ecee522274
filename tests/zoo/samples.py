"""Real pictures and numbers that ship with scikit-learn, as recipes name them (`samples.py:masks`). Each function gives
both splits. Words and signals are in samples_words.py and samples_signals.py.

What is drawn (which digit, where, over which part of a photograph) is drawn from a seed.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from PIL import Image

TRAIN, EVAL = 400, 64
FOLDER = Path(sklearn.__file__).parent / "datasets"
Split = dict[str, Any]


@cache
def digits() -> tuple[Any, Any]:
    """Images (N, 8, 8) of 0 to 1, and their numbers."""
    from pocketforge.data.digits import Digits

    source = Digits()
    rows = [source.sample(index) for index in range(len(source))]
    return np.stack([x[0][:, :, 0] for x, _ in rows]) / 16, np.asarray([y for _, y in rows])


@cache
def photographs() -> list[Any]:
    """(427, 640, 3) uint8 each."""
    return [np.asarray(Image.open(FOLDER / "images" / name).convert("RGB")) for name in ("china.jpg", "flower.jpg")]


def split(make: Any, train: int = TRAIN) -> Split:
    """Samples of `make(draw, part)`. The two splits have digits, and halves of the photographs, of their own."""
    return {
        part: [make(np.random.default_rng([seed, index]), part) for index in range(count)]
        for seed, (part, count) in enumerate((("train", train), ("eval", EVAL)))
    }


def a_digit(draw: Any, part: str) -> tuple[Any, int]:
    images, numbers = digits()
    index = int(draw.integers(1200)) if part == "train" else 1200 + int(draw.integers(len(numbers) - 1200))
    return images[index], int(numbers[index])


def a_crop(draw: Any, part: str, size: int) -> Any:
    photograph = photographs()[int(draw.integers(2))]
    left, right = (0, 440) if part == "train" else (440, 640)
    y, x = draw.integers(photograph.shape[0] - size), draw.integers(left, right - size)
    return photograph[y : y + size, x : x + size]


def enlarged(image: Any, size: int) -> Any:
    return np.asarray(Image.fromarray((image * 255).astype(np.uint8)).resize((size, size), Image.Resampling.BILINEAR))


def scene(draw: Any, part: str, size: int, most: int, sizes: tuple[int, int]) -> tuple[Any, list[tuple[Any, int]]]:
    """A dark piece of a photograph with digits on it that do not overlap: the image, and the ink and class of each."""
    image = (a_crop(draw, part, size) * 0.4).astype(np.uint8)
    taken, found = np.zeros((size, size), bool), []
    for _ in range(int(draw.integers(1, most + 1))):
        digit, number = a_digit(draw, part)
        side = int(draw.integers(*sizes))
        y, x = draw.integers(size - side, size=2)
        if taken[y : y + side, x : x + side].any():
            continue
        taken[y : y + side, x : x + side] = True
        ink = np.zeros((size, size), np.uint8)
        ink[y : y + side, x : x + side] = enlarged(digit, side)
        image = np.maximum(image, ink[:, :, None])
        found.append((ink > 100, int(number > 4)))
    return image, found


def masks() -> Split:
    """Class 1: digits to 4; class 2: from 5."""

    def make(draw: Any, part: str) -> Any:
        image, inks = scene(draw, part, 64, 3, (24, 36))
        mask = np.zeros((64, 64), np.uint8)
        for ink, kind in inks:
            mask[ink] = kind + 1
        return image, {"mask": mask}

    return split(make)


def boxes() -> Split:
    """One class: a digit."""

    def make(draw: Any, part: str) -> Any:
        image, inks = scene(draw, part, 96, 3, (24, 48))
        corners = []
        for ink, _ in inks:
            rows, columns = np.nonzero(ink)
            corners.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        targets = {
            "boxes": np.asarray(corners, np.float32),
            "classes": np.zeros(len(inks), np.int64),
            "crowd": np.zeros(len(inks), bool),
        }
        return image, targets

    return split(make)


def keypoints() -> Split:
    """A digit somewhere: where its ink's corners are."""

    def make(draw: Any, part: str) -> Any:
        image, inks = scene(draw, part, 48, 1, (24, 40))
        rows, columns = np.nonzero(inks[0][0])
        points = [[columns.min(), rows.min(), 2], [columns.max() + 1, rows.max() + 1, 2]]
        area = float(np.ptp(rows) * np.ptp(columns))
        return image, {"keypoints": np.asarray([points], np.float32), "areas": np.asarray([area], np.float32)}

    return split(make)


def halved() -> Split:
    """A piece of a photograph at half its size, and itself."""

    def make(draw: Any, part: str) -> Any:
        image = a_crop(draw, part, 48)
        small = Image.fromarray(image).resize((24, 24), Image.Resampling.BICUBIC)
        return np.asarray(small), {"image": image}

    return split(make)


def noisy() -> Split:
    """A piece of a photograph with noise of a film, and itself."""

    def make(draw: Any, part: str) -> Any:
        image = a_crop(draw, part, 48)
        spoilt = np.clip(image + draw.normal(0, 20, image.shape), 0, 255).astype(np.uint8)
        return spoilt, {"image": image}

    return split(make)


def ink() -> Split:
    """A digit, and itself: what an autoencoder gets and gives."""

    def make(draw: Any, part: str) -> Any:
        image = a_digit(draw, part)[0].astype(np.float32)
        return image[None], {"image": image[:, :, None]}

    return split(make)


def rows() -> Split:
    """A digit, row by row."""

    def make(draw: Any, part: str) -> Any:
        image, number = a_digit(draw, part)
        return image.astype(np.float32), number

    return split(make, 1200)


def pairs() -> Split:
    """Two digits; whether they are the same number."""

    def make(draw: Any, part: str) -> Any:
        (first, one), same = a_digit(draw, part), bool(draw.integers(2))
        while True:
            second, other = a_digit(draw, part)
            if (one == other) == same:
                break
        return (first.astype(np.float32)[None], second.astype(np.float32)[None]), {"label": int(same)}

    return split(make, 3000)


def numbers() -> Split:
    """A digit, for an embedding."""

    def make(draw: Any, part: str) -> Any:
        image, number = a_digit(draw, part)
        return image.astype(np.float32)[None], {"label": number}

    return split(make, 1200)


def traits() -> Split:
    """Of a digit: odd, above four, prime."""

    def make(draw: Any, part: str) -> Any:
        image, number = a_digit(draw, part)
        held = [number % 2, number > 4, number in (2, 3, 5, 7)]
        return image.astype(np.float32)[None], {"labels": np.asarray(held, np.uint8)}

    return split(make, 1200)


def diabetes() -> Split:
    """Ten measures of a patient, and how the disease went on in a year, of 0.25 to 3.5."""
    from sklearn.datasets import load_diabetes

    table = load_diabetes()
    inputs, values = (table.data * 20).astype(np.float32), (table.target / 100).astype(np.float32)
    pairs_of = list(zip(inputs, values, strict=True))
    return {"train": pairs_of[:-EVAL], "eval": pairs_of[-EVAL:]}
