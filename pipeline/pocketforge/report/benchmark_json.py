"""A report as the JSON of github-action-benchmark's `customSmallerIsBetter`: name, unit, value, range, extra.

Metrics of which higher values are better stay out: the action would call each gain a regression. Accuracy is in it as
its drop. Fields: https://github.com/benchmark-action/github-action-benchmark
"""

from __future__ import annotations

import json

from pocketforge.recipe import METRICS
from pocketforge.recipe.budget import output_and_name
from pocketforge.recipe.worst_part import whole_metric
from pocketforge.records import HowCompared, Measurement, Report
from pocketforge.report.budget_words import output_of
from pocketforge.results.latency import latency_interval
from pocketforge.streams import printable


def write(report: Report) -> str:
    return json.dumps([_entry(report, each) for each in report.measurements if _smaller_is_better(each)], indent=1)


def _smaller_is_better(measurement: Measurement) -> bool:
    how = measurement.how
    if isinstance(how, HowCompared) and how.better:
        return how.better == "lower"
    row = METRICS.if_usable(output_and_name(whole_metric(measurement.metric))[1])
    return row is not None and row.better == "lower"


def _entry(report: Report, measurement: Measurement) -> dict[str, object]:
    place = f" on {measurement.device}" if measurement.device else ""
    output = output_of(measurement)
    metric = f"{output}.{measurement.metric}" if output else measurement.metric
    entry: dict[str, object] = {
        "name": printable(f"{report.recipe}/{measurement.target}: {metric}{place}"),
        "unit": measurement.unit or "1",
        "value": measurement.value,
    }
    if measurement.samples:
        interval = latency_interval(measurement.samples, measurement.how, "p50")
        # One word for both sides, as its charts have it: the wider one. One process or round bounds nothing.
        wider = max(interval.high - interval.value, interval.value - interval.low)
        if wider < float("inf"):
            entry["range"] = f"± {wider:.4g}"
    entry["extra"] = f"sha256:{measurement.artifact_sha256} via {printable(measurement.via)}"
    return entry
