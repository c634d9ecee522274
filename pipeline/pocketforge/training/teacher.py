"""The teacher that a training's settings ask for, opened and found fit to teach."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from pocketforge.data.dataset import Dataset
from pocketforge.errors import ModelError
from pocketforge.model.load import bind_inputs, build_model
from pocketforge.model.weights import load_weights
from pocketforge.outcomes.reference import WeightsRead
from pocketforge.outcomes.train import TeacherFacts
from pocketforge.recipe.compress import Distill
from pocketforge.specs.trained import ModelSource
from pocketforge.training.batches import Batches, batches_of
from pocketforge.training.distillation import DistillationLoss
from pocketforge.training.judge import top1
from pocketforge.training.role_losses import RoleLosses
from pocketforge.training.teacher_checks import (
    check_teacher,
    check_teacher_of_roles,
    judging_batches,
    losses_with_others,
)

BATCH = 64


def open_teacher(
    distill: Distill,
    student: nn.Module,
    data: Dataset,
    inputs: Mapping[str, Path],
    model: ModelSource,
    resolve: Callable[[str], Path],
    default: nn.Module | None = None,
    roles: RoleLosses | None = None,
) -> tuple[DistillationLoss, TeacherFacts]:
    """The loss against the teacher, and what a report says of the teacher.

    inputs: the stage's. model: the student's, as its definition makes it. default: who teaches where distill names
    nobody (a copy is taken); else the recipe's model with "teacher_weights". roles: what the student is trained by,
    where outputs have roles. Raises ModelError when the teacher does not fit the student, or knows nothing.
    """
    if roles is None and data.task != "classification":
        raise ModelError(
            f"distill compares classes: it is for task classification, found {data.task}",
            'or give the output a role and a loss: [[output]] role = "regression", loss = "mse"',
        )
    weights: WeightsRead | None = None
    if distill.teacher is None and default is not None:
        name, module = "the model before quantization", copy.deepcopy(default)
    else:
        name, module, weights = _built(distill, inputs, model, resolve)
    example, _ = Batches(data.calibration, keep=False).gather(range(min(2, len(data.calibration))))
    itself = distill.teacher is None
    loss = DistillationLoss(distill, module, student, example, seed=model.seed, roles=roles, itself=itself)
    if roles is not None:
        batches = judging_batches(data.calibration, BATCH)
        own, others = losses_with_others(loss.roles_of_teacher(), module, batches)
        check_teacher_of_roles(own, others, len(data.calibration))
        return loss, TeacherFacts(name, None, weights, own)
    with torch.no_grad():
        answer = module(*example)
    measured = top1(module, batches_of(data.calibration, BATCH))
    check_teacher(measured, (answer[0] if isinstance(answer, tuple) else answer).shape[1], len(data.calibration))
    return loss, TeacherFacts(name, measured, weights)


def _built(
    distill: Distill, inputs: Mapping[str, Path], model: ModelSource, resolve: Callable[[str], Path]
) -> tuple[str, nn.Module, WeightsRead | None]:
    """The teacher's name, itself, and how its weights were read."""
    given = distill.teacher
    args: Mapping[str, object]
    if given is not None:
        name, definition, args, key = given.definition, given.definition, given.args, given.weights_key
    else:
        name, args, key = model.definition, model.args, model.weights_key
        definition = str(inputs["definition"]) if "definition" in inputs else name
    module = build_model(definition, args, resolve, seed=model.seed)
    bind_inputs(module, definition, model.input_names, model.arguments, resolve)
    if "teacher_weights" in inputs:
        loaded = load_weights(module, inputs["teacher_weights"], key)
        return name, module, WeightsRead(loaded.file, loaded.key, loaded.done)
    return name, module, None
