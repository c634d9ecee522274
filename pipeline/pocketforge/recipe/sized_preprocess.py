"""A recipe's preprocessing for a bucket: the steps that make samples as large as the evaluated ones make them as large
as the bucket takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pocketforge.recipe.model import InputSpec, Model
from pocketforge.recipe.preprocess import InputSteps, Preprocess, Preprocessing, Step

_IMAGE, _SOUND = 4, 1  # dimensions of a batch of images; sizes of a sound or a text that vary


def preprocess_at(preprocess: Preprocessing, model: Model, size: Sequence[int]) -> Preprocessing:
    """Preprocessing that gives samples of `size`, a length for each name; None where nothing in it makes the size."""
    sizes = model.sizes_of(size)
    if sizes == model.eval_sizes:
        return preprocess
    before, after = model.eval_inputs, [each.at(sizes) for each in model.inputs]
    if isinstance(preprocess, Preprocess):
        changed = _image_sizes(before[0], after[0], preprocess.layout)
        return replace(preprocess, resize=changed[1]) if changed and preprocess.resize == changed[0] else None
    place, found = 0, []
    for each in preprocess or ():
        one, other = before[place], after[place]
        found.append(each if one == other else _list_at(each, one, other))
        place += each.gives
    return tuple(each for each in found if each) if found and all(found) else None


def _image_sizes(before: InputSpec, after: InputSpec, layout: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """[height, width] of an image before and after; None of what is no image."""
    if len(before.shape) != _IMAGE:
        return None
    axes = slice(1, 3) if layout == "NHWC" else slice(2, 4)
    return before.shape[axes], after.shape[axes]


def _list_at(steps: InputSteps, before: InputSpec, after: InputSpec) -> InputSteps | None:
    images = _image_sizes(before, after, steps.layout or "NHWC") if steps.kind in ("image", "") else None
    lengths = {before.shape[each.axis]: after.shape[each.axis] for each in before.varying}
    changed = False
    made: list[Step] = []
    for step in steps.step:
        new: dict[str, Any] = {}
        if images:
            (height, width), (high, wide) = images
            for key in ("size", "fit"):
                new |= {key: (high, wide)} if getattr(step, key, ()) == (height, width) else {}
            changed = changed or bool(new)
            if getattr(step, "longest", 0) == height == width:  # a letterbox, which a bucket's other sides are one too
                new |= {"longest": 0, "fit": (high, wide)}
            # A crop follows: in both directions there has to be as much as it takes, of any image.
            if shorter := getattr(step, "shorter", 0):
                new["shorter"] = max(1, round(shorter * max(high / height, wide / width)))
        elif len(lengths) == _SOUND:
            for key in ("length", "max_length"):
                new |= {key: lengths[old]} if (old := getattr(step, key, 0)) in lengths else {}
            changed = changed or bool(new)
        made.append(replace(step, **new) if new else step)
    return replace(steps, step=tuple(made)) if changed else None
