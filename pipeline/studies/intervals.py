"""A mean over a few seeds, and how far it can be trusted. Standard library only."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TypedDict

# Two-sided 95 % quantiles of Student's t for 1, 2, 3 … degrees of freedom; with more, the last one (a little too wide).
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip


class Mean(TypedDict):
    """A mean with its 95 % interval (Student's t); low and high are None where one value cannot give them."""

    mean: float
    low: float | None
    high: float | None
    count: int


def mean_interval(values: Sequence[float]) -> Mean:
    """Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    mean = statistics.fmean(values)
    if len(values) < 2:
        return {"mean": mean, "low": None, "high": None, "count": 1}
    t = _T95[min(len(values) - 2, len(_T95) - 1)]
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": mean, "low": mean - half, "high": mean + half, "count": len(values)}


def geometric_interval(values: Sequence[float]) -> Mean:
    """The same for ratios: a geometric mean, with the interval taken on the logarithms."""
    logs = mean_interval([math.log(value) for value in values])
    low, high = (None if end is None else math.exp(end) for end in (logs["low"], logs["high"]))
    return {"mean": math.exp(logs["mean"]), "low": low, "high": high, "count": logs["count"]}
