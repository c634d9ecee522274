"""The teacher that a training's settings ask for, opened and found fit to teach."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pocketforge.data.dataset import Dataset
from pocketforge.errors import ModelError
from pocketforge.model.load import build_model
from pocketforge.model.weights import load_weights
from pocketforge.recipe.compress import Distill
from pocketforge.training.batches import Batches
from pocketforge.training.distillation import DistillationLoss, check_teacher
from pocketforge.training.loop import accuracy


def open_teacher(
    distill: Distill,
    student: nn.Module,
    data: Dataset,
    inputs: Mapping[str, Path],
    spec: Mapping[str, Any],
    resolve: Callable[[str], Path],
    default: nn.Module | None = None,
) -> tuple[DistillationLoss, dict[str, Any]]:
    """The loss against the teacher, and what a report says of the teacher.

    inputs and spec: the stage's. default: who teaches where distill names nobody (a copy is taken); else the recipe's
    model with "teacher_weights". Raises ModelError when the teacher does not fit the student, or knows nothing.
    """
    task = spec.get("task", "classification")
    if task != "classification":
        raise ModelError(f"distill compares classes: it is for task classification, found {task}")
    if distill.teacher is None and default is not None:
        name, module = "the model before quantization", copy.deepcopy(default)
        weights: dict[str, Any] = {}
    else:
        name, module, weights = _built(distill, inputs, spec, resolve)
    example, _ = Batches(data.calibration, keep=False).gather(range(min(2, len(data.calibration))))
    loss = DistillationLoss(distill, module, student, example, seed=spec["seed"])
    with torch.no_grad():
        answer = module(*example)
    measured = accuracy(module, data.calibration)
    check_teacher(measured, (answer[0] if isinstance(answer, tuple) else answer).shape[1], len(data.calibration))
    return loss, {"definition": name, "accuracy_top1": measured, **({"weights": weights} if weights else {})}


def _built(
    distill: Distill, inputs: Mapping[str, Path], spec: Mapping[str, Any], resolve: Callable[[str], Path]
) -> tuple[str, nn.Module, dict[str, Any]]:
    given = distill.teacher
    if given is not None:
        name, definition, args, key = given.definition, given.definition, given.args, given.weights_key
    else:
        name, args, key = spec["definition"], spec["args"], spec.get("weights_key", "")
        definition = str(inputs["definition"]) if "definition" in inputs else name
    module = build_model(definition, args, resolve, seed=spec["seed"])
    if "teacher_weights" in inputs:
        return name, module, load_weights(module, inputs["teacher_weights"], key).to_json()
    return name, module, {}
