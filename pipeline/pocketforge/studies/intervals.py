"""A mean over a few seeds, and how far it can be trusted, as JSON has it. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

from pocketforge import stats


class Mean(TypedDict):
    """A mean with its 95 % interval (Student's t); low and high are None where one value cannot give them."""

    mean: float
    low: float | None
    high: float | None
    count: int


def mean_interval(values: Sequence[float]) -> Mean:
    """Raises ValueError without values."""
    return _json(stats.mean_interval(values), len(values))


def geometric_interval(values: Sequence[float]) -> Mean:
    """The same for ratios: a geometric mean, with the interval taken on the logarithms."""
    return _json(stats.geometric_interval(values), len(values))


def _json(found: stats.Interval, count: int) -> Mean:
    bounded = math.isfinite(found.high)
    return {
        "mean": found.value,
        "low": found.low if bounded else None,
        "high": found.high if bounded else None,
        "count": count,
    }
