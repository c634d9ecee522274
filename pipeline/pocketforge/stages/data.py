"""Stage `data`: from the source to arrays of calibration and eval samples, preprocessed, in files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pocketforge.data.arrays_on_disk import create_samples
from pocketforge.data.dataset import Dataset, Samples, open_dataset
from pocketforge.data.labels import repeated_names
from pocketforge.data.preprocess import describe
from pocketforge.errors import ModelError
from pocketforge.files import json_text, resolver

Emit = Callable[[float, str], None]


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """Read, split and preprocess the data.

    inputs: "data_root" (the folder that the source's relative paths are relative to), "labels" (a text file);
    both may be absent. spec: source, seed, eval_fraction, eval_samples, calibration_samples, preprocess, task.
    Writes into `out`: calibration_K.npy and eval_K.npy for each model input K (N samples first, no other batch
    dimension), eval_targets.npy (int64 labels, or float32), data.json. Raises ModelError for data that does not fit.
    """
    emit(0.0, f"reading {spec['source']}")
    dataset = open_dataset(spec, resolver(inputs.get("data_root")), inputs.get("labels"))
    total = len(dataset.calibration) + len(dataset.eval)
    _write(dataset.calibration, out, "calibration", lambda done: emit(done / total, "calibration samples"))
    start = len(dataset.calibration)
    targets = _write(dataset.eval, out, "eval", lambda done: emit((start + done) / total, "eval samples"))
    np.save(out / "eval_targets.npy", targets)
    (out / "data.json").write_text(json_text(_summary(dataset, spec, out, targets)), "utf-8")
    emit(1.0, f"{start} calibration and {len(dataset.eval)} eval samples")


def _write(samples: Samples, out: Path, name: str, progress: Callable[[int], None]) -> Any:
    """Stream one split to `name`_K.npy; the targets come back as an array (they are small)."""
    first, first_target = samples[0]
    # Memory-mapped: 1000 images of 224×224 are 600 MB, and a phone-sized build machine need not hold them.
    files: list[Any] = [
        create_samples(out / f"{name}_{number}.npy", array.dtype, (len(samples), *array.shape))
        for number, array in enumerate(first)
    ]
    targets = []
    step = max(1, len(samples) // 20)
    for position in range(len(samples)):
        arrays, target = (first, first_target) if position == 0 else samples[position]
        _check_same(arrays, np.shape(target), first, np.shape(first_target), samples.name(position))
        for file, array in zip(files, arrays, strict=True):
            file[position] = array
        targets.append(target)
        if (position + 1) % step == 0:
            progress(position + 1)
    for file in files:
        file.flush()
    return np.asarray(targets, np.int64 if samples.task == "classification" else np.float32)


def _check_same(arrays: Any, target: Any, first: Any, first_target: Any, name: str) -> None:
    found = [(array.shape, array.dtype) for array in arrays]
    wanted = [(array.shape, array.dtype) for array in first]
    if found != wanted or target != first_target:
        words = [", ".join(f"{shape} {dtype}" for shape, dtype in side) for side in (wanted, found)]
        raise ModelError(
            f"data.source: sample {name!r} has shape {words[1]} (target {target}), the first has {words[0]} "
            f"(target {first_target})",
            'samples must be alike: set data.preprocess.resize, and data.preprocess.color = "rgb" or "grayscale"',
        )


def _summary(dataset: Dataset, spec: Mapping[str, Any], out: Path, targets: Any) -> dict[str, Any]:
    """What data.json holds."""
    splits = {"calibration": dataset.calibration, "train": dataset.train, "eval": dataset.eval}
    arrays = [np.load(path, mmap_mode="r") for path in sorted(out.glob("eval_[0-9]*.npy"), key=_number)]
    histogram: list[dict[str, Any]] | None = None
    if dataset.task == "classification":
        counts = np.bincount(targets, minlength=len(dataset.labels))
        names = dataset.labels or tuple(str(number) for number in range(len(counts)))
        histogram = [{"label": names[number], "count": int(count)} for number, count in enumerate(counts)]
    return {
        "version": 1,
        "source": spec["source"],
        "task": dataset.task,
        "labels": list(dataset.labels),
        "counts": {
            "source": len(dataset.source),
            **{name: len(samples) for name, samples in splits.items()},
            "held_out": len(dataset.split.held_out),
            "duplicates_dropped": len(dataset.split.duplicates),
        },
        "ids_sha256": {name: _ids_digest(samples.ids) for name, samples in splits.items()},
        "inputs": [{"shape": list(array.shape[1:]), "dtype": str(array.dtype)} for array in arrays],
        "targets": {"shape": list(targets.shape[1:]), "dtype": str(targets.dtype)},
        "preprocess": describe(dataset.preprocess, dataset.value_max, dataset.source.reading),
        "eval_histogram": histogram,
        "notes": [note for note in (*dataset.source.notes(), repeated_names(dataset.labels)) if note],
    }


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _ids_digest(ids: list[str]) -> str:
    """Of the ids in the split's order: the same samples, the same digest."""
    return hashlib.sha256("".join(f"{sample_id}\0" for sample_id in ids).encode("utf-8", "surrogateescape")).hexdigest()
