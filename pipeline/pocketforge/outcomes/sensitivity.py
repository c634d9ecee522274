"""sensitivity.json of stage `sensitivity`: what each layer's channels are worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Judged:
    """A model on the study's samples.

    Attributes:
        accuracy_top1: 0 to 1; None for a regression, and for a cut that cannot be made.
        loss: Mean over the samples; None where it is not finite, and for a cut that cannot be made.
        macs: Multiply-accumulates of one sample; None for a cut that cannot be made.
    """

    accuracy_top1: float | None = None
    loss: float | None = None
    macs: int | None = None


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """One layer alone cut by each ratio, or several layers that are cut together.

    Attributes:
        name: Of the layer; of several, the first.
        channels: Those that it has before.
        accuracy_top1: Of the cut model, one value a ratio, as `Judged.accuracy_top1`.
        loss: One value a ratio, as `Judged.loss`.
        macs: One value a ratio, as `Judged.macs`.
    """

    name: str
    channels: int
    accuracy_top1: tuple[float | None, ...]
    loss: tuple[float | None, ...]
    macs: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class SensitivityOutcome:
    """sensitivity.json.

    Attributes:
        baseline: The whole model.
        samples: How many samples all figures are means over.
        ratios: The share of a layer's channels that was cut, 0 to 1, in rising order.
        layers: Every layer that can be cut.
        version: Of this file's form.
    """

    baseline: Judged
    samples: int
    ratios: tuple[float, ...]
    layers: tuple[LayerSensitivity, ...]
    version: int = 1

    FILE: ClassVar[str] = "sensitivity.json"
