"""How far a file's outputs may be from PyTorch's, and from the same file's on the host, unless a recipe says otherwise.

Plain numbers, which the rows of schemes.py take. Names are those of a recipe's `verify` and [[device]] tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Numbers = Mapping[str, float]

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
EXACT: Final[Numbers] = {"max_dead_channels": 0}
STATIC: Final[Numbers] = {
    "min_sqnr_db": 15.0,
    "max_diff_ratio": 0.25,
    "min_channel_sqnr_db": 0.0,
    "min_region_sqnr_db": 6.0,
    **EXACT,
    "min_argmax_agreement": 0.95,
    "min_integer_agreement": 0.95,
    "max_accuracy_drop": 0.02,
    "min_graph_sqnr_db": 24.0,
    "max_steps_from_graph": 5.0,
}
FEW_BITS: Final[Numbers] = {
    "min_sqnr_db": 8.0,
    "max_diff_ratio": 0.5,
    "min_channel_sqnr_db": -3.0,
    "min_region_sqnr_db": 3.0,
    **EXACT,
    "min_argmax_agreement": 0.9,
    "min_integer_agreement": 0.9,
    "max_accuracy_drop": 0.05,
    "min_graph_sqnr_db": 80.0,
}
FLOAT32: Final[Numbers] = {
    "min_sqnr_db": 60.0,
    "max_diff_ratio": 1e-3,
    "min_channel_sqnr_db": 40.0,
    "min_region_sqnr_db": 40.0,
    **EXACT,
    "min_argmax_agreement": 0.995,
    "min_integer_agreement": 1.0,
    "max_accuracy_drop": 0.005,
}
FLOAT16: Final[Numbers] = {
    "min_sqnr_db": 50.0,
    "max_diff_ratio": 0.02,
    "min_channel_sqnr_db": 20.0,
    "min_region_sqnr_db": 30.0,
    **EXACT,
    "min_argmax_agreement": 0.99,
    "min_integer_agreement": 0.99,
    "max_accuracy_drop": 0.005,
}
DYNAMIC: Final[Numbers] = {
    "min_sqnr_db": 20.0,
    "max_diff_ratio": 0.15,
    "min_channel_sqnr_db": 3.0,
    "min_region_sqnr_db": 10.0,
    **EXACT,
    "min_argmax_agreement": 0.97,
    "min_integer_agreement": 0.97,
    "max_accuracy_drop": 0.01,
    "min_graph_sqnr_db": 30.0,
}
TRAINED: Final[Numbers] = {
    "min_sqnr_db": 3.0,
    "max_diff_ratio": 1.0,
    **EXACT,
    "min_argmax_agreement": 0.9,
    "min_integer_agreement": 0.9,
    "max_accuracy_drop": 0.02,
    "min_graph_sqnr_db": 20.0,
    "max_steps_from_graph": 8.0,
}
EIGHT_BITS: Final[Numbers] = {
    "min_sqnr_db": 25.0,
    "max_diff_ratio": 0.1,
    "min_channel_sqnr_db": 6.0,
    "min_region_sqnr_db": 12.0,
    **EXACT,
    "min_argmax_agreement": 0.97,
    "min_integer_agreement": 0.97,
    "max_accuracy_drop": 0.01,
    "min_graph_sqnr_db": 80.0,
}

# Of a file's outputs on an emulated device against the same file's on the host. The kernels differ in the order of
# float sums (1e-5 of the range seen) and, in integer ones, in rounding: mostly nothing, in ONNX Runtime up to some
# levels, since x86 without VNNI sums in 16 bits.
FLOAT_ON_DEVICE: Final[Numbers] = {
    "min_sqnr_db": 60.0,
    "min_channel_sqnr_db": 40.0,
    "min_argmax_agreement": 0.99,
    "min_integer_agreement": 0.99,
}
INTEGER_ON_DEVICE: Final[Numbers] = {
    "min_sqnr_db": 20.0,
    "min_channel_sqnr_db": 0.0,
    "min_argmax_agreement": 0.97,
    "min_integer_agreement": 0.97,
}

# On another x86 host, in the same wheel: integer sums are exact in any order, where they do not saturate, and each is
# rounded once; so a step where a value lies between two, and a few where such steps meet. What stays float is summed
# in another order. Set on what the shipped models gave (docs/devices.md).
FLOAT_ON_X86: Final[Numbers] = FLOAT_ON_DEVICE
INTEGER_ON_X86: Final[Numbers] = {
    "min_sqnr_db": 40.0,
    "min_channel_sqnr_db": 0.0,
    "min_argmax_agreement": 0.99,
    "min_integer_agreement": 0.99,
    "max_steps": 3.0,
}

_OF_VERIFY = (STATIC, FEW_BITS, FLOAT32, FLOAT16, DYNAMIC, TRAINED, EIGHT_BITS)
_OF_DEVICES = (FLOAT_ON_DEVICE, INTEGER_ON_DEVICE, INTEGER_ON_X86)
# Every limit that something is measured against. One of another name would be held against nothing.
KNOWN: Final = frozenset(name for numbers in (*_OF_VERIFY, *_OF_DEVICES) for name in numbers)
# What every scheme of ours limits, and so has each of a package's: without them any file would do.
NEEDED: Final = frozenset.intersection(*(frozenset(numbers) for numbers in _OF_VERIFY))
NEEDED_ON_DEVICES: Final = frozenset.intersection(*(frozenset(numbers) for numbers in _OF_DEVICES))
