"""From what an output holds to what its metrics are taken of: the recipe's post-processing, alike for PyTorch's outputs
and a file's. Arrays have samples first."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pocketforge.accuracy.base import Array, Batch, Unfit
from pocketforge.recipe.output import Output

IGNORED_PIXEL = 255


@dataclass(frozen=True, slots=True)
class About:
    """What post-processing has to know beside the outputs.

    Attributes:
        labels: Names of classes or letters, of the output that data.labels are of; empty where nobody gives them.
        size: Height and width of the model's image input, in pixels; None where it has none.
    """

    labels: tuple[str, ...] = ()
    size: tuple[int, int] | None = None


def processed(output: Output, values: Array, targets: Mapping[str, Batch], about: About) -> Batch:
    """Of any role but a detector's. Raises Unfit for values that the post-processing cannot be of."""
    step = _STEPS.get(output.role)
    return step(output, values, targets, about) if step else values


def _of_mask(output: Output, values: Array, targets: Mapping[str, Batch], _: About) -> Batch:
    wanted = np.asarray(targets[output.held_against])
    if values.dtype.kind in "iub":
        return values[:, 0] if values.ndim == 4 and values.shape[1] == 1 else values
    if output.processed == "none":
        raise Unfit(f'post "none" is for class numbers, found {values.dtype}: post = "argmax" or "sigmoid"')
    if values.ndim == 3:
        values = values[:, None]
    if values.ndim != 4:
        raise Unfit(f"wanted [1, classes, H, W], found {[1, *values.shape[1:]]}")
    if values.shape[1:3] == wanted.shape[1:] != values.shape[2:]:
        values = values.transpose(0, 3, 1, 2)
    most = int(wanted[wanted != IGNORED_PIXEL].max(initial=0))
    if most >= max(values.shape[1], 2):
        raise Unfit(f"it scores {values.shape[1]} classes, and the masks have a class {most} (255 is ignored)")
    if output.post.upsample and values.shape[2:] != wanted.shape[1:]:
        values = _resized(values, (wanted.shape[1], wanted.shape[2]))
    if output.processed == "sigmoid":
        if values.shape[1] != 1:
            raise Unfit(f'post "sigmoid" is of one class, found {values.shape[1]}: post = "argmax"')
        return (values[:, 0] >= as_logit(output.post.threshold)).astype(np.int64)
    if values.shape[1] == 1:
        raise Unfit('one channel is the largest of itself: post = "sigmoid"')
    classes: Array = values.argmax(1)
    return classes


def _resized(values: Array, size: tuple[int, int]) -> Array:
    """Scores of classes, (n, C, h, w), bilinear as in PyTorch, corners not aligned."""
    import torch

    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(values, np.float32)), size=size, mode="bilinear", align_corners=False
    )
    resized: Array = scaled.numpy()
    return resized


def as_logit(threshold: float) -> float:
    """The score whose sigmoid is the threshold: ranking scores keeps what a sigmoid's rounding would make equal."""
    with np.errstate(divide="ignore"):
        return float(np.log(threshold) - np.log1p(-threshold))


def _of_heatmap(output: Output, values: Array, _: Mapping[str, Batch], about: About) -> Batch:
    """The middle of the peak's cell, in pixels of the model's input, and how high the peak is."""
    if values.ndim != 4:
        raise Unfit(f"wanted [1, K, h, w], found {[1, *values.shape[1:]]}")
    if about.size is None:
        raise Unfit("the model has no image input, whose pixels a peak's place could be of")
    count, keypoints, height, width = values.shape
    flat = values.reshape(count, keypoints, -1)
    peak = flat.argmax(2)
    x = (peak % width + 0.5) * (about.size[1] / width)
    y = (peak // width + 0.5) * (about.size[0] / height)
    return np.stack([x, y, flat.max(2)], axis=2)


def _of_sequence(output: Output, values: Array, _: Mapping[str, Batch], about: About) -> Batch:
    """CTC's greedy decoding: the best letter of each step, repeats once, without blanks."""
    if values.ndim != 3:
        raise Unfit(f"wanted [1, T, letters], found {[1, *values.shape[1:]]}")
    letters, blank = list(output.post.alphabet or about.labels), output.post.blank
    if len(letters) != values.shape[2] - 1 or blank >= values.shape[2]:
        raise Unfit(
            f"it scores {values.shape[2]} letters, wanted {len(letters)} and a blank (number {blank}): say post = "
            '{ type = "ctc_greedy", blank = …, alphabet = "…" }, or give data.labels'
        )
    letters.insert(blank, "")
    return ["".join(letters[number] for number, _ in itertools.groupby(row)) for row in values.argmax(2).tolist()]


_STEPS: dict[str, Callable[[Output, Array, Mapping[str, Batch], About], Batch]] = {
    "segmentation": _of_mask,
    "heatmap": _of_heatmap,
    "sequence": _of_sequence,
}


def probabilities_fault(output: Output, least: float, most: float) -> str:
    """Why scores cannot be what the recipe takes them for; empty where they can. least, most: of them all."""
    inside = least >= 0 and most <= 1
    if output.role == "logits" and not output.post.type and inside:
        ranked = " and ".join(name for name in ("auroc", "average_precision") if name in output.metric_names)
        how = (
            'as an [[output]] of role logits, post = "none" if they are shares of classes, "softmax" if they are scores'
        )
        return f"{ranked} rank shares of classes, and its values are all from 0 to 1: {how}" if ranked else ""
    if output.role not in ("multilabel", "binary"):
        return ""
    if output.processed == "none" and not inside:
        return f'post "none" is for probabilities, found {least:g} to {most:g}: post = "sigmoid"'
    if not output.post.type and inside:
        return 'its values are all from 0 to 1: post = "none" if they are probabilities, "sigmoid" if they are scores'
    return ""
