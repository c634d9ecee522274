"""Samples that a user's function gives, whole or one at a time (function.py says which forms it may return)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from pocketforge.data.arrays import NUMBERS, ArraySource, largest_value
from pocketforge.data.base import Array, PlainSource, Source, SplitName, array_digest, plain_target
from pocketforge.data.targets import Targets
from pocketforge.errors import ModelError
from pocketforge.model.user_code import load_file, sibling_imports, user_error


@runtime_checkable
class UserSequence(Protocol):
    """What is asked for a sample when it is needed: anything with a length and indices."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


class SampleSequence(PlainSource):
    """A user's sequence of (x, y): asked for a sample when it is needed."""

    labels: tuple[str, ...] = ()

    def __init__(self, samples: UserSequence, path: Path, count: int) -> None:
        self._samples = samples
        self._path = path
        self.ids = [str(index) for index in range(count)]
        self.split: list[SplitName | None] = [None] * count
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
        try:
            pair = self._samples[index]
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
            if array.dtype.kind not in NUMBERS:
                raise ModelError(f"{where} has type {array.dtype}, not numbers")
        dtypes = [array.dtype for array in arrays]
        if self._dtypes is None:
            self._dtypes, self._value_max = dtypes, largest_value(arrays)
        elif dtypes != self._dtypes:
            described = [", ".join(map(str, kinds)) for kinds in (dtypes, self._dtypes)]
            raise ModelError(f"{where} has type {described[0]}, the first that was read has {described[1]}")
        return arrays, _target(target, where)

    def digest(self, index: int) -> str:
        return array_digest(self.sample(index)[0])


def _target(target: object, where: str) -> object:
    """As a source gives it: a dict is several targets by name."""
    if not isinstance(target, Mapping):
        return plain_target(target)
    try:
        return target if isinstance(target, Targets) else Targets(target)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{where}: {error}", "targets by name are a dict of arrays: docs/outputs.md") from None


def call(path: Path, name: str) -> Source:
    """Run the function of a file. Raises ModelError with its file and line when it fails or returns something else."""
    with sibling_imports(path.parent):
        function = getattr(load_file(path, "data file"), name, None)
        if not callable(function):
            raise ModelError(f"data.source: {path} has no function {name!r}")
        try:
            result: object = function()
            samples = result if isinstance(result, UserSequence) else list(_iterable(result))
            count = len(samples)
        except (Exception, SystemExit) as error:
            raise user_error(error, path.parent, f"data.source: {name}() in {path} raised") from error
    if isinstance(samples, tuple) and _is_arrays(samples):
        return _whole_arrays(samples, f"{path}:{name}")
    if isinstance(samples, (dict, str, bytes)) or count == 0:
        raise ModelError(
            f"data.source: {name}() in {path} returned {type(samples).__name__}{'' if count else ' (empty)'}",
            "return (x, y), (x, y, labels), or a sequence of (x, y) samples",
        )
    return SampleSequence(samples, path, count)


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
