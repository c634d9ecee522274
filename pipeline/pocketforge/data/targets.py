"""A sample's target, checked: a class number, real numbers, or several arrays by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketforge.errors import ModelError

# Where no labels say how many classes there are. A table of counts has a row for each, and no classifier has more.
MOST_CLASSES = 1_000_000


class Targets(Mapping[str, NDArray[Any]]):
    """What a sample is labelled with, by name (docs/outputs.md has the standard names with shape and type of each).

    Values become NumPy arrays as they are; what a role wants of them is checked where they are used
    (data/role_targets.py), with the sample's name.
    """

    def __init__(self, arrays: Mapping[str, object]) -> None:
        """Raises ValueError for a name that is none, TypeError for a value that is no array of numbers or text."""
        self._arrays: dict[str, NDArray[Any]] = {}
        for name, value in arrays.items():
            if not isinstance(name, str) or not name.isidentifier():
                raise ValueError(f"a target's name must be letters, digits and '_', found {name!r}")
            try:
                array = np.asarray(value)
            except (ValueError, TypeError) as error:  # lists of unequal lengths
                raise TypeError(f"target {name!r} cannot be made an array: {error}") from None
            if array.dtype.kind not in "fiubU":
                raise TypeError(f"target {name!r} must be numbers or text, found {array.dtype}")
            self._arrays[name] = array

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Targets({', '.join(f'{name} {array.dtype}{list(array.shape)}' for name, array in self.items())})"


def class_number(target: object, classes: int, where: str) -> int:
    """The target as a label: a whole number, also as a bool, as a float and in an array of one. ModelError otherwise.

    classes: how many there are; 0 where that is not known. where: begins the error.
    """
    number = target
    if isinstance(target, np.ndarray) and target.size == 1:
        number = target.reshape(-1)[0].item()
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if not isinstance(number, int):
        shown = repr(np.asarray(target).tolist() if isinstance(target, np.ndarray) else target)
        hint = 'targets of task "classification" are integers; for numbers set task = "regression"'
        if isinstance(target, np.ndarray) and target.size > 1:
            hint = "a class a sample is one number: of one-hot rows y.argmax(1)"
        raise ModelError(f"{where} has the target {shown[:60]}{'…' * (len(shown) > 60)}, not a class number", hint)
    most = classes or MOST_CLASSES
    if not 0 <= number < most:
        allowed = f"0 to {classes - 1}" if classes else "0 or more" + (f", below {most:,}" if number >= most else "")
        raise ModelError(f"{where} has label {number}, out of range: wanted {allowed}")
    return int(number)


def real_target(target: object, where: str) -> NDArray[np.float32]:
    """The target as float32. Raises ModelError for what is no number, NaN or infinite."""
    try:
        with np.errstate(over="ignore"):
            value = np.asarray(target, np.float32)
    except (ValueError, TypeError, OverflowError):
        raise ModelError(f"{where} has the target {str(target)[:60]!r}, not a number") from None
    if not np.isfinite(value).all():
        raise ModelError(f"{where} has a target that is NaN or infinite")
    return value
