"""What a model is trained for: how its answer is read, and how far that is from the targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from torch import Tensor

from pocketforge.training.batches import BatchTargets

# Of a task one tensor, of outputs with roles those by name.
Outputs: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class LossParts:
    """A loss, and what it is made of.

    Attributes:
        total: What is minimized, a scalar: the mean over a batch.
        parts: Output → its own loss, before its weight; empty of a task.
    """

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """Of a task, or of outputs with roles."""

    def outputs(self, answer: object, targets: BatchTargets, /) -> Outputs:
        """The model's answer in float32, as the losses take it. Raises ModelError for one that does not fit."""
        ...

    def loss(self, outputs: Outputs, targets: BatchTargets, /, *, smooth: bool) -> LossParts:
        """smooth: labels are smoothed as the settings say; without, it is what different settings are compared by."""
        ...

    def right(self, outputs: Outputs, targets: BatchTargets, /) -> float | None:
        """How many samples are answered right; None where that is no question."""
        ...
