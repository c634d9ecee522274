"""Stage `gains`: what each step of [[compress]] bought, measured: sizes, accuracy, and time in every runtime.

Every state of the model is exported in float and the files are timed in turns in one sitting, so that a step which
lowers MACs but not time shows as such.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pocketforge.data.arrays_on_disk import load_samples, sample_paths
from pocketforge.errors import StageFailed
from pocketforge.measure.slow_layers import find_slow_layers
from pocketforge.measure.trial import Trial, export_float, time_in_turns
from pocketforge.model import load, surgery
from pocketforge.model.weights import save_weights
from pocketforge.pruning.sparse_storage import encode
from pocketforge.pruning.subject import accuracy, example_for, mean_loss, open_checkpoint, task_loss
from pocketforge.pruning.unstructured import measure_zeros
from pocketforge.stats import ratio_interval

Emit = Callable[[float, str], None]
Batch = list[tuple[tuple[Tensor, ...], Tensor]]

# A step that removes less than this share of the MACs promises no time.
PROMISE = 0.02
# Rounds of timing: as many as it takes to see whether time fell, between these.
ROUNDS = 4
ROUNDS_VARIABLE = "POCKETFORGE_GAIN_ROUNDS"


def _most_rounds() -> int:
    """Fewer rounds leave wider intervals, and more steps unsettled; an interval needs two."""
    given = os.environ.get(ROUNDS_VARIABLE) or "12"
    if not given.isdecimal() or int(given) < 2:
        raise StageFailed(f"{ROUNDS_VARIABLE} must be a number of rounds, 2 or more, found {given!r}")
    return int(given)


MOST_ROUNDS = _most_rounds()
BATCH = 100


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """inputs: data, weights, data_root, state_1 … state_N (checkpoints); spec: definition, args, seed, labels (of the
    states), inputs, runtimes, model_layout, task.

    Writes gains.json: "states" (the model as given first, then one for each label) and "flags" (structured steps whose
    time did not fall). Raises as models, exporters and files that do not run do.
    """
    torch.set_num_threads(1)
    batches = _eval_batches(inputs["data"])
    example = example_for(spec, inputs, batches)
    labels = ["as given", *spec["labels"]]
    states: list[dict[str, Any]] = []
    checkpoints: list[surgery.Checkpoint] = []
    trials: dict[int, list[Trial]] = {}
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        seen = ""
        for number, label in enumerate(labels):
            emit(0.5 * number / len(labels), label)
            checkpoint = open_checkpoint(inputs, spec, f"state_{number}")
            state = describe(checkpoint, example, batches, spec["task"])
            # Training moves weights about and changes no shape: what was timed before it still holds.
            graph = _graph_of(checkpoint, state)
            if graph != seen:
                trials[number] = [
                    export_float(checkpoint.module, example, r, Path(scratch, f"{number}-{r}"), spec["model_layout"])
                    for r in spec["runtimes"]
                ]
                seen = graph
            states.append({"label": label, "timed": number in trials, **state})
            checkpoints.append(checkpoint)
        paths = sample_paths(inputs["data"], "eval")
        for index, runtime in enumerate(spec["runtimes"]):
            emit(0.5 + 0.4 * index / len(spec["runtimes"]), f"timing in {runtime}")
            _time(states, {number: found[index] for number, found in trials.items()}, paths, runtime)
        emit(0.9, "looking for layers that gained nothing")
        flags = find_flags(states, checkpoints, example, spec, Path(scratch))
    (out / "gains.json").write_text(json.dumps({"states": states, "flags": flags}, indent=1, sort_keys=True), "utf-8")
    emit(1.0, f"{len(states)} states, {len(flags)} flagged")


def describe(checkpoint: surgery.Checkpoint, example: tuple[Tensor, ...], batches: Batch, task: str) -> dict[str, Any]:
    """Facts of one state that need no runtime; sizes are of its weights as a safetensors file."""
    module = checkpoint.module
    zeros = measure_zeros(module)
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        weights, packed = Path(scratch, "weights.safetensors"), Path(scratch, "packed.safetensors")
        save_weights(module, weights)
        sizes = encode(weights, packed)
    found: dict[str, Any] = {
        "parameters": load.count_parameters(module),
        "macs": load.count_macs(module, example),
        "zeros": zeros["zeros"],
        "weights": zeros["weights"],
        "weights_bytes": sizes.dense_bytes,
        "weights_gzip_bytes": sizes.gzip_bytes,
        "sparse_bytes": sizes.sparse_bytes,
        "sparse_gzip_bytes": sizes.sparse_gzip_bytes,
        "loss": mean_loss(module, batches, task_loss(task)),
        "runtimes": {},
    }
    if task == "classification":
        found["accuracy_top1"] = accuracy(module, batches)
    return found


def _eval_batches(folder: Path) -> Batch:
    arrays = load_samples(folder, "eval")
    targets = torch.from_numpy(np.load(folder / "eval_targets.npy"))
    return [
        (tuple(torch.from_numpy(np.array(a[start : start + BATCH])) for a in arrays), targets[start : start + BATCH])
        for start in range(0, len(targets), BATCH)
    ]


def _graph_of(checkpoint: surgery.Checkpoint, state: Mapping[str, Any]) -> str:
    edits = json.dumps([surgery.edit_to_json(edit) for edit in checkpoint.edits], sort_keys=True)
    masks = hashlib.sha256()
    for name, mask in sorted(checkpoint.masks.items()):
        masks.update(name.encode() + mask.to(torch.uint8).numpy().tobytes())
    return f"{edits} {masks.hexdigest()}"


def _time(states: list[dict[str, Any]], trials: Mapping[int, Trial], paths: list[Path], runtime: str) -> None:
    """Fill in states' "runtimes"; a state that was not exported has what the one before it has."""
    numbers = sorted(trials)
    rounds: dict[int, list[float]] = {number: [] for number in numbers}
    while not (done := len(rounds[numbers[0]])) or (
        done < MOST_ROUNDS
        and any(
            verdict([states[a]["macs"], states[b]["macs"]], ratio_interval(rounds[a], rounds[b])) == "unsettled"
            for a, b in itertools.pairwise(numbers)
        )
    ):
        found_now = time_in_turns([trials[n] for n in numbers], paths, rounds=min(ROUNDS, MOST_ROUNDS - done))
        for number, medians in zip(numbers, found_now, strict=True):
            rounds[number] += medians
    before = last = numbers[0]
    for number, state in enumerate(states):
        if number in rounds:
            before, last = last, number
        trial = trials[last]
        found: dict[str, Any] = {
            "size_bytes": trial.size_bytes,
            "gzip_bytes": trial.gzip_bytes,
            "latency_ms": statistics.median(rounds[last]),
            "rounds_ms": rounds[last],
        }
        if number in rounds and number != numbers[0]:
            found["ratio"], found["ratio_low"], found["ratio_high"] = ratio_interval(rounds[before], rounds[last])
        state["runtimes"][runtime] = found


def verdict(macs: list[int], ratio: tuple[float, float, float]) -> str:
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
    states: list[dict[str, Any]],
    checkpoints: list[surgery.Checkpoint],
    example: tuple[Tensor, ...],
    spec: Mapping[str, Any],
    scratch: Path,
) -> list[dict[str, Any]]:
    """Timed steps with fewer MACs whose time was not shown to fall; where it surely did not, the layers responsible."""
    flags = []
    timed = [n for n, state in enumerate(states) if state["timed"]]
    for before, after in itertools.pairwise(timed):
        macs = [states[n]["macs"] for n in (before, after)]
        for runtime in spec["runtimes"]:
            found = states[after]["runtimes"][runtime]
            if "ratio" not in found:
                continue
            ratio = (found["ratio"], found["ratio_low"], found["ratio_high"])
            said = verdict(macs, ratio)
            if said not in ("no_gain", "unsettled"):
                continue
            modules = checkpoints[before].module, checkpoints[after].module
            folder = scratch / f"layers-{after}-{runtime}"
            layers = find_slow_layers(*modules, example, runtime, folder) if said == "no_gain" else []
            flags.append(
                {
                    "label": states[after]["label"],
                    "runtime": runtime,
                    "verdict": said,
                    "macs": macs,
                    "ratio": list(ratio),
                    "layers": layers,
                }
            )
    return flags
