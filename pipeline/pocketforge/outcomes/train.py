"""What training leaves: its history, who taught, and train.json of stage `finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from pocketforge.outcomes.reference import WeightsRead
from pocketforge.recipe.compress import Finetune


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of a training. Figures of the train split are means over its samples as seen while training.

    Attributes:
        epoch: Its number, from 1.
        loss: What was minimized.
        lr: The learning rate of its last step.
        train_accuracy: Top-1, 0 to 1; None for a regression.
        validation_loss: Of the labels, not smoothed, on the samples held out; None without early stop.
        validation_accuracy: Top-1 on them, 0 to 1; None without early stop, or for a regression.
        label_loss: The labels' part of the loss, unweighted, as the next three; None without a teacher.
        teacher_loss: The divergence from the teacher's answers; None without a teacher.
        hint_loss: Of the named layers' outputs; None without hints.
        attention_loss: Of the named layers' attention maps; None without them.
        output_losses: Output → its own loss of the labels, before its weight; None of a task.
    """

    epoch: int
    loss: float
    lr: float
    train_accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    label_loss: float | None = None
    teacher_loss: float | None = None
    hint_loss: float | None = None
    attention_loss: float | None = None
    output_losses: Mapping[str, float] | None = None

    OMIT_UNSET: ClassVar[bool] = True

    def given(self) -> dict[str, Any]:
        """Its fields that there are, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def figures(self) -> dict[str, float]:
        """All numbers but its own, by name; only those that there are."""
        single = {name: value for name, value in self.given().items() if name not in ("epoch", "output_losses")}
        return single | {f"loss of {name}": value for name, value in (self.output_losses or {}).items()}


@dataclass(frozen=True, slots=True)
class TeacherFacts:
    """Who taught.

    Attributes:
        definition: The teacher's definition, or in words who it was.
        accuracy_top1: Its own, on the calibration samples, 0 to 1; None where outputs have roles.
        weights: How its weights were read; None where it came without a file.
        loss: The outputs' own, on the calibration samples, where they have roles; None of a task.
    """

    definition: str
    accuracy_top1: float | None
    weights: WeightsRead | None = None
    loss: float | None = None

    OMIT_UNSET: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class TrainOutcome:
    """train.json of stage `finetune`. No times in it: the same inputs give the same bytes.

    Attributes:
        train_samples: So many samples of the train split were there, those held out included.
        parameters: Of the trained model.
        settings: The entry of [[compress]].
        history: Epoch by epoch.
        stopped_early: Whether there were fewer epochs than asked for.
        teacher: None without one.
        version: Of this file's form.
    """

    train_samples: int
    parameters: int
    settings: Finetune
    history: tuple[Epoch, ...]
    stopped_early: bool
    teacher: TeacherFacts | None = None
    version: int = 1

    FILE: ClassVar[str] = "train.json"
