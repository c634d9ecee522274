"""Samples that a user's function gives, whole or one at a time (function.py says which forms it may return)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from pocketforge.data.arrays import ArraySource, is_input, kind_of, largest_value
from pocketforge.data.base import Array, PlainSource, Source, SplitName, array_digest, plain_target
from pocketforge.data.labels import check_names
from pocketforge.data.packed import Numbered, Splits
from pocketforge.data.targets import Targets
from pocketforge.errors import ModelError
from pocketforge.model.user_code import load_file, sibling_imports, user_error


@runtime_checkable
class UserSequence(Protocol):
    """What is asked for a sample when it is needed: anything with a length and indices."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


class SampleSequence(PlainSource):
    """A user's sequences of (x, y): asked for a sample when it is needed.

    parts: each with how many samples it has, and their official split.
    """

    def __init__(self, parts: Sequence[tuple[UserSequence, int, SplitName | None]], path: Path) -> None:
        self._parts = [samples for samples, _, _ in parts]
        self._path = path
        self.ids = Numbered([("eval/" if split == "eval" else "", count) for _, count, split in parts])
        self.split = Splits()
        for _, count, split in parts:
            self.split.extend(split, count)
        self._ends = [*accumulate(count for _, count, _ in parts)]
        self.labels = _class_names(self._parts[0], path)
        self._dtypes: list[np.dtype[np.generic]] | None = None
        self._value_max = 0.0

    @property
    def value_max(self) -> float:
        """By the first sample; all others have to be of its type."""
        if self._dtypes is None:
            self.sample(0)
        return self._value_max

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, index: int) -> tuple[tuple[Array, ...], object]:
        number = bisect_right(self._ends, index)
        try:
            pair = self._parts[number][index - (self._ends[number - 1] if number else 0)]
        except Exception as error:
            raise user_error(error, self._path.parent, f"data.source: sample {index} of {self._path} raised") from error
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ModelError(
                f"data.source: sample {index} of {self._path} is a {type(pair).__name__}, not a pair (x, y)"
            )
        inputs, target = pair
        where = f"data.source: sample {index} of {self._path}"
        try:
            arrays = tuple(np.asarray(array) for array in (inputs if isinstance(inputs, tuple) else (inputs,)))
        except (ValueError, TypeError) as error:
            raise ModelError(f"{where} cannot be made an array: {error}") from error
        for array in arrays:
            if not is_input(array):
                raise ModelError(f"{where} has type {array.dtype}, not numbers or one text")
        dtypes = [kind_of(array) for array in arrays]
        if self._dtypes is None:
            self._dtypes, self._value_max = dtypes, largest_value(arrays)
        elif dtypes != self._dtypes:
            described = [", ".join(map(str, kinds)) for kinds in (dtypes, self._dtypes)]
            raise ModelError(f"{where} has type {described[0]}, the first that was read has {described[1]}")
        return arrays, _target(target, where)

    def digest(self, index: int) -> str:
        return array_digest(self.sample(index)[0])


def _class_names(samples: UserSequence, path: Path) -> tuple[str, ...]:
    """A Dataset's `classes`, as torchvision's have them."""
    found = getattr(samples, "classes", None)
    if not isinstance(found, list | tuple) or not found or not all(isinstance(name, str) for name in found):
        return ()
    return check_names(found, str(path))


# As torchvision's detectors take them; beside boxes `labels` are the objects' classes.
_OF_TORCHVISION = {"labels": "classes", "iscrowd": "crowd", "area": "areas"}
_NOT_TAKEN = frozenset({"image_id", "masks"})


def _target(target: object, where: str) -> object:
    """Raises ModelError for a dict that holds no targets."""
    if not isinstance(target, dict):
        return plain_target(target)
    # Who writes our own names means them: `labels` are then those of an output with several.
    names = {theirs: ours for theirs, ours in _OF_TORCHVISION.items() if "boxes" in target and ours not in target}
    kept = {name: value for name, value in target.items() if not ("boxes" in target and name in _NOT_TAKEN)}
    try:
        return Targets({names.get(name, name): np.asarray(value) for name, value in kept.items()})
    except (ValueError, TypeError) as error:
        raise ModelError(f"{where}: {error}", "targets by name are arrays of numbers, or texts") from error


def call(path: Path, name: str) -> Source:
    """Run the function of a file. Raises ModelError with its file and line when it fails or returns something else."""
    with sibling_imports(path.parent):
        function = getattr(load_file(path, "data file"), name, None)
        if not callable(function):
            raise ModelError(f"data.source: {path} has no function {name!r}")
        try:
            result: object = function()
            named = _by_split(result)
            listed = {
                split: each if isinstance(each, UserSequence) else list(_iterable(each))
                for split, each in named.items()
            }
            counts = [len(each) for each in listed.values()]
        except (Exception, SystemExit) as error:
            raise user_error(error, path.parent, f"data.source: {name}() in {path} raised") from error
    samples = next(iter(listed.values()), ())
    if isinstance(samples, tuple) and _is_arrays(samples):
        return _whole_arrays(samples, f"{path}:{name}")
    parts = list(zip(listed.values(), counts, _splits(listed), strict=True))
    if not parts or any(isinstance(each, dict | str | bytes) or not count for each, count, _ in parts):
        kind = type(result if isinstance(result, dict) else samples).__name__
        raise ModelError(
            f"data.source: {name}() in {path} returned {kind}{' (empty)' if 0 in counts else ''}",
            'return (x, y), (x, y, labels), a sequence of (x, y) samples, or {"train": …, "eval": …} of sequences',
        )
    return SampleSequence(parts, path)


def _by_split(result: object) -> dict[str | None, object]:
    """A dict of train and eval by its keys, anything else by None."""
    return dict(result) if isinstance(result, dict) and set(result) == {"train", "eval"} else {None: result}


def _splits(named: Mapping[str | None, object]) -> list[SplitName | None]:
    """Of what a function returned by name; anything but a dict of train and eval has none."""
    if set(named) == {"train", "eval"}:
        return ["eval" if name == "eval" else "train" for name in named]
    return [None] * len(named)


def _iterable(result: object) -> Iterable[object]:
    # Whatever is none raises where it is listed, and the user hears that of his own function.
    return cast(Iterable[object], result)


def _whole_arrays(result: tuple[Any, ...], where: str) -> ArraySource:
    inputs = result[0] if isinstance(result[0], tuple) else (result[0],)
    try:
        arrays, targets = [np.asarray(x) for x in inputs], np.asarray(result[1])
        labels = [str(label) for label in result[2]] if len(result) == 3 else []
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"data.source: {where}: what it returned cannot be made arrays: {error}",
            "return (x, y) or (x, y, labels): x and y with one entry a sample, labels a list of names",
        ) from error
    return ArraySource([(None, arrays, targets)], labels, where)


def _is_arrays(result: tuple[object, ...]) -> bool:
    """(x, y[, labels]) as whole arrays, told from a tuple of samples by y: a whole y is an array or a list."""
    if len(result) not in (2, 3):
        return False
    x, y = result[0], result[1]
    whole_x = hasattr(x, "__array__") or (
        isinstance(x, tuple) and len(x) > 0 and all(hasattr(part, "__array__") for part in x)
    )
    return whole_x and (hasattr(y, "__array__") or isinstance(y, list))
