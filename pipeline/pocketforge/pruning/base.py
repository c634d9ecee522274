"""What a pruning method gets and gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from pocketforge.model.surgery import Edit
from pocketforge.recipe.compress import Compress

Emit = Callable[[float, str], None]
# The goal's metric of a candidate, where that takes an exported file: how is the caller's business (stages/prune.py).
Measure = Callable[[nn.Module], float]


@dataclass(slots=True)
class Subject:
    """The model to prune.

    module: in eval mode, loaded; methods change it in place. example: one batch-1 input. batches: calibration samples
    as (inputs, targets). loss: of outputs and targets, a scalar. masks: of earlier unstructured pruning, by parameter
    name. measure: a candidate's value for a goal on an exported file; None where it cannot be had. step, steps: this is
    part `step` of `steps` (prune_channels in several steps). ratios: layer name → ratio found by a sensitivity study.
    """

    module: nn.Module
    example: tuple[Tensor, ...]
    batches: list[tuple[tuple[Tensor, ...], Tensor]]
    loss: Callable[[Tensor, Tensor], Tensor]
    seed: int = 0
    masks: dict[str, Tensor] = field(default_factory=dict)
    measure: Measure | None = None
    step: int = 1
    steps: int = 1
    ratios: dict[str, float] = field(default_factory=dict)
    emit: Emit = lambda _fraction, _message: None


@dataclass(slots=True)
class Pruned:
    """edits: what was done to the architecture, as data (none for unstructured). masks: all that hold from now on.

    report: what a reader wants to know, as JSON: layers with what was removed of each, the goal and what was reached.
    """

    edits: list[Edit] = field(default_factory=list)
    masks: dict[str, Tensor] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


class Method(Protocol):
    """A module of METHODS."""

    def prune(self, subject: Subject, settings: Compress, /) -> Pruned:
        """Prune `subject.module` in place. Raises ModelError when it cannot be done; the module is then of no use."""
        ...
