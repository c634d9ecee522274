"""What a training is told beside its model, its samples and the recipe's settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pocketforge import events
from pocketforge.training.constraint import WeightConstraint
from pocketforge.training.distillation import DistillationLoss
from pocketforge.training.losses import Loss
from pocketforge.training.role_losses import RoleLosses

# Is given the optimizer after each switch between train and eval mode, and raises if something is wrong.
Check = Callable[[torch.optim.Optimizer], None]


def silent(_fraction: float, _message: str) -> None:
    """An emit that nobody listens to."""


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How `fit` trains, beside the recipe's settings.

    Attributes:
        seed: Of the samples' order and of all that is drawn at random.
        task: `classification` or `regression`.
        loss: Of outputs and targets, a scalar; None: the task's.
        roles: What outputs with roles are trained by, in place of task and loss; None for a task.
        teacher: Built from the settings' distill; None without it.
        constraint: What the weights must obey; those that are kept do so exactly.
        partial: A folder for the state after each epoch, from which the same call goes on, to the same bits, when the
            process was killed; None keeps none.
        logs: A folder for TensorBoard; None writes no logs.
        check: Is called after each switch between train and eval mode.
        device: `cpu` or `cuda`: where it is trained; the module comes back to the CPU.
        emit: Hears how far the training is, 0 to 1, and in words.
    """

    seed: int = 0
    task: str = "classification"
    loss: Loss | None = None
    roles: RoleLosses | None = None
    teacher: DistillationLoss | None = None
    constraint: WeightConstraint | None = None
    partial: Path | None = None
    logs: Path | None = None
    check: Check | None = None
    device: str = "cpu"
    emit: events.Progress = silent


NO_OPTIONS = FitOptions()
