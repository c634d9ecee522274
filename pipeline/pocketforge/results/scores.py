"""Every value that a file's outputs gave, each with the output that it is of where there are several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pocketforge.outcomes.verify import Measured
from pocketforge.recipe.metric import Better
from pocketforge.recipe.metrics_of_outputs import drop_name


@dataclass(frozen=True, slots=True)
class OutputValue:
    """One value.

    Attributes:
        metric: Its name, as budgets have it.
        value: In the metric's unit.
        output: Whose; empty where there is one only.
        better: Of a metric of the user's which values are better; None of others.
    """

    metric: str
    value: float
    output: str = ""
    better: Better | None = None


def values_of(measured: Measured) -> Iterator[OutputValue]:
    """A file whose output is not the model's has no metrics of it, one of integers alone no SQNR."""
    several = len(measured.outputs) > 1
    for score in measured.scores:
        output = score.output if several else ""
        for metric, value in score.metrics.items():
            yield OutputValue(metric, value, output, score.better.get(metric))
        for metric, value in score.drops.items():
            yield OutputValue(drop_name(metric), value, output, "lower" if metric in score.better else None)
            if metric == "accuracy_top1":
                yield OutputValue("accuracy_drop", value, output)
    if measured.sqnr_db is not None:
        yield OutputValue("parity_sqnr_db", measured.sqnr_db, measured.worst_output if several else "")
