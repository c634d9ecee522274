"""A report, a plan or a model file as tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.recipe import HIGHER_IS_BETTER
from pipeline.records import GateResult, Measurement, Report
from pipeline.stats import percentile, percentile_interval

_COLOURS = {
    "PASS": "green",
    "FAIL": "red",
    "MISSING": "red",
    "INCONCLUSIVE": "yellow",
    "ERROR": "red",
    "built": "green",
    "wrong": "red",
    "failed": "red",
    "run": "cyan",
    "reused": "green",
    "rejected": "red",
    "skipped": "yellow",
}


def console() -> Console:
    """Stdout; wide when it is a file, where nothing needs to be cut to a window."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=160)


def table(title: str, *columns: str, numbers: Sequence[str] = ()) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return made


def show_report(report: Report) -> None:
    """What was built and measured, the verdict of every budget, and where the time went."""
    screen = console()
    screen.print(_targets(report))
    if report.gates:
        screen.print(_gates(report.gates))
    screen.print(_steps(report))
    for target in report.targets:
        for check in target.checks:
            if not check.passed:
                said = f"{target.name}: {check.name}: wanted {check.wanted}, found {check.found}"
                screen.print(f"[red]wrong[/]    {escape(said)}")
        if target.error:
            screen.print(f"[red]failed[/]   {escape(f'{target.name}: {target.error}')}")
    for warning in report.warnings:
        screen.print(f"[yellow]warning[/]  {escape(warning)}")
    screen.print(f"verdict  [{_COLOURS[report.verdict]}]{report.verdict}[/]  ({report.wall_s:.1f} s)")


def _targets(report: Report) -> Table:
    numbers = ("bytes", "gzip -9", "top-1", "drop", "SQNR dB", "p50 ms", "± ms", "p90 ms", "load ms")
    made = table(f"{report.recipe}: targets", "target", "runtime", "scheme", "state", *numbers, numbers=numbers)
    for target in report.targets:
        found = {m.metric: m for m in report.measurements if m.target == target.name}
        latency = next((m for m in report.measurements if m.target == target.name and m.metric == "latency_ms"), None)
        made.add_row(
            target.name,
            target.runtime,
            target.scheme,
            _coloured(target.status),
            _count(found.get("size_bytes")),
            _count(found.get("gzip_bytes")),
            _value(found.get("accuracy_top1"), ".4f"),
            _value(found.get("accuracy_drop"), "+.4f"),
            _value(found.get("parity_sqnr_db"), ".1f"),
            *_latency(latency),
            _value(found.get("load_ms"), ".1f"),
        )
    return made


def _latency(measurement: Measurement | None) -> tuple[str, str, str]:
    if measurement is None:
        return "", "", ""
    interval = percentile_interval(measurement.samples, "p50")
    half = (interval.high - interval.low) / 2
    return f"{interval.value:.3f}", f"{half:.3f}", f"{percentile(measurement.samples, 'p90'):.3f}"


def _gates(gates: Sequence[GateResult]) -> Table:
    made = table("budgets", "verdict", "target", "metric", "limit", "found", "why", numbers=("limit", "found"))
    for gate in gates:
        metric: str = gate.budget.metric
        if metric == "latency_ms":
            metric += f" {gate.budget.percentile} on {gate.device}"
        sign = "≥" if gate.budget.metric in HIGHER_IS_BETTER else "≤"
        made.add_row(
            _coloured(gate.verdict) + (" (warning)" if gate.budget.severity == "warning" else ""),
            gate.target,
            metric,
            f"{sign} {gate.budget.limit:,.10g}",
            "" if gate.value is None else f"{gate.value:,.6g}" if gate.value < 1e6 else f"{gate.value:,.0f}",
            gate.reason,
        )
    return made


def _steps(report: Report) -> Table:
    """Wall time by stage and lane; a reused step shows the time of the run that made it."""
    made = table("steps", "stage", "lane", "state", "wall s", numbers=("wall s",))
    for step in report.steps:
        first, *rest = step.lane.split("+")
        lane = first + (f" (+{len(rest)} lanes)" if rest else "")
        made.add_row(step.stage, lane, _coloured(step.status), f"{step.wall_s:.1f}")
    return made


def show_plan(rows: Sequence[Mapping[str, Any]]) -> None:
    """Each step, the beginning of its key, and whether its result is stored."""
    made = table("plan", "stage", "lane", "key", "stored")
    for row in rows:
        made.add_row(row["stage"], row["lane"].replace("+", " + "), row["key"][:16], "yes" if row["stored"] else "no")
    screen = console()
    screen.print(made)
    to_run = sum(not row["stored"] for row in rows)
    screen.print(f"{len(rows)} steps, {to_run} to run")


def _coloured(word: str) -> str:
    return f"[{_COLOURS[word]}]{word}[/]"


def _count(measurement: Measurement | None) -> str:
    return "" if measurement is None else f"{measurement.value:,.0f}"


def _value(measurement: Measurement | None, form: str) -> str:
    return "" if measurement is None else format(measurement.value, form)


def show_gates(gates: Sequence[GateResult]) -> None:
    """Every budget's verdict."""
    console().print(_gates(gates))


def show_bench(results: Sequence[Mapping[str, Any]]) -> None:
    """Timings of files, each with the interval of its median."""
    numbers = ("threads", "samples", "min ms", "p50 ms", "95 % interval", "p90 ms", "p99 ms", "load ms", "peak bytes")
    made = table("benchmark (via host)", "file", "runtime", *numbers, numbers=numbers)
    for row in results:
        made.add_row(
            row["name"],
            row["runtime"],
            str(row["threads"]),
            str(row["samples"]),
            f"{row['min_ms']:.3f}",
            f"{row['p50_ms']:.3f}",
            f"{row['p50_low_ms']:.3f} to {row['p50_high_ms']:.3f}",
            f"{row['p90_ms']:.3f}",
            f"{row['p99_ms']:.3f}",
            f"{row['load_ms']:.1f}",
            f"{row['peak_rss_bytes']:,}",
        )
    console().print(made)
