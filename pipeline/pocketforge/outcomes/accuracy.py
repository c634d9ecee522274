"""How good one output is by its role, in PyTorch or from a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from pocketforge.recipe.metric import Better


def by_metric(scores: Iterable[OutputScore]) -> dict[str, float]:
    """Metric → its value, of the first output that has it."""
    found: dict[str, float] = {}
    for score in scores:
        found = {**score.metrics, **found}
    return found


@dataclass(frozen=True, slots=True)
class SliceScore:
    """One output's metrics of the samples that have one value of a slice.

    Attributes:
        slice: The column: `device`.
        value: Of it: `pixel`; empty where samples have none.
        samples: How many have it.
        counted: How many things were judged there: samples, pixels, words, boxes.
        metrics: Each by its name, of those that these samples give.
        drops: Metric's name → how much worse it is than the PyTorch model's of the same samples, in its unit.
        none: Metric's name → why these samples give none.
    """

    OMIT_UNSET: ClassVar[bool] = True

    slice: str
    value: str
    samples: int
    counted: int
    metrics: Mapping[str, float]
    drops: Mapping[str, float] = field(default_factory=dict)
    none: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutputScore:
    """One output's metrics.

    Attributes:
        output: Its name.
        role: What it is, a word of a recipe's [[output]].
        metrics: Each by its name.
        counted: How many things were judged: samples, pixels, words, boxes.
        drops: Metric's name → how much worse it is than the PyTorch model's, in its unit; empty of PyTorch's own.
        better: Which values of the user's metrics are, "higher" or "lower"; drops are lower of all.
        classes: Metric that has a value of each class → these, by the class's name or number.
        slices: The same of parts of the samples, by each slice of the data.
    """

    OMIT_UNSET: ClassVar[bool] = True

    output: str
    role: str
    metrics: Mapping[str, float]
    counted: int
    drops: Mapping[str, float] = field(default_factory=dict)
    better: Mapping[str, Better] = field(default_factory=dict)
    classes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    slices: tuple[SliceScore, ...] = ()
