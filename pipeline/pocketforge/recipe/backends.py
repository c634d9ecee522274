"""What each quantization backend means: its numerics, once, as data. Nothing here imports torch.

A backend is a promise about numbers (types, ranges, granularity), not the name of a library that runs: each target's
runtime realises it. Activations are stored as int8 in graphs; where torch's own engine has uint8, level and zero point
are both lower by 128 here, which is the same real value.

Sources: torch.ao.quantization's default qconfigs of fbgemm and qnnpack; XNNPACK's quantizer in ExecuTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

STORED_LEVELS = (-128, 127)
BackendName = Literal["xnnpack", "qnnpack", "fbgemm"]


@dataclass(frozen=True, slots=True)
class Backend:
    """Numerics of static int8.

    Attributes:
        name: As in a recipe.
        activation_levels: Lowest and highest int8 level that a calibrated range is laid over. Values outside of that
            range go on to the ends of int8 (STORED_LEVELS), in torch's engine and in the three runtimes alike.
        weight_steps: The largest magnitude of a weight is so many steps from 0 (symmetric weights).
        weight_levels: Lowest and highest level that is stored.
        per_channel: Whether each output channel has a scale of its own, where the recipe says nothing.
        calibration: Method where the recipe says nothing.
        about: What it is, in words, for docs.
    """

    name: BackendName
    activation_levels: tuple[int, int]
    weight_steps: float
    weight_levels: tuple[int, int]
    per_channel: bool
    calibration: str
    about: str


# -128 is never stored as a weight: ARM kernels that add two products in 16 bits overflow on it (-128 × -128 × 2), and
# TFLite's specification rules it out. torch's engines lay the widest weight over 127.5 steps; that scale is kept.
BACKENDS: dict[str, Backend] = {
    "xnnpack": Backend(
        name="xnnpack",
        activation_levels=(-128, 127),
        weight_steps=127.0,
        weight_levels=(-127, 127),
        per_channel=True,
        calibration="histogram",
        about="int8 affine activations, symmetric int8 weights in ±127, a scale for each output channel",
    ),
    "qnnpack": Backend(
        name="qnnpack",
        activation_levels=(-128, 127),
        weight_steps=127.5,
        weight_levels=(-127, 127),
        per_channel=False,
        calibration="histogram",
        about="uint8 affine activations, symmetric int8 weights, one scale for each weight tensor",
    ),
    "fbgemm": Backend(
        name="fbgemm",
        activation_levels=(-128, -1),
        weight_steps=127.5,
        weight_levels=(-127, 127),
        per_channel=True,
        calibration="histogram",
        about="uint8 affine activations whose calibrated range takes 7 of the 8 bits, symmetric int8 weights, a scale "
        "for each output channel",
    ),
}
