"""mixed.json: which layers scheme `mixed` left in float, and why (a part of quantize.json too)."""

from __future__ import annotations

import builtins  # a field named float hides the type of that name from those below it
from dataclasses import dataclass
from typing import ClassVar

from pocketforge.outcomes.layers import LayerStudy


@dataclass(frozen=True, slots=True)
class Assignment:
    """Layers left in float, and how far the graph that really is quantized so is from the float model.

    Attributes:
        float: Names of the layers in float.
        drop: As `layers.Score`.
        metric: As `layers.Score`.
        sqnr_db: As `layers.Score`.
    """

    float: tuple[str, ...]
    drop: builtins.float
    metric: builtins.float
    sqnr_db: builtins.float


@dataclass(frozen=True, slots=True)
class FloatOverride:
    """An entry of a recipe's `quantize.overrides`.

    Attributes:
        modules: A layer's name.
        scheme: "fp32".
    """

    modules: str
    scheme: str = "fp32"


@dataclass(frozen=True, slots=True)
class MixedChoice:
    """Which layers scheme `mixed` left in float, and what was measured for it.

    Attributes:
        study: What each layer costs, from which the order of trying comes.
        max_accuracy_drop: What the recipe allows.
        drop: Of the assignment taken.
        sqnr_db: Of the assignment taken.
        float_layers: Names of the layers left in float.
        weight_bytes: Of all layers' weights, so assigned.
        weight_bytes_all_int8: Of the same weights, all in int8.
        tried: Every assignment that was measured, in order.
        overrides: The choice, to be pasted into a recipe with scheme static_int8: the same file without measuring.
    """

    FILE: ClassVar[str] = "mixed.json"

    study: LayerStudy
    max_accuracy_drop: float
    drop: float
    sqnr_db: float
    float_layers: tuple[str, ...]
    weight_bytes: int
    weight_bytes_all_int8: int
    tried: tuple[Assignment, ...]
    overrides: tuple[FloatOverride, ...]
