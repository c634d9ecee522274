"""Preprocessing as one file wants it: for its layout, and its levels where it takes some."""

from __future__ import annotations

from collections.abc import Sequence

from pocketforge.outcomes import files
from pocketforge.outcomes.data import InputPreprocessing, Preprocessing, PreprocessingOfInputs
from pocketforge.outcomes.tensors import TensorSpec


def make_preprocessing(
    prepared: Preprocessing | PreprocessingOfInputs, inputs: Sequence[TensorSpec]
) -> dict[str, object]:
    """The steps from a raw sample to what *this file* takes: its layout, and its quantization where it has one."""
    if isinstance(prepared, Preprocessing):
        return {**files.to_json(prepared), **(_for_file(prepared, inputs[0]) if len(inputs) == 1 else {})}
    left, found = list(inputs), []
    for each in prepared.inputs:
        tensors, left = left[: each.gives], left[each.gives :]
        own = _for_file(each, tensors[0]) if len(tensors) == 1 else {}
        found.append({**files.to_json(each), **own, "inputs": [tensor.name for tensor in tensors]})
    return {"inputs": found}


def _for_file(prepared: Preprocessing | InputPreprocessing, tensor: TensorSpec) -> dict[str, object]:
    steps, output = list(prepared.steps), prepared.output
    if tensor.layout == "NHWC" and output == "NCHW":
        steps = [step for step in steps if step.get("step") != "transpose"]
        output = "NHWC"
    elif tensor.layout == "NHWC" and output in ("NCTF", "NCFT"):  # bands with a channel are moved as images are
        first, others = output[1], output[2:]
        steps.append({"step": "transpose", "from": output[1:], "to": f"{others}{first}"})
        output = f"N{others}{first}"
    if tensor.scale is not None and not _takes_bytes(tensor):
        levels = {"scale": tensor.scale, "zero_point": tensor.zero_point, "dtype": tensor.dtype}
        steps.append({"step": "quantize", "round": "half_to_even", **levels})
    return {"steps": steps, "output": output}


def _takes_bytes(tensor: TensorSpec) -> bool:
    """Whether its levels are the pixels themselves: an app does nothing to them."""
    return (tensor.dtype, tensor.scale, tensor.zero_point) == ("uint8", 1.0, 0)
