"""A sample's targets by name, checked against what the outputs' roles want of them, and moved with their image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketforge.data.geometry import Geometry
from pocketforge.data.target_geometry import beside, move
from pocketforge.data.targets import MOST_CLASSES, Targets, class_number, real_target
from pocketforge.errors import ModelError
from pocketforge.recipe.preprocess import Preprocessing, lists_of
from pocketforge.recipe.roles import TargetName, page_of
from pocketforge.recipe.sound_steps import Tokenize
from pocketforge.specs.data import WantedTarget

Array = NDArray[Any]
IGNORED_PIXEL, IGNORED_TAG = 255, -100


def checked_targets(
    target: object, wanted: tuple[WantedTarget, ...], classes: int, geometry: Geometry | None, where: str
) -> Targets:
    """Those of a sample that outputs are held against, as `wanted` names them.

    target: what the source gives. classes: how many labels there are; 0 where that is not known. geometry: None where
    nothing moves pixels. where: begins errors. Raises ModelError for what is missing or does not fit, with the sample.
    """
    given = target if isinstance(target, Targets) else Targets({_plain_name(target): target})
    found: dict[str, Array] = {}
    for each in wanted:
        if each.name not in given:
            raise ModelError(
                f"{where} has no target {each.name!r} (for {_called(each)} of role {each.role}), found "
                f"{', '.join(given) or 'none'}",
                f"wanted {WANTED[each.kind]}; or name another target: [[output]] target = …; {page_of(each.role)}",
            )
        try:
            found |= _CHECKS[each.kind](given, each.name, classes if each.labelled else 0)
        except _Unfit as error:
            raise ModelError(
                f"{where}: target {each.name!r} of {_called(each)} (role {each.role}): {error}",
                f"wanted {WANTED[each.kind]}; {page_of(each.role)}",
            ) from None
        except ModelError as error:
            raise ModelError(f"{error.message} ({_called(each)} of role {each.role})", error.hint) from None
    wheres = {each.name: f"{where}: target {each.name!r} of {_called(each)} (role {each.role})" for each in wanted}
    return Targets(move(found, {each.name: each.kind for each in wanted}, geometry, wheres))


def check_tags(count: int, inputs: Sequence[Array], preprocess: Preprocessing, where: str) -> None:
    """Raises ModelError where a text becomes another number of tokens than it has tags: they would be of others.

    count: of the tags. inputs: of the model, preprocessed. where: begins the error.
    """
    texts = [each for each in lists_of(preprocess) for step in each.step if isinstance(step, Tokenize)]
    if len(texts) != 1:
        return
    (tokenize,) = texts[0].step
    assert isinstance(tokenize, Tokenize), "tokenize is the only step of its list"
    first = sum(each.gives for each in lists_of(preprocess)[: lists_of(preprocess).index(texts[0])])
    length = tokenize.max_length
    if "mask" not in tokenize.gives or count == length:
        return
    mask = inputs[first + tokenize.gives.index("mask")]
    tokens = int(mask.sum())
    if count != tokens or not mask[0]:
        padded = "padding, which is on the left," if not mask[0] else "padding"
        raise ModelError(
            f"{where} has {count} tags, and the text {tokens} tokens (special ones counted; {length} with {padded} "
            "counted)",
            "wanted a tag for each token, -100 for those that have none (special ones, a word's further parts)",
        )


def _called(wanted: WantedTarget) -> str:
    return f"output {wanted.output!r}" if wanted.output else "the output"


class _Unfit(Exception):
    """What is wrong with a target."""


def _plain_name(target: object) -> TargetName:
    """What a plain target of a source (a number, an array or a text) is called."""
    if isinstance(target, str):
        return "text"
    whole = isinstance(target, np.ndarray) and target.dtype.kind in "iub" and target.size == 1
    return "label" if whole or isinstance(target, int) else "value"


def _label(given: Mapping[str, Array], name: str, classes: int) -> dict[str, Array]:
    number = class_number(given[name], classes, f"target {name!r}")
    return {name: np.asarray(number, np.int64)}


def _value(given: Mapping[str, Array], name: str, _: int) -> dict[str, Array]:
    return {name: real_target(given[name], f"target {name!r}")}


def _labels(given: Mapping[str, Array], name: str, classes: int) -> dict[str, Array]:
    array = given[name]
    _want(array.ndim == 1 and array.dtype.kind in "iubf", f"found {_kind(array)}")
    _want(
        bool(np.isin(array, (0, 1)).all()), f"found values other than 0 and 1: {_few(array[~np.isin(array, (0, 1))])}"
    )
    _want(not classes or len(array) == classes, f"found {len(array)} entries, there are {classes} labels")
    return {name: array.astype(np.uint8)}


def _mask(given: Mapping[str, Array], name: str, classes: int) -> dict[str, Array]:
    array = given[name]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    _want(array.ndim == 2 and array.dtype.kind in "iub", f"found {_kind(given[name])}")
    _want(array.size > 0, f"found an empty one, {_kind(array)}")
    held = array[array != IGNORED_PIXEL]
    most = classes if classes > 1 else MOST_CLASSES
    wrong = held[(held < 0) | (held >= most)]
    _want(wrong.size == 0, f"found class {_few(wrong)}, and there are {most} (255 is ignored)")
    return {name: array.astype(np.int64)}


def _boxes(given: Mapping[str, Array], name: str, classes: int) -> dict[str, Array]:
    boxes = np.asarray(given[name])
    if boxes.size == 0:
        boxes = np.zeros((0, 4), np.float32)
    _want(boxes.ndim == 2 and boxes.shape[1] == 4 and boxes.dtype.kind in "iuf", f"found {_kind(boxes)}")
    _want(bool(np.isfinite(boxes).all()), "found a coordinate that is NaN or infinite")
    flat = np.flatnonzero((boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1]))
    _want(
        flat.size == 0,
        f"box {_few(flat)} has no area: {_box(boxes[flat[:1]])} (x1 y1 x2 y2, not x y width height)",
    )
    _want(
        boxes.size == 0 or boxes.dtype.kind != "f" or boxes.max() > 1,
        f"found no coordinate of more than 1, as {_box(boxes[:1])}: shares of the image's size, not pixels?",
    )
    named = beside(name, "classes")
    _want(named in given or len(boxes) == 0, f"there is no target {named!r} with each box's class number")
    numbers = np.asarray(given.get(named, np.zeros(0, np.int64)))
    if numbers.size == 0:
        numbers = np.zeros(0, np.int64)
    _want(numbers.shape == (len(boxes),), f"found {len(boxes)} boxes and {named!r} {_kind(numbers)}")
    _want(numbers.dtype.kind in "iu", f"{named!r} is {numbers.dtype}, wanted class numbers")
    most = classes or MOST_CLASSES
    wrong = numbers[(numbers < 0) | (numbers >= most)]
    _want(wrong.size == 0, f"found class {_few(wrong)} in {named!r}, wanted 0 to {most - 1}")
    crowd = np.asarray(given.get(beside(name, "crowd"), np.zeros(len(boxes), bool)))
    if crowd.size == 0:
        crowd = np.zeros(0, bool)
    _want(crowd.shape == (len(boxes),), f"found {len(boxes)} boxes and {len(crowd)} entries of crowd")
    return {
        name: boxes.astype(np.float32),
        named: numbers.astype(np.int64),
        beside(name, "crowd"): crowd.astype(np.uint8),
    }


def _keypoints(given: Mapping[str, Array], name: str, _: int) -> dict[str, Array]:
    array = given[name]
    if array.ndim == 2:
        array = array[None]
    _want(array.ndim == 3 and array.shape[2] == 3 and array.dtype.kind in "iuf", f"found {_kind(given[name])}")
    _want(len(array) == 1, f"found {len(array)} instances: the role's output holds one a sample; crop each to its own")
    _want(bool(np.isfinite(array).all()), "found a coordinate that is NaN or infinite")
    areas = np.asarray(given.get(beside(name, "areas"), np.zeros(len(array), np.float32)), np.float32)
    _want(areas.shape == (len(array),), f"found {len(array)} instances and areas {_kind(areas)}")
    return {name: array.astype(np.float32), beside(name, "areas"): areas}


def _tags(given: Mapping[str, Array], name: str, classes: int) -> dict[str, Array]:
    array = given[name] if given[name].size else np.zeros(0, np.int64)
    _want(array.ndim == 1 and array.dtype.kind in "iu", f"found {_kind(array)}")
    held = array[array != IGNORED_TAG]
    most = classes or MOST_CLASSES
    wrong = held[(held < 0) | (held >= most)]
    _want(wrong.size == 0, f"found tag {_few(wrong)}, wanted 0 to {most - 1} (-100 is ignored)")
    return {name: array.astype(np.int64)}


def _text(given: Mapping[str, Array], name: str, _: int) -> dict[str, Array]:
    array = given[name]
    _want(array.dtype.kind == "U" and array.size == 1, f"found {_kind(array)}")
    return {name: array.reshape(())}


def _image(given: Mapping[str, Array], name: str, _: int) -> dict[str, Array]:
    array = given[name]
    if array.ndim == 2:
        array = array[:, :, None]
    _want(array.ndim == 3 and array.dtype.kind in "uf", f"found {_kind(given[name])}")
    _want(array.dtype.kind == "f" or array.dtype == np.uint8, f"found {_kind(array)}")
    _want(bool(np.isfinite(array).all()), "found a value that is NaN or infinite")
    return {name: array if array.dtype == np.uint8 else array.astype(np.float32)}


def _waveform(given: Mapping[str, Array], name: str, _: int) -> dict[str, Array]:
    array = np.asarray(given[name])
    _want(array.size == max(array.shape, default=0) > 0 and array.dtype.kind == "f", f"found {_kind(array)}")
    _want(bool(np.isfinite(array).all()), "found a value that is NaN or infinite")
    return {name: array.reshape(-1).astype(np.float32)}


def _want(fits: bool, otherwise: str) -> None:
    if not fits:
        raise _Unfit(otherwise)


def _kind(array: Array) -> str:
    return f"{array.dtype} of shape {list(array.shape)}"


def _box(box: Array) -> str:
    return ", ".join(f"{value:g}" for value in box.ravel())


def _few(array: Array) -> str:
    """The first few values, in words."""
    return ", ".join(f"{value:g}" for value in list(dict.fromkeys(np.asarray(array).ravel().tolist()))[:4])


WANTED: dict[TargetName, str] = {
    "label": "one class number, int64 ()",
    "labels": "a 0 or a 1 for each label, uint8 (labels,)",
    "mask": "a class number for each pixel of the raw image, integers (H, W); 255 is ignored",
    "boxes": "boxes float32 (n, 4) as x1 y1 x2 y2 in pixels of the raw image, classes int64 (n,), crowd bool (n,)",
    "keypoints": "keypoints float32 (1, K, 3) as x y visibility in pixels of the raw image, areas float32 (1,)",
    "tags": "a tag number for each token, int64 (T,); -100 is ignored",
    "text": "one text, a string",
    "image": "an image H×W×C, uint8 (of 0 to 255) or float32",
    "waveform": "sound, float32 (T,)",
    "value": "real numbers, float32",
}
_CHECKS: dict[TargetName, Callable[[Mapping[str, Array], str, int], dict[str, Array]]] = {
    "label": _label,
    "labels": _labels,
    "mask": _mask,
    "boxes": _boxes,
    "keypoints": _keypoints,
    "tags": _tags,
    "text": _text,
    "image": _image,
    "waveform": _waveform,
    "value": _value,
}
