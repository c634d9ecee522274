"""From a detector's outputs, decoded or one raw head, to boxes of each sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pocketforge.accuracy.base import Array, Unfit
from pocketforge.accuracy.detection import Boxes, check_boxes
from pocketforge.accuracy.post import About
from pocketforge.recipe.output import Output, Post

# What an int8 file may round a probability by: half a step of its output, coarse where boxes in pixels share it.
_ROUNDED = 1.0


def detected(
    outputs: Mapping[str, Output], values: Mapping[str, Array], about: About, *, exact: bool = False
) -> list[Boxes]:
    """Boxes of each sample of a batch. outputs: role → the recipe's; values: role → its values, samples first.

    exact: the values are no file's, whose probabilities may lie a rounding outside of 0 to 1. Raises Unfit for outputs
    that are no detector's.
    """
    post = outputs["boxes"].post
    corners, scores, classes = _parts(outputs, values, post)
    if outputs["boxes"].processed == "nms":
        _check_probabilities(scores, post, 0.0 if exact else _ROUNDED)
    corners = _corners(corners, post, about)
    found = []
    for number in range(len(corners)):
        boxes = _of_sample(corners[number], scores[number], None if classes is None else classes[number])
        if outputs["boxes"].processed == "nms":
            boxes = _suppressed(boxes, post)
        found.append(check_boxes(boxes))
    return found


def _parts(outputs: Mapping[str, Output], values: Mapping[str, Array], post: Post) -> tuple[Array, Array, Array | None]:
    boxes = np.asarray(values["boxes"], np.float64)
    if post.head:
        rows = boxes.transpose(0, 2, 1) if post.head == "columns" and boxes.ndim == 3 else boxes
        if rows.ndim != 3 or rows.shape[2] < 5:
            shape = "[1, 4 + classes, n]" if post.head == "columns" else "[1, n, 4 + classes]"
            raise Unfit(f"wanted {shape}, found {[1, *boxes.shape[1:]]}")
        return rows[:, :, :4], rows[:, :, 4:], None
    if "scores" not in values:
        raise Unfit("its scores cannot be judged")
    # One that the file lacks, or that is not finite: every box of class 0 would be another detector.
    if "classes" in outputs and "classes" not in values:
        raise Unfit("its classes cannot be judged")
    scores = _scores(outputs["scores"], np.asarray(values["scores"], np.float64))
    classes = values.get("classes")
    if boxes.ndim != 3 or boxes.shape[2] != 4 or scores.shape[:2] != boxes.shape[:2]:
        raise Unfit(
            f"wanted boxes [1, n, 4] and scores [1, n] or [1, n, classes], found {[1, *boxes.shape[1:]]} and "
            f"{[1, *scores.shape[1:]]}"
        )
    if classes is not None and classes.shape[:2] != boxes.shape[:2]:
        raise Unfit(f"{boxes.shape[1]} boxes and {[1, *classes.shape[1:]]} classes")
    return boxes, scores, classes


def _check_probabilities(scores: Array, post: Post, rounded: float) -> None:
    """Raises Unfit for what nms cannot take. Of a head negative ones too, which would be taken for padding."""
    least, most = scores.min(initial=0.0), scores.max(initial=0.0)
    if post.head and (least < -rounded or most > 1 + rounded):
        raise Unfit(
            f"scores of a head are probabilities of its classes, from 0 to 1, found {scores.min():g} to {most:g}: put "
            'the sigmoid (and objectness) into the model, or post = "file.py:function"'
        )
    if most > 1 + rounded:
        raise Unfit(f'scores of nms are from 0 to 1, found {most:g}: post = "sigmoid" of the scores')


def _scores(output: Output, scores: Array) -> Array:
    if output.processed == "sigmoid":
        probabilities: Array = 1 / (1 + np.exp(-np.clip(scores, -500, 500)))
        return probabilities
    if output.processed == "softmax":
        raised = np.exp(scores - scores.max(-1, keepdims=True))
        shares: Array = raised / raised.sum(-1, keepdims=True)
        return shares
    return scores


def _corners(boxes: Array, post: Post, about: About) -> Array:
    """x1 y1 x2 y2 in pixels of the model's input."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if post.format == "xywh":
        boxes = np.concatenate([first, first + second], -1)
    elif post.format == "cxcywh":
        boxes = np.concatenate([first - second / 2, first + second / 2], -1)
    if post.normalized:
        if about.size is None:
            raise Unfit("boxes are shares of an image input, and the model has none")
        height, width = about.size
        boxes = boxes * np.asarray([width, height, width, height], np.float64)
    return boxes


def _of_sample(corners: Array, scores: Array, classes: Array | None) -> Boxes:
    """The best class of each box; boxes of score 0 or less are padding."""
    if scores.ndim == 2:
        numbers, best = scores.argmax(1), scores.max(1)
    else:
        numbers, best = np.zeros(len(scores), np.int64), scores
    if classes is not None:
        numbers = np.rint(np.asarray(classes, np.float64)).astype(np.int64).reshape(len(best))
    kept = best > 0
    return Boxes(corners[kept], best[kept], numbers[kept])


def _suppressed(boxes: Boxes, post: Post) -> Boxes:
    """Non-maximum suppression: the surest first; of equally sure ones the first."""
    order = np.argsort(-boxes.scores, kind="stable")
    order = order[boxes.scores[order] >= post.score]
    corners, numbers = boxes.corners[order], boxes.classes[order]
    kept: list[int] = []
    free = np.ones(len(order), bool)
    for place in range(len(order)):
        if not free[place]:
            continue
        kept.append(place)
        if len(kept) == post.most:
            break
        over = _overlap(corners[place], corners) > post.iou
        free &= ~(over if post.across_classes else over & (numbers == numbers[place]))
    chosen = order[np.asarray(kept, np.int64)]
    return Boxes(boxes.corners[chosen], boxes.scores[chosen], boxes.classes[chosen])


def _overlap(box: Array, others: Array) -> Array:
    """Intersection over union of one box with others."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    both = np.clip(high - low, 0, None).prod(1)
    area = np.clip(box[2:] - box[:2], 0, None).prod()
    union = area + np.clip(others[:, 2:] - others[:, :2], 0, None).prod(1) - both
    shares: Array = np.where(union > 0, both / np.where(union > 0, union, 1), 0.0)
    return shares


def as_boxes(given: Sequence[object]) -> list[Boxes]:
    """Of a user's post-processing: for each sample (boxes, scores, classes). Raises Unfit for other things."""
    found = []
    for each in given:
        if not isinstance(each, tuple | list) or len(each) != 3:
            raise Unfit(f"wanted (boxes, scores, classes) for each sample, found {type(each).__name__}")
        corners, scores, classes = (np.asarray(part) for part in each)
        corners = corners.reshape(-1, 4) if corners.size == 0 else corners
        found.append(check_boxes(Boxes(corners, scores, classes)))
    return found
