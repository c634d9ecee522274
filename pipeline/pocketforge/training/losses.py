"""The loss of a task, or the user's own; what a model must answer for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.model.user_code import load_file, sibling_imports, user_error
from pocketforge.training.batches import BatchTargets
from pocketforge.training.objective import LossParts

# Of a model's answer and the targets a scalar: the mean over a batch.
Loss: TypeAlias = Callable[[Any, Any], Tensor]


def task_loss(task: str, label_smoothing: float = 0.0) -> Loss:
    """Cross entropy for classification, mean square error for regression: means over the batch.

    The latter raises ModelError unless there are as many outputs as targets; their shapes may differ.
    """
    if task == "classification":
        return lambda logits, labels: nn.functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    return _square_error


def _square_error(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.numel() != targets.numel():
        raise ModelError(f"the model's output has shape {list(outputs.shape)}, the targets {list(targets.shape)}")
    return nn.functional.mse_loss(outputs.reshape(targets.shape), targets)


def checked_outputs(output: object, targets: Tensor, task: str) -> Tensor:
    """The model's answer in float32, as the task needs it.

    classification: logits (batch, classes) with an output for every label. regression: as many values as the
    targets, in their shape (an answer (batch, 1) beside targets (batch,) would be compared all with all).
    """
    if isinstance(output, tuple | list) and len(output) == 1:
        output = output[0]
    if task == "classification":
        if not isinstance(output, Tensor) or output.ndim != 2:
            raise ModelError(f"training needs a model that returns logits (batch, classes), found {_form(output)}")
        if int(targets.max()) >= output.shape[1]:
            raise ModelError(
                f"the data has label {int(targets.max())}, the model has {output.shape[1]} outputs",
                "model.args must build the model for the data's classes",
            )
        return output.float()
    if not isinstance(output, Tensor) or output.numel() != targets.numel():
        raise ModelError(
            f"training needs a model that returns as many values as the targets, {list(targets.shape)}, "
            f"found {_form(output)}"
        )
    return output.float().reshape(targets.shape)


@dataclass(frozen=True, slots=True)
class TaskObjective:
    """An `Objective` of a task.

    Attributes:
        task: `classification` or `regression`.
        label_smoothing: Of the task's own loss, 0 to 1.
        own: The user's loss; None for the task's.
    """

    task: str
    label_smoothing: float = 0.0
    own: Loss | None = None

    def outputs(self, answer: object, targets: BatchTargets) -> Tensor:
        return checked_outputs(answer, self._plain(targets), self.task)

    def loss(self, outputs: Tensor, targets: BatchTargets, *, smooth: bool) -> LossParts:
        loss = self.own or task_loss(self.task, self.label_smoothing if smooth else 0.0)
        return LossParts(checked_loss(loss(outputs, self._plain(targets))))

    def right(self, outputs: Tensor, targets: BatchTargets) -> float | None:
        return count_right(outputs, self._plain(targets)) if self.task == "classification" else None

    def _plain(self, targets: BatchTargets) -> Tensor:
        assert isinstance(targets, Tensor), "samples of a task have one target"
        return targets if self.task == "classification" else targets.float()


def count_right(scores: Tensor, labels: Tensor) -> float:
    """How many of (batch, classes) have their largest score where the label is. NaN is no answer: argmax takes it for
    the largest."""
    return float(((scores.argmax(1) == labels) & ~scores.isnan().any(1)).sum())


def checked_loss(value: object) -> Tensor:
    """Raises ModelError unless `value` is one number that depends on the weights."""
    if not isinstance(value, Tensor):
        raise ModelError(
            f"the loss must be a scalar tensor, found {type(value).__name__}: return what torch computed, "
            "without .item()"
        )
    if value.ndim:
        raise ModelError(f"the loss must be a scalar tensor, found shape {list(value.shape)}: return loss.mean()")
    if not value.requires_grad and torch.is_grad_enabled():
        raise ModelError(
            "the loss does not depend on the model's weights",
            "compute it from the outputs with torch functions, without .detach(), .argmax() or numpy",
        )
    return value


@contextmanager
def user_loss(spec: str, resolve: Callable[[str], Path], where: str = "finetune.loss") -> Iterator[Loss]:
    """The loss `file.py:function`. Its file may import its neighbours, also while it runs.

    where: the recipe's key, for errors. Raises ModelError when there is no such function; the loss itself does so with
    the user's line when it raises, and for what is no scalar tensor.
    """
    file, _, name = spec.partition(":")
    path = resolve(file)
    if not path.is_file():
        raise ModelError(f"{where}: there is no file {path}", "paths are relative to the recipe's folder")
    with sibling_imports(path.parent):
        function = getattr(load_file(path, "loss"), name, None)
        if not callable(function):
            raise ModelError(
                f"{where}: {path} has no function {name}()", f"def {name}(outputs, targets): return a scalar"
            )

        def loss(outputs: object, targets: object) -> Tensor:
            try:
                value = function(outputs, targets)
            except Exception as error:
                raise user_error(error, path.parent, f"{where}: {name}() in {path} raised") from error
            return checked_loss(value)

        yield loss


def _form(output: object) -> str:
    return f"shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
