"""Which eval samples are looked at: first those that the file answers worst, which a check may have failed by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pocketforge.metrics import Array

# Of each 16 samples that layers are looked at with, so many may be unusual ones.
WORST = 4


def worst_first(found: Sequence[Array], wanted: Sequence[Array], count: int) -> list[int]:
    """Numbers of `count` samples: those that are furthest off, then the others from the beginning.

    found, wanted: each output's values, samples first, of the file and of the model. An output's differences count in
    shares of its range; integers are right or wrong.
    """
    total = len(wanted[0])
    off = np.max([_off(f, w) for f, w in zip(found, wanted, strict=True)], axis=0)
    # Equal ones in their order: the same file gives the same samples.
    worst = [int(number) for number in np.argsort(-off, kind="stable")[:WORST] if off[number] > 0]
    others = (number for number in range(total) if number not in worst)
    return [*worst, *others][: min(count, total)]


def _off(found: Array, wanted: Array) -> Array:
    """Of each sample, the largest difference."""
    rows, real = found.reshape(len(wanted), -1), wanted.reshape(len(wanted), -1)
    if real.dtype.kind != "f":
        shares: Array = (rows != real).mean(1)
        return shares
    span = float(np.ptp(real)) or 1.0
    differences: Array = np.nan_to_num(np.abs(rows - real).max(1, initial=0.0) / span, nan=np.inf)
    return differences
