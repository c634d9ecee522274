"""Stage `gains`: what each step of [[compress]] bought, measured: sizes, accuracy, and time in every runtime.

Every state of the model is exported in float and the files are timed in turns in one sitting, so that a step which
lowers MACs but not time shows as such.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pocketforge import events
from pocketforge.accuracy.judging import about_stored
from pocketforge.data.arrays_on_disk import load_samples, sample_paths
from pocketforge.data.targets_on_disk import stored_targets
from pocketforge.errors import StageFailed
from pocketforge.files import resolver
from pocketforge.measure.slow_layers import find_slow_layers
from pocketforge.measure.trial import Trial, export_float, time_in_turns
from pocketforge.model import load, surgery
from pocketforge.model.tensor_names import names_of_outputs
from pocketforge.model.weights import save_weights
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.gains import Flag, FloatTiming, GainsOutcome, State
from pocketforge.pruning.sparse_storage import encode
from pocketforge.pruning.subject import example_for, open_checkpoint
from pocketforge.pruning.unstructured import measure_zeros
from pocketforge.specs.gains import GainsSpec
from pocketforge.stats import ratio_interval
from pocketforge.training.batches import Batch, Inputs, named_targets, stacked
from pocketforge.training.judge import Standard, loss_and_top1, mean_loss, standard_for
from pocketforge.training.losses import Loss, task_loss
from pocketforge.training.role_losses import role_losses

Ratio = tuple[float, float, float]
Verdict = Literal["none", "faster", "no_gain", "unsettled"]

# A step that removes less than this share of the MACs promises no time.
PROMISE = 0.02
# Rounds of timing: as many as it takes to see whether time fell, between these.
ROUNDS = 4
ROUNDS_VARIABLE = "POCKETFORGE_GAIN_ROUNDS"
BATCH = 100


def most_rounds() -> int:
    """Fewer rounds leave wider intervals, and more steps unsettled; an interval needs two."""
    given = os.environ.get(ROUNDS_VARIABLE) or "12"
    if not given.isdecimal() or int(given) < 2:
        raise StageFailed(f"{ROUNDS_VARIABLE} must be a number of rounds, 2 or more, found {given!r}")
    return int(given)


def run(inputs: Mapping[str, Path], spec: GainsSpec, out: Path, emit: events.Progress) -> None:
    """inputs: data, weights, data_root, state_1 … state_N (checkpoints).

    Writes gains.json. Raises as models, exporters and files that do not run do.
    """
    torch.set_num_threads(1)
    rounds = most_rounds()
    sampled = files.read(inputs["data"], Sampled)
    batches = _eval_batches(inputs["data"], sampled)
    example = example_for(spec.model, spec.model_inputs, inputs, batches)
    with _judging(inputs, spec, sampled, batches) as by:
        _measure(inputs, spec, by, _Samples(batches, example, rounds), out, emit)


@dataclass(frozen=True, slots=True)
class _Samples:
    """What all states are run on, and how often their files are timed at most."""

    batches: Sequence[Batch]
    example: Inputs
    rounds: int


@dataclass(frozen=True, slots=True)
class By:
    """By what each state is judged.

    Attributes:
        task: `classification`, `regression` or `outputs`.
        loss: None where no output has one.
        standard: Says the recipe's metric; None where that judges no output, and of a task.
    """

    task: str
    loss: Loss | None
    standard: Standard | None = None


@contextmanager
def _judging(inputs: Mapping[str, Path], spec: GainsSpec, sampled: Sampled, batches: Sequence[Batch]) -> Iterator[By]:
    if spec.task != "outputs":
        yield By(spec.task, task_loss(spec.task))
        return
    resolve = resolver(inputs.get("data_root"))
    module = open_checkpoint(inputs, spec.model, "state_0").module
    names = names_of_outputs(module, batches[0][0], spec.model, spec.output_names, resolve)
    about = about_stored(sampled)
    standard = standard_for(names, spec.outputs, spec.task, spec.metric, about, resolve)
    with role_losses(standard.outputs, names, about, resolve) as roles:
        yield By(spec.task, roles if roles.trained else None, standard if standard.named else None)


def _measure(
    inputs: Mapping[str, Path], spec: GainsSpec, by: By, samples: _Samples, out: Path, emit: events.Progress
) -> None:
    batches, example, rounds = samples.batches, samples.example, samples.rounds
    labels = ("as given", *spec.labels)
    states: list[State] = []
    checkpoints: list[surgery.Checkpoint] = []
    trials: dict[int, dict[str, Trial]] = {}
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        graph_before = ""
        for number, label in enumerate(labels):
            emit(0.5 * number / len(labels), label)
            checkpoint = open_checkpoint(inputs, spec.model, f"state_{number}")
            # Training moves weights about and changes no shape: what was timed before it still holds.
            graph = _graph_of(checkpoint)
            if graph != graph_before:
                trials[number] = {
                    r: export_float(checkpoint.module, example, r, Path(scratch, f"{number}-{r}"), spec.model_layout)
                    for r in spec.runtimes
                }
                graph_before = graph
            state = describe(checkpoint, example, batches, by)
            states.append(dataclasses.replace(state, label=label, timed=number in trials))
            checkpoints.append(checkpoint)
        paths = sample_paths(inputs["data"], "eval")
        for index, runtime in enumerate(spec.runtimes):
            emit(0.5 + 0.4 * index / len(spec.runtimes), f"timing in {runtime}")
            states = timed_in(runtime, states, {n: some[runtime] for n, some in trials.items()}, paths, rounds)
        emit(0.9, "looking for layers that gained nothing")
        flags = find_flags(states, checkpoints, example, spec.runtimes, Path(scratch))
    files.write(out, GainsOutcome(tuple(states), tuple(flags)))
    emit(1.0, f"{len(states)} states, {len(flags)} flagged")


def describe(checkpoint: surgery.Checkpoint, example: Inputs, batches: Sequence[Batch], by: By) -> State:
    """A state without a label, with all that needs no runtime."""
    module = checkpoint.module
    zeros = measure_zeros(module)
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        weights, packed = Path(scratch, "weights.safetensors"), Path(scratch, "packed.safetensors")
        save_weights(module, weights)
        sizes = encode(weights, packed)
    loss = right = None
    if by.loss is not None and by.task == "classification":
        loss, right = loss_and_top1(module, batches, by.loss)
    elif by.loss is not None:
        loss = mean_loss(module, batches, by.loss)
    return State(
        label="",
        timed=False,
        parameters=load.count_parameters(module),
        macs=load.count_macs(module, example),
        zeros=zeros.zeros,
        weights=zeros.weights,
        weights_bytes=sizes.dense_bytes,
        weights_gzip_bytes=sizes.gzip_bytes,
        sparse_bytes=sizes.sparse_bytes,
        sparse_gzip_bytes=sizes.sparse_gzip_bytes,
        loss=loss,
        runtimes={},
        accuracy_top1=right,
        metric=by.standard.metric if by.standard is not None else "",
        value=by.standard.value(module, batches) if by.standard is not None else None,
    )


def _eval_batches(folder: Path, sampled: Sampled) -> list[Batch]:
    arrays = load_samples(folder, "eval")
    stored = stored_targets(folder, sampled)
    batches: list[Batch] = []
    for start in range(0, len(arrays[0]), BATCH):
        inputs = tuple(torch.from_numpy(np.array(a[start : start + BATCH])) for a in arrays)
        columns = {name: list(stored.batch(name, start, start + BATCH)) for name in stored.listed}
        own = columns.get("label" if sampled.task == "classification" else "value", [])
        batches.append((inputs, named_targets(columns) if sampled.task == "outputs" else stacked(own)))
    return batches


def _graph_of(checkpoint: surgery.Checkpoint) -> str:
    edits = json.dumps([surgery.edit_to_json(edit) for edit in checkpoint.edits], sort_keys=True)
    masks = hashlib.sha256()
    for name, mask in sorted(checkpoint.masks.items()):
        masks.update(name.encode() + mask.to(torch.uint8).numpy().tobytes())
    return f"{edits} {masks.hexdigest()}"


def timed_in(
    runtime: str, states: Sequence[State], trials: Mapping[int, Trial], paths: list[Path], most: int
) -> list[State]:
    """The states with their time in a runtime. trials: the number of a state → its file; a state that was not exported
    has what the one before it has. most: rounds.
    """
    numbers = sorted(trials)
    rounds = _rounds([states[number].macs for number in numbers], [trials[number] for number in numbers], paths, most)
    timings: dict[int, FloatTiming] = {}
    for place, number in enumerate(numbers):
        trial = trials[number]
        median = statistics.median(rounds[place])
        timing = FloatTiming(trial.size_bytes, trial.gzip_bytes, median, tuple(rounds[place]))
        if place:
            ratio, low, high = ratio_interval(rounds[place - 1], rounds[place])
            timing = dataclasses.replace(timing, ratio=ratio, ratio_low=low, ratio_high=high)
        timings[number] = timing
    result = []
    for number, state in enumerate(states):
        timing = timings[max(n for n in numbers if n <= number)]
        if number not in timings:
            timing = dataclasses.replace(timing, ratio=None, ratio_low=None, ratio_high=None)
        result.append(dataclasses.replace(state, runtimes={**state.runtimes, runtime: timing}))
    return result


def _rounds(macs: Sequence[int], trials: Sequence[Trial], paths: list[Path], most: int) -> list[list[float]]:
    """Medians in ms of each file, one for each round: as many as it takes to see whether time fell, at most `most`."""
    rounds: list[list[float]] = [[] for _ in trials]
    while not (done := len(rounds[0])) or (done < most and "unsettled" in _verdicts(macs, rounds)):
        latest = time_in_turns(trials, paths, rounds=min(ROUNDS, most - done))
        for so_far, medians in zip(rounds, latest, strict=True):
            so_far += medians
    return rounds


def _verdicts(macs: Sequence[int], rounds: Sequence[list[float]]) -> Iterator[Verdict]:
    for (macs_before, before), (macs_after, after) in itertools.pairwise(zip(macs, rounds, strict=True)):
        yield verdict((macs_before, macs_after), ratio_interval(before, after))


def verdict(macs: tuple[int, int], ratio: Ratio) -> Verdict:
    """What a change from macs[0] to macs[1] did to the time, whose ratio has an interval (ratio, low, high).

    "none": it promised nothing. "faster": the interval lies below 1. "no_gain": it does not, and even its low end is
    less than half of what the MACs promised. "unsettled": the timer's noise hides which.
    """
    less = 1 - macs[1] / macs[0]
    if less <= PROMISE:
        return "none"
    if ratio[2] < 1:
        return "faster"
    return "no_gain" if ratio[1] > 1 - less / 2 else "unsettled"


def find_flags(
    states: Sequence[State],
    checkpoints: Sequence[surgery.Checkpoint],
    example: Inputs,
    runtimes: Sequence[str],
    scratch: Path,
) -> list[Flag]:
    """Timed steps with fewer MACs whose time was not shown to fall; where it surely did not, the layers responsible."""
    flags = []
    timed = [number for number, state in enumerate(states) if state.timed]
    for before, after in itertools.pairwise(timed):
        state, macs = states[after], (states[before].macs, states[after].macs)
        for runtime in runtimes:
            timing = state.runtimes[runtime]
            if timing.ratio is None or timing.ratio_low is None or timing.ratio_high is None:
                continue
            ratio = (timing.ratio, timing.ratio_low, timing.ratio_high)
            judged = verdict(macs, ratio)
            if judged == "no_gain":
                modules = checkpoints[before].module, checkpoints[after].module
                layers = find_slow_layers(*modules, example, runtime, scratch / f"layers-{after}-{runtime}")
                flags.append(Flag(state.label, runtime, judged, macs, ratio, tuple(layers)))
            elif judged == "unsettled":
                flags.append(Flag(state.label, runtime, judged, macs, ratio, ()))
    return flags
