"""Stage `verify`: run the exact exported file(s) in new processes, on real samples, and compare.

A file that does not load or run fails the stage. A file that runs but is wrong is a result: verdict.json says so,
and nothing builds on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from pocketforge import events
from pocketforge.accuracy.judging import make_judge, with_names
from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.data.kept_texts import TEXTS
from pocketforge.devices.base import RunAnswer
from pocketforge.devices.kernels import kernels_here
from pocketforge.devices.outputs import named_outputs, stored_outputs
from pocketforge.errors import ModelError
from pocketforge.files import resolver
from pocketforge.measure.at_sizes import TriedSizes
from pocketforge.measure.consumed_boxes import rows_of_boxes
from pocketforge.measure.consumers import (
    RESIZED,
    Answers,
    Consumed,
    ask_mobile_checker,
    resize_words,
    try_mediapipe,
)
from pocketforge.measure.file_checks import (
    Truth,
    check,
    check_contract,
    check_limits,
    check_promise,
    empty_drops,
    measure,
    summary,
    truth_of,
)
from pocketforge.measure.older_tflite import NAME, run_older
from pocketforge.measure.on_host import run_file
from pocketforge.measure.quantized_graph import read_graph
from pocketforge.measure.saturation import not_judged_here
from pocketforge.measure.score_calibration import calibrated
from pocketforge.measure.web_consumers import Ran, try_in_browser
from pocketforge.measure.weights_check import check_weights
from pocketforge.metrics import Array
from pocketforge.outcomes import files
from pocketforge.outcomes.about import detection_outputs
from pocketforge.outcomes.data import Preprocessing, Sampled, layouts_of
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.outcomes.verify import AtSize, FileCheck, Measured, Verified, named, verdict
from pocketforge.recipe.consumers import consumed_output
from pocketforge.recipe.limits import Limits, verify_limits
from pocketforge.recipe.output import labelled
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.recipe.target import CONSUMERS
from pocketforge.specs.verify import VerifySpec


def run(inputs: Mapping[str, Path], spec: VerifySpec, out: Path, emit: events.Progress) -> None:
    """inputs: "data", "reference", "export", "quantize" (where a step quantized the model), "data_root" (the recipe's
    folder, for metrics of the user's), "pixels" (for consumers of images: samples before anything is done to their
    values), "resized" (of the same: what the file is fed where MediaPipe makes the size).

    Writes verify.json, verdict.json and the file's outputs (outputs_0.npy …). Of int8 weights on kernels that saturate
    the outputs are held to nothing: a device judges them. Raises ToolFailed when a file does not
    load or run, ModelError for limits of an output that the model does not have.
    """
    exported = files.read(inputs["export"], Exported)
    reference = files.read(inputs["reference"], Reference)
    names = [tensor.name for tensor in reference.outputs]
    limits = _limits(spec, names)
    truth = _truth(inputs, spec, reference)
    checks = check_layouts(exported.inputs, inputs["data"]) + check_promise(exported, reference)
    not_judged = not_judged_here() if spec.int8_weights else ""
    measured: dict[str, Measured] = {}
    runtimes: dict[str, str] = {}
    ran: dict[str, Ran] = {}
    tried = TriedSizes(reference.varying, inputs["reference"], inputs.get("quantize"), names)
    at_sizes: list[AtSize] = []
    for position, (role, name) in enumerate(sorted(exported.files.items())):
        emit(position / (len(exported.files) + 1), f"running {name}")
        further = tried.samples(out / role)
        answer, answered = run_file(inputs, spec.runtime, name, out / role, reference.sequence, further=further)
        measured[role] = Measured(()) if not_judged else measure(answered, truth)
        at_sizes += tried.measure(role, out / role, answer.outputs, truth)
        of_file = [
            *check_contract(answer, exported),
            *check_weights(inputs["export"] / name, spec.runtime, spec.scheme, inputs.get("quantize")),
            *check_limits(measured[role], limits),
        ]
        checks += of_file if role == "model" else [named(each, role) for each in of_file]
        runtimes[answer.runtime] = "works"
        ran[role] = _ran(inputs, spec, name, answer, out / role)
    checks += tried.check(at_sizes, limits)
    if spec.legacy:
        emit(0.8, "running it in tflite-runtime")
        required = spec.limits.tflite_runtime == "require"
        model, legacy = exported.files["model"], out / "legacy"
        older = run_older(inputs, model, truth, limits, legacy, reference.sequence, required=required)
        runtimes[NAME] = older.state
        measured |= {"legacy": older.measured} if older.measured else {}
        checks += older.checks if required else ()
    warnings = [*([not_judged] if not_judged else []), *empty_drops(truth, limits)]
    for consumer in spec.consumers:
        emit(0.9, f"running it in {CONSUMERS[consumer][1]}")
        consumed = _consumed(consumer, inputs, spec, exported, ran, truth, limits, out)
        runtimes[consumed.name] = consumed.state
        checks += consumed.checks
        measured |= consumed.measured
        warnings += consumed.notes
    if "resized" in inputs:
        name = exported.files["model"]
        _, answered = run_file({**inputs, "data": inputs["resized"]}, spec.runtime, name, out / RESIZED)
        measured[RESIZED] = measure(answered, truth)
        warnings.append(resize_words(measured["model"], measured[RESIZED]))
    outputs, told = ran["model"].answer.outputs, (tuple(at_sizes), tuple(warnings), not_judged)
    files.write(out, Verified(measured, runtimes, limits, tuple(checks), kernels_here(), outputs, *told))
    passed = verdict(checks)
    files.write(out, passed)
    failed = f", {len(passed.reasons)} checks failed" if passed.reasons else ""
    emit(1.0, (not_judged or summary(measured["model"])) + failed)


def _consumed(
    consumer: str,
    inputs: Mapping[str, Path],
    spec: VerifySpec,
    exported: Exported,
    ran: Mapping[str, Ran],
    truth: Truth,
    limits: Limits,
    out: Path,
) -> Consumed:
    """The files in one consumer."""
    if consumer == "mediapipe":
        return _in_mediapipe(inputs, spec, exported, out)
    if consumer == "mobile_checker":
        return ask_mobile_checker(exported.model_in(inputs["export"]))
    return try_in_browser(consumer, ran, truth, limits)


def _ran(inputs: Mapping[str, Path], spec: VerifySpec, name: str, answer: RunAnswer, outputs: Path) -> Ran:
    samples = sample_paths(inputs["data"], "eval")
    return Ran(inputs["export"] / name, samples, answer, outputs, is_float=SCHEMES[spec.scheme].is_float32)


def _in_mediapipe(inputs: Mapping[str, Path], spec: VerifySpec, exported: Exported, out: Path) -> Consumed:
    """The file in MediaPipe Tasks, against what it answered here. Of pictures as they are, before what the file or the
    task does to them."""
    # Sound is fed to a task as it is to the file; of texts the ids are its own.
    fed = inputs.get("pixels", inputs["data"])
    sampled, texts = files.read(fed, Sampled), fed / TEXTS
    names = [tensor.name for tensor in exported.outputs]
    kind: Literal["image", "sound", "text"] = "image" if "pixels" in inputs else "text" if texts.exists() else "sound"
    output = consumed_output(with_names(spec.judged, names, spec.task), kind)
    assert output is not None, "the recipe's rules see to it"
    samples = texts if kind == "text" else sample_paths(fed, "eval")[0]
    (answered,) = [each for each in stored_outputs(out / "model", exported.outputs) if each.name == output.name]
    is_named = output.role == "boxes" or output is labelled(spec.judged) or len(spec.judged) == 1
    rate_hz = _rate_hz(sampled) if kind == "sound" else 0
    values = answered.values
    if output.role == "boxes":
        values = _boxes(spec, names, out / "model", exported)
    notes: tuple[str, ...] = ()
    if spec.calibration and output.role == "logits":
        values = calibrated(values, spec.calibration)
        same = float((values.argmax(1) == answered.values.argmax(1)).mean())
        notes = (f"calibrated scores have the file's own top-1 for {same:.1%} of {len(values)} samples",)
    answers = Answers(output.role, values, sampled.labels if is_named else (), rate_hz, kind)
    found = try_mediapipe(exported.model_in(inputs["export"]), samples, answers)
    return dataclasses.replace(found, notes=(*found.notes, *(f"{found.name}: {note}" for note in notes)))


def _boxes(spec: VerifySpec, names: Sequence[str], outputs: Path, exported: Exported) -> Array:
    """What a detector's file answered, as `Answers` has boxes. Raises ModelError for outputs that are not its four."""
    roles = {each.name or names[0]: each.role for each in with_names(spec.judged, names, spec.task)}
    shapes = {each.name: tuple(each.shape) for each in exported.outputs}
    parts = detection_outputs(roles, shapes)
    if not parts:
        found = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ModelError(
            "mediapipe's ObjectDetector takes four outputs: boxes [1, n, 4], scores [1, n], classes [1, n], and their "
            f"count [1]; found {found}",
            "give the model these outputs, or leave mediapipe out of consumers",
        )
    return rows_of_boxes({parts[each.name]: each.values for each in stored_outputs(outputs, exported.outputs)})


def _rate_hz(sampled: Sampled) -> int:
    """Of the sound that the file takes; the recipe's rules see to it that a step says it."""
    assert isinstance(sampled.preprocess, Preprocessing), "one input"
    return next(int(str(step["rate_hz"])) for step in sampled.preprocess.steps if step["step"] == "resample")


def _limits(spec: VerifySpec, outputs: Sequence[str]) -> Limits:
    limits = verify_limits(spec.scheme, spec.limits, with_names(spec.judged, outputs, spec.task), trained=spec.trained)
    unknown = set(limits.by_output) - set(outputs)
    if unknown:
        raise ModelError(
            f"verify.outputs: the model has no output {', '.join(sorted(unknown))}",
            f"outputs: {', '.join(outputs)} (model.outputs names them)",
        )
    return limits


def _truth(inputs: Mapping[str, Path], spec: VerifySpec, reference: Reference) -> Truth:
    """What the files' outputs are held against."""
    names = [tensor.name for tensor in reference.outputs]
    data = inputs["data"]
    judge = make_judge(
        spec.judged, names, spec.task, data, files.read(data, Sampled), resolver(inputs.get("data_root"))
    )
    graph = read_graph(inputs["quantize"], names) if "quantize" in inputs else None
    return truth_of(named_outputs(inputs["reference"], names), judge, spec.task, graph)


def check_layouts(promised: Iterable[TensorSpec], data: Path) -> list[FileCheck]:
    """The layout that the sidecar names for each image input, against the shape it has there and in the samples."""
    paths = sample_paths(data, "eval")
    layouts = layouts_of(files.read(data, Sampled).preprocess, len(paths))
    checks = []
    for tensor, path, layout in zip(promised, paths, layouts, strict=True):
        sample = np.load(path, mmap_mode="r").shape[1:]
        # A model that takes NHWC in PyTorch: nothing is moved, and no shape tells it from NCHW.
        if layout == "NHWC" or len(sample) != 3 or len(set(sample)) == 1:
            continue
        # A state: without a batch before it, and no image.
        if tensor.shape == sample and sample[0] != 1:
            continue
        channels, height, width = sample
        shapes = {"NCHW": (1, channels, height, width), "NHWC": (1, height, width, channels)}
        found = next((name for name, shape in shapes.items() if _fits(shape, tensor.shape)), "another shape")
        checks.append(check("layout", tensor.layout, found, tensor.layout == found))
    return checks


def _fits(shape: tuple[int, ...], promised: tuple[int, ...]) -> bool:
    """Whether a promised shape, with -1 for a size that varies, is a sample's."""
    return len(shape) == len(promised) and all(p in (-1, n) for n, p in zip(shape, promised, strict=True))
