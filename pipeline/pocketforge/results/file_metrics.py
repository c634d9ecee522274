"""Metrics of a file that are a function of its own: no stage takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import resolve_name

from pocketforge.recipe import METRICS


def file_values(path: Path) -> Iterator[tuple[str, float]]:
    """Each metric that says by what function it is taken, and its value for this file."""
    for name, metric in METRICS.items():
        if metric.taken_by:
            take: Callable[[Path], float] = resolve_name(metric.taken_by)
            yield name, take(path)
