"""Stage `package`: the traced graph, or a target's quantized ones, with something of the app's side inside.

It writes a folder of the same form as the one that it reads (stage reference's, or quantize's), so that export, verify
and all that comes after take it for that: samples are then raw ones, and answers finished ones.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from pocketforge import events
from pocketforge.accuracy.packed import answered, packed_place
from pocketforge.data.arrays_on_disk import load_samples
from pocketforge.errors import ModelError, StageFailed
from pocketforge.metrics import Array
from pocketforge.model.evaluate import one_sample
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Preprocessing, Sampled
from pocketforge.outcomes.package import Packed, PackedInput
from pocketforge.outcomes.quantize import Quantized
from pocketforge.outcomes.reference import ModelTensor, Reference
from pocketforge.recipe.image_steps import Normalize, Scale
from pocketforge.recipe.packed import Inside
from pocketforge.rewrites import graph_files
from pocketforge.rewrites.packing import ANSWERS, packed_program
from pocketforge.specs.package import PackageSpec
from pocketforge.training.shares import outputs_of_shares

_GRAPHS = ("model.pt2", "folded.pt2", "unfolded.pt2")


def run(inputs: Mapping[str, Path], spec: PackageSpec, out: Path, emit: events.Progress) -> None:
    """inputs: "data" (what the file is fed), "prepared" (the same samples as the model itself takes them),
    "reference"; "quantize" where the quantized graphs are packed, and not the traced one.

    Writes what stage reference (or quantize) does, and package.json. The outputs beside a traced graph are PyTorch's
    own of the prepared samples, so what is inside is no part of what it is judged by; those beside a quantized graph
    are its own, of the raw samples. Raises ModelError where the samples do not fit what is to be inside, StageFailed
    where torch cannot trace it.
    """
    torch.set_num_threads(1)
    if "quantize" in inputs:
        # Also registers the ops that a converted graph holds; a float target needs none of its toolchains.
        from pocketforge.quantization.converted import write_outputs
    source = inputs.get("quantize", inputs["reference"])
    reference = files.read(inputs["reference"], Reference)
    raw, prepared = (files.read(inputs[role], Sampled) for role in ("data", "prepared"))
    _check_same(raw, prepared)
    samples = load_samples(inputs["data"], "eval")
    example = tuple(one_sample(samples, 0))
    insides = (
        [
            settled(inside, number, prepared, array)
            for number, (inside, array) in enumerate(zip(spec.inside, samples, strict=True))
        ]
        if spec.inside
        else []
    )
    names = [tensor.name for tensor in reference.outputs]
    place = packed_place(spec.package, spec.judged, names, spec.task)
    for path in sorted(source.iterdir()):
        if path.name not in _GRAPHS and not path.name.startswith("outputs_"):
            _copy(path, out / path.name)
    if "quantize" not in inputs and place is not None:
        check_scores(graph_files.load(source / "model.pt2"), spec.package.postprocess, place, names[place])
    emit(0.1, "packing the graph")
    for name in _GRAPHS:
        if (source / name).exists():
            _pack(source / name, spec, insides, example, place, out / name)
    if "quantize" in inputs:
        quantized = files.read(source, Quantized)
        levels = tuple(None if number == place else each for number, each in enumerate(quantized.outputs))
        files.write(out, dataclasses.replace(quantized, outputs=levels))
        graph = graph_files.load(out / "folded.pt2").module()
        write_outputs(graph, inputs["data"], out, lambda f: emit(0.3 + 0.7 * f, "running the packed graph"))
    else:
        outputs = [np.load(source / f"outputs_{number}.npy", mmap_mode="r") for number in range(len(names))]
        if place is not None and spec.package.postprocess == "masks":
            check_masks(outputs[place].shape[1:], names[place])
        answers = [answered(spec.package, each) if number == place else each for number, each in enumerate(outputs)]
        for number, values in enumerate(answers):
            np.save(out / f"outputs_{number}.npy", values)
        files.write(out, _told(reference, example, answers))
    taken = [
        _input(inside, tensor, value) for inside, tensor, value in zip(insides, reference.inputs, example, strict=False)
    ]
    files.write(out, Packed(tuple(taken), spec.package.postprocess, names[place] if place is not None else ""))
    emit(1.0, ", ".join(_summary(spec)))


def check_scores(program: ExportedProgram, postprocess: str, place: int, name: str) -> None:
    """Raises ModelError where the model's own output ends in shares already: shares of shares are in the same order, so
    that no accuracy tells them apart, and far from what an app shows as probabilities."""
    shares = outputs_of_shares(program).get(place)
    if shares is not None and postprocess in ("softmax", "sigmoid", "masks"):
        raise ModelError(
            f"package: output {name!r} ends in {shares.layer} already, and {postprocess} of it is another answer",
            "leave postprocess out of package: the file gives shares as it is",
        )


def check_masks(shape: Sequence[int], name: str) -> None:
    """Raises ModelError for what is no [classes, H, W], and for a cube: which axis has the classes is seen nowhere."""
    if len(shape) != 3 or len(set(shape)) == 1:
        raise ModelError(
            f"package: masks are made of [1, classes, H, W], no cube, found output {name!r} of [1, "
            f"{', '.join(map(str, shape))}]",
            "leave postprocess out of package: the app brings the classes last itself",
        )


def _summary(spec: PackageSpec) -> list[str]:
    found = ["preprocessing inside"] if spec.inside else []
    return [*found, *([spec.package.postprocess] if spec.package.postprocess != "none" else [])]


def _copy(path: Path, to: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, to)
    else:
        shutil.copyfile(path, to)


def _check_same(raw: Sampled, prepared: Sampled) -> None:
    """What the file is fed and what it is judged by have to be the same samples, in the same order."""
    if raw.ids_sha256 != prepared.ids_sha256:
        raise StageFailed(
            "the samples that the file is fed are not those that the model was judged on: the data gave others when "
            "they were read again",
            "does the source's function give the same samples each time?",
        )


def settled(inside: Inside, number: int, prepared: Sampled, samples: Array) -> Inside:
    """With the numbers that the recipe leaves to the source, and only where they fit the samples."""
    steps = []
    for place, step in enumerate(inside.steps):
        if isinstance(step, Scale) and step.by is None:
            divided = _divided_by(prepared, number, sum(isinstance(before, Scale) for before in inside.steps[:place]))
            if divided is None:
                continue  # of a short table, where the source says no largest value: nothing is divided
            step = Scale(by=divided)
        if isinstance(step, Normalize) and len(step.mean) > 1:
            shape = samples.shape[1:]
            found = shape[0 if inside.layout == "NCHW" else -1] if shape else 1
            if len(step.mean) != found:
                raise ModelError(
                    f"package: mean and std have {len(step.mean)} values, the samples have {found} channels",
                    'set data.preprocess.color to "rgb" or "grayscale", or give one value a channel',
                )
        steps.append(step)
    return dataclasses.replace(inside, steps=tuple(steps))


def _divided_by(prepared: Sampled, number: int, place: int) -> float | None:
    """By what samples were divided, as the data's own words have it. place: of the division among those of the list."""
    words = (
        prepared.preprocess if isinstance(prepared.preprocess, Preprocessing) else prepared.preprocess.inputs[number]
    )
    divided = [float(str(step["by"])) for step in words.steps if step["step"] == "divide"]
    return divided[place] if place < len(divided) else None


def _pack(
    path: Path, spec: PackageSpec, insides: Sequence[Inside], example: tuple[Tensor, ...], place: int | None, to: Path
) -> None:
    answer = ANSWERS[spec.package.postprocess] if place is not None else None
    program = graph_files.load(path)
    packed = packed_program(program, insides, example, answer, place or 0, stored=path.name != "unfolded.pt2")
    torch.export.save(packed, to)


def _told(reference: Reference, example: Sequence[Tensor], answers: Sequence[Array]) -> Reference:
    """What the packed graph takes and gives."""
    return dataclasses.replace(
        reference,
        inputs=tuple(
            ModelTensor(tensor.name, tuple(value.shape), str(value.dtype).removeprefix("torch."))
            for tensor, value in zip(reference.inputs, example, strict=True)
        ),
        outputs=tuple(
            ModelTensor(tensor.name, (1, *values.shape[1:]), str(values.dtype))
            for tensor, values in zip(reference.outputs, answers, strict=True)
        ),
    )


def _input(inside: Inside, tensor: ModelTensor, value: Tensor) -> PackedInput:
    words: list[Mapping[str, object]] = (
        [{"step": "reverse_channels", "from": "RGB", "to": "BGR"}] if inside.reverses_channels else []
    )
    for step in inside.steps:
        if isinstance(step, Scale):
            words.append({"step": "divide", "by": step.by})
        elif isinstance(step, Normalize):
            words.append({"step": "normalize", "mean": list(step.mean), "std": list(step.std)})
    if inside.model_layout and inside.model_layout != inside.layout:
        words.append({"step": "layout", "to": inside.model_layout})
    dtype = str(value.dtype).removeprefix("torch.")
    return PackedInput(tensor.name, dtype, tuple(value.shape), inside.layout, tuple(words))
