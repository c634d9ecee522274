"""How far a file's outputs may be from PyTorch's, by scheme. Plain data; a recipe's `verify` table overrides it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# A float file may differ from PyTorch by the order of its sums only; 60 dB is 0.1 % noise. An int8 file has 8-bit
# steps in every layer: under 15 dB, or off by a quarter of the output's range, something is broken, not rounded.
# A dynamic file rounds less: its ranges fit each sample, and what is not a linear layer stays float.
# A channel under 0 dB is answered worse than by its own mean, whatever the tensor's figure; rows and columns of a map
# share their channel's scale, so they may be less far below it. Integers and booleans are right or wrong: all of them
# in a float file; in a quantized one near-ties turn, as a class's do.
# A file must compute what was quantized: of the shipped models none is more than 2 steps of the output from its own
# quantized graph (none below 39 dB; dynamic ones 51 dB), a wrong kernel is at 9 and more.
# What is stored in fewer bits but computed in float is compared with the graph of the same weights: there only the
# order of sums may differ. A file after training is another model than the reference: its accuracy counts, and that it
# computes what was trained.
_EXACT = {"max_dead_channels": 0}
_STATIC = {
    "min_sqnr_db": 15.0,
    "max_diff_ratio": 0.25,
    "min_channel_sqnr_db": 0.0,
    "min_region_sqnr_db": 6.0,
    **_EXACT,
    "min_argmax_agreement": 0.95,
    "min_integer_agreement": 0.95,
    "max_accuracy_drop": 0.02,
    "min_graph_sqnr_db": 24.0,
    "max_steps_from_graph": 5.0,
}
_FEW_BITS = {
    "min_sqnr_db": 8.0,
    "max_diff_ratio": 0.5,
    "min_channel_sqnr_db": -3.0,
    "min_region_sqnr_db": 3.0,
    **_EXACT,
    "min_argmax_agreement": 0.9,
    "min_integer_agreement": 0.9,
    "max_accuracy_drop": 0.05,
    "min_graph_sqnr_db": 80.0,
}
DEFAULT_LIMITS: dict[str, dict[str, float]] = {
    "fp32": {
        "min_sqnr_db": 60.0,
        "max_diff_ratio": 1e-3,
        "min_channel_sqnr_db": 40.0,
        "min_region_sqnr_db": 40.0,
        **_EXACT,
        "min_argmax_agreement": 0.995,
        "min_integer_agreement": 1.0,
        "max_accuracy_drop": 0.005,
    },
    "fp16": {
        "min_sqnr_db": 50.0,
        "max_diff_ratio": 0.02,
        "min_channel_sqnr_db": 20.0,
        "min_region_sqnr_db": 30.0,
        **_EXACT,
        "min_argmax_agreement": 0.99,
        "min_integer_agreement": 0.99,
        "max_accuracy_drop": 0.005,
    },
    "static_int8": _STATIC,
    "mixed": _STATIC,
    "dynamic_int8": {
        "min_sqnr_db": 20.0,
        "max_diff_ratio": 0.15,
        "min_channel_sqnr_db": 3.0,
        "min_region_sqnr_db": 10.0,
        **_EXACT,
        "min_argmax_agreement": 0.97,
        "min_integer_agreement": 0.97,
        "max_accuracy_drop": 0.01,
        "min_graph_sqnr_db": 30.0,
    },
    "qat_int8": {
        "min_sqnr_db": 3.0,
        "max_diff_ratio": 1.0,
        **_EXACT,
        "min_argmax_agreement": 0.9,
        "min_integer_agreement": 0.9,
        "max_accuracy_drop": 0.02,
        "min_graph_sqnr_db": 20.0,
        "max_steps_from_graph": 8.0,
    },
    "weight_only_int8": {
        "min_sqnr_db": 25.0,
        "max_diff_ratio": 0.1,
        "min_channel_sqnr_db": 6.0,
        "min_region_sqnr_db": 12.0,
        **_EXACT,
        "min_argmax_agreement": 0.97,
        "min_integer_agreement": 0.97,
        "max_accuracy_drop": 0.01,
        "min_graph_sqnr_db": 80.0,
    },
    "weight_only_int4": _FEW_BITS,
    "codebook": _FEW_BITS,
}
# A net that amplifies roundings (random weights, hundreds of layers) is further from its graph. By default it may be as
# far as quantizing took the graph from the float model; not where the recipe says how far.
_ROUNDED_AS_QUANTIZED = frozenset({"static_int8", "mixed", "dynamic_int8"})
_OF_ROUNDING = frozenset({"min_graph_sqnr_db", "max_steps_from_graph"})
# Twice the noise that quantizing made, and half as far again in the worst value: wrong kernels were 12 dB and more
# beyond quantizing's own noise.
_MARGIN_DB, _MARGIN_STEPS = 3.0, 1.5


def least_graph_sqnr_db(limit: float, quantized_sqnr_db: float) -> float:
    """`min_graph_sqnr_db`, where it gives way to what quantizing itself cost."""
    return min(limit, quantized_sqnr_db - _MARGIN_DB)


def most_steps_from_graph(
    limit: float, graph_sqnr_db: float, quantized_sqnr_db: float, quantized_steps: float
) -> float:
    """`max_steps_from_graph`, where it gives way. A few large differences of quantizing (a clipped value) allow
    nothing: the noise as a whole has to be of its size."""
    alike = graph_sqnr_db >= quantized_sqnr_db - _MARGIN_DB
    return max(limit, _MARGIN_STEPS * quantized_steps) if alike else limit


@dataclass(frozen=True, slots=True)
class Limits:
    """What verify holds a file to. common: for every output; by_output: what the recipe says of single ones.

    relative: those that give way to what quantizing itself costs.
    """

    common: Mapping[str, float]
    by_output: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    relative: frozenset[str] = frozenset()

    def of(self, output: str) -> dict[str, float]:
        """One output's."""
        return {**self.common, **self.by_output.get(output, {})}

    def is_relative(self, name: str, output: str) -> bool:
        return name in self.relative and name not in self.by_output.get(output, {})

    def to_json(self) -> dict[str, Any]:
        """As verify.json holds them."""
        return {**self.common, **({"outputs": dict(self.by_output)} if self.by_output else {})}


def verify_limits(spec: Mapping[str, Any]) -> Limits:
    """spec: scheme, trained, and limits as the recipe's `verify` table has them."""
    asked = {name: value for name, value in spec["limits"].items() if is_limit(name, value)}
    by_output = {
        each["name"]: {name: value for name, value in each.items() if is_limit(name, value)}
        for each in spec["limits"].get("outputs", ())
    }
    relative = _OF_ROUNDING - set(asked) if spec["scheme"] in _ROUNDED_AS_QUANTIZED else frozenset()
    return Limits({**default_limits(spec), **asked}, by_output, frozenset(relative))


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
_FLOAT_ON_DEVICE = {
    "min_sqnr_db": 60.0,
    "min_channel_sqnr_db": 40.0,
    "min_argmax_agreement": 0.99,
    "min_integer_agreement": 0.99,
}
_INTEGER_ON_DEVICE = {
    "min_sqnr_db": 20.0,
    "min_channel_sqnr_db": 0.0,
    "min_argmax_agreement": 0.97,
    "min_integer_agreement": 0.97,
}


# On another x86 host, in the same wheel: integer sums are exact in any order, where they do not saturate, and each is
# rounded once; so a step where a value lies between two, and a few where such steps meet. What stays float is summed
# in another order. Set on what the shipped models gave (docs/devices.md).
_FLOAT_ON_X86 = _FLOAT_ON_DEVICE
_INTEGER_ON_X86 = {
    "min_sqnr_db": 40.0,
    "min_channel_sqnr_db": 0.0,
    "min_argmax_agreement": 0.99,
    "min_integer_agreement": 0.99,
    "max_steps": 3.0,
}
_INTEGER = ("static_int8", "mixed", "dynamic_int8", "qat_int8")


def x86_limits(scheme: str, asked: Mapping[str, float | None]) -> Limits:
    """As `device_limits`, on an x86 host. max_steps is of a quantized output, and says nothing of others."""
    return _with_asked(_INTEGER_ON_X86 if scheme in _INTEGER else _FLOAT_ON_X86, asked)


def device_limits(scheme: str, asked: Mapping[str, float | None] | None = None) -> Limits:
    """Of `verify_device`: by default, and what the device's own keys say."""
    floats = scheme == "fp32" or scheme.startswith("weight_only")
    return _with_asked(_FLOAT_ON_DEVICE if floats else _INTEGER_ON_DEVICE, asked or {})


def _with_asked(defaults: Mapping[str, float], asked: Mapping[str, float | None]) -> Limits:
    return Limits({**defaults, **_EXACT, **{name: value for name, value in asked.items() if value is not None}})
