"""What commands found, as tables in the terminal: reports, plans, checks, benchmarks."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence

from rich.table import Table

from pocketforge.outcomes.package import in_words as in_words_packed
from pocketforge.outcomes.verify import OutputFigures
from pocketforge.recipe import METRICS
from pocketforge.recipe.budget import output_and_name
from pocketforge.recipe.sizes import sizes_in_words
from pocketforge.records import Compression, GateResult, Measurement, Reference, Report, TargetRecord
from pocketforge.registries import DEVICES
from pocketforge.report.budget_words import (
    budget_name,
    carried,
    figure,
    limit,
    near,
    output_of,
    room,
    spare,
    verdict_words,
)
from pocketforge.report.slices import HEADS, slice_rows
from pocketforge.report.tables import (
    Screen,
    console,
    milliseconds,
    screen_of,
    short_lane,
    table,
    told,
    weights_lines,
    words,
)
from pocketforge.results.kernels import in_words
from pocketforge.results.latency import latency_interval
from pocketforge.results.plugin_words import in_our_words
from pocketforge.stats import percentile

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


def write(report: Report, *, verbose: bool = False) -> str:
    """What `show_report` prints, as text for a file: as wide as the tables want, and without colours."""
    text = io.StringIO()
    _draw(screen_of(text), report, verbose)
    return text.getvalue().rstrip("\n")


def show_report(report: Report, *, verbose: bool = False) -> None:
    """Print what was built, in the terminal's width and colours. verbose: with the budgets that are kept easily."""
    _draw(console(), report, verbose)


def _draw(screen: Screen, report: Report, verbose: bool) -> None:
    """What was built and measured, which budgets are kept, and where the time went."""
    from pocketforge.report.compression import compression_tables
    from pocketforge.report.devices import device_tables, untold_kinds
    from pocketforge.report.quantization import quantization_tables

    screen.print(_steps(report))
    screen.print()
    if isinstance(report.compression, Compression):
        for drawn in compression_tables(report.compression):
            screen.print(drawn)
            screen.print()
    screen.print(_files(report))
    if report.measurements:
        screen.print()
        screen.print(_measurements(report))
    for drawn in [
        *_slices(report.targets),
        *quantization_tables(report.targets, report.agreement),
        *device_tables(report),
    ]:
        screen.print()
        screen.print(drawn)
    for kind in untold_kinds({m.via for m in report.measurements}):
        told(
            screen,
            "note",
            "",
            f"the package that brings devices of kind {kind} is not here, and so are no tables of its own",
        )
    evidence = [line for target in report.targets for line in _evidence(target)] + _judged_on(report.targets)
    weights = report.reference.weights if isinstance(report.reference, Reference) else None
    apps = list(filter(None, map(carried, report.measurements)))
    for line in [*weights_lines(weights), *evidence, *apps]:
        screen.print(line)
    if report.gates:
        screen.print()
        _print_gates(screen, report.gates, verbose)
    for target in report.targets:
        for check in target.checks:
            if not check.passed:
                fault = f"{target.name}: {check.name}: wanted {check.wanted}, found {check.found}"
                told(screen, "wrong", "red", fault)
        if target.error:
            hint = f"\nhint: {target.hint}" if target.hint else ""
            told(screen, "failed", "red", f"{target.name}: {target.error}{hint}")
        if target.facts.why:
            told(screen, "why", "red", f"{target.name}: {target.facts.why.sentence}")
    for note in report.data:
        told(screen, "data", "", note)
    for warning in report.warnings:
        told(screen, "warning", "yellow", warning)
    screen.print(words("verdict  ", _coloured(report.verdict), f"  ({report.wall_s:.1f} s)"))


def _evidence(target: TargetRecord) -> list[str]:
    """What a file's numbers are, where it was seen to run, how much of it an accelerated backend took."""
    facts = target.facts
    lines = [facts.numerics] if facts.numerics else []
    if facts.elsewhere:
        lines.append(facts.elsewhere.in_words())
    if facts.package:
        lines.append(in_words_packed(facts.package))
    if facts.runtimes:
        lines.append(", ".join(f"{name} {state.partition(':')[0]}" for name, state in facts.runtimes.items()))
    if facts.delegation and lines:
        ops = facts.delegation.delegated_ops + facts.delegation.other_ops
        lines[-1] += f"; {facts.delegation.delegated_share:.1%} of {ops} ops in XNNPACK"
    model = facts.files.get("model")
    if model and model.worst_output and len(model.outputs) > 1:
        figures = ", ".join(f"{output.name} {_nearness(output)}" for output in model.outputs)
        lines.append(f"worst output {model.worst_output} ({figures})")
    for role in dict.fromkeys(at.role for at in facts.sizes):
        found = [
            f"{sizes_in_words(at.sizes)} " + ", ".join(_nearness(output) for output in at.measured.outputs)
            for at in facts.sizes
            if at.role == role
        ]
        lines.append(f"{'' if role == 'model' else f'{role} '}at other sizes: {'; '.join(found)}")
    return [f"{target.name}: {line}" for line in lines]


def _judged_on(targets: Sequence[TargetRecord]) -> list[str]:
    """Whose kernels the verdicts are of; targets are named only where they differ in it."""
    by_kernels: dict[str, list[str]] = {}
    for target in targets:
        if target.facts.kernels:
            by_kernels.setdefault(in_words(target.facts.kernels), []).append(target.name)
    if len(by_kernels) == 1:
        return [f"judged on: {next(iter(by_kernels))}"]
    return [f"{', '.join(names)}: judged on: {kernels}" for kernels, names in by_kernels.items()]


def _nearness(output: OutputFigures) -> str:
    if output.sqnr_db is not None:
        return f"{output.sqnr_db:.1f} dB"
    return f"{output.integer_agreement or 0.0:.1%} equal"


def _files(report: Report) -> Table:
    numbers = ("bytes", "gzip -9")
    rows = table(f"{report.recipe}: files", "target", "runtime", "scheme", "state", *numbers, numbers=numbers)
    for target in report.targets:
        measured = {m.metric: m for m in report.measurements if m.target == target.name}
        rows.add_row(
            target.name,
            target.runtime,
            target.scheme,
            words(_coloured(target.status)),
            _count(measured.get("size_bytes")),
            _count(measured.get("gzip_bytes")),
        )
    return rows


def _measurements(report: Report) -> Table:
    """One row for each target and device that keeps time."""
    kinds = {via: DEVICES.if_usable(via) for via in {m.via for m in report.measurements}}
    timed = [m for m in report.measurements if (kind := kinds[m.via]) is None or kind.keeps_time]
    measured = {m.metric for m in timed}
    # A column that nothing was measured for is left out; one of several outputs is each its own.
    outputs = {name: list(dict.fromkeys(output_of(m) for m in timed if m.metric == name)) for name in measured}
    columns = {
        (name, output): (f"{output} {title}".strip(), form)
        for name in METRICS.in_order(measured)
        for title, form in _columns_of(name, report)
        for output in outputs[name]
    }
    numbers = [
        *(title for title, _ in columns.values()),
        *(["p50 ms", "± ms", "p90 ms"] * ("latency_ms" in measured)),
    ]
    devices = list(dict.fromkeys(m.device for m in timed if m.device)) or [""]
    names = ("target", "device") if len(devices) > 1 else ("target",)
    rows = table("measured", *names, *numbers, numbers=numbers)
    for target in report.targets:
        for device in devices:
            values = {
                (m.metric, output_of(m)): m for m in timed if m.target == target.name and m.device in ("", device)
            }
            rows.add_row(
                target.name,
                *([device] if len(devices) > 1 else []),
                *(_value(values.get(of), form) for of, (_, form) in columns.items()),
                *(_latency(values.get(("latency_ms", ""))) if "latency_ms" in measured else ()),
            )
    return rows


def _slices(targets: Sequence[TargetRecord]) -> Iterator[Table]:
    """Of data with slices: each output's first metric on each."""
    found = slice_rows(targets)
    if found:
        rows = table("by slice", *HEADS, numbers=("samples", "value", "drop"))
        for row in found:
            rows.add_row(*row)
        yield rows


def _columns_of(name: str, report: Report) -> Iterator[tuple[str, str]]:
    """Title and form of a metric that has a column: always, or as it is of an output and a budget is on it."""
    metric = METRICS.if_usable(name)
    budgeted = {gate.metric or output_and_name(gate.budget.metric)[1] for gate in report.gates}
    if metric is not None and (metric.column or (metric.roles and not metric.drop_of and name in budgeted)):
        yield metric.title, metric.form
    elif metric is None and not name.endswith("_drop") and name in budgeted:  # the user's own
        yield name, ".4g"


def _latency(measurement: Measurement | None) -> tuple[str, str, str]:
    if measurement is None or not measurement.samples:
        return "", "", ""
    interval = latency_interval(measurement.samples, in_our_words(measurement.how)[0], "p50")
    half = (interval.high - interval.low) / 2
    return (
        milliseconds(interval.value),
        milliseconds(half) if math.isfinite(half) else "?",  # too few samples to bound it
        milliseconds(percentile(measurement.samples, "p90")),
    )


def show_gates(gates: Sequence[GateResult], *, verbose: bool = False) -> None:
    """How many budgets each target keeps, and each that it does not keep, or keeps with little room; verbose: all."""
    screen = console()
    if gates:
        _print_gates(screen, gates, verbose)
    else:
        screen.print("no budgets")


def _print_gates(screen: Screen, gates: Sequence[GateResult], verbose: bool) -> None:
    screen.print(_kept(gates))
    told = [gate for gate in gates if verbose or gate.verdict != "PASS" or near(gate)]
    if told:
        screen.print()
        numbers = ("limit", "found", "spare")
        title = "all budgets" if verbose else "not kept, or near the limit"
        rows = table(title, "verdict", "target", "metric", *numbers, numbers=numbers)
        for gate in told:
            verdict = words(_coloured(gate.verdict), verdict_words(gate).removeprefix(gate.verdict))
            rows.add_row(verdict, gate.target, budget_name(gate), limit(gate), figure(gate.value), spare(gate))
        screen.print(rows)
    for gate in told:
        if gate.reason:
            screen.print(words(_coloured(gate.verdict), f" {gate.target}: {budget_name(gate)}: {gate.reason}"))


def _kept(gates: Sequence[GateResult]) -> Table:
    """A row for each target: how many budgets it keeps, and of those it keeps the one with the least room."""
    rows = table("budgets", "target", "kept", "least room", numbers=("kept",))
    for target in dict.fromkeys(gate.target for gate in gates):
        own = [gate for gate in gates if gate.target == target]
        kept = [gate for gate in own if gate.verdict == "PASS"]
        rooms = [(left, place) for place, gate in enumerate(kept) if (left := room(gate)) is not None]
        least = kept[min(rooms)[1]] if rooms else None
        rows.add_row(
            target,
            words((f"{len(kept)} of {len(own)}", "green" if len(kept) == len(own) else "red")),
            f"{budget_name(least)} {limit(least)}: {spare(least)}" if least else "",
        )
    return rows


def _steps(report: Report) -> Table:
    """Wall time and memory by stage and lane; a reused step shows those of the run that made it."""
    numbers = ("wall s", "peak bytes")
    rows = table("steps", "stage", "lane", "state", *numbers, numbers=numbers)
    for step in report.steps:
        peak = f"{step.peak_rss_bytes:,}" if step.peak_rss_bytes else ""
        rows.add_row(step.stage, short_lane(step.lane), words(_coloured(step.status)), f"{step.wall_s:.1f}", peak)
    return rows


def _coloured(word: str) -> tuple[str, str]:
    return word, _COLOURS.get(word, "default")


def _count(measurement: Measurement | None) -> str:
    return "" if measurement is None else f"{measurement.value:,.0f}"


def _value(measurement: Measurement | None, form: str) -> str:
    return "" if measurement is None else format(measurement.value, form)
