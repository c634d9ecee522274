"""What every tally of metrics offers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from pocketforge.accuracy.exact import Value

Array: TypeAlias = NDArray[Any]
# Of a batch of samples: an array with samples first, or one entry a sample.
Batch: TypeAlias = Array | Sequence[Any]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a tally comes to.

    Attributes:
        values: Metric → its value; NaN where the samples give none.
        classes: Metric → its value of each class that occurs, by class number; of those that are means over classes.
        counted: How many things were judged (samples, pixels, words …), which values are ratios of.
        why: Metric → why it has no value, in words.
        certain: Metrics whose value is the same whatever is answered: it is none to anybody.
    """

    values: Mapping[str, Value]
    classes: Mapping[str, Mapping[int, Value]] = field(default_factory=dict)
    counted: int = 0
    why: Mapping[str, str] = field(default_factory=dict)
    certain: frozenset[str] = frozenset()


class Tally(Protocol):
    """Metrics of one output, batch by batch."""

    def add(self, predictions: Batch, targets: Mapping[str, Batch]) -> None:
        """Predictions are the output after post-processing; targets by name as the data have them.

        Raises Unfit where both do not belong together.
        """
        ...

    def figures(self, wanted: Collection[str]) -> Figures:
        """Values of the wanted metrics."""
        ...


class Unfit(Exception):
    """Predictions or targets that a metric cannot be taken of, in words."""
