"""What files are worth on each slice of the samples, in every format alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pocketforge.outcomes.accuracy import OutputScore, SliceScore
from pocketforge.recipe import METRICS
from pocketforge.records import TargetRecord

HEADS = ("target", "metric", "slice", "samples", "value", "drop", "")


def slice_rows(targets: Sequence[TargetRecord]) -> list[tuple[str, ...]]:
    """A row for each target, first metric of an output, and slice: as HEADS; the worst of a column is named so."""
    rows = []
    for target in targets:
        model = target.facts.files.get("model")
        for score in model.scores if model else ():
            several = model is not None and len(model.outputs) > 1
            rows += list(_rows(target.name, score, f"{score.output}." if several else ""))
    return rows


def _rows(target: str, score: OutputScore, output: str) -> Iterator[tuple[str, ...]]:
    metric = next(iter(score.metrics), "")
    row = METRICS.if_usable(metric)
    form, better = (row.form, row.better) if row else (".4g", score.better.get(metric, "higher"))
    for column in dict.fromkeys(each.slice for each in score.slices):
        parts = [each for each in score.slices if each.slice == column]
        values = [each.metrics[metric] for each in parts if metric in each.metrics]
        worst = (min if better == "higher" else max)(values, default=None)
        # Where all are alike, none is the worst.
        told = worst if len(set(values)) > 1 else None
        for each in parts:
            value, drop = each.metrics.get(metric), each.drops.get(metric)
            yield (
                target,
                f"{output}{metric}",
                _slice(each),
                f"{each.samples:,}",
                "none" if value is None else format(value, form),
                "" if drop is None else format(drop, f"+{form}"),
                "worst" if told is not None and value == told else "",
            )


def _slice(part: SliceScore) -> str:
    return f"{part.slice} {part.value or '(none given)'}"
