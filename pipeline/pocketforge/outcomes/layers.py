"""layers.json: what quantizing each layer costs (stage `layers`)."""

from __future__ import annotations

import builtins  # a field named float hides the type of that name from those below it
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Score:
    """How far a graph is from the float model on the same samples.

    Attributes:
        drop: Of top-1, 0 to 1; of a regression the relative growth of the mean error. Below 0 it became better.
        metric: Top-1, 0 to 1, or the mean absolute error.
        sqnr_db: Of the first output against the float model's, in dB.
    """

    drop: float
    metric: float
    sqnr_db: float


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer, alone in int8 and alone in float.

    Attributes:
        name: Of its module (`features.0.0`), or of the node where it has no weight.
        op: `conv2d`, `linear` …
        weights: How many it has.
        only_quantized: The model with this layer in int8, all others in float.
        only_float: The model with this layer in float, all others in int8.
    """

    name: str
    op: str
    weights: int
    only_quantized: Score
    only_float: Score


@dataclass(frozen=True, slots=True)
class LayerStudy:
    """What quantizing each layer costs.

    Attributes:
        version: Of this form.
        samples: How many calibration and train samples it was measured on.
        float: The float model's metric on them.
        all_quantized: The model with every layer in int8.
        layers: Those that can be int8, in the graph's order; a module that is called twice is one.
    """

    FILE: ClassVar[str] = "layers.json"

    version: int
    samples: int
    float: builtins.float
    all_quantized: Score
    layers: tuple[LayerCost, ...]
