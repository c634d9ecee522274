"""What a pruning method gets and gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from torch import Tensor, nn

from pocketforge import events
from pocketforge.model.surgery import Edit
from pocketforge.outcomes.prune import Report
from pocketforge.recipe.compress import Compress
from pocketforge.training.batches import Batch, Inputs
from pocketforge.training.losses import Loss

# The goal's metric of a candidate, where that takes an exported file: how is the caller's business (stages/prune.py).
Measure = Callable[[nn.Module], float]


@dataclass(slots=True)
class Subject:
    """The model to prune.

    Attributes:
        module: In eval mode, loaded; methods change it in place.
        example: One input of each of the model's, batch 1.
        batches: Calibration samples.
        loss: Of outputs and targets, a scalar.
        seed: Of what is drawn at random.
        masks: Of earlier unstructured pruning, by parameter name.
        measure: A candidate's value for a goal on an exported file; None where it cannot be had.
        step: Which part of the entry this is, 1 to `steps`.
        steps: In how many the entry prunes.
        ratios: Layer → the share of its channels that a sensitivity study lets go, 0 to 1.
        emit: Hears how far the pruning is, 0 to 1, and in words.
    """

    module: nn.Module
    example: Inputs
    batches: list[Batch]
    loss: Loss
    seed: int = 0
    masks: dict[str, Tensor] = field(default_factory=dict)
    measure: Measure | None = None
    step: int = 1
    steps: int = 1
    ratios: dict[str, float] = field(default_factory=dict)
    emit: events.Progress = lambda _fraction, _message: None


Told = TypeVar("Told", bound=Report, covariant=True)


@dataclass(frozen=True, slots=True)
class Pruned(Generic[Told]):
    """What a method did.

    Attributes:
        report: What a reader wants to know.
        edits: What was done to the architecture, as data; none for single weights.
        masks: All that hold from now on, by parameter name.
    """

    report: Told
    edits: list[Edit] = field(default_factory=list)
    masks: dict[str, Tensor] = field(default_factory=dict)


class Method(Protocol):
    """A module of METHODS."""

    def prune(self, subject: Subject, settings: Compress, /) -> Pruned[Report]:
        """Prune `subject.module` in place. Raises ModelError when it cannot be done; the module is then of no use."""
        ...
