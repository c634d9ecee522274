"""How much a range loses, by a histogram of what was seen: what observers search the least of. NumPy only."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence

import numpy as np

from pocketforge.metrics import Array

# XNNPACK's configuration never goes below a scale of 2^-12, which wrecks layers with small activations; observers'
# own default does not, and still keeps 6 / scale (ReLU6) within the int32 that runtimes compute it in.
SMALLEST_SCALE = float(np.finfo(np.float32).eps)
# The share of the values that torch's search for the least error cuts off at a time.
STEP = 1e-5


def divergence_when_cut(magnitudes: Array, kept: int, levels: int) -> float:
    """KL(P ‖ Q) of Migacz 2017: P is the first `kept` bins with all above added to the last, Q the same bins (without
    what was added) averaged over each of `levels` groups, empty bins staying empty. Infinite where Q lacks what P has.
    """
    inside = magnitudes[:kept]
    present = inside > 0
    group = np.arange(kept) * levels // kept
    sums = np.bincount(group, inside, levels)
    filled = np.bincount(group, present, levels)
    coarse = np.where(present, (sums / np.maximum(filled, 1))[group], 0.0)
    exact = inside.copy()
    exact[-1] += magnitudes[kept:].sum()
    if not coarse.any() or (exact[-1] > 0 and not present[-1]):
        return float("inf")
    exact, coarse = exact[present] / exact.sum(), coarse[present] / coarse.sum()
    return float(np.sum(exact * np.log(exact / coarse)))


def squared_error(counts: Array, edges: Array, values: tuple[float, float], levels: tuple[int, int]) -> float:
    """Sum of (x - quantized x)² of a histogram whose values lie evenly in each bin, `values` laid over `levels`.

    Clamped at those levels, even if the backend clamps later: fbgemm's 7 bits would else be searched for 8.
    """
    low, high = min(values[0], 0.0), max(values[1], 0.0)
    step = max((high - low) / (levels[1] - levels[0]), SMALLEST_SCALE)
    zero_point = min(max(levels[0] - round(low / step), levels[0]), levels[1])
    inside = np.clip(edges, (levels[0] - zero_point) * step, (levels[1] - zero_point) * step)
    # Antiderivative of the squared distance to the nearest multiple of `step`, then to the end where values clamp.
    nearest = np.floor(inside / step + 0.5)
    area = nearest * step**3 / 12 + (inside - nearest * step) ** 3 / 3 + (edges - inside) ** 3 / 3
    return float(np.sum(counts * np.diff(area) / np.diff(edges)))


def of_magnitudes(counts: Array, edges: Array, size: float) -> Array:
    """The histogram of |x|, in as many bins of `size` from 0 up."""
    below = np.concatenate([[0.0], np.cumsum(counts)])
    ends = np.arange(len(counts) + 1) * size
    positive, negative = np.interp(ends, edges, below), np.interp(-ends, edges, below)
    magnitudes: Array = np.diff(positive) - np.diff(negative)
    return magnitudes


def ends_of_least_error(sums: Sequence[float], total: float, error: Callable[[int, int], float]) -> tuple[int, int]:
    """(first, last) bin that torch's HistogramObserver finds, by the steps of its `_non_linear_param_search`.

    sums: of the counts up to each bin, values of float32. total: of all counts. error: of a range of bins. Where there
    are few different values, no step moves an end for tens of thousands of steps: .3 s in torch, which compares tensors
    of one element, and a tenth of that by looking into the sorted sums.
    """
    below, above = 0.0, 1.0
    first, last, least = 0, len(sums) - 1, float("inf")
    while below < above:
        more, less = below + STEP, above - STEP
        # As torch compares a float32 with a Python number.
        left = bisect.bisect_left(sums, float(np.float32(more * total)), first, last)
        right = bisect.bisect_right(sums, float(np.float32(less * total)), first + 1, last + 1) - 1
        ends = (first, right)
        if left - first > last - right:
            ends, below = (left, last), more
        else:
            above = less
        if ends == (first, last):
            continue
        found = error(*ends)
        if found > least:
            break
        (first, last), least = ends, found
    return first, last
