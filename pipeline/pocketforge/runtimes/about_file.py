"""What a file says of itself is put together: from the samples' own words, the recipe's outputs and what was packed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pocketforge.errors import ModelError
from pocketforge.outcomes import files
from pocketforge.outcomes.about import About, AboutInput, AboutOutput, DetectionOutput, detection_outputs
from pocketforge.outcomes.data import InputPreprocessing, Preprocessing, Sampled
from pocketforge.outcomes.package import Packed, PackedInput
from pocketforge.outcomes.reference import ModelTensor, Reference
from pocketforge.recipe.affine import affine
from pocketforge.recipe.image_steps import Normalize, Scale
from pocketforge.recipe.output import Output, labelled
from pocketforge.recipe.score_calibration import ScoreCalibration
from pocketforge.runtimes.bert_vocabulary import bert_vocabulary
from pocketforge.specs.export import AboutSpec

_HIGHEST_PIXEL = 255.0
# Roles whose numbers are each a class's, or are classes.
_OF_CLASSES = ("logits", "multilabel", "segmentation", "tokens")
# What is done to the values of a sound, or makes others of them.
_OF_VALUES = ("divide", "normalize", "cast", "log_mel", "mfcc")
# What is done to an image without changing what its values mean.
_PLACES = ("orient", "rgb", "grayscale", "resize", "center_crop", "pad", "transpose")


def about_file(
    spec: AboutSpec,
    sampled: Sampled,
    reference: Reference,
    packed: Packed | None,
    tokenizer: Mapping[str, Any] | None = None,
) -> About:
    """sampled: of what the file is fed. packed: what it does of the app's side; None for nothing. tokenizer: what a
    tokenizer.json holds, where one text is a sample.

    Raises ModelError for a tokenizer that metadata cannot hold, where it has to.
    """
    by_input = {each.name: each for each in packed.inputs} if packed else {}
    words = sampled.preprocess
    lists: Sequence[Preprocessing | InputPreprocessing | None]
    if isinstance(words, Preprocessing):
        lists = [words] if len(reference.inputs) == 1 else [None] * len(reference.inputs)
    else:
        lists = [each if each.gives == 1 else None for each in words.inputs for _ in range(each.gives)]
    about = About(
        name=spec.name,
        inputs=tuple(
            _packed_input(by_input[tensor.name], each, pixels=_of_pixels(sampled, by_input[tensor.name].steps))
            if tensor.name in by_input
            else _input(tensor, each, pixels=_of_pixels(sampled, each.steps if each else ()))
            for tensor, each in zip(reference.inputs, lists, strict=True)
        ),
        outputs=_outputs(spec, sampled, reference, packed),
        preprocessing=words,
        package=files.to_json(packed) if packed else {},
    )
    return _of_text(about, sampled, tokenizer, needed=spec.tasks) if tokenizer is not None else about


def _of_text(about: About, sampled: Sampled, tokenizer: Mapping[str, Any], *, needed: bool) -> About:
    """With the tokenizer's words, where readers have such a one."""
    assert isinstance(sampled.preprocess, Preprocessing), "one text"
    (step,) = sampled.preprocess.steps
    words = bert_vocabulary(tokenizer, step)
    if isinstance(words, str):
        if needed:
            raise ModelError(
                f"consumers mediapipe: {step['file']} is no tokenizer of MediaPipe's text tasks: {words}",
                "leave mediapipe out of consumers, and have the app run the tokenizer beside LiteRT",
            )
        return about
    gives: Any = step["gives"]
    inputs = (dataclasses.replace(each, token=token) for each, token in zip(about.inputs, gives, strict=True))
    return dataclasses.replace(about, inputs=tuple(inputs), words=words)


def _of_pixels(sampled: Sampled, steps: Sequence[Mapping[str, object]]) -> bool:
    """Whether white is 255 before the steps, as in pixels that consumers decode: of images in floats it may be 1, 16
    in scikit-learn's digits."""
    white = sampled.value_max
    if not white:
        values = [step for step in steps if step["step"] in ("divide", "normalize")]
        white = float(str(values[0].get("by", 0))) if values else 0.0
    return white == _HIGHEST_PIXEL


def _color(channels: int) -> Literal["", "rgb", "gray"]:
    return "gray" if channels == 1 else "rgb" if channels == 3 else ""


def _packed_input(each: PackedInput, words: Preprocessing | InputPreprocessing | None, *, pixels: bool) -> AboutInput:
    if not each.layout:
        rate = next((int(str(s["rate_hz"])) for s in (words.steps if words else ()) if s["step"] == "resample"), 0)
        channels = (each.shape[2] if len(each.shape) == 3 else 1) if rate else 0
        return AboutInput(each.name, channels, rate_hz=rate)
    channels = each.shape[3 if each.layout == "NHWC" else 1]
    found = AboutInput(each.name, channels, color=_color(channels))
    if each.dtype == "uint8":
        return dataclasses.replace(found, low=(0.0,), high=(_HIGHEST_PIXEL,))
    return dataclasses.replace(found, mean=(0.0,), std=(1.0,)) if pixels else found  # pixels, in floats


def _input(tensor: ModelTensor, words: Preprocessing | InputPreprocessing | None, *, pixels: bool) -> AboutInput:
    if words is not None and words.input == "waveform":
        return _waveform(tensor, words)
    if words is None or words.input != "HWC" or len(tensor.shape) != 4:
        return AboutInput(tensor.name)
    channels = tensor.shape[3 if words.output == "NHWC" else 1]
    turned = any(step["step"] == "reverse_channels" for step in words.steps)  # no consumer does so
    image = AboutInput(tensor.name, channels, color="" if turned else _color(channels))
    found = pixels_to_floats(words.steps) if pixels and tensor.dtype == "float32" else None
    if found is None:
        return image
    mean, std = found
    low, high = (tuple((pixel - m) / s for m, s in zip(mean, std, strict=True)) for pixel in (0.0, _HIGHEST_PIXEL))
    return dataclasses.replace(image, mean=mean, std=std, low=low, high=high)


def _waveform(tensor: ModelTensor, words: Preprocessing | InputPreprocessing) -> AboutInput:
    """Of one channel, in floats of -1 to 1: what consumers feed. Of any other nothing is said."""
    rate = next((int(str(step["rate_hz"])) for step in words.steps if step["step"] == "resample"), 0)
    plain = tensor.dtype == "float32" and len(tensor.shape) == 2 and words.output in (None, "NT")
    if not plain or any(step["step"] in _OF_VALUES for step in words.steps):
        return AboutInput(tensor.name)
    return AboutInput(tensor.name, 1 if rate else 0, rate_hz=rate)


def pixels_to_floats(steps: Sequence[Mapping[str, object]]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation, in units of pixels as they are decoded, that all steps on values come to; one of
    each where channels are alike. None where there is more to it."""
    arithmetic: list[Scale | Normalize] = []
    for step in steps:
        if step["step"] == "divide":
            arithmetic.append(Scale(by=float(str(step["by"]))))
        elif step["step"] == "normalize":
            mean, std = (tuple(float(v) for v in step[key]) for key in ("mean", "std"))  # type: ignore[attr-defined]
            arithmetic.append(Normalize(mean, std))
        elif step["step"] not in _PLACES:
            return None
    factor, shift = affine(arithmetic)
    pairs = [(-s / f, 1 / f) for f, s in zip(factor, shift, strict=True)]
    pairs = pairs[:1] if len(set(pairs)) == 1 else pairs
    return tuple(mean + 0.0 for mean, _ in pairs), tuple(std for _, std in pairs)


def _outputs(spec: AboutSpec, sampled: Sampled, reference: Reference, packed: Packed | None) -> tuple[AboutOutput, ...]:
    roles = {output.name or reference.outputs[0].name: output for output in spec.judged}
    named = labelled(spec.judged)
    first = next((each for each in spec.judged if each.role == "logits"), None)
    found = (_output(tensor, roles.get(tensor.name), named, sampled, packed) for tensor in reference.outputs)
    calibrated = (
        _calibrated(each, tensor, spec.calibration)
        if spec.calibration and first is not None and roles.get(tensor.name) is first
        else each
        for each, tensor in zip(found, reference.outputs, strict=True)
    )
    shapes = {each.name: each.shape for each in reference.outputs}
    parts = detection_outputs({name: output.role for name, output in roles.items()}, shapes)
    of_ratios = any(each.role == "boxes" and _takes_ratios(each) for each in spec.judged)
    if not parts or not of_ratios:
        return tuple(calibrated)
    labels = sampled.labels if named is not None and named.role == "boxes" else ()
    return tuple(_detection(each, parts[each.name], labels) for each in calibrated)


def _takes_ratios(boxes: Output) -> bool:
    """What MediaPipe knows of BoundingBoxProperties: corners, as shares of the width and the height."""
    return boxes.processed == "none" and boxes.post.format == "xyxy" and boxes.post.normalized


def _detection(each: AboutOutput, part: DetectionOutput, labels: Sequence[str]) -> AboutOutput:
    named = part == "category" and labels
    return dataclasses.replace(
        each,
        detection=part,
        labels=tuple(labels) if named else each.labels,
        labelled="values" if named else each.labelled,
    )


def _calibrated(each: AboutOutput, tensor: ModelTensor, calibration: ScoreCalibration) -> AboutOutput:
    classes = tensor.shape[1] if len(tensor.shape) == 2 else 0
    found = calibration.of_classes(classes)
    if found is None or not classes:
        raise ModelError(
            f"package.calibration has {len(calibration.curve)} rows, output {tensor.name!r} is "
            f"{tensor.dtype} {list(tensor.shape)}",
            "write a row a class, or one for all",
        )
    return dataclasses.replace(each, calibration=found)


def _output(
    tensor: ModelTensor, output: Output | None, named: Output | None, sampled: Sampled, packed: Packed | None
) -> AboutOutput:
    if output is None:
        return AboutOutput(tensor.name)
    done = packed.postprocess if packed is not None and packed.output == tensor.name else ""
    shares = done in ("softmax", "sigmoid", "masks")
    labels = sampled.labels if output is named else ()
    last = output.role == "tokens" or done == "masks"
    return AboutOutput(tensor.name, output.role, labels, shares, _labelled(tensor, output, labels, last=last))


def _labelled(
    tensor: ModelTensor, output: Output, labels: Sequence[str], *, last: bool
) -> Literal["", "axis", "values"]:
    """What of an output labels are the names of. A detector's boxes and one score of two classes have no such axis."""
    if not labels or output.role not in _OF_CLASSES:
        return ""
    if not tensor.dtype.startswith("float"):
        return "values"
    return "axis" if len(tensor.shape) > 1 and tensor.shape[-1 if last else 1] == len(labels) else ""
