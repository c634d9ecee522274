"""Targets of a detector: the objects of each image in a few arrays for all."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pocketforge.data.base import Array
from pocketforge.data.boxes import clip_boxes
from pocketforge.errors import ModelError


@dataclass(slots=True)
class Objects:
    """The objects of one image, as they are read.

    Attributes:
        boxes: x1, y1, x2, y2 of each, in pixels, one behind the other.
        classes: Class number of each.
        crowd: Whether it is a crowd, or too difficult to be asked for: found or not, it does not count.
        areas: In square pixels.
        keypoints: x, y and visibility (0 not labelled, 1 hidden, 2 visible) of each point of each; empty without any.
    """

    boxes: array[float] = field(default_factory=lambda: array("f"))
    classes: array[int] = field(default_factory=lambda: array("q"))
    crowd: bytearray = field(default_factory=bytearray)
    areas: array[float] = field(default_factory=lambda: array("f"))
    keypoints: array[float] = field(default_factory=lambda: array("f"))

    def add(self, box: Sequence[float], number: int, *, crowd: bool, area: float) -> None:
        self.boxes.extend(box)
        self.classes.append(number)
        self.crowd.append(crowd)
        self.areas.append(area)

    def arrays(self, size: tuple[int, int], points: int) -> dict[str, Array]:
        """By the targets' standard names. size: height and width of the image; points: keypoints of an object."""
        count = len(self.classes)
        found: dict[str, Array] = {
            "boxes": clip_boxes(np.asarray(self.boxes, np.float32), size),
            "classes": np.asarray(self.classes, np.int64),
            "crowd": np.frombuffer(bytes(self.crowd), np.bool_),
            "areas": np.asarray(self.areas, np.float32),
        }
        if points:
            found["keypoints"] = np.asarray(self.keypoints, np.float32).reshape(count, points, 3)
        return found


def numbered(names: Sequence[str], given: tuple[str, ...], where: str) -> dict[str, int]:
    """Class name → class number: in the given order (of data.labels), else as they come.

    Raises ModelError for a name that is not given, and for one that stands there twice, so that it says no number.
    """
    order = given or tuple(names)
    twice = (
        sorted({name for name in order if order.count(name) > 1} & set(names)) if len(set(order)) < len(order) else []
    )
    if twice:
        of = "data.labels" if given else where
        raise ModelError(f"data.source: {of} has the class name {twice[0]!r} twice, and names say the numbers")
    numbers = {name: number for number, name in enumerate(order)}
    for name in names:
        if name not in numbers:
            raise ModelError(
                f"data.source: {where} has the class {name!r}, which is not in data.labels ({', '.join(order[:8])}"
                f"{' …' if len(order) > 8 else ''})",
                "one line a class, in the order of the model's outputs, spelt as in the data",
            )
    return numbers


def told_empty(empty: int, images: int, where: str) -> list[str]:
    """A note of images without objects. Raises ModelError where all are."""
    if empty == images:
        raise ModelError(
            f"data.source: none of {where}'s {images} images has an object",
            "an image without objects is fine, a data set without any is not",
        )
    return [f"{empty} of {images} images have no objects"] if empty else []


def has_background(labels: Sequence[str]) -> bool:
    """Whether class 0 is the background, as it is in masks: else a mask's 1 would bear the name of class 1."""
    return bool(labels) and labels[0].strip("_ ").lower() in ("background", "bg")
