"""Stage `qat`: train the model with fake quantization (scheme qat_int8), then convert it as stage `quantize` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from pocketforge import events
from pocketforge.data.dataset import Dataset, open_dataset
from pocketforge.errors import ModelError
from pocketforge.files import resolver
from pocketforge.model.load import load_exported
from pocketforge.outcomes import files
from pocketforge.outcomes.qat import QatTraining
from pocketforge.outcomes.quantize import Concat, TrainedFor
from pocketforge.outcomes.train import Epoch, TeacherFacts
from pocketforge.pruning.subject import open_checkpoint
from pocketforge.quantization.calibration import calibration_samples
from pocketforge.quantization.concats import keep_apart
from pocketforge.quantization.converted import QuantizeNotes, write_converted
from pocketforge.quantization.operations import float_operations, overridden
from pocketforge.quantization.qat import SMALLEST_BATCH, Freezing, Inputs, TrainingGraph
from pocketforge.specs.qat import QatSpec
from pocketforge.training.batches import Batches
from pocketforge.training.distributed import together
from pocketforge.training.gpus import device_of
from pocketforge.training.loop import deterministic, fit
from pocketforge.training.options import FitOptions
from pocketforge.training.roles_of import names_for, trained_by
from pocketforge.training.teacher import open_teacher

_TRAINED = 0.85  # share of the work
# The range of an activation is a moving average over batches: a few begin it well enough.
_RANGE_BATCH, _RANGE_BATCHES = 50, 4


def run(inputs: Mapping[str, Path], spec: QatSpec, out: Path, emit: events.Progress) -> None:
    """Train with fake quantization and convert.

    inputs: as of stage finetune ("data_root", "definition", "checkpoint" or "weights", "labels", "teacher_weights",
    "partial", "logs"), and "data" and "reference", those stages' folders.
    Writes what `write_converted` does, and qat.json. Raises ModelError as model, data and training do, also for a model
    that has no training graph; StageFailed when the guard finds the graph changed, or nothing is quantized.
    """
    processes = spec.quantize.settings.processes
    if processes > 1 or spec.trained_on:
        # Also one: who comes from the fork server may not be able to use a GPU.
        together(processes, f"{__name__}:train", inputs, spec, out, emit, gpus=bool(spec.trained_on))
    else:
        train(inputs, spec, out, emit)


def train(inputs: Mapping[str, Path], spec: QatSpec, out: Path, emit: events.Progress) -> None:
    """`run`, in each of its processes; the first one writes."""
    if spec.model.definition.endswith(".pt2"):
        raise ModelError(
            f"scheme qat_int8 needs a model that can be trained; {spec.model.definition} is a traced graph, fixed in "
            "the mode that it was traced in",
            'give the .py definition and its weights, or use scheme = "static_int8"',
        )
    trained = _trained(inputs, spec, emit)
    if torch.distributed.is_initialized() and torch.distributed.get_rank():
        return
    emit(_TRAINED, "converting")
    _convert(trained, inputs, spec, out, emit)


@dataclass(frozen=True, slots=True)
class _Trained:
    """A training graph that has been trained, and what is said of how."""

    training: TrainingGraph
    history: tuple[Epoch, ...]
    train_samples: int
    teacher: TeacherFacts | None
    masked: tuple[str, ...]
    concats: tuple[Concat, ...]


def _trained(inputs: Mapping[str, Path], spec: QatSpec, emit: events.Progress) -> _Trained:
    settings, seed = spec.quantize.settings, spec.sampling.seed
    resolve = resolver(inputs.get("data_root"))
    checkpoint = open_checkpoint(inputs, spec.model)
    data = open_dataset(spec.sampling.data, resolve, inputs.get("labels"))
    emit(0.0, "preparing the training graph")
    traced = load_exported(inputs["reference"] / "model.pt2").module()
    told = overridden(spec.quantize.overrides, traced.graph)
    apart = keep_apart(traced, calibration_samples(inputs["data"], spec.quantize), told)
    with deterministic(seed, 1):
        training = TrainingGraph(checkpoint.module, range_batches(data), spec.quantize, apart.schemes)
    masks = None
    if checkpoint.masks:
        from pocketforge.pruning.unstructured import MaskConstraint

        masks = MaskConstraint(training.graph, checkpoint.masks)
    module = checkpoint.module
    names = names_for(module, spec.model, spec.sampling, data, resolve)
    with trained_by(spec.sampling, data, names, resolve, settings) as (loss, roles):
        teacher, about_teacher = None, None
        if settings.distill is not None:
            about = (inputs, spec.model, resolve)
            teacher, about_teacher = open_teacher(settings.distill, module, data, *about, default=module, roles=roles)
        history = fit(
            training.graph,
            data.train,
            settings,
            FitOptions(
                seed=seed,
                task=spec.sampling.task,
                loss=loss,
                roles=roles,
                teacher=teacher,
                constraint=Freezing(training, masks),
                partial=inputs.get("partial"),
                logs=inputs.get("logs"),
                device=device_of(spec.trained_on, settings.processes),
                check=training.check,
                emit=lambda fraction, message: emit(_TRAINED * fraction, message),
            ),
        )
    return _Trained(training, history, len(data.train), about_teacher, tuple(sorted(checkpoint.masks)), apart.concats)


def _convert(trained: _Trained, inputs: Mapping[str, Path], spec: QatSpec, out: Path, emit: events.Progress) -> None:
    """Convert the trained graph, and write the step's files."""
    quantize, settings, training = spec.quantize, spec.quantize.settings, trained.training
    example = tuple(load_exported(inputs["reference"] / "model.pt2").example_inputs[0])
    epochs = len(trained.history)
    with deterministic(spec.sampling.seed, 1):
        if settings.ema_decay or settings.early_stop_epochs:
            # The weights kept are not the last ones: neither are their ranges.
            training.measure_again()
        graphs, sqnr_db = training.convert()
        notes = QuantizeNotes(
            qat=TrainedFor(epochs, trained.train_samples, spec.trained_on),
            concats=trained.concats,
            told_float=float_operations(training.schemes),
            ranges=training.ranges,
        )
        quantized = write_converted(
            graphs, example, quantize, inputs["data"], out, lambda f: emit(0.9 + 0.1 * f, "eval"), notes
        )
    report = QatTraining(
        version=1,
        train_samples=trained.train_samples,
        settings=settings,
        freeze_batch_norm=quantize.freeze_batch_norm,
        freeze_observers=quantize.freeze_observers,
        history=trained.history,
        stopped_early=epochs < settings.epochs,
        teacher=trained.teacher,
        masked_parameters=trained.masked,
        batch_norm_folded_before=tuple(training.folded_before),
        guard=training.guard.report(),
        converted_sqnr_db=sqnr_db,
    )
    files.write(out, report)
    emit(1.0, f"{len(quantized.quantized)} layers in int8, {len(quantized.left_float)} in float")


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
    gathered = [batches.gather(range(start, min(start + _RANGE_BATCH, count)))[0] for start in starts]
    return [inputs for inputs in gathered if len(inputs[0]) >= SMALLEST_BATCH]
