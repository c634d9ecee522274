"""Metrics and post-processing of the user's: `file.py:function` or a class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pocketforge.accuracy.base import Array, Batch
from pocketforge.errors import ModelError
from pocketforge.files import Resolve
from pocketforge.model.user_code import load_file, sibling_imports, user_error
from pocketforge.recipe.output import UserMetric

FORMS = (
    "def NAME(outputs, targets): return a number; or class NAME with update(outputs, targets), called for each batch, "
    "and compute(): outputs and targets are arrays by name, samples first"
)


@contextmanager
def user_object(file: str, name: str, what: str, resolve: Resolve) -> Iterator[tuple[Any, Path]]:
    """The function or class `name` of a file, which may import its neighbours, also while it runs.

    what: for errors, `metric` or `post`. Raises ModelError where it is not there.
    """
    path = resolve(file)
    with sibling_imports(path.parent):
        found = getattr(load_file(path, f"{what}'s file"), name, None)
        if not callable(found):
            raise ModelError(f"{what}: {path} has no function or class {name!r}", FORMS)
        yield found, path


def call_post(post: tuple[Any, Path], outputs: Mapping[str, Array], whose: str) -> Any:
    """What a user's post-processing makes of a batch. outputs: every one of the model's by name, samples first."""
    function, path = post
    try:
        return function(outputs)
    except Exception as error:
        raise user_error(error, path.parent, f"post {function.__name__} of {path} raised for {whose}:") from error


class UserTally:
    """One metric of the user's: a class gets every batch, a function all samples at once."""

    def __init__(self, own: UserMetric, found: Callable[..., Any], path: Path, whose: str) -> None:
        """whose: the outputs are, for errors."""
        self.own, self.path, self.whose = own, path, whose
        self._function = None if isinstance(found, type) else found
        self._outputs: list[Mapping[str, Batch]] = []
        self._targets: list[Mapping[str, Batch]] = []
        self._streamed: Any = self._called("made", found) if isinstance(found, type) else None
        if self._streamed is not None and not (
            hasattr(self._streamed, "update") and hasattr(self._streamed, "compute")
        ):
            raise ModelError(f"metric {own.name}: {path} has class {own.name} without update() or compute()", FORMS)

    def add(self, outputs: Mapping[str, Batch], targets: Mapping[str, Batch]) -> None:
        if self._streamed is not None:
            self._called("update()", self._streamed.update, outputs, targets)
        else:
            self._outputs.append(outputs)
            self._targets.append(targets)

    def value(self) -> float:
        """Raises ModelError where it raises, and for what is no finite number."""
        if self._streamed is not None:
            given = self._called("compute()", self._streamed.compute)
        else:
            assert self._function is not None, "a function or a class"
            given = self._called("it", self._function, _joined(self._outputs), _joined(self._targets))
        try:
            number = float(given)
        except (TypeError, ValueError):
            raise ModelError(
                f"metric {self.own.name} of {self.path} returned a {type(given).__name__} for {self.whose}, wanted a "
                "number",
                FORMS,
            ) from None
        if not math.isfinite(number):
            raise ModelError(f"metric {self.own.name} of {self.path} returned {number} for {self.whose}", FORMS)
        return number

    def _called(self, what: str, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except Exception as error:
            said = f"metric {self.own.name} of {self.path}: {what} raised for {self.whose}:"
            told = user_error(error, self.path.parent, said)
            if isinstance(error, KeyError) and len(args) == 2:  # which names there are is what has to be known then
                outputs, targets = (", ".join(given) for given in args)
                raise ModelError(
                    told.message,
                    f"outputs has {outputs}; targets has {targets or 'none'}, those that an [[output]] is held against",
                ) from error
            raise told from error


def _joined(batches: Sequence[Mapping[str, Batch]]) -> dict[str, Batch]:
    return {name: _together([batch[name] for batch in batches]) for name in batches[0]} if batches else {}


def _together(parts: Sequence[Batch]) -> Batch:
    if all(isinstance(part, np.ndarray) for part in parts):
        joined: Array = np.concatenate([np.asarray(part) for part in parts])
        return joined
    every: list[Any] = [each for part in parts for each in part]
    return every
