"""`module.py:function`: the user's own code. `function()` takes no arguments and returns either

- `(x, y)` or `(x, y, labels)`: x an array of N samples or a tuple of such arrays, y an array or list of N targets;
- a sequence or iterable of `(x, y)` samples: x an array (or anything numpy takes) or, for several inputs, a tuple.

Only a sequence with `__len__` and `__getitem__` is read lazily; any other iterable is kept in memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pocketforge.data.arrays import ArraySource
from pocketforge.data.base import Array, Source, SplitName, array_digest, plain_target
from pocketforge.data.files import existing_file, split_function
from pocketforge.errors import ModelError
from pocketforge.files import Resolve
from pocketforge.model.user_code import load_file, sibling_imports, user_error


class SampleSequence:
    """A user's sequence of (x, y): asked for a sample when it is needed."""

    value_max = 0.0
    labels: tuple[str, ...] = ()

    def __init__(self, samples: Any, path: Path) -> None:
        self._samples = samples
        self._path = path
        self.ids = [str(index) for index in range(len(samples))]
        self.split: list[SplitName | None] = [None] * len(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, index: int) -> tuple[tuple[Array, ...], Any]:
        try:
            pair = self._samples[index]
        except Exception as error:
            raise user_error(error, self._path.parent, f"data.source: sample {index} of {self._path} raised") from error
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ModelError(
                f"data.source: sample {index} of {self._path} is a {type(pair).__name__}, not a pair (x, y)"
            )
        inputs, target = pair
        arrays = tuple(np.asarray(array) for array in (inputs if isinstance(inputs, tuple) else (inputs,)))
        for array in arrays:
            if array.dtype.kind not in "fiub":
                raise ModelError(f"data.source: sample {index} of {self._path} has type {array.dtype}, not numbers")
        return arrays, plain_target(target)

    def digest(self, index: int) -> str:
        return array_digest(self.sample(index)[0])


def open_place(place: str, resolve: Resolve) -> Source:
    """Run the user's function. Raises ModelError with its file and line when it fails or returns something else."""
    file, name = split_function(place)
    path = existing_file(resolve(file), "the data function's")
    with sibling_imports(path.parent):
        function = getattr(load_file(path, "data file"), name, None)
        if not callable(function):
            raise ModelError(f"data.source: {path} has no function {name!r}")
        try:
            result = function()
            if not _is_arrays(result) and not (hasattr(result, "__len__") and hasattr(result, "__getitem__")):
                result = list(result)
        except (Exception, SystemExit) as error:
            raise user_error(error, path.parent, f"data.source: {name}() in {path} raised") from error
    if _is_arrays(result):
        inputs = result[0] if isinstance(result[0], tuple) else (result[0],)
        labels = [str(label) for label in result[2]] if len(result) == 3 else []
        return ArraySource([(None, [np.asarray(x) for x in inputs], np.asarray(result[1]))], labels, f"{path}:{name}")
    if isinstance(result, (dict, str, bytes)) or len(result) == 0:
        raise ModelError(
            f"data.source: {name}() in {path} returned {'nothing' if result is None else f'{type(result).__name__}'}"
            f"{' (empty)' if not result else ''}",
            "return (x, y), (x, y, labels), or a sequence of (x, y) samples",
        )
    return SampleSequence(result, path)


def _is_arrays(result: Any) -> bool:
    """(x, y[, labels]) as whole arrays, told from a tuple of samples by y: a whole y is an array or a list."""
    if not isinstance(result, tuple) or len(result) not in (2, 3):
        return False
    x, y = result[0], result[1]
    whole_x = hasattr(x, "__array__") or (
        isinstance(x, tuple) and len(x) > 0 and all(hasattr(part, "__array__") for part in x)
    )
    return whole_x and (hasattr(y, "__array__") or isinstance(y, list))
