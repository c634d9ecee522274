"""Which runtime realises which scheme and backend: natively, emulated, or not at all, and why. Read by the recipe
(which refuses), by the docs (which print it as tables) and by tests (which try every entry)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pocketforge.recipe.quantize import STATIC, Quantize
from pocketforge.registries import RUNTIMES

How = Literal["native", "emulated", "refused"]


@dataclass(frozen=True, slots=True)
class Support:
    """how: native: the runtime's own kernels for it. emulated: right numbers, computed in float. refused: not written.

    nearest: of a refused one, what to ask for instead.
    """

    how: How
    why: str
    nearest: str = ""


_RUNTIMES = ("executorch", "tflite", "onnx")


def _in_all(how: How, why: str) -> dict[str, Support]:
    return {runtime: Support(how, why) for runtime in _RUNTIMES}


_NO_WEIGHT_ONLY = Support(
    "refused",
    "XNNPACK takes no float inputs with int8 or int4 weights from ExecuTorch, so portable kernels would unpack them in "
    "each inference",
    "static_int8, or dynamic_int8 for linear layers",
)

# scheme → runtime → what it is there.
SCHEMES: dict[str, dict[str, Support]] = {
    "fp32": _in_all("native", "as trained"),
    **{scheme: _in_all("native", "int8 kernels") for scheme in sorted(STATIC)},
    "dynamic_int8": _in_all("native", "linear layers in int8 kernels, all else float"),
    "fp16": {
        "executorch": Support(
            "native",
            "linear layers in half precision; a model of mostly convolutions fails: XNNPACK keeps their weights fp32",
        ),
        "tflite": Support("emulated", "half-precision weights, widened when the file is loaded, computed in float32"),
        "onnx": Support("emulated", "half-precision weights, widened when the file is loaded, computed in float32"),
    },
    "weight_only_int8": {
        "executorch": _NO_WEIGHT_ONLY,
        "tflite": Support("emulated", "int8 weights, de-quantized when the file is loaded, computed in float32"),
        "onnx": Support("emulated", "int8 weights, de-quantized when the file is loaded, computed in float32"),
    },
    "weight_only_int4": {
        "executorch": _NO_WEIGHT_ONLY,
        "tflite": Support(
            "emulated",
            "int4 weights, unpacked in each inference, and not by XNNPACK: slower than fp32, 2 to 7 times here",
        ),
        "onnx": Support(
            "emulated", "int4 weights, de-quantized when the file is loaded, computed in float32; a byte each in .ort"
        ),
    },
    "codebook": {
        "executorch": Support("emulated", "clustered float32 weights: smaller in gzip (a download) only"),
        "tflite": Support("emulated", "clustered float32 weights: smaller in gzip (a download) only"),
        "onnx": Support("emulated", "indices and centroids, looked up when the file is loaded, computed in float32"),
    },
}


def support(runtime: str, quantize: Quantize) -> Support:
    """What `quantize` is in `runtime`'s files."""
    known = SCHEMES[quantize.scheme].get(runtime)
    if known is None:  # a plug-in's: its row answers for itself
        answers = RUNTIMES[runtime].schemes
        stated = answers.get(quantize.scheme)
        if stated is None:
            known = Support("refused", "its plug-in has no answer for it", ", ".join(answers) or "another runtime")
        else:
            known = Support(stated.how, stated.why, stated.nearest)
    return known


def refusal(runtime: str, quantize: Quantize) -> str:
    """Why a target of `runtime` cannot have `quantize`, and what is nearest; empty when it can."""
    found = support(runtime, quantize)
    if found.how != "refused":
        dynamic = [each.modules for each in quantize.overrides if each.scheme == "dynamic_int8"]
        if quantize.is_static and dynamic and runtime != "executorch":
            return (
                f"overrides of dynamic_int8 in a static scheme are for runtime executorch: the {runtime} exporter "
                f"writes one or the other; nearest: scheme fp32 for {', '.join(dynamic)}"
            )
        return ""
    return f"scheme {quantize.scheme} is refused for runtime {runtime}: {found.why}; nearest: {found.nearest}"
