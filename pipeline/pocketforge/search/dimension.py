"""What a trial chooses: dimensions of a space, each with its values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Value = str | int | float | bool
# A trial's choice: dimension → value.
Choice = Mapping[str, Value]
_DIGITS = 3  # of a continuous value: recipes are read


@dataclass(frozen=True, slots=True)
class Dimension:
    """One thing that trials choose.

    Attributes:
        name: As trials and the page call it: `scheme`, `ratio layer1.*`.
        kind: names: no order. ordered: from less to more. log: any number between the two values, by its logarithm.
        values: To choose from; of log the least and the most.
    """

    name: str
    kind: Literal["names", "ordered", "log"]
    values: tuple[Value, ...]

    def at(self, place: float) -> Value:
        """The value at a place that a sampler chose: an index, or of log the number."""
        return float(f"{place:.{_DIGITS}g}") if self.kind == "log" else self.values[int(place)]

    def place(self, value: Value) -> float:
        """The reverse of `at`."""
        return float(value) if self.kind == "log" else self.values.index(value)

    def drawn(self, share: float) -> Value:
        """The value at a share of the dimension, 0 to 1: of one that is drawn evenly."""
        if self.kind == "log":
            low, high = (math.log(float(value)) for value in self.values)
            return self.at(math.exp(low + share * (high - low)))
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


def points(dimensions: Sequence[Dimension]) -> float:
    """How many points there are; infinite with a continuous dimension."""
    return math.prod(math.inf if each.kind == "log" else len(each.values) for each in dimensions)
