"""A recipe's model and data, opened once for a whole study, and what is done to copies of the model."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from pocketforge import events
from pocketforge.data.dataset import open_recipe
from pocketforge.errors import ModelError
from pocketforge.model.load import build_model
from pocketforge.model.weights import load_weights
from pocketforge.plan.compress import model_source, sampling_of
from pocketforge.pruning.base import Subject
from pocketforge.pruning.subject import example_for, gather, open_checkpoint
from pocketforge.pruning.unstructured import MaskConstraint
from pocketforge.recipe import Recipe
from pocketforge.recipe.compress import Distill, Finetune
from pocketforge.specs.compress import CompressSpec
from pocketforge.training.batches import KEEP_BYTES
from pocketforge.training.distillation import DistillationLoss
from pocketforge.training.judge import top1
from pocketforge.training.loop import deterministic, fit
from pocketforge.training.losses import task_loss, user_loss
from pocketforge.training.options import FitOptions

if TYPE_CHECKING:
    from torch import nn

    from pocketforge.training.batches import TrainSamples


def model_spec(recipe: Recipe) -> CompressSpec:
    """What the compressing stages are told: the model, its data and task."""
    return CompressSpec(model_source(recipe), recipe.model.inputs, sampling_of(recipe))


class Workbench:
    """The unpruned model with calibration, train and eval samples in memory. Raises ModelError as opening them does."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        spec = model_spec(recipe)
        inputs = {"data_root": Path(recipe.folder)}
        if recipe.model.weights:
            inputs["weights"] = recipe.resolve(recipe.model.weights)
        if recipe.data.labels:
            inputs["labels"] = recipe.resolve(recipe.data.labels)
        data, module = open_recipe(recipe), open_checkpoint(inputs, spec.model).module
        calibration = gather(data.calibration)
        example = example_for(spec.model, spec.model_inputs, inputs, calibration)
        self._subject = Subject(module, example, calibration, task_loss(recipe.task), recipe.seed)
        self.eval = gather(data.eval)
        self.train: TrainSamples = _kept(data.train)
        with deterministic(recipe.seed):
            outputs = self._subject.module(*self.eval[0][0])
        # `study pruning` is of task classification: an integer a sample.
        classes = max(int(max(targets)) for _, targets in self.eval if isinstance(targets, Tensor)) + 1
        if getattr(outputs, "ndim", 0) != 2 or outputs.shape[1] < classes:
            raise ModelError(
                f"the study needs logits (batch, classes) for {classes} classes, found {list(outputs.shape)}"
            )

    @property
    def module(self) -> nn.Module:
        """The unpruned model: not to be changed."""
        return self._subject.module

    @property
    def example(self) -> tuple[Tensor, ...]:
        return self._subject.example

    def subject(self, seed: int) -> Subject:
        """A copy of the model to prune; `seed` is for what the pruning draws at random."""
        return dataclasses.replace(self._subject, module=copy.deepcopy(self.module), masks={}, seed=seed)

    def accuracy(self, module: nn.Module) -> float:
        """Top-1 on the eval samples."""
        with deterministic(self.recipe.seed):
            return top1(module, self.eval)

    def finetune(
        self,
        module: nn.Module,
        masks: Mapping[str, Tensor],
        settings: Finetune,
        seed: int,
        partial: Path,
        emit: events.Progress,
    ) -> None:
        """Train `module` in place; masked weights stay zero. Goes on from `partial` after a kill."""
        with contextlib.ExitStack() as around:
            loss = around.enter_context(user_loss(settings.loss, self.recipe.resolve)) if settings.loss else None
            fit(
                module,
                self.train,
                settings,
                FitOptions(
                    seed=seed,
                    task=self.recipe.task,
                    loss=loss,
                    teacher=self._teacher(settings.distill, module, seed) if settings.distill else None,
                    constraint=MaskConstraint(module, masks) if masks else None,
                    partial=partial,
                    emit=emit,
                ),
            )

    def _teacher(self, settings: Distill, student: nn.Module, seed: int) -> DistillationLoss:
        if settings.teacher is None:
            teacher = copy.deepcopy(self.module)
        else:
            given = settings.teacher
            teacher = build_model(given.definition, given.args, self.recipe.resolve, seed=self.recipe.seed)
            load_weights(teacher, self.recipe.resolve(given.weights), given.weights_key)
        example = tuple(tensor[:2] for tensor in self.eval[0][0])
        return DistillationLoss(settings, teacher, student, example, seed=seed)


def _kept(samples: TrainSamples) -> TrainSamples:
    """The same samples, read once for all trainings when they fit into memory."""
    size = sum(array.nbytes for array in samples[0][0]) * len(samples) if len(samples) else 0
    return [samples[index] for index in range(len(samples))] if size <= KEEP_BYTES else samples


def digest_of(module: nn.Module, masks: Mapping[str, Tensor]) -> str:
    """SHA-256 of a model: its structure, every tensor and the masks."""
    sha256 = hashlib.sha256(str(module).encode())
    for name, tensor in [*sorted(module.state_dict().items()), *sorted(masks.items())]:
        array = tensor.detach().cpu().contiguous().numpy()
        sha256.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return sha256.hexdigest()


def structure_of(module: nn.Module, masks: Mapping[str, Tensor]) -> str:
    """SHA-256 of what a runtime's speed depends on: modules, shapes, and which weights are masked; not the values."""
    sha256 = hashlib.sha256(str(module).encode())
    for name, tensor in module.state_dict().items():
        sha256.update(f"{name} {tuple(tensor.shape)}".encode())
    for name, mask in sorted(masks.items()):
        sha256.update(name.encode() + mask.cpu().contiguous().numpy().tobytes())
    return sha256.hexdigest()[:32]
