"""A report's rows as a pandas DataFrame, for notebooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from pocketforge.errors import RecipeError, ToolMissing
from pocketforge.recipe import suggest
from pocketforge.records import Report
from pocketforge.report.budget_words import better_of, output_of
from pocketforge.report.choice import interval_of

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, object]


def frame(report: Report, rows: str) -> pd.DataFrame:
    """One row for each. Raises RecipeError for rows that there are not, ToolMissing where pandas is not installed."""
    if rows not in ROWS:
        raise RecipeError(f"a report has no rows {rows!r}{suggest(rows, ROWS)}")
    try:
        import pandas
    except ImportError as error:
        raise ToolMissing(f"to_pandas needs pandas: {error}", "pip install pandas") from None
    columns, each = ROWS[rows]
    return pandas.DataFrame(list(each(report)), columns=columns)


def _measurements(report: Report) -> Iterator[Row]:
    of = {target.name: target for target in report.targets}
    for each in report.measurements:
        known, target = interval_of(each), of.get(each.target)
        yield {
            "target": each.target,
            "runtime": target.runtime if target else None,
            "scheme": target.scheme if target else None,
            "device": each.device,
            "via": each.via,
            "metric": each.metric,
            "output": output_of(each),
            "value": each.value,
            "unit": each.unit,
            "low": known[0].low if known else None,
            "high": known[0].high if known else None,
            "samples": len(each.samples),
            "sha256": each.artifact_sha256,
        }


def _budgets(report: Report) -> Iterator[Row]:
    for each in report.gates:
        yield {
            "target": each.target,
            "device": each.device,
            "metric": each.budget.metric,
            "percentile": each.budget.percentile if each.budget.metric == "latency_ms" else None,
            "better": better_of(each),
            "limit": None if each.budget.baseline else each.budget.limit,
            "baseline": each.budget.baseline,
            "value": each.value,
            "verdict": each.verdict,
            "severity": each.budget.severity,
            "blocks": each.blocks,
            "reason": each.reason,
            "waiver": each.waiver,
        }


def _targets(report: Report) -> Iterator[Row]:
    for each in report.targets:
        file = each.artifacts[0] if each.artifacts else None
        yield {
            "target": each.name,
            "runtime": each.runtime,
            "scheme": each.scheme,
            "status": each.status,
            "size_bytes": file.size_bytes if file else None,
            "gzip_bytes": file.gzip_bytes if file else None,
            "sha256": file.sha256 if file else None,
            "error": each.error,
        }


def _steps(report: Report) -> Iterator[Row]:
    for each in report.steps:
        yield {
            "stage": each.stage,
            "lane": each.lane,
            "status": each.status,
            "wall_s": each.wall_s,
            "peak_rss_bytes": each.peak_rss_bytes,
            "cpu_s": each.cpu_s,
            "began_s": each.began_s,
            "ended_s": each.ended_s,
            "message": each.message,
            "key": each.key,
        }


# Columns are there without rows, too.
ROWS: Mapping[str, tuple[tuple[str, ...], Callable[[Report], Iterator[Row]]]] = {
    "measurements": (
        (
            *("target", "runtime", "scheme", "device", "via", "metric", "output"),
            *("value", "unit", "low", "high", "samples", "sha256"),
        ),
        _measurements,
    ),
    "budgets": (
        (
            *("target", "device", "metric", "percentile", "better", "limit", "baseline"),
            *("value", "verdict", "severity", "blocks", "reason", "waiver"),
        ),
        _budgets,
    ),
    "targets": (
        ("target", "runtime", "scheme", "status", "size_bytes", "gzip_bytes", "sha256", "error"),
        _targets,
    ),
    "steps": (
        ("stage", "lane", "status", "wall_s", "peak_rss_bytes", "cpu_s", "began_s", "ended_s", "message", "key"),
        _steps,
    ),
}
