"""Samples held in arrays: what `npz` and user functions both come down to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pocketforge.data.base import Array, SplitName, array_digest, plain_target
from pocketforge.errors import ModelError


class ArraySource:
    """`parts`: for each of (official split or None): the input arrays, each with N samples first, and N targets."""

    value_max = 0.0

    def __init__(
        self, parts: Sequence[tuple[SplitName | None, Sequence[Array], Array]], labels: Sequence[str], where: str
    ) -> None:
        self.labels = tuple(labels)
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

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, index: int) -> tuple[tuple[Array, ...], Any]:
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
        if array.dtype.kind not in "fiub":
            raise ModelError(f"data.source: {where}: x_{number} has type {array.dtype}, not numbers")
    if targets.dtype.kind not in "fiub":
        raise ModelError(f"data.source: {where}: y has type {targets.dtype}, not numbers")
