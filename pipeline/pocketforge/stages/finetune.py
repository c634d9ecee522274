"""Stage `finetune`: train the model further on the train split, with labels and perhaps a teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch

from pocketforge import events
from pocketforge.data.dataset import Dataset, open_dataset
from pocketforge.errors import ModelError
from pocketforge.files import resolver
from pocketforge.model.load import count_parameters
from pocketforge.model.surgery import Checkpoint, save_checkpoint
from pocketforge.model.weights import check_finite
from pocketforge.outcomes import files
from pocketforge.outcomes.train import TrainOutcome
from pocketforge.pruning.subject import open_checkpoint
from pocketforge.pruning.unstructured import GradualPruning, MaskConstraint
from pocketforge.specs.finetune import FinetuneSpec
from pocketforge.training.batches import batches_of
from pocketforge.training.distributed import together
from pocketforge.training.gpus import device_of
from pocketforge.training.loop import fit
from pocketforge.training.losses import Loss, task_loss
from pocketforge.training.options import FitOptions
from pocketforge.training.roles_of import names_for, trained_by
from pocketforge.training.teacher import open_teacher


def run(inputs: Mapping[str, Path], spec: FinetuneSpec, out: Path, emit: events.Progress) -> None:
    """Fine-tune.

    inputs: "data_root" (folder that the spec's relative paths are relative to), "definition" (the definition's file,
    else the spec's in data_root), "checkpoint" (folder of an earlier step; wins over weights), "weights", "labels",
    "teacher_weights" (with distill), "partial" (folder that outlives a kill: training goes on from what is in it),
    "logs" (folder for TensorBoard); all may be absent.
    Writes into `out`: a checkpoint (see model/surgery.py) and train.json. Raises ModelError as the model and the data
    do.
    """
    if spec.settings.processes > 1 or spec.trained_on:
        # Also one: who comes from the fork server may not be able to use a GPU.
        together(spec.settings.processes, f"{__name__}:train", inputs, spec, out, emit, gpus=bool(spec.trained_on))
    else:
        train(inputs, spec, out, emit)


def train(inputs: Mapping[str, Path], spec: FinetuneSpec, out: Path, emit: events.Progress) -> None:
    """`run`, in each of its processes; the first one writes."""
    settings = spec.settings
    resolve = resolver(inputs.get("data_root"))
    checkpoint = open_checkpoint(inputs, spec.model)
    module = checkpoint.module
    data = open_dataset(spec.sampling.data, resolve, inputs.get("labels"))
    names = names_for(module, spec.model, spec.sampling, data, resolve)
    with trained_by(spec.sampling, data, names, resolve, settings) as (loss, roles):
        teacher, about_teacher = None, None
        if settings.distill is not None:
            about = (inputs, spec.model, resolve)
            teacher, about_teacher = open_teacher(settings.distill, module, data, *about, roles=roles)
        constraint = _constraint(checkpoint, spec, data, roles or loss)
        options = FitOptions(
            seed=spec.sampling.seed,
            task=spec.sampling.task,
            loss=loss,
            roles=roles,
            teacher=teacher,
            constraint=constraint,
            partial=inputs.get("partial"),
            logs=inputs.get("logs"),
            device=device_of(spec.trained_on, settings.processes),
            emit=emit,
        )
        history = fit(module, data.train, settings, options)
    check_finite(module.state_dict(), "the fine-tuned model")
    if torch.distributed.is_initialized() and torch.distributed.get_rank():
        return
    # A layer that the growing sparsity left alone needs no mask.
    masks = {name: mask for name, mask in constraint.masks.items() if not mask.all()} if constraint else {}
    save_checkpoint(dataclasses.replace(checkpoint, masks=masks, inputs=[]), out)
    outcome = TrainOutcome(
        train_samples=len(data.train),
        parameters=count_parameters(module),
        settings=settings,
        history=history,
        stopped_early=len(history) < settings.epochs,
        teacher=about_teacher,
    )
    files.write(out, outcome)


def _constraint(checkpoint: Checkpoint, spec: FinetuneSpec, data: Dataset, loss: Loss | None) -> MaskConstraint | None:
    """What the weights must obey: masks of earlier steps, and a sparsity that grows."""
    if spec.gradual is None:
        return MaskConstraint(checkpoint.module, checkpoint.masks) if checkpoint.masks else None
    if spec.settings.early_stop_epochs:
        raise ModelError(
            "early_stop_epochs cannot go with schedule cubic: zeros are added until the last step, so an earlier "
            "epoch's weights are never sparse enough",
            "leave out early_stop_epochs, or prune with schedule once before the finetune",
        )
    return GradualPruning(
        checkpoint.module,
        spec.gradual,
        checkpoint.masks,
        loss or task_loss(spec.sampling.task),
        list(batches_of(data.calibration, spec.settings.batch_size)),
        spec.sampling.seed,
    )
