"""A mean over a few seeds, and how far it can be trusted, as JSON has it. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pocketforge import stats


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its 95 % interval (Student's t).

    Attributes:
        mean: Of ratios the geometric one.
        low: The interval's lower end; None where one value cannot give it.
        high: Its upper end; None where low is.
        count: How many values it is of.
    """

    mean: float
    low: float | None
    high: float | None
    count: int

    @property
    def above(self) -> float | None:
        """How far the interval goes above the mean; None where one value cannot give it."""
        return None if self.high is None else self.high - self.mean


def mean_interval(values: Sequence[float]) -> Mean:
    """Raises ValueError without values."""
    return _mean(stats.mean_interval(values), len(values))


def geometric_interval(values: Sequence[float]) -> Mean:
    """The same for ratios: a geometric mean, with the interval taken on the logarithms."""
    return _mean(stats.geometric_interval(values), len(values))


def _mean(interval: stats.Interval, count: int) -> Mean:
    bounded = math.isfinite(interval.high)
    return Mean(interval.value, interval.low if bounded else None, interval.high if bounded else None, count)
