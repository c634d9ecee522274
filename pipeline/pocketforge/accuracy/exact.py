"""Figures that are ratios of counts, exactly: equal counts are equal figures, and a limit that is met is met."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import TypeAlias

Value: TypeAlias = Fraction | float
# Of real values: what floats' last bits say is no difference.
DIGITS = 9


def ratio(part: int, whole: int) -> Value:
    """NaN of nothing."""
    return Fraction(int(part), int(whole)) if whole else math.nan


def mean(values: Iterable[Value]) -> Value:
    """Exact of ratios; NaN of nothing."""
    kept = list(values)
    if not kept:
        return math.nan
    total: Value = Fraction(0)
    for value in kept:
        total += value
    return total / len(kept)


def as_float(value: Value) -> float:
    """The nearest float of a ratio; a real value rounded to what it can be told by."""
    return float(value) if isinstance(value, Fraction) else round(float(value), DIGITS)


def loss(before: Value, after: Value, better: str) -> float:
    """How much worse a value is than before, in its unit: positive is worse."""
    first, second = (before, after) if better == "higher" else (after, before)
    if isinstance(first, Fraction) and isinstance(second, Fraction):
        return float(first - second)
    return round(as_float(first) - as_float(second), DIGITS) + 0.0  # 0, not -0
