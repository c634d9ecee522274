"""Areas under curves of a score that ranks samples, by counts: no rounding, and ties are one step of the curve."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from pocketforge.accuracy.base import Array
from pocketforge.accuracy.exact import Value


def _steps(scores: Array, holds: Array) -> tuple[Array, Array]:
    """True and false positives at each distinct score, the largest first; (0, 0) is left out."""
    order = np.argsort(-scores, kind="stable")
    sorted_scores, hits = scores[order], holds[order].astype(np.int64)
    last = np.append(np.flatnonzero(np.diff(sorted_scores)), len(scores) - 1)
    true = np.cumsum(hits)[last]
    return true, last + 1 - true


def auroc(scores: Array, holds: Array) -> Value:
    """Area under the ROC curve; NaN without positives or without negatives. Ties count half (Mann-Whitney's U)."""
    positives, negatives = int(holds.sum()), int((~holds).sum())
    if not positives or not negatives:
        return float("nan")
    true, false = _steps(scores, holds)
    before = np.concatenate([[0], true[:-1]])
    width = np.diff(np.concatenate([[0], false]))
    return Fraction(int((width * (true + before)).sum()), 2 * positives * negatives)


def average_precision(scores: Array, holds: Array) -> Value:
    """Σ (recall's step) · precision, as scikit-learn's: no interpolation; NaN without positives.

    Summed in integers over a common denominator of 2^-96 steps: exact to far beyond a float.
    """
    positives = int(holds.sum())
    if not positives:
        return float("nan")
    true, false = _steps(scores, holds)
    gained = np.diff(np.concatenate([[0], true]))
    total, unit = 0, 1 << 96
    for step in np.flatnonzero(gained):
        total += int(gained[step]) * ((int(true[step]) * unit) // int(true[step] + false[step]))
    return Fraction(total, positives * unit)


def equal_error_rate(scores: Array, holds: Array) -> Value:
    """Where false acceptances and false rejections are as near as a threshold brings them: the mean of both there.

    Of several such thresholds the one of the least mean. NaN without positives or without negatives.
    """
    positives, negatives = int(holds.sum()), int((~holds).sum())
    if not positives or not negatives:
        return float("nan")
    true, false = (np.concatenate([[0], steps]) for steps in _steps(scores, holds))
    accepted, rejected = false * positives, (positives - true) * negatives  # both over positives · negatives
    apart = np.abs(accepted - rejected)
    nearest = np.flatnonzero(apart == apart.min())
    least = int((accepted + rejected)[nearest].min())
    return Fraction(least, 2 * positives * negatives)
