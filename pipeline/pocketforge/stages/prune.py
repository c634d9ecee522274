"""Stage `prune`: one entry of [[compress]] that takes weights, channels or layers out of the model."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.measure.on_emulator import count_file, estimate_file
from pocketforge.measure.trial import export_float, time_in_turns
from pocketforge.model import load
from pocketforge.model.surgery import save_checkpoint
from pocketforge.model.weights import check_finite
from pocketforge.pruning.base import Emit, Subject
from pocketforge.pruning.sensitivity import choose_ratios
from pocketforge.pruning.subject import open_checkpoint, subject_for
from pocketforge.recipe.compress import DropLayers, PruneChannels, compress_entry
from pocketforge.registries import METHODS

# Fewer than a benchmark's: a goal asks for several candidates.
GOAL_ROUNDS = 2


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """inputs: data_root, weights or checkpoint, labels, sensitivity (for ratio "auto"); spec: definition, args, seed,
    data, task, inputs, prune (the entry's fields), part ([step, steps]); for a goal on an exported file also runtime
    and model_layout; for one on an emulated device also device, and the inputs profile and (its own) calibration.

    Writes a checkpoint (see surgery) and prune.json. Raises ModelError when the model cannot be pruned so.
    """
    settings = compress_entry(spec["prune"])
    checkpoint = open_checkpoint(inputs, spec)
    subject = subject_for(checkpoint, inputs, spec, emit)
    subject.step, subject.steps = spec["part"]
    if "sensitivity" in inputs and isinstance(settings, PruneChannels):
        found = json.loads((inputs["sensitivity"] / "sensitivity.json").read_text("utf-8"))
        subject.ratios = choose_ratios(found, settings.max_accuracy_drop)
    goal = settings.goal if isinstance(settings, PruneChannels | DropLayers) else None
    before = {"parameters": load.count_parameters(subject.module), "macs": _macs(subject)}
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        if goal is not None and goal.metric == "latency_ms":
            subject.measure = _timer(subject, spec, Path(scratch))
        if goal is not None and goal.emulated:
            subject.measure = _counter(subject, goal.metric, inputs, spec, Path(scratch))
        pruned = importlib.import_module(METHODS[settings.type]).prune(subject, settings)
    checkpoint.edits += pruned.edits
    checkpoint.masks = pruned.masks
    check_finite(subject.module.state_dict(), "the pruned model")
    save_checkpoint(checkpoint, out)
    after = {"parameters": load.count_parameters(subject.module), "macs": _macs(subject)}
    report = {"type": settings.type, "part": spec["part"], "before": before, "after": after, **pruned.report}
    (out / "prune.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", "utf-8")
    emit(1.0, f"{after['parameters']:,} of {before['parameters']:,} parameters, {after['macs']:,} MACs")


def _macs(subject: Subject) -> int:
    return load.count_macs(subject.module, subject.example)


def _timer(subject: Subject, spec: Mapping[str, Any], scratch: Path) -> Callable[[nn.Module], float]:
    """Measures a candidate: export to the goal's runtime, then the lowest of the rounds' medians on the host."""
    paths = _input_files(subject.batches, scratch)
    count = 0

    def latency_ms(module: nn.Module) -> float:
        nonlocal count
        count += 1
        trial = export_float(module, subject.example, spec["runtime"], scratch / str(count), spec["model_layout"])
        (medians,) = time_in_turns([trial], paths, rounds=GOAL_ROUNDS)
        subject.emit(0.5, f"candidate {count}: {min(medians):.3f} ms")
        return min(medians)

    return latency_ms


def _counter(
    subject: Subject, metric: str, inputs: Mapping[str, Path], spec: Mapping[str, Any], scratch: Path
) -> Callable[[nn.Module], float]:
    """Counts a candidate's instructions on an emulated device, and estimates its latency where the goal is on that."""
    paths, device, profile = _input_files(subject.batches, scratch), spec["device"], inputs["profile"]
    count = 0

    def measure(module: nn.Module) -> float:
        nonlocal count
        count += 1
        trial = export_float(module, subject.example, spec["runtime"], scratch / str(count), spec["model_layout"])
        counts = count_file(
            trial.path,
            spec["runtime"],
            paths,
            profile,
            device["cores"],
            scratch=scratch / str(count),
            time_limit_s=device["time_limit_s"],
            memory_limit_bytes=device["memory_limit_bytes"],
        )
        subject.emit(0.5, f"candidate {count}: {counts.instructions:,} instructions")
        if metric == "instructions":
            return float(counts.instructions)
        estimated = estimate_file(trial.path, counts, profile, device["cores"], inputs.get("calibration"))
        if estimated.estimate is None:
            raise ModelError(f"no latency is estimated for a candidate: {estimated.refused}", "use metric instructions")
        return estimated.estimate.latency_ms

    return measure


def _input_files(batches: list[tuple[tuple[Tensor, ...], Tensor]], folder: Path) -> list[Path]:
    paths = []
    for number in range(len(batches[0][0])):
        path = folder / f"calibration_{number}.npy"
        np.save(path, torch.cat([inputs[number] for inputs, _ in batches]).numpy())
        paths.append(path)
    return paths
