"""Stage `qat`: train the model with fake quantization (scheme qat_int8), then convert it as stage `quantize` does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pocketforge.data.dataset import Dataset, open_dataset
from pocketforge.errors import ModelError
from pocketforge.files import resolver
from pocketforge.model.load import load_exported
from pocketforge.outcomes.files import to_json
from pocketforge.pruning.subject import open_checkpoint
from pocketforge.quantization.converted import write_converted
from pocketforge.quantization.qat import SMALLEST_BATCH, Freezing, Inputs, TrainingGraph
from pocketforge.recipe.quantize import quantize_entry
from pocketforge.specs.trained import ModelSource
from pocketforge.training.batches import Batches
from pocketforge.training.distributed import together
from pocketforge.training.loop import deterministic, fit
from pocketforge.training.losses import user_loss
from pocketforge.training.options import FitOptions
from pocketforge.training.teacher import open_teacher

Emit = Callable[[float, str], None]
_TRAINED = 0.85  # share of the work
# The range of an activation is a moving average over batches: a few begin it well enough.
_RANGE_BATCH, _RANGE_BATCHES = 50, 4


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """Train with fake quantization and convert.

    inputs: as of stage finetune ("data_root", "definition", "checkpoint" or "weights", "labels", "teacher_weights",
    "partial", "logs"), and "data" and "reference", those stages' folders. spec: definition, args, seed, task, data (the
    data stage's), quantize (`Quantize.spec()`; without finetune, Finetune's defaults).
    Writes what `write_converted` does, and qat.json. Raises ModelError as model, data and training do, also for a model
    that has no training graph; StageFailed when the guard finds the graph changed, or nothing is quantized.
    """
    processes = quantize_entry(spec["quantize"]).settings.processes
    if processes > 1:
        together(processes, f"{__name__}:train", inputs, spec, out, emit)
    else:
        train(inputs, spec, out, emit)


def train(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """`run`, in each of its processes; the first one writes."""
    quantize = quantize_entry(spec["quantize"])
    settings = quantize.settings
    if spec["definition"].endswith(".pt2"):
        raise ModelError(
            f"scheme qat_int8 needs a model that can be trained; {spec['definition']} is a traced graph, fixed in the "
            "mode that it was traced in",
            'give the .py definition and its weights, or use scheme = "static_int8"',
        )
    resolve = resolver(inputs.get("data_root"))
    model = ModelSource(spec["definition"], spec["args"], spec["seed"], spec.get("weights_key", ""))
    checkpoint = open_checkpoint(inputs, model)
    data = open_dataset(spec["data"], resolve, inputs.get("labels"))
    example = tuple(load_exported(inputs["reference"] / "model.pt2").example_inputs[0])
    emit(0.0, "preparing the training graph")
    with deterministic(spec["seed"], 1):
        training = TrainingGraph(checkpoint.module, range_batches(data), quantize)
    teacher, about_teacher = None, None
    if settings.distill is not None:
        teacher, about_teacher = open_teacher(
            settings.distill, checkpoint.module, data, inputs, model, resolve, default=checkpoint.module
        )
    masks = None
    if checkpoint.masks:
        from pocketforge.pruning.unstructured import MaskConstraint

        masks = MaskConstraint(training.graph, checkpoint.masks)
    with contextlib.ExitStack() as around:
        loss = around.enter_context(user_loss(settings.loss, resolve)) if settings.loss else None
        history = fit(
            training.graph,
            data.train,
            settings,
            FitOptions(
                seed=spec["seed"],
                task=spec.get("task", "classification"),
                loss=loss,
                teacher=teacher,
                constraint=Freezing(training, masks),
                partial=inputs.get("partial"),
                logs=inputs.get("logs"),
                check=training.check,
                emit=lambda fraction, message: emit(_TRAINED * fraction, message),
            ),
        )
    if torch.distributed.is_initialized() and torch.distributed.get_rank():
        return
    emit(_TRAINED, "converting")
    with deterministic(spec["seed"], 1):
        if settings.ema_decay or settings.early_stop_epochs:
            # The weights kept are not the last ones: neither are their ranges.
            training.measure_again()
        graphs, sqnr_db = training.convert()
        about = {"epochs": len(history), "train_samples": len(data.train)}
        summary = write_converted(
            graphs, example, quantize, inputs["data"], out, lambda f: emit(0.9 + 0.1 * f, "eval"), {"qat": about}
        )
    # No times in it: the same inputs give the same bytes.
    report = {
        "version": 1,
        "train_samples": len(data.train),
        "settings": {name: value for name, value in asdict(settings).items() if name != "type"},
        "freeze_batch_norm": quantize.freeze_batch_norm,
        "freeze_observers": quantize.freeze_observers,
        "history": to_json(history),
        "stopped_early": len(history) < settings.epochs,
        "teacher": to_json(about_teacher),
        "masked_parameters": sorted(checkpoint.masks),
        "batch_norm_folded_before": training.folded_before,
        "guard": training.guard.report(),
        "converted_sqnr_db": sqnr_db,
    }
    (out / "qat.json").write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", "utf-8")
    emit(1.0, f"{len(summary['quantized'])} layers in int8, {len(summary['float'])} in float")


def range_batches(data: Dataset) -> list[Inputs]:
    """Inputs that ranges start from: calibration samples, or train samples where those are too few.

    Raises ModelError when both are.
    """
    samples = data.calibration if len(data.calibration) >= SMALLEST_BATCH else data.train
    if len(data.train) < SMALLEST_BATCH:
        raise ModelError(
            f"scheme qat_int8 needs {SMALLEST_BATCH} samples or more to train on, the train split has "
            f"{len(data.train)}",
            "lower data.calibration_samples or data.eval_fraction, or add data",
        )
    batches, count = Batches(samples, keep=False), min(len(samples), _RANGE_BATCH * _RANGE_BATCHES)
    starts = range(0, count, _RANGE_BATCH)
    found = [batches.gather(range(start, min(start + _RANGE_BATCH, count)))[0] for start in starts]
    return [inputs for inputs in found if len(inputs[0]) >= SMALLEST_BATCH]
