"""A metric's worst part: what a budget with `slice` or `per` is on, and how such a value is called.

The names differ from the metric's own: a reader that knows nothing of parts passes over them, and takes none for the
whole's.
"""

from __future__ import annotations

from typing import Final

# Metrics that have a value of each class (accuracy/): what is no ratio or mean over classes has none.
OF_CLASSES: Final = frozenset(
    {
        "accuracy_top1", "token_accuracy", "pixel_accuracy", "macro_f1", "miou", "dice", "map", "auroc",
        "average_precision",
    }
)  # fmt: skip
_SLICE, _CLASS = " by slice ", " by class"


def by_slice(metric: str, column: str) -> str:
    """Of the worst value of a column: `accuracy_top1 by slice device`."""
    return f"{metric}{_SLICE}{column}"


def by_class(metric: str) -> str:
    """Of the worst class."""
    return f"{metric}{_CLASS}"


def whole_metric(name: str) -> str:
    """The metric that a name is of the worst part of; itself, where it is of no part. No metric's name has spaces."""
    return name.partition(" by ")[0]


def in_part(metric: str, column: str, per: str) -> str:
    """What a budget's metric is called with its `slice` and `per`; the metric itself where it has neither."""
    return by_slice(metric, column) if column else by_class(metric) if per == "class" else metric
