"""Samples held in arrays: what `npz` and user functions both come down to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pocketforge.data.base import Array, PlainSource, SplitName, array_digest, plain_target
from pocketforge.data.labels import check_names
from pocketforge.errors import ModelError

# A scalar of these kinds is a number: float, signed, unsigned, bool.
NUMBERS = "fiub"


def is_input(sample: Array, samples: bool = False) -> bool:
    """Whether an array can be a raw input: numbers, or one text, which preprocessing makes numbers of.

    samples: it has an entry a sample.
    """
    return sample.dtype.kind in NUMBERS or (sample.dtype.kind == "U" and sample.ndim == int(samples))


def kind_of(array: Array) -> np.dtype[np.generic]:
    """The type that all samples have of an input. Texts are of one type, however long."""
    return np.dtype("U") if array.dtype.kind == "U" else array.dtype


def largest_value(arrays: Sequence[Array]) -> float:
    """The value that is 1.0 after preprocessing: of an 8-bit image 255, as of image files; of others nothing says."""
    return 255.0 if len(arrays) == 1 and arrays[0].dtype == np.uint8 else 0.0


class ArraySource(PlainSource):
    """`parts`: for each of (official split or None): the input arrays, each with N samples first, and N targets."""

    def __init__(
        self, parts: Sequence[tuple[SplitName | None, Sequence[Array], Array]], labels: Sequence[str], where: str
    ) -> None:
        self.labels = check_names(labels, where)
        self.ids: list[str] = []
        self.split: list[SplitName | None] = []
        self._places: list[tuple[int, int]] = []
        self._parts = parts
        for number, (split, inputs, targets) in enumerate(parts):
            _check_lengths(inputs, targets, where)
            prefix = "eval/" if split == "eval" else ""
            self.ids.extend(f"{prefix}{index}" for index in range(len(targets)))
            self.split.extend([split] * len(targets))
            self._places.extend((number, index) for index in range(len(targets)))
        _check_alike([inputs for _, inputs, _ in parts], where)
        self.value_max = largest_value(parts[0][1])

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, index: int) -> tuple[tuple[Array, ...], object]:
        number, row = self._places[index]
        _, inputs, targets = self._parts[number]
        return tuple(np.asarray(array[row]) for array in inputs), plain_target(targets[row])

    def digest(self, index: int) -> str:
        return array_digest(self.sample(index)[0])


def _check_lengths(inputs: Sequence[Array], targets: Array, where: str) -> None:
    for number, array in enumerate(inputs):
        if array.ndim == 0 or targets.ndim == 0 or len(array) != len(targets):
            raise ModelError(
                f"data.source: {where}: x_{number} has shape {array.shape} and y {targets.shape}: "
                "both need one entry a sample first"
            )
        if not is_input(array, samples=True):
            raise ModelError(
                f"data.source: {where}: x_{number} has type {array.dtype}, not numbers or one text a sample"
            )
    if targets.dtype.kind not in NUMBERS:
        raise ModelError(
            f"data.source: {where}: y has type {targets.dtype}, not numbers",
            "classes are numbered from 0; their names go into labels",
        )


def _check_alike(parts: Sequence[Sequence[Array]], where: str) -> None:
    """Training and evaluation inputs are of one kind: 8-bit ones are scaled, others are not."""
    kinds = [[(kind_of(array), array.shape[1:]) for array in inputs] for inputs in parts]
    for other in kinds[1:]:
        if other != kinds[0]:
            described = [", ".join(f"{list(shape)} {dtype}" for dtype, shape in kind) for kind in (kinds[0], other)]
            raise ModelError(
                f"data.source: {where}: samples to train on are {described[0]}, those to evaluate {described[1]}",
                "x and x_eval must have one type and one shape a sample",
            )
