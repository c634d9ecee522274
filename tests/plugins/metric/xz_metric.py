"""A metric from outside: how large the file is when an app store packs it with xz."""

from __future__ import annotations

import lzma
from pathlib import Path

from pocketforge.recipe.budget import Metric
from pocketforge.recipe.ranges import Range


def xz_bytes(path: Path) -> float:
    return len(lzma.compress(path.read_bytes()))


METRIC = Metric(
    unit="bytes",
    better="lower",
    place="file",
    title="xz bytes",
    form=",.0f",
    limits=Range(0, 2**50, open_low=True, unit="bytes"),
    column=True,
    taken_by="xz_metric:xz_bytes",
)
