"""Every value that a file's outputs gave, each with the output that it is of where there are several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pocketforge.outcomes.accuracy import OutputScore, SliceScore
from pocketforge.outcomes.verify import Measured
from pocketforge.recipe.budget import METRICS
from pocketforge.recipe.metric import Better
from pocketforge.recipe.metrics_of_outputs import drop_name
from pocketforge.recipe.worst_part import by_class, by_slice

# Values are rounded to 9 digits.
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class OutputValue:
    """One value.

    Attributes:
        metric: Its name, as budgets have it; of a worst part as `recipe.worst_part` calls it.
        value: In the metric's unit.
        output: Whose; empty where there is one only.
        better: Of a metric of the user's which values are better; None of others.
        worst: Of which part of the samples: the slice's value, or the class; None of all.
        samples: How many that part has; None of all, and of a class.
    """

    metric: str
    value: float
    output: str = ""
    better: Better | None = None
    worst: str | None = None
    samples: int | None = None


def values_of(measured: Measured) -> Iterator[OutputValue]:
    """A file whose output is not the model's has no metrics of it, one of integers alone no SQNR."""
    several = len(measured.outputs) > 1
    for score in measured.scores:
        output = score.output if several else ""
        yield from _named(score.metrics, score.drops, score, output)
        yield from _of_classes(score, output)
        for column in dict.fromkeys(each.slice for each in score.slices):
            yield from _of_slice(score, column, output)
    if measured.sqnr_db is not None:
        yield OutputValue("parity_sqnr_db", measured.sqnr_db, measured.worst_output if several else "")


def _named(
    metrics: Mapping[str, float], dropped: Mapping[str, float], score: OutputScore, output: str
) -> Iterator[OutputValue]:
    """Metrics and drops by the names that budgets have. score: of the output."""
    for metric, value in metrics.items():
        yield OutputValue(metric, value, output, score.better.get(metric))
    for metric, value in dropped.items():
        yield OutputValue(drop_name(metric), value, output, "lower" if metric in score.better else None)
        if metric == "accuracy_top1":
            yield OutputValue("accuracy_drop", value, output)


def _of_classes(score: OutputScore, output: str) -> Iterator[OutputValue]:
    for metric, classes in score.classes.items():
        label = _worst(list(classes.values()), METRICS[metric].better)
        name, value = list(classes.items())[label]
        yield OutputValue(by_class(metric), value, output, worst=name)


def _of_slice(score: OutputScore, column: str, output: str) -> Iterator[OutputValue]:
    """The worst value of a column for each metric; none where a part gives none: that one may be the worst."""
    parts = [each for each in score.slices if each.slice == column]
    found: dict[str, list[OutputValue]] = {}
    for part in parts:
        dropped = {metric: drop for metric, drop in part.drops.items() if not _from_nothing(metric, part)}
        for each in _named(part.metrics, dropped, score, output):
            found.setdefault(each.metric, []).append(each)
    for metric, values in found.items():
        if len(values) == len(parts):
            row = METRICS.if_usable(metric)
            place = _worst([each.value for each in values], values[0].better or (row.better if row else "higher"))
            each, part = values[place], parts[place]
            yield OutputValue(
                by_slice(metric, column), each.value, output, each.better, worst=part.value, samples=part.samples
            )


def _from_nothing(metric: str, part: SliceScore) -> bool:
    """Whether the PyTorch model's own value is 0 there: from 0 nothing falls, and every file keeps every limit."""
    row = METRICS.if_usable(metric)
    if row is None or row.better != "higher" or row.limits.low != 0:
        return False
    return part.metrics[metric] + part.drops[metric] <= _NOTHING


def _worst(values: Sequence[float], better: Better) -> int:
    """The place of the first of the worst."""
    return values.index(min(values) if better == "higher" else max(values))


def without_value(measured: Measured) -> Iterator[str]:
    """Metrics that some slices give none of, in words: no budget on the slice is kept by the others."""
    for score in measured.scores:
        for each in score.slices:
            for metric, why in each.none.items():
                yield f"{metric} of {score.output} has no value for {each.slice} {each.value!r}: {why}"
            for metric in each.drops:
                if _from_nothing(metric, each):
                    where = f"{metric} of {score.output} for {each.slice} {each.value!r}"
                    yield f"{where} is 0 in PyTorch: a drop from it says nothing"
