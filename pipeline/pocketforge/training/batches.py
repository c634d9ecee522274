"""Samples, gathered into batches of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pocketforge.data.base import Array
from pocketforge.errors import ModelError

Inputs = tuple[Tensor, ...]
# Inputs of several samples, and their targets.
Batch = tuple[Inputs, Tensor]
Sample = tuple[tuple[Array, ...], object]

# A train set below this is preprocessed once and kept; above it, samples are read again in every epoch.
KEEP_BYTES = 1 << 30


class TrainSamples(Protocol):
    """`samples[i]` → (the model's inputs without a batch dimension, the target). `data.dataset.Samples` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> Sample: ...


class Batches:
    """Gathers samples into (inputs, targets): int64 targets (batch,) for class numbers, else float32.

    Raises ModelError when samples differ in shape.
    """

    def __init__(self, samples: TrainSamples, keep: bool = True) -> None:
        self._samples = samples
        first = samples[0][0]
        size = sum(np.asarray(array).nbytes for array in first) * len(samples)
        self._read: dict[int, Sample] | None = {} if keep and size <= KEEP_BYTES else None

    def gather(self, positions: Sequence[int]) -> Batch:
        rows = [self._sample(position) for position in positions]
        try:
            columns = [np.stack(column) for column in zip(*(inputs for inputs, _ in rows), strict=True)]
        except ValueError as error:
            raise ModelError(
                f"data.source: samples differ in shape: {error}", "set data.preprocess.resize and data.preprocess.color"
            ) from error
        targets = np.stack([np.asarray(target) for _, target in rows])
        kind = torch.int64 if targets.dtype.kind in "iu" else torch.float32
        return tuple(torch.from_numpy(column) for column in columns), torch.from_numpy(targets).to(kind)

    def _sample(self, position: int) -> Sample:
        if self._read is None:
            return self._samples[position]
        if position not in self._read:
            self._read[position] = self._samples[position]
        return self._read[position]


def batches_of(samples: TrainSamples, size: int, limit: int | None = None) -> Iterator[Batch]:
    """(The first `limit`) samples in their order, `size` at a time."""
    count = min(len(samples), limit or len(samples))
    batches = Batches(samples, keep=False)
    return (batches.gather(range(start, min(start + size, count))) for start in range(0, count, size))
