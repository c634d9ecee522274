"""By which scheme a file was made that does not say it: from how it stores its weights and which operators it has."""

from __future__ import annotations

from pocketforge.runtimes.describe import Description

_INT8, _INT4 = ("int8", "uint8"), ("int4", "uint4", "int2", "uint2")
# LiteRT's, ONNX's and ONNX Runtime's own, ATen's, XNNPACK's in a .pte.
_QUANTIZES = {
    *("QUANTIZE", "QuantizeLinear", "QLinearConv", "QLinearMatMul", "QLinearAdd", "QGemm"),
    *("quantize_per_tensor", "Convert"),
}
# Of a file's weight bytes; biases and scales are wider.
_MOSTLY = 0.5


def stored_scheme(file: Description) -> str:
    """A name of SCHEMES: what limits the file is held to, and what reports call it.

    Whether an int8 file was trained for it, or which layers were meant to stay float, no file says.
    """
    total = sum(file.dtypes.values())

    def share(*dtypes: str) -> float:
        return sum(file.dtypes.get(dtype, 0) for dtype in dtypes) / total if total else 0.0

    if share(*_INT8, *_INT4) >= _MOSTLY:
        if file.metadata.get("dynamically_quantized_ops"):
            return "dynamic_int8"
        if share(*_INT4) >= _MOSTLY:
            return "weight_only_int4"
        return "static_int8" if _computes_in_integers(file) else "weight_only_int8"
    return "fp16" if share("float16", "bfloat16") >= _MOSTLY else "fp32"


def _computes_in_integers(file: Description) -> bool:
    """Whether values are quantized on the way. A file without float borders need not say so by an operator."""
    borders = any(each.quantization for each in (*file.inputs, *file.outputs))
    integers = any("int" in each.dtype for each in file.inputs) and not any(
        "float" in each.dtype for each in file.inputs
    )
    return borders or integers or any(name.rpartition(".")[2].rpartition("::")[2] in _QUANTIZES for name in file.ops)
