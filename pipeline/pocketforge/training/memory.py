"""Batches that a GPU's memory does not hold at once: computed in parts, their gradients added up.

An update is by the whole batch's gradients all the same, within rounding. What a layer takes from its batch (batch
norm's statistics) is of each part, and so is a loss that is no mean over samples (of pairs, of pixels that count).
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.training.batches import Batch, BatchTargets, NamedTargets

Result = TypeVar("Result")
# Batch norm has no variance of one.
LEAST_AT_ONCE = 2


@dataclass(slots=True)
class AtOnce:
    """How many samples are computed at once.

    Attributes:
        samples: So many at most; fewer once memory has not held them.
        halves: Whether less is tried then; else the error stays what it is.
    """

    samples: int
    halves: bool

    def compute(
        self, parts: Callable[[int], Result], count: int, module: nn.Module, tell: Callable[[str], None]
    ) -> Result:
        """What `parts` gives of `count` samples, told how many it may compute at once. Raises ModelError where memory
        holds not even two.
        """
        if not self.halves:
            return parts(self.samples)
        while True:
            # What a pass that breaks off has done to running statistics is undone.
            before = {name: buffer.clone() for name, buffer in module.named_buffers()}
            try:
                return parts(self.samples)
            except RuntimeError as error:
                if not ran_out(error):
                    raise
                said = str(error).partition("\n")[0]
            # Out of the clause above: the error holds on to what filled the memory.
            self._halve(count, said)
            with torch.no_grad():
                for name, buffer in module.named_buffers():
                    buffer.copy_(before[name])
            tell(f"memory holds no more: {self.samples} samples at once from here on, gradients are added up")

    def _halve(self, count: int, said: str) -> None:
        tried = min(self.samples, count)
        if tried // 2 < LEAST_AT_ONCE:
            raise ModelError(
                f"the GPU's memory does not hold a training step of {tried} samples: {said}",
                'use smaller inputs or a smaller model, precision = "bf16", or a GPU with more free memory',
            )
        self.samples = tried // 2
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def ran_out(error: RuntimeError) -> bool:
    """Whether it says that memory is full; cuDNN and others say so in words alone."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    from accelerate.utils.memory import should_reduce_batch_size

    return bool(should_reduce_batch_size(error))


@contextmanager
def memory_told() -> Iterator[None]:
    """Where no smaller part helps (weights, the optimizer's state), a full memory is one ModelError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"the GPU's memory does not hold the model and what trains it: {str(error).partition(chr(10))[0]}",
            "a smaller model, an optimizer with less state (sgd), or a GPU with more free memory",
        ) from error


def parts_of(batch: Batch, most: int) -> Iterator[Batch]:
    """A batch in parts of about the same size, of `most` samples at most and two at least; whole where it fits."""
    inputs, targets = batch
    count = len(targets)
    parts = min(-(-count // most), count // LEAST_AT_ONCE)
    if parts <= 1:
        yield batch
        return
    edges = [number * count // parts for number in range(parts + 1)]
    for start, end in itertools.pairwise(edges):
        yield tuple(x[start:end] for x in inputs), _targets(targets, start, end)


def _targets(targets: BatchTargets, start: int, end: int) -> BatchTargets:
    if isinstance(targets, Tensor):
        return targets[start:end]
    columns: dict[str, Sequence[Tensor] | Sequence[str]] = {
        name: column[start:end] for name, column in targets.columns.items()
    }
    return NamedTargets(columns, end - start)
