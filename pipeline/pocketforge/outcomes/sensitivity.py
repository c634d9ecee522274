"""sensitivity.json of stage `sensitivity`: what each layer's channels are worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pocketforge.recipe.metric import Better


@dataclass(frozen=True, slots=True)
class Judged:
    """A model on the study's samples.

    Attributes:
        metric: The study's metric, in its unit; None where answers hold NaN, and for a cut that cannot be made.
        loss: Mean over the samples; None where it is not finite, no output has one, or the cut cannot be made.
        macs: Multiply-accumulates of one sample; None for a cut that cannot be made.
    """

    metric: float | None = None
    loss: float | None = None
    macs: int | None = None


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """One layer alone cut by each ratio, or several layers that are cut together.

    Attributes:
        name: Of the layer; of several, the first.
        channels: Those that it has before.
        metric: Of the cut model, one value a ratio, as `Judged.metric`.
        loss: One value a ratio, as `Judged.loss`.
        macs: One value a ratio, as `Judged.macs`.
    """

    name: str
    channels: int
    metric: tuple[float | None, ...]
    loss: tuple[float | None, ...]
    macs: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class SensitivityOutcome:
    """sensitivity.json.

    Attributes:
        metric: The recipe's, by which models are judged: `NAME` or `OUTPUT.NAME`.
        better: Which of its values are.
        relative: Whether what a cut costs is a share of the baseline: of errors and decibels, not of shares and rates.
        baseline: The whole model.
        samples: How many samples all figures are means over.
        ratios: The share of a layer's channels that was cut, 0 to 1, in rising order.
        layers: Every layer that can be cut.
        version: Of this file's form.
    """

    metric: str
    better: Better
    relative: bool
    baseline: Judged
    samples: int
    ratios: tuple[float, ...]
    layers: tuple[LayerSensitivity, ...]
    version: int = 2

    FILE: ClassVar[str] = "sensitivity.json"
