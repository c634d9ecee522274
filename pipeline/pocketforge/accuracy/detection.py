"""Mean average precision of boxes, by COCO's own procedure (faster-coco-eval)."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pocketforge.accuracy.base import Array, Batch, Figures, Unfit
from pocketforge.accuracy.exact import Value
from pocketforge.accuracy.library import coco
from pocketforge.data.target_geometry import beside

# Of COCOeval's twelve figures.
_PLACES = {"map": 0, "map_50": 1, "map_75": 2, "mar_100": 8}


@dataclass(frozen=True, slots=True)
class Boxes:
    """What a detector found in one sample.

    Attributes:
        corners: (n, 4) x1 y1 x2 y2 in pixels of the model's input.
        scores: (n,).
        classes: (n,) class numbers.
    """

    corners: Array
    scores: Array
    classes: Array


class BoxesTally:
    """Boxes of each sample against `boxes`, `classes` and `crowd`."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.truth: list[dict[str, Any]] = []
        self.found: list[dict[str, Any]] = []
        self.images = 0

    def add(self, predictions: Batch, targets: Mapping[str, Batch]) -> None:
        wanted = [targets[self.target], *(targets[beside(self.target, part)] for part in ("classes", "crowd"))]
        for boxes, corners, classes, crowd in zip(predictions, *wanted, strict=True):
            self.images += 1
            for box, number, many in zip(corners, classes, crowd, strict=True):
                entry = self._entry(box, int(number))
                area = entry["bbox"][2] * entry["bbox"][3]
                self.truth.append({**entry, "id": len(self.truth) + 1, "area": area, "iscrowd": int(many)})
            for box, number, score in zip(boxes.corners, boxes.classes, boxes.scores, strict=True):
                self.found.append({**self._entry(box, int(number)), "score": float(score)})

    def _entry(self, box: Array, number: int) -> dict[str, Any]:
        x1, y1, x2, y2 = (float(value) for value in box)
        return {"image_id": self.images, "category_id": number + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}

    def figures(self, wanted: Collection[str]) -> Figures:
        judged = [entry for entry in self.truth if not entry["iscrowd"]]
        if not judged:
            why = dict.fromkeys(_PLACES, "no eval sample has a box")
            return Figures(dict.fromkeys(_PLACES, math.nan), {}, 0, why)
        if not self.found:
            none_found: dict[int, Value] = {entry["category_id"] - 1: 0.0 for entry in judged}
            return Figures(dict.fromkeys(_PLACES, 0.0), {"map": none_found}, len(judged))
        numbers = sorted({entry["category_id"] for entry in (*self.truth, *self.found)})
        library = coco()
        with contextlib.redirect_stdout(io.StringIO()):
            truth = library.COCO(
                {
                    "images": [{"id": number + 1} for number in range(self.images)],
                    "annotations": self.truth,
                    "categories": [{"id": number, "name": str(number)} for number in numbers],
                }
            )
            run = library.COCOeval_faster(truth, truth.loadRes(self.found), "bbox", print_function=_silent)
            run.run()
        stats = np.asarray(run.stats, np.float64)
        values: dict[str, Value] = {name: float(stats[place]) for name, place in _PLACES.items()}
        return Figures(values, {"map": self._of_classes(run, numbers)}, len(judged))

    def _of_classes(self, run: Any, numbers: Sequence[int]) -> dict[int, Value]:
        """mAP of each class that the targets have: mean of its precisions, over thresholds and recalls."""
        precision = np.asarray(run.eval["precision"])[:, :, :, 0, -1]
        of_class = {number - 1: precision[:, :, place] for place, number in enumerate(numbers)}
        return {number: float(p[p > -1].mean()) for number, p in of_class.items() if (p > -1).any()}


def _silent(*_: object) -> None:
    """The library tells its progress."""


def check_boxes(boxes: Boxes, where: str = "") -> Boxes:
    """Raises Unfit for parts of different lengths."""
    lengths = {len(boxes.corners), len(boxes.scores), len(boxes.classes)}
    if len(lengths) > 1 or boxes.corners.ndim != 2 or boxes.corners.shape[1] != 4:
        shapes = ", ".join(str(list(part.shape)) for part in (boxes.corners, boxes.scores, boxes.classes))
        raise Unfit(f"wanted boxes [n, 4], scores [n] and classes [n], found {shapes}{where}")
    return boxes
