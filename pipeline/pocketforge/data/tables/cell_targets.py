"""Cells that become a sample's targets, each by its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pocketforge.data.base import Array
from pocketforge.data.boxes import BoxNotes, check_box, clip_boxes
from pocketforge.data.read_mask import check_mask, read_mask
from pocketforge.data.tables.class_names import ClassNames, class_cells, listed_cell
from pocketforge.data.tables.inputs import Reader, leaves, number_in
from pocketforge.data.tables.rows import Blob, Cell
from pocketforge.errors import ModelError

_IGNORED_TAG = -100


@dataclass(frozen=True, slots=True)
class Reading:
    """What cells are read with.

    Attributes:
        files: Finds and decodes files.
        classes: Numbers class names.
        mask_values: As `base.Place`.
        boxes: What was done to boxes that are not quite right.
        typed: Whether numbers are told from texts.
    """

    files: Reader
    classes: ClassNames
    mask_values: tuple[int, ...]
    boxes: BoxNotes
    typed: bool


def target_of(kind: str, cell: Cell, reading: Reading, image: Array | None, where: str) -> object:
    """A target by its standard name. image: the sample's, where its first input is one. Raises ModelError."""
    if cell is None or (cell == "" and kind not in ("labels", "text")):
        raise ModelError(f"data.source: {where} is empty")
    return _MAKE[kind](cell, reading, image, where)


def _label(cell: Cell, reading: Reading, image: Array | None, where: str) -> int:
    return reading.classes.number(cell, where)


def _labels(cell: Cell, reading: Reading, image: Array | None, where: str) -> Array:
    """Multi-hot: a 1 for each class that holds."""
    count = len(reading.classes.labels)
    if not count:
        raise ModelError(
            f"data.source: {where}: classes are numbers, and nothing says how many there are",
            "name them in data.labels, one line a class",
        )
    hot = np.zeros(count, np.uint8)
    for each in class_cells("labels", cell, typed=reading.typed):
        hot[reading.classes.number(each, where)] = 1
    return hot


def _mask(cell: Cell, reading: Reading, image: Array | None, where: str) -> Array:
    if isinstance(cell, Blob):
        mask = read_mask(cell.name, reading.mask_values, cell.read())
    else:
        mask = read_mask(reading.files.path(cell, where), reading.mask_values)
    if image is not None:
        check_mask(mask, image, len(reading.classes.labels), f"data.source: the mask of {where}")
    return mask


def _image(cell: Cell, reading: Reading, image: Array | None, where: str) -> Array:
    return reading.files.file(cell, "image", where)


def _waveform(cell: Cell, reading: Reading, image: Array | None, where: str) -> Array:
    return reading.files.file(cell, "sound", where)


def _boxes(cell: Cell, reading: Reading, image: Array | None, where: str) -> Array:
    """float32 (n, 4): x1, y1, x2, y2 in pixels."""
    array = _array(_listed(cell, reading, where), (-1, 4), np.float32, where)
    if image is None:
        return array
    size = (image.shape[0], image.shape[1])
    for number, (x1, y1, x2, y2) in enumerate(array.tolist()):
        if not check_box((x1, y1, x2, y2), size, f"{where} [{number}]", reading.boxes):
            raise ModelError(f"data.source: {where} [{number}] has no area: {[x1, y1, x2, y2]}", "take it out")
    return clip_boxes(array, size)


def _classes(cell: Cell, reading: Reading, image: Array | None, where: str) -> Array:
    found = class_cells("classes", _listed(cell, reading, where), typed=reading.typed)
    return np.asarray([reading.classes.number(each, where) for each in found], np.int64)


def _crowd(cell: Cell, reading: Reading, image: Array | None, where: str) -> Array:
    return _array(_listed(cell, reading, where), (-1,), np.bool_, where)


def _areas(cell: Cell, reading: Reading, image: Array | None, where: str) -> Array:
    return _array(_listed(cell, reading, where), (-1,), np.float32, where)


def _keypoints(cell: Cell, reading: Reading, image: Array | None, where: str) -> Array:
    listed = _listed(cell, reading, where)
    points = len(listed[0]) if listed and isinstance(listed[0], list) else 1
    return _array(listed, (-1, points, 3), np.float32, where)


def _tags(cell: Cell, reading: Reading, image: Array | None, where: str) -> Array:
    """int64 (T,); -100 is ignored."""
    found = class_cells("tags", _listed(cell, reading, where), typed=reading.typed)
    return np.asarray(
        [_IGNORED_TAG if each == _IGNORED_TAG else reading.classes.number(each, where) for each in found], np.int64
    )


def _text(cell: Cell, reading: Reading, image: Array | None, where: str) -> Array:
    if not isinstance(cell, str):
        raise ModelError(f"data.source: {where} is {str(cell)[:60]!r}: wanted a text")
    return np.asarray(cell)


def _value(cell: Cell, reading: Reading, image: Array | None, where: str) -> object:
    value = number_in(cell) if isinstance(cell, str) and not reading.typed else cell
    if isinstance(cell, str) and value is None and cell.startswith("["):
        value = _listed(cell, reading, where)
    if isinstance(value, list):
        return _array(value, None, np.float32, where)
    if not isinstance(value, int | float):
        raise ModelError(f"data.source: {where} is {str(cell)[:60]!r}: wanted a number")
    return float(value)


_MAKE: Mapping[str, Callable[[Cell, Reading, Array | None, str], object]] = {
    "label": _label,
    "labels": _labels,
    "mask": _mask,
    "boxes": _boxes,
    "classes": _classes,
    "crowd": _crowd,
    "areas": _areas,
    "keypoints": _keypoints,
    "tags": _tags,
    "text": _text,
    "image": _image,
    "waveform": _waveform,
    "value": _value,
}


def _listed(cell: Cell, reading: Reading, where: str) -> list[Cell]:
    found = listed_cell(cell, typed=reading.typed)
    if found is None:
        raise ModelError(f"data.source: {where} is {str(cell)[:60]!r}: wanted a list, as JSON has it")
    return found


def _array(listed: list[Cell], shape: tuple[int, ...] | None, dtype: type, where: str) -> Array:
    plain = all(isinstance(leaf, int | float) for leaf in leaves(listed))
    try:
        array: Array | None = np.asarray(listed, dtype) if plain else None
        # n objects of the inner shape; none of them is an empty list, whatever the inner shape is.
        right = array is not None and (
            shape is None or array.size == 0 or (array.ndim == len(shape) and array.shape[1:] == shape[1:])
        )
    except (ValueError, OverflowError):
        right = False
    if not right or array is None:
        wanted = (
            "a list of numbers"
            if shape is None or len(shape) == 1
            else f"a list of {' × '.join(map(str, shape[1:]))} numbers"
        )
        raise ModelError(f"data.source: {where} is {str(listed)[:60]}: wanted {wanted}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelError(f"data.source: {where} has values that are NaN or infinite")
    return array if shape is None else array.reshape(shape if array.size else (0, *shape[1:]))
