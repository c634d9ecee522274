"""Stage `prune`: one entry of [[compress]] that takes weights, channels or layers out of the model."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pocketforge import events
from pocketforge.data.dataset import open_dataset
from pocketforge.errors import ModelError
from pocketforge.files import resolver
from pocketforge.measure.on_emulator import count_file, estimate_file
from pocketforge.measure.trial import Trial, export_float, time_in_turns
from pocketforge.model import load
from pocketforge.model.surgery import Checkpoint, save_checkpoint
from pocketforge.model.weights import check_finite
from pocketforge.outcomes import files
from pocketforge.outcomes.prune import PruneOutcome, Size
from pocketforge.outcomes.sensitivity import SensitivityOutcome
from pocketforge.pruning.base import Measure, Method, Subject
from pocketforge.pruning.sensitivity import choose_ratios
from pocketforge.pruning.subject import open_checkpoint, subject_for
from pocketforge.recipe.compress import DropLayers, Goal, PruneChannels
from pocketforge.registries import METHODS
from pocketforge.specs.prune import PruneSpec, Trials

# Fewer than a benchmark's: a goal asks for several candidates.
GOAL_ROUNDS = 2


def run(inputs: Mapping[str, Path], spec: PruneSpec, out: Path, emit: events.Progress) -> None:
    """inputs: data_root, weights or checkpoint, labels, sensitivity (for ratio "auto"); for a goal on an emulated
    device also profile and (its own) calibration.

    Writes a checkpoint (see surgery) and prune.json. Raises ModelError when the model cannot be pruned so.
    """
    checkpoint = open_checkpoint(inputs, spec.model)
    data = open_dataset(spec.sampling.data, resolver(inputs.get("data_root")), inputs.get("labels"))
    with subject_for(checkpoint, inputs, spec, data, emit) as subject:
        _prune(subject, checkpoint, inputs, spec, out)


def _prune(subject: Subject, checkpoint: Checkpoint, inputs: Mapping[str, Path], spec: PruneSpec, out: Path) -> None:
    pruning, emit = spec.pruning, subject.emit
    subject.step, subject.steps = spec.part, spec.parts
    if "sensitivity" in inputs and isinstance(pruning, PruneChannels):
        study = files.read(inputs["sensitivity"], SensitivityOutcome)
        subject.ratios = choose_ratios(study, pruning.max_accuracy_drop)
    goal = pruning.goal if isinstance(pruning, PruneChannels | DropLayers) else None
    before = _size(subject)
    method: Method = importlib.import_module(METHODS[pruning.type])
    with _measure(subject, goal, spec.trials, inputs) as subject.measure:
        pruned = method.prune(subject, pruning)
    checkpoint.edits += pruned.edits
    checkpoint.masks = pruned.masks
    check_finite(subject.module.state_dict(), "the pruned model")
    save_checkpoint(checkpoint, out)
    after = _size(subject)
    files.write(out, PruneOutcome(pruning.type, (spec.part, spec.parts), before, after, pruned.report))
    emit(1.0, f"{after.parameters:,} of {before.parameters:,} parameters, {after.macs:,} MACs")


def _size(subject: Subject) -> Size:
    return Size(load.count_parameters(subject.module), load.count_macs(subject.module, subject.example))


@contextmanager
def _measure(
    subject: Subject, goal: Goal | None, trials: Trials | None, inputs: Mapping[str, Path]
) -> Iterator[Measure | None]:
    """What measures a candidate for a goal on an exported file; None for another, or without one."""
    if goal is None or trials is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        if trials.device is None:
            yield _Timer(subject, trials, Path(scratch))
        else:
            yield _Counter(subject, trials, Path(scratch), goal.metric, inputs["profile"], inputs.get("calibration"))


@dataclass(slots=True)
class _Candidates:
    """Exports one candidate after the other, each into a folder of its own; `paths` are real samples for its inputs."""

    subject: Subject
    trials: Trials
    scratch: Path
    count: int = field(default=0, init=False)
    paths: list[Path] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        batches = self.subject.batches
        for number in range(len(batches[0][0])):
            path = self.scratch / f"calibration_{number}.npy"
            np.save(path, torch.cat([inputs[number] for inputs, _ in batches]).numpy())
            self.paths.append(path)

    @property
    def folder(self) -> Path:
        return self.scratch / str(self.count)

    def export(self, module: nn.Module) -> Trial:
        self.count += 1
        return export_float(module, self.subject.example, self.trials.runtime, self.folder, self.trials.model_layout)


class _Timer(_Candidates):
    """Times a candidate: the lowest of the rounds' medians on the host, in ms."""

    def __call__(self, module: nn.Module) -> float:
        (medians,) = time_in_turns([self.export(module)], self.paths, rounds=GOAL_ROUNDS)
        self.subject.emit(0.5, f"candidate {self.count}: {min(medians):.3f} ms")
        return min(medians)


@dataclass(slots=True)
class _Counter(_Candidates):
    """Counts a candidate's instructions on an emulated device, and estimates its latency where the goal is on that."""

    metric: str
    profile: Path
    calibration: Path | None

    def __call__(self, module: nn.Module) -> float:
        device = self.trials.device
        assert device is not None
        trial = self.export(module)
        counts = count_file(
            trial.path,
            self.trials.runtime,
            self.paths,
            self.profile,
            device.cores,
            scratch=self.folder,
            time_limit_s=device.time_limit_s,
            memory_limit_bytes=device.memory_limit_bytes,
        )
        self.subject.emit(0.5, f"candidate {self.count}: {counts.instructions:,} instructions")
        if self.metric == "instructions":
            return float(counts.instructions)
        estimated = estimate_file(trial.path, counts, self.profile, device.cores, self.calibration)
        if estimated.estimate is None:
            raise ModelError(f"no latency is estimated for a candidate: {estimated.refused}", "use metric instructions")
        return estimated.estimate.latency_ms
