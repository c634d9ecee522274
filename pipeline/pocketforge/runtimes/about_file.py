"""What a file says of itself is put together: from the samples' own words, the recipe's outputs and what was packed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pocketforge.outcomes import files
from pocketforge.outcomes.about import About, AboutInput, AboutOutput
from pocketforge.outcomes.data import InputPreprocessing, Preprocessing, Sampled
from pocketforge.outcomes.package import Packed, PackedInput
from pocketforge.outcomes.reference import ModelTensor, Reference
from pocketforge.recipe.output import Output, labelled
from pocketforge.specs.export import AboutSpec

_HIGHEST_PIXEL = 255.0
# What is done to an image without changing what its values mean.
_PLACES = ("orient", "rgb", "grayscale", "resize", "center_crop", "pad", "transpose")


def about_file(spec: AboutSpec, sampled: Sampled, reference: Reference, packed: Packed | None) -> About:
    """sampled: of what the file is fed. packed: what it does of the app's side; None for nothing."""
    by_input = {each.name: each for each in packed.inputs} if packed else {}
    words = sampled.preprocess
    lists: Sequence[Preprocessing | InputPreprocessing | None]
    if isinstance(words, Preprocessing):
        lists = [words] if len(reference.inputs) == 1 else [None] * len(reference.inputs)
    else:
        lists = [each if each.gives == 1 else None for each in words.inputs for _ in range(each.gives)]
    return About(
        name=spec.name,
        inputs=tuple(
            _packed_input(by_input[tensor.name], each) if tensor.name in by_input else _input(tensor, each)
            for tensor, each in zip(reference.inputs, lists, strict=True)
        ),
        outputs=_outputs(spec, sampled, reference, packed),
        preprocessing=files.to_json(words),
        package=files.to_json(packed) if packed else {},
    )


def _packed_input(each: PackedInput, words: Preprocessing | InputPreprocessing | None) -> AboutInput:
    if not each.layout:
        rate = next((int(str(s["rate_hz"])) for s in (words.steps if words else ()) if s["step"] == "resample"), 0)
        return AboutInput(each.name, rate_hz=rate)
    channels = each.shape[3 if each.layout == "NHWC" else 1]
    if each.dtype == "uint8":
        return AboutInput(each.name, channels, low=(0.0,), high=(_HIGHEST_PIXEL,))
    return AboutInput(each.name, channels, mean=(0.0,), std=(1.0,))  # pixels, in floats


def _input(tensor: ModelTensor, words: Preprocessing | InputPreprocessing | None) -> AboutInput:
    if words is None or words.input != "HWC" or len(tensor.shape) != 4:
        return AboutInput(tensor.name)
    channels = tensor.shape[3 if words.output == "NHWC" else 1]
    if tensor.dtype != "float32":
        return AboutInput(tensor.name, channels)
    found = pixels_to_floats(words.steps)
    if found is None:
        return AboutInput(tensor.name, channels)
    mean, std = found
    low, high = (tuple((pixel - m) / s for m, s in zip(mean, std, strict=True)) for pixel in (0.0, _HIGHEST_PIXEL))
    return AboutInput(tensor.name, channels, 0, mean, std, low, high)


def pixels_to_floats(steps: Sequence[Mapping[str, object]]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation, in units of pixels as they are decoded, that all steps on values come to; one of
    each where channels are alike. None where there is more to it."""
    factor, shift = [1.0], [0.0]
    for step in steps:
        kind = step["step"]
        if kind == "divide":
            by = float(str(step["by"]))
            factor, shift = [f / by for f in factor], [s / by for s in shift]
        elif kind == "normalize":
            mean, std = ([float(v) for v in step[key]] for key in ("mean", "std"))  # type: ignore[attr-defined]
            count = max(len(factor), len(mean))
            factor, shift, mean, std = (v * count if len(v) == 1 else v for v in (factor, shift, mean, std))
            shift = [(s - m) / d for s, m, d in zip(shift, mean, std, strict=True)]
            factor = [f / d for f, d in zip(factor, std, strict=True)]
        elif kind not in _PLACES:
            return None
    pairs = [(-s / f, 1 / f) for f, s in zip(factor, shift, strict=True)]
    pairs = pairs[:1] if len(set(pairs)) == 1 else pairs
    return tuple(mean + 0.0 for mean, _ in pairs), tuple(std for _, std in pairs)


def _outputs(spec: AboutSpec, sampled: Sampled, reference: Reference, packed: Packed | None) -> tuple[AboutOutput, ...]:
    roles = {output.name or reference.outputs[0].name: output for output in spec.judged}
    named = labelled(spec.judged)
    return tuple(_output(tensor, roles.get(tensor.name), named, sampled, packed) for tensor in reference.outputs)


def _output(
    tensor: ModelTensor, output: Output | None, named: Output | None, sampled: Sampled, packed: Packed | None
) -> AboutOutput:
    if output is None:
        return AboutOutput(tensor.name)
    shares = packed is not None and packed.output == tensor.name and packed.postprocess in ("softmax", "sigmoid")
    labels = sampled.labels if output is named and tensor.dtype == "float32" else ()
    return AboutOutput(tensor.name, output.role, labels, shares)
