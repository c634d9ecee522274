"""Stage `data`: from the source to arrays of calibration and eval samples, preprocessed, in files."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pocketforge import events
from pocketforge.data.arrays_on_disk import create_samples
from pocketforge.data.dataset import Dataset, Samples, open_dataset
from pocketforge.data.kept_texts import keep_texts
from pocketforge.data.labels import repeated_names
from pocketforge.data.preprocess_words import describe
from pocketforge.data.role_targets import IGNORED_PIXEL
from pocketforge.data.sequences import prepared_steps, write_steps
from pocketforge.data.slices import write_slices
from pocketforge.data.targets import Targets
from pocketforge.data.targets_on_disk import TargetsWriter
from pocketforge.errors import ModelError
from pocketforge.files import resolver
from pocketforge.metrics import Array
from pocketforge.outcomes import files
from pocketforge.outcomes.data import ClassCount, Counts, NamedTarget, Sampled, SampleTensor
from pocketforge.specs.data import DataSpec


def run(inputs: Mapping[str, Path], spec: DataSpec, out: Path, emit: events.Progress) -> None:
    """Read, split and preprocess the data.

    inputs: "data_root" (the folder that the source's relative paths are relative to), "labels" (a text file);
    both may be absent. Writes into `out`: calibration_K.npy and eval_K.npy for each model input K (N samples first, no
    other batch dimension), eval_targets.npy (int64 labels, or float32) or targets by name (data/targets_on_disk.py),
    eval_slices.npy (data/slices.py), of texts what data/kept_texts.py says, data.json. Raises ModelError for data that
    does not fit.
    """
    emit(0.0, f"reading {spec.source}")
    resolve = resolver(inputs.get("data_root"))
    dataset = open_dataset(spec, resolve, inputs.get("labels"))
    total = len(dataset.calibration) + len(dataset.eval)
    _write(dataset.calibration, out, "calibration", lambda done: emit(done / total, "calibration samples"))
    start = len(dataset.calibration)
    found = _write(dataset.eval, out, "eval", lambda done: emit((start + done) / total, "eval samples"))
    keep_texts(dataset.eval, resolve, out)
    named: tuple[NamedTarget, ...] = ()
    targets: Array | None = None
    if spec.task == "outputs":
        named = _write_named(found, dataset.eval, out)
    else:
        targets = np.asarray(found, np.int64 if spec.task == "classification" else np.float32)
        np.save(out / "eval_targets.npy", targets)
    if spec.sequence:
        steps = write_steps(out, "calibration", spec.sequence)
        if write_steps(out, "eval", spec.sequence) != steps:
            raise ModelError("data.source: calibration and eval samples have other numbers of steps")
    sampled = _sampled(dataset, spec.source, out, targets, named)
    slices = [dataset.eval.slices(position) for position in range(len(dataset.eval))]
    sampled = dataclasses.replace(sampled, slices=write_slices(slices, dataset.eval.ids, out))
    if spec.sequence:
        prepared = prepared_steps(sampled.preprocess, spec.sequence)
        states = tuple(place for place, each in enumerate(spec.sequence) if each.state)
        sampled = dataclasses.replace(sampled, steps=steps, states=states, preprocess=prepared)
    files.write(out, sampled)
    emit(1.0, f"{start} calibration and {len(dataset.eval)} eval samples")


def _write_named(found: Sequence[object], samples: Samples, out: Path) -> tuple[NamedTarget, ...]:
    writer = TargetsWriter({each.name: each.kind for each in samples.targets})
    for position, targets in enumerate(found):
        assert isinstance(targets, Targets), "task outputs has targets by name"
        writer.add(targets, samples.name(position))
    for each in samples.targets:
        if each.kind == "mask":
            _check_masks(writer.arrays[each.name], each.name, samples.name(0))
    return writer.write(out)


def _check_masks(masks: Sequence[Array], target: str, first: str) -> None:
    """Raises ModelError where 255 is drawn for all that is shown: it is ignored, and every answer would be right."""
    seen: set[int] = set()
    for mask in masks:
        seen.update(np.unique(mask).tolist())
        if not seen <= {0, IGNORED_PIXEL}:
            return
    if IGNORED_PIXEL in seen:
        raise ModelError(
            f"data.source: target {target!r} of all {len(masks)} eval samples ({first!r} …) holds no class but 0, and "
            f"{IGNORED_PIXEL}, which is ignored: nothing is judged there",
            f"is it a class? Write in the recipe's [data]: mask_values = [0, {IGNORED_PIXEL}] ({IGNORED_PIXEL} becomes "
            "class 1); of a function's masks give class numbers",
        )


def _write(samples: Samples, out: Path, name: str, progress: Callable[[int], None]) -> list[object]:
    """Stream one split to `name`_K.npy; the targets come back as they are (they are small)."""
    first, first_target = samples[0]
    # Memory-mapped: 1000 images of 224×224 are 600 MB, and a phone-sized build machine need not hold them.
    arrays_on_disk = [
        create_samples(out / f"{name}_{number}.npy", array.dtype, (len(samples), *array.shape))
        for number, array in enumerate(first)
    ]
    targets: list[object] = []
    step = max(1, len(samples) // 20)
    for position in range(len(samples)):
        arrays, target = (first, first_target) if position == 0 else samples[position]
        shapes = [() if isinstance(each, Targets) else np.shape(each) for each in (target, first_target)]
        _check_same(arrays, shapes[0], first, shapes[1], samples.name(position))
        for file, array in zip(arrays_on_disk, arrays, strict=True):
            file[position] = array
        targets.append(target)
        if (position + 1) % step == 0:
            progress(position + 1)
    for file in arrays_on_disk:
        file.flush()
    return targets


def _check_same(
    arrays: Sequence[Array], target: tuple[int, ...], first: Sequence[Array], first_target: tuple[int, ...], name: str
) -> None:
    """target, first_target: shapes of what is compared with the first output."""
    kinds, first_kinds = ([(array.shape, array.dtype) for array in side] for side in (arrays, first))
    if kinds != first_kinds or target != first_target:
        words = [", ".join(f"{shape} {dtype}" for shape, dtype in side) for side in (first_kinds, kinds)]
        raise ModelError(
            f"data.source: sample {name!r} has shape {words[1]} (target {target}), the first has {words[0]} "
            f"(target {first_target})",
            'samples must be alike: set data.preprocess.resize, and data.preprocess.color = "rgb" or "grayscale"; '
            "of sound a step pad_or_trim",
        )


def _sampled(
    dataset: Dataset, source: str, out: Path, targets: Array | None, named: tuple[NamedTarget, ...]
) -> Sampled:
    """What data.json says."""
    splits = {"calibration": dataset.calibration, "train": dataset.train, "eval": dataset.eval}
    arrays = [np.load(path, mmap_mode="r") for path in sorted(out.glob("eval_[0-9]*.npy"), key=_number)]
    return Sampled(
        source=source,
        task=dataset.task,
        labels=tuple(dataset.labels),
        counts=Counts(
            source=len(dataset.source),
            calibration=len(dataset.calibration),
            train=len(dataset.train),
            eval=len(dataset.eval),
            held_out=len(dataset.split.held_out),
            duplicates_dropped=len(dataset.split.duplicates),
        ),
        ids_sha256={name: _ids_digest(samples) for name, samples in splits.items()},
        inputs=tuple(_tensor(array) for array in arrays),
        targets=None if targets is None else _tensor(targets),
        preprocess=describe(dataset.preprocess, dataset.about),
        eval_histogram=(
            _histogram(dataset.labels, targets) if targets is not None and dataset.task == "classification" else None
        ),
        notes=tuple(note for note in (*dataset.source.notes(), repeated_names(dataset.labels)) if note),
        named=named,
        value_max=float(dataset.value_max),
    )


def _tensor(array: Array) -> SampleTensor:
    """What one sample of an array is."""
    return SampleTensor(tuple(array.shape[1:]), str(array.dtype))


def _histogram(labels: Sequence[str], targets: Array) -> tuple[ClassCount, ...]:
    counts = np.bincount(targets, minlength=len(labels))
    names = labels or [str(number) for number in range(len(counts))]
    return tuple(ClassCount(names[number], int(count)) for number, count in enumerate(counts))


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _ids_digest(samples: Samples) -> str:
    """Of the ids in the split's order: the same samples, the same digest."""
    digest = hashlib.sha256()
    for position in range(len(samples)):
        digest.update(f"{samples.name(position)}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
