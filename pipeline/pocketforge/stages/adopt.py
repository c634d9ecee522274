"""Stage `adopt`: a model file made elsewhere, as it is: whole, alone, loaded by its runtime, and fit for the samples.

In the place of `export`: what comes after judges the copy by its SHA-256 like a file of ours.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np

from pocketforge import events
from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.measure.fed_values import check_kind, check_values
from pocketforge.measure.file_fit import (
    Given,
    check_layout,
    clean_names,
    fit_inputs,
    fit_outputs,
    layout_in,
)
from pocketforge.measure.foreign_file import given_samples, look_at, opened
from pocketforge.measure.stored_scheme import stored_scheme
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.elsewhere import Elsewhere
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.specs.adopt import AdoptSpec

# Runtime → what its program for ARM cores needs, and what makes it.
_FIXING = {
    "onnx": "; emulated cores and phones take fixed shapes only, which python -m "
    "onnxruntime.tools.make_dynamic_shape_fixed makes",
}


def run(inputs: Mapping[str, Path], spec: AdoptSpec, out: Path, emit: events.Progress) -> None:
    """inputs: "file", "data", "reference" (where there is something to hold the file against).

    Writes the file, export.json (what it takes and gives, in its own words) and elsewhere.json (how that fits). Raises
    ModelError for a file that is damaged or not whole, or does not fit the samples or the reference; ToolFailed where
    its runtime does not load it.
    """
    emit(0.0, f"reading {spec.name}")
    described = opened(inputs["file"], spec.name)
    path = out / f"model{PurePath(spec.name).suffix.lower()}"
    shutil.copyfile(inputs["file"], path)
    emit(0.3, "loading it")
    answer = look_at(path, spec.runtime, spec.name)
    sampled = files.read(inputs["data"], Sampled)
    reference = files.read(inputs["reference"], Reference) if "reference" in inputs else None
    given = given_samples(sampled, [each.name for each in reference.inputs] if reference else None)
    feeds = fit_inputs(spec.name, answer.inputs, given)
    taken, notes = _taken(spec, answer.inputs, feeds, given, inputs["data"])
    gives = _named(answer.outputs, "output")
    for tensor in gives:
        check_kind(spec.name, "output", tensor)
    if reference:
        wanted = [Given(each.name, each.shape[1:], each.dtype) for each in reference.outputs]
        answers = tuple(wanted[place].name for place in fit_outputs(spec.name, answer.outputs, wanted))
    else:
        answers = clean_names(gives)
    itself = reference is not None and reference.file_sha256 == described.sha256
    against = reference.title if reference and not itself else ""
    files.write(
        out, Exported({"model": path.name}, taken, gives, {"model": described.gzip_bytes}, warnings=tuple(notes))
    )
    files.write(out, Elsewhere(spec.name, stored_scheme(described), against, feeds, answers))
    emit(1.0, f"{path.stat().st_size} bytes")


def _taken(
    spec: AdoptSpec, tensors: Sequence[TensorSpec], feeds: Sequence[int], given: Sequence[Given], data: Path
) -> tuple[tuple[TensorSpec, ...], list[str]]:
    """What the file takes, with layouts, and what a user should know of the samples that it gets."""
    paths = sample_paths(data, "eval")
    taken: list[TensorSpec] = []
    notes: list[str] = []
    for tensor, place in zip(_named(tensors, "input"), feeds, strict=True):
        layout = layout_in(tensor, given[place])
        check_layout(spec.name, tensor, layout, spec.layout)
        notes += filter(None, [check_values(spec.name, tensor, np.load(paths[place], mmap_mode="r"))])
        if -1 in tensor.shape:
            shape = [1, *given[place].shape]
            notes.append(f"input {tensor} is open: the file is judged at {shape} alone{_FIXING.get(spec.runtime, '')}")
        taken.append(dataclasses.replace(tensor, layout=layout))
    return tuple(taken), notes


def _named(tensors: Sequence[TensorSpec], side: str) -> tuple[TensorSpec, ...]:
    """A format without names (.pte) has its tensors by place."""
    alone = len(tensors) == 1
    return tuple(
        each if each.name else dataclasses.replace(each, name=side if alone else f"{side}_{place}")
        for place, each in enumerate(tensors)
    )
