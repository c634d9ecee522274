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
class OutputScore:
    """One output's metrics.

    Attributes:
        output: Its name.
        role: What it is, a word of a recipe's [[output]].
        metrics: Each by its name.
        counted: How many things were judged: samples, pixels, words, boxes.
        drops: Metric's name → how much worse it is than the PyTorch model's, in its unit; empty of PyTorch's own.
        better: Which values of the user's metrics are, "higher" or "lower"; drops are lower of all.
        classes: Metric that is a mean over classes → each class's value, by the class's name or number.
    """

    OMIT_UNSET: ClassVar[bool] = True

    output: str
    role: str
    metrics: Mapping[str, float]
    counted: int
    drops: Mapping[str, float] = field(default_factory=dict)
    better: Mapping[str, Better] = field(default_factory=dict)
    classes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
