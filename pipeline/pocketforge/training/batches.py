"""Samples, gathered into batches of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pocketforge.data.base import Array
from pocketforge.errors import ModelError

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class NamedTargets:
    """What outputs with roles are held against, of several samples.

    Attributes:
        columns: Target → one entry a sample: a tensor of the data's own type, or a text.
        count: Of the samples.
    """

    columns: Mapping[str, Sequence[Tensor] | Sequence[str]]
    count: int

    def __len__(self) -> int:
        return self.count

    def shifted(self, by: int) -> NamedTargets:
        """Each sample's targets are those of the sample `by` places on."""
        by %= max(self.count, 1)
        return NamedTargets({name: [*each[by:], *each[:by]] for name, each in self.columns.items()}, self.count)


# Of a task one tensor, of outputs with roles those by name.
BatchTargets: TypeAlias = Tensor | NamedTargets
# Inputs of several samples, and their targets.
Batch = tuple[Inputs, BatchTargets]
Sample = tuple[tuple[Array, ...], object]

# A train set below this is preprocessed once and kept; above it, samples are read again in every epoch.
KEEP_BYTES = 1 << 30


class TrainSamples(Protocol):
    """`samples[i]` → (the model's inputs without a batch dimension, the target). `data.dataset.Samples` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> Sample: ...


class Batches:
    """Gathers samples into (inputs, targets): int64 targets (batch,) for class numbers, else float32; several by name
    are `NamedTargets`.

    Raises ModelError when samples differ in shape.
    """

    def __init__(self, samples: TrainSamples, keep: bool = True) -> None:
        self._samples = samples
        inputs, target = samples[0]
        # A mask or an image that is to come out may be larger than what goes in.
        targets = target.values() if isinstance(target, Mapping) else (target,)
        size = sum(np.asarray(array).nbytes for array in (*inputs, *targets)) * len(samples)
        self._read: dict[int, Sample] | None = {} if keep and size <= KEEP_BYTES else None

    def gather(self, positions: Sequence[int]) -> Batch:
        rows = [self._sample(position) for position in positions]
        try:
            columns = [np.stack(column) for column in zip(*(inputs for inputs, _ in rows), strict=True)]
        except ValueError as error:
            raise ModelError(
                f"data.source: samples differ in shape: {error}", "set data.preprocess.resize and data.preprocess.color"
            ) from error
        return tuple(torch.from_numpy(column) for column in columns), stacked([target for _, target in rows])

    def _sample(self, position: int) -> Sample:
        if self._read is None:
            return self._samples[position]
        if position not in self._read:
            self._read[position] = self._samples[position]
        return self._read[position]


def stacked(targets: Sequence[object]) -> BatchTargets:
    """Targets of several samples as training takes them."""
    first = targets[0]
    if isinstance(first, Mapping):
        return named_targets({name: [each[name] for each in targets] for name in first})  # type: ignore[index]
    arrays = np.stack([np.asarray(target) for target in targets])
    return torch.from_numpy(arrays).to(torch.int64 if arrays.dtype.kind in "iu" else torch.float32)


def named_targets(columns: Mapping[str, Sequence[object]]) -> NamedTargets:
    """columns: target → an array, or a text, of each sample."""
    count = len(next(iter(columns.values()), ()))
    return NamedTargets({name: _column(values) for name, values in columns.items()}, count)


def _column(values: Sequence[object]) -> Sequence[Tensor] | Sequence[str]:
    arrays = [np.asarray(value) for value in values]
    if arrays and arrays[0].dtype.kind == "U":
        return [str(array) for array in arrays]
    return [torch.from_numpy(np.array(array)) for array in arrays]


def batches_of(samples: TrainSamples, size: int, limit: int | None = None) -> Iterator[Batch]:
    """(The first `limit`) samples in their order, `size` at a time."""
    count = min(len(samples), limit or len(samples))
    batches = Batches(samples, keep=False)
    return (batches.gather(range(start, min(start + size, count))) for start in range(0, count, size))
