"""How far a file's outputs may be from PyTorch's, by scheme. Plain data; a recipe's `verify` table overrides it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A float file may differ from PyTorch by the order of its sums only; 60 dB is 0.1 % noise. An int8 file has 8-bit
# steps in every layer: under 15 dB, or off by a quarter of the output's range, something is broken, not rounded.
# A dynamic file rounds less: its ranges fit each sample, and what is not a linear layer stays float.
# What is stored in fewer bits but computed in float is compared with the graph of the same weights too
# (min_graph_sqnr_db): there only the order of sums may differ. A file after training is another model than the
# reference: its accuracy counts, and that it computes what was trained.
_STATIC = {"min_sqnr_db": 15.0, "max_diff_ratio": 0.25, "min_argmax_agreement": 0.95, "max_accuracy_drop": 0.02}
_FEW_BITS = {
    "min_sqnr_db": 8.0,
    "max_diff_ratio": 0.5,
    "min_argmax_agreement": 0.9,
    "max_accuracy_drop": 0.05,
    "min_graph_sqnr_db": 80.0,
}
DEFAULT_LIMITS: dict[str, dict[str, float]] = {
    "fp32": {
        "min_sqnr_db": 60.0,
        "max_diff_ratio": 1e-3,
        "min_argmax_agreement": 0.995,
        "max_accuracy_drop": 0.005,
    },
    "fp16": {
        "min_sqnr_db": 50.0,
        "max_diff_ratio": 0.02,
        "min_argmax_agreement": 0.99,
        "max_accuracy_drop": 0.005,
    },
    "static_int8": _STATIC,
    "mixed": _STATIC,
    "dynamic_int8": {
        "min_sqnr_db": 20.0,
        "max_diff_ratio": 0.15,
        "min_argmax_agreement": 0.97,
        "max_accuracy_drop": 0.01,
    },
    "qat_int8": {
        "min_sqnr_db": 3.0,
        "max_diff_ratio": 1.0,
        "min_argmax_agreement": 0.9,
        "max_accuracy_drop": 0.02,
        "min_graph_sqnr_db": 20.0,
    },
    "weight_only_int8": {
        "min_sqnr_db": 25.0,
        "max_diff_ratio": 0.1,
        "min_argmax_agreement": 0.97,
        "max_accuracy_drop": 0.01,
        "min_graph_sqnr_db": 80.0,
    },
    "weight_only_int4": _FEW_BITS,
    "codebook": _FEW_BITS,
}


def default_limits(spec: Mapping[str, Any]) -> dict[str, float]:
    """Of the scheme; a codebook that was trained is another model than the reference, as qat_int8 is."""
    limits = DEFAULT_LIMITS[spec["scheme"]]
    if spec["scheme"] == "codebook" and spec.get("trained"):
        return {**DEFAULT_LIMITS["qat_int8"], "min_graph_sqnr_db": limits["min_graph_sqnr_db"]}
    return limits


def is_limit(name: str, value: object) -> bool:
    return value is not None and name.startswith(("min_", "max_"))


# Of a file's outputs on an emulated device against the same file's on the host. The kernels differ in the order of
# float sums (1e-5 of the range seen) and, in integer ones, in rounding: mostly nothing, in ONNX Runtime up to some
# levels, since x86 without VNNI sums in 16 bits.
_FLOAT_ON_DEVICE = {"min_sqnr_db": 60.0, "min_argmax_agreement": 0.99}
_INTEGER_ON_DEVICE = {"min_sqnr_db": 20.0, "min_argmax_agreement": 0.97}


# On another x86 host, in the same wheel: integer sums are exact in any order, where they do not saturate, and each is
# rounded once; so a step where a value lies between two, and a few where such steps meet. What stays float is summed
# in another order. Set on what the shipped models gave (docs/devices.md).
_FLOAT_ON_X86 = {"min_sqnr_db": 60.0, "min_argmax_agreement": 0.99}
_INTEGER_ON_X86 = {"min_sqnr_db": 40.0, "min_argmax_agreement": 0.99, "max_steps": 3.0}
_INTEGER = ("static_int8", "mixed", "dynamic_int8", "qat_int8")


def x86_limits(scheme: str) -> dict[str, float]:
    """As `device_limits`, on an x86 host. max_steps is of a quantized output, and says nothing of others."""
    return dict(_INTEGER_ON_X86 if scheme in _INTEGER else _FLOAT_ON_X86)


def device_limits(scheme: str) -> dict[str, float]:
    """Default limits of `verify_device`; a device's own keys override them."""
    return dict(_FLOAT_ON_DEVICE if scheme == "fp32" or scheme.startswith("weight_only") else _INTEGER_ON_DEVICE)
