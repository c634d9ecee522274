"""Successive halving: of a batch that was trained for a short while, who is trained to the end. Pure.

Jamieson & Talwalkar 2016, by ranks of domination, so that several objectives need no weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pocketforge.search.front import Point, distances, ranks


def short_share(epochs: int, reduction: int) -> float | None:
    """Which share of its training shows a trial's worth; None where there is nothing shorter than all of it."""
    short = max(1, math.ceil(epochs / reduction))
    return short / epochs if epochs and short < epochs else None


def survivors(points: Mapping[int, Point], violations: Mapping[int, float], reduction: int) -> list[int]:
    """The best one in `reduction`, at least one, by number.

    violations: of the budgets in all, at this rung; they are less with more training, so they only order those that no
    other beats; then who is nearest to the best of every objective comes first.
    """
    if not points:
        return []
    by_rank, far = ranks(points), distances(points)
    count = max(1, math.ceil(len(points) / reduction))
    ordered = sorted(points, key=lambda n: (by_rank[n], violations.get(n, 0.0), far[n], n))
    return sorted(ordered[:count])


def hopeless(violations: Mapping[str, float], known_early: Sequence[str], slack: float) -> list[str]:
    """The budgets that more training cannot keep: on what a file's structure alone decides, and over by more than
    `slack` of the limit."""
    return [name for name in known_early if violations.get(name, 0.0) > slack]
