"""qat.json: how the model was trained with fake quantization (stage `qat`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pocketforge.outcomes.train import Epoch, TeacherFacts
from pocketforge.recipe.compress import Finetune


@dataclass(frozen=True, slots=True)
class BatchNormNumbers:
    """What a batch norm computes with beside its statistics.

    Attributes:
        eps: Added to the variance.
        momentum: The share of a batch in the running statistics.
    """

    eps: float
    momentum: float


@dataclass(frozen=True, slots=True)
class Guarded:
    """What was compared between the model and the graph in training, after every switch.

    Attributes:
        dropout: Place of a dropout → its p.
        batch_norm: Name of a batch norm → its numbers.
        parameters: How many parameters.
    """

    dropout: Mapping[str, float]
    batch_norm: Mapping[str, BatchNormNumbers]
    parameters: int


@dataclass(frozen=True, slots=True)
class QatTraining:
    """How the model was trained. No times in it: the same inputs give the same bytes.

    Attributes:
        version: Of this form.
        train_samples: How many there were.
        settings: As the recipe has them, else the defaults.
        freeze_batch_norm: Share of the epochs after which batch norm's statistics stayed as they were.
        freeze_observers: Share of the epochs after which ranges stayed as they were.
        history: Epoch by epoch.
        stopped_early: Whether fewer epochs than `settings` allow were taken.
        teacher: None without one.
        masked_parameters: Names of those that pruning's masks hold.
        batch_norm_folded_before: Names of layers whose batch norm was folded for good before the training.
        guard: What was compared all the time.
        converted_sqnr_db: Of the converted graph against the trained one, in dB.
    """

    FILE: ClassVar[str] = "qat.json"

    version: int
    train_samples: int
    settings: Finetune
    freeze_batch_norm: float
    freeze_observers: float
    history: tuple[Epoch, ...]
    stopped_early: bool
    teacher: TeacherFacts | None
    masked_parameters: tuple[str, ...]
    batch_norm_folded_before: tuple[str, ...]
    guard: Guarded
    converted_sqnr_db: float
