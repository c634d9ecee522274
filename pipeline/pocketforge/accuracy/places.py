"""Metrics of places in an image: masks and keypoints."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from pocketforge.accuracy.base import Batch, Figures, Unfit
from pocketforge.accuracy.classes import Confusion
from pocketforge.accuracy.exact import Value, mean, ratio
from pocketforge.accuracy.post import IGNORED_PIXEL
from pocketforge.data.target_geometry import beside

# As many as a mask's 16-bit file can name. Something is counted for each up to the largest.
MOST_CLASSES = 2**16
# PCK: a keypoint is right within this share of its instance's size.
PCK_SHARE = 0.2
# Half the falloffs of COCO's 17 keypoints of a person; other sets have no published ones, and one for all.
COCO_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
    0.089,
)  # fmt: skip
SIGMA = 0.05


class MaskTally:
    """Class numbers of pixels, (n, H, W), against `mask`; pixels of 255 count for nothing."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.confusion = Confusion()

    def add(self, predictions: Batch, targets: Mapping[str, Batch]) -> None:
        answered, wanted = np.asarray(predictions), np.asarray(targets[self.target])
        if answered.shape != wanted.shape:
            sizes = [" by ".join(map(str, array.shape[1:])) for array in (answered, wanted)]
            raise Unfit(
                f"it answers {sizes[0]}, the masks are {sizes[1]} (height by width): set post = "
                '{ type = "argmax", upsample = true }, or bring it to its input\'s size in forward()'
            )
        held = wanted != IGNORED_PIXEL
        one, other = wanted[held].astype(np.int64), answered[held].astype(np.int64)
        if other.min(initial=0) < 0:
            raise Unfit(f"it answers class {other.min()}")
        for numbers, whose in ((one, "the masks have"), (other, "it answers")):
            if numbers.max(initial=0) >= MOST_CLASSES:
                raise Unfit(f"{whose} class {numbers.max()}, and there can be {MOST_CLASSES:,}: number classes from 0")
        classes = int(max(one.max(initial=-1), other.max(initial=-1))) + 1
        self.confusion.add_numbers(other, one, classes)

    def figures(self, wanted: Collection[str]) -> Figures:
        """IoU and Dice of each class that masks or answers have; `iou_worst_class` of those that masks have."""
        hits, of_answers, of_masks = self.confusion.hits, self.confusion.answered, self.confusion.wanted
        together = of_masks + of_answers
        occur = [int(k) for k in np.flatnonzero(together)]
        iou = {k: ratio(hits[k], together[k] - hits[k]) for k in occur}
        dice = {k: ratio(2 * hits[k], together[k]) for k in occur}
        count = int(of_masks.sum())
        values: dict[str, Value] = {
            "miou": mean(iou.values()),
            "dice": mean(dice.values()),
            "iou_worst_class": min((value for k, value in iou.items() if of_masks[k]), default=math.nan),
            "pixel_accuracy": ratio(int(hits.sum()), count),
        }
        why = {} if count else dict.fromkeys(values, "every pixel of the masks is ignored (255)")
        classes = {"miou": iou, "dice": dice, "pixel_accuracy": self.confusion.recall()}
        return Figures(values, classes, count, why)


class KeypointsTally:
    """Places, (n, K, 2) or (n, K, 3), against `keypoints` with their `areas`; those that are not visible count for
    nothing."""

    def __init__(self, target: str) -> None:
        self.target, self.right, self.count = target, 0, 0
        self.similarity: list[float] = []

    def add(self, predictions: Batch, targets: Mapping[str, Batch]) -> None:
        answered = np.asarray(predictions, np.float64)
        wanted = np.asarray(targets[self.target], np.float64)[:, 0]
        areas = np.asarray(targets[beside(self.target, "areas")], np.float64)[:, 0]
        if answered.ndim != 3 or answered.shape[2] not in (2, 3) or answered.shape[1] != wanted.shape[1]:
            raise Unfit(f"it gives {[1, *answered.shape[1:]]}, the target has {wanted.shape[1]} keypoints (x y)")
        sigmas = np.asarray(COCO_SIGMAS if wanted.shape[1] == len(COCO_SIGMAS) else [SIGMA] * wanted.shape[1])
        for places, truth, area in zip(answered[..., :2], wanted, areas, strict=True):
            seen = truth[:, 2] > 0
            if not seen.any():
                continue
            sides = np.ptp(truth[seen, :2], axis=0)
            size = math.sqrt(area) if area > 0 else float(sides.max())
            space = float(area) if area > 0 else float(sides.prod())
            if not size or not space:
                raise Unfit("an instance has visible keypoints of no extent: give its area (target areas)")
            apart = np.linalg.norm(places[seen] - truth[seen, :2], axis=1)
            self.right += int((apart <= PCK_SHARE * size).sum())
            self.count += int(seen.sum())
            self.similarity.append(float(np.exp(-(apart**2) / (2 * space * (2 * sigmas[seen]) ** 2)).mean()))

    def figures(self, wanted: Collection[str]) -> Figures:
        average = sum(self.similarity) / len(self.similarity) if self.similarity else math.nan
        why = {} if self.count else dict.fromkeys(("pck", "oks"), "no eval sample has a visible keypoint")
        return Figures({"pck": ratio(self.right, self.count), "oks": average}, {}, self.count, why)
