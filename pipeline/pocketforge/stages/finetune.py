"""Stage `finetune`: train the model further on the train split, with labels and perhaps a teacher."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pocketforge.data.dataset import Dataset, open_dataset
from pocketforge.errors import ModelError
from pocketforge.files import resolver
from pocketforge.model.load import count_parameters
from pocketforge.model.surgery import Checkpoint, save_checkpoint
from pocketforge.model.weights import check_finite
from pocketforge.pruning.subject import open_checkpoint
from pocketforge.recipe.compress import Finetune, PruneUnstructured, compress_entry
from pocketforge.training.batches import Batches
from pocketforge.training.constraint import WeightConstraint
from pocketforge.training.distributed import together
from pocketforge.training.loop import fit
from pocketforge.training.losses import Loss, task_loss, user_loss
from pocketforge.training.teacher import open_teacher

Emit = Callable[[float, str], None]


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """Fine-tune.

    inputs: "data_root" (folder that the spec's relative paths are relative to), "definition" (the definition's file,
    else spec["definition"] in data_root), "checkpoint" (folder of an earlier step; wins over weights), "weights",
    "labels", "teacher_weights" (with distill), "partial" (folder that outlives a kill: training goes on from what is
    in it), "logs" (folder for TensorBoard); all may be absent. spec: definition, args, seed, task, finetune
    (Finetune's fields), data (the data stage's), gradual (fields of a cubic PruneUnstructured that happens while
    training, or None).
    Writes into `out`: a checkpoint (see model/surgery.py) and train.json. Raises ModelError as the model and the data
    do.
    """
    processes = int(spec["finetune"].get("processes", 1))
    if processes > 1:
        together(processes, f"{__name__}:train", inputs, spec, out, emit)
    else:
        train(inputs, spec, out, emit)


def train(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """`run`, in each of its processes; the first one writes."""
    settings = compress_entry(spec["finetune"])
    assert isinstance(settings, Finetune)
    task = spec.get("task", "classification")
    resolve = resolver(inputs.get("data_root"))
    checkpoint = open_checkpoint(inputs, spec)
    module = checkpoint.module
    data = open_dataset(spec["data"], resolve, inputs.get("labels"))
    teacher, about_teacher = None, None
    if settings.distill is not None:
        teacher, about_teacher = open_teacher(settings.distill, module, data, inputs, spec, resolve)
    with contextlib.ExitStack() as around:
        loss = around.enter_context(user_loss(settings.loss, resolve)) if settings.loss else None
        constraint = _constraint(checkpoint, settings, data, loss, spec, task)
        history = fit(
            module,
            data.train,
            settings,
            seed=spec["seed"],
            task=task,
            loss=loss,
            teacher=teacher,
            constraint=constraint,
            partial=inputs.get("partial"),
            logs=inputs.get("logs"),
            emit=emit,
        )
    check_finite(module.state_dict(), "the fine-tuned model")
    if torch.distributed.is_initialized() and torch.distributed.get_rank():
        return
    # A layer that the growing sparsity left alone needs no mask.
    masks = {name: mask for name, mask in getattr(constraint, "masks", {}).items() if not mask.all()}
    save_checkpoint(dataclasses.replace(checkpoint, masks=masks, inputs=[]), out)
    # No times in it: the same inputs give the same bytes.
    report = {
        "version": 1,
        "train_samples": len(data.train),
        "parameters": count_parameters(module),
        "settings": {name: value for name, value in dataclasses.asdict(settings).items() if name != "type"},
        "history": history,
        "stopped_early": len(history) < settings.epochs,
        "teacher": about_teacher,
    }
    (out / "train.json").write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", "utf-8")


def _constraint(
    checkpoint: Checkpoint,
    settings: Finetune,
    data: Dataset,
    loss: Loss | None,
    spec: Mapping[str, Any],
    task: str,
) -> WeightConstraint | None:
    """What the weights must obey: masks of earlier steps, and a sparsity that grows."""
    if not spec.get("gradual"):
        return _held(checkpoint.module, checkpoint.masks) if checkpoint.masks else None
    if settings.early_stop_epochs:
        raise ModelError(
            "early_stop_epochs cannot go with schedule cubic: zeros are added until the last step, so an earlier "
            "epoch's weights are never sparse enough",
            "leave out early_stop_epochs, or prune with schedule once before the finetune",
        )
    from pocketforge.pruning.unstructured import GradualPruning

    pruning = compress_entry(spec["gradual"])
    assert isinstance(pruning, PruneUnstructured)
    batches = Batches(data.calibration, keep=False)
    size, count = settings.batch_size, len(data.calibration)
    found: WeightConstraint = GradualPruning(
        checkpoint.module,
        pruning,
        checkpoint.masks,
        loss or task_loss(task),
        [batches.gather(range(start, min(start + size, count))) for start in range(0, count, size)],
        spec["seed"],
    )
    return found


def _held(module: nn.Module, masks: Mapping[str, torch.Tensor]) -> WeightConstraint:
    from pocketforge.pruning.unstructured import MaskConstraint

    found: WeightConstraint = MaskConstraint(module, dict(masks))
    return found
