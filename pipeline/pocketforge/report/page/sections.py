"""The page's sections, from a report: the verdict first, then what to ship, then the evidence."""

from __future__ import annotations

from dataclasses import replace

from pocketforge.records import Compression, GateResult, Measurement, Report
from pocketforge.report.budget_words import budget_name, carried, figure, limit, near, spare, verdict_words
from pocketforge.report.choice import (
    choices,
    devices_of,
    interval_of,
    passing,
    quality_of,
    unbeaten,
    values_of,
    written,
)
from pocketforge.report.page import plots
from pocketforge.report.page.evidence import between, evidence
from pocketforge.report.page.parts import TONES, Cell, Page, Plot, Section, table
from pocketforge.report.page.ranges import calibrated
from pocketforge.report.slices import HEADS, slice_rows
from pocketforge.report.tables import milliseconds


def page_of(report: Report) -> Page:
    trades, latencies, layers = _trades(report), _latencies(report), _layers(report)
    ranges = calibrated(report)
    found = (
        _went_wrong(report),
        _to_ship(report),
        Section("warnings", "Warnings", notes=report.warnings) if report.warnings else None,
        _targets(report),
        _budgets(report),
        trades,
        latencies,
        _sizes(report),
        layers,
        ranges,
        _compression(report),
        _slices(report),
        *evidence(report),
        _missing(trades, latencies, layers, ranges),
    )
    return Page(
        title=report.recipe,
        verdict=report.verdict,
        tone=TONES[report.verdict],
        summary=_summary(report),
        targets=tuple(target.name for target in report.targets),
        sections=tuple(filter(None, found)),
    )


def _missing(
    trades: Section | None, latencies: Section | None, layers: Section | None, ranges: Section | None
) -> Section | None:
    """What a reader may look for and not find, and why."""
    lines = []
    if trades is None:
        lines.append(
            "Quality against cost: it takes two targets with a measured quality, and a size, latency or count."
        )
    if latencies is None:
        lines.append("Latencies and instructions: nothing was timed or counted.")
    if layers is None:
        lines.append("SQNR of each layer: the schemes mixed and codebook measure it, and pocketforge why.")
    if ranges is None:
        lines.append("Ranges of calibration: no target has a static scheme, or an earlier version wrote the report.")
    return Section("missing", "What is not here", notes=tuple(lines)) if lines else None


def _summary(report: Report) -> str:
    count, kept = len(report.targets), sum(gate.verdict == "PASS" for gate in report.gates)
    targets = f"{len(passing(report))} of {count} target{'s' * (count != 1)} can be shipped"
    budgets = f"{kept} of {len(report.gates)} budgets are kept" if report.gates else "the recipe has no budgets"
    tight = sum(map(near, report.gates))
    little = f", {tight} of them with little room" if tight else ""
    return f"{targets}; {budgets}{little}."


def _went_wrong(report: Report) -> Section | None:
    faults = []
    for gate in report.gates:
        if gate.verdict != "PASS":
            words = f"{verdict_words(gate)} {gate.target}: {budget_name(gate)} {limit(gate)}: {gate.reason}"
            faults.append(f"{words}\nwaived: {gate.waiver}" if gate.waiver else words)
    for target in report.targets:
        faults += [
            f"wrong {target.name}: {check.name}: wanted {check.wanted}, found {check.found}"
            for check in target.checks
            if not check.passed
        ]
        if target.error:
            faults.append(f"failed {target.name}: {target.error}" + (f"\nhint: {target.hint}" if target.hint else ""))
        if target.facts.why:
            path = f" (all of it: {target.facts.why.path})" if target.facts.why.path else ""
            faults.append(f"why {target.name}: {target.facts.why.sentence}{path}")
    return Section("wrong", "What went wrong", faults=tuple(faults)) if faults else None


def _to_ship(report: Report) -> Section:
    names = passing(report)
    if not names:
        return Section("ship", "Which file to ship", ("None: no target is built and keeps all its budgets.",))
    numbers = {target.name: number for number, target in enumerate(report.targets, 1)}
    rows: list[tuple[str | Cell, ...]] = []
    for choice in choices(report):
        best, *alike = choice.targets
        note = f"or {', '.join(alike)}" if alike else ""
        rows.append((choice.question, Cell(best, note, code=True, mark=numbers[best]), choice.value, choice.why))
    lines, quality = [], quality_of(report)
    for device in devices_of(report, "latency_ms"):
        found = unbeaten(report, device)
        if quality is not None and found and len(names) > 1:
            lines.append(
                f"No other target that passes beats {', '.join(found)} in size, {quality.title} and median latency on "
                f"{device} together."
            )
    shown = (table("The best of those that pass", ("", "target", "value", "by"), rows, "value"),) if rows else ()
    return Section("ship", "Which file to ship", tuple(lines), tables=shown)


def _targets(report: Report) -> Section:
    quality = quality_of(report)
    devices = devices_of(report, "latency_ms")
    sizes = values_of(report, "size_bytes")
    heads = ["target", "runtime", "scheme", "state", "bytes", "gzip -9"]
    numbers = ["bytes", "gzip -9", *([quality.title] if quality else []), *(f"ms on {device}" for device in devices)]
    heads += numbers[2:]
    rows: list[tuple[str | Cell, ...]] = []
    packed = values_of(report, "gzip_bytes")
    for number, target in enumerate(report.targets, 1):
        cells: list[str | Cell] = [
            Cell(target.name, code=True, mark=number),
            target.runtime,
            target.scheme,
            Cell(target.status, tone=TONES[target.status]),
            *(f"{by[target.name].value:,.0f}" if target.name in by else "" for by in (sizes, packed)),
        ]
        if quality:
            found = quality.values.get(target.name)
            cells.append(written(found) if found else "")
        for device in devices:
            times = values_of(report, "latency_ms", device)
            cells.append(_time(times[target.name]) if target.name in times else "")
        rows.append(tuple(cells))
    return Section("targets", "Targets", tables=(table("What was built", tuple(heads), rows, *numbers),))


def _time(measured: Measurement) -> Cell:
    known = interval_of(measured)
    if known is None:
        return Cell(written(measured))
    return Cell(milliseconds(known[0].value), between(known[0].low, known[0].high))


def _budgets(report: Report) -> Section | None:
    """Every budget × target: what was found, the verdict, and how far from the limit it is."""
    if not report.gates:
        return None
    rows_of: dict[tuple[object, ...], dict[str, GateResult]] = {}
    for gate in report.gates:
        key = (replace(gate.budget, target=""), gate.device, gate.metric)
        rows_of.setdefault(key, {})[gate.target] = gate
    rows: list[tuple[str | Cell, ...]] = []
    for by_target in rows_of.values():
        first = next(iter(by_target.values()))
        kind = " (a warning)" if first.budget.severity == "warning" else ""
        # Which part was worst differs from target to target.
        name = budget_name(replace(first, measurement=None))
        cells = [_verdict(by_target.get(target.name)) for target in report.targets]
        rows.append((Cell(f"{name} {limit(first)}", kind.strip()), *cells))
    heads = [Cell(target.name, code=True, mark=number) for number, target in enumerate(report.targets, 1)]
    return Section(
        "budgets",
        "Budgets",
        (
            "In each cell what was found, and how far that is from the limit: as a share of the limit, or, of a share "
            "that is to be high, of what lies between the limit and 1.",
        ),
        tables=(table("Budgets × targets", ("budget", *heads), rows, *(target.name for target in report.targets)),),
    )


def _verdict(gate: GateResult | None) -> Cell:
    if gate is None:
        return Cell("–", tone="none")
    margin = f"{spare(gate)} spare" if spare(gate) else ""
    word = "near" if near(gate) else verdict_words(gate)
    tone = "near" if near(gate) else TONES[gate.verdict]
    return Cell(figure(gate.value) or "none", f"{word}, {margin}" if margin else word, tone)


def _trades(report: Report) -> Section | None:
    quality = quality_of(report)
    found: list[Plot | None] = []
    if quality is not None:
        found.append(plots.trade(report, quality, values_of(report, "size_bytes"), "bytes"))
        for device in devices_of(report, "latency_ms"):
            found.append(plots.trade(report, quality, values_of(report, "latency_ms", device), f"ms on {device}"))
        for device in devices_of(report, "instructions"):
            across = values_of(report, "instructions", device)
            found.append(plots.trade(report, quality, across, f"instructions on {device}"))
    drawn = tuple(filter(None, found))
    return Section("trades", "Quality against what it costs", plots=drawn, keyed=True) if drawn else None


def _latencies(report: Report) -> Section | None:
    timed = [plots.latencies(report, device) for device in devices_of(report, "latency_ms")]
    counted = [plots.classes(report, device) for device in devices_of(report, "instructions")]
    drawn = tuple(filter(None, [*timed, *counted]))
    return Section("time", "Time and instructions", plots=drawn, keyed=True) if drawn else None


def _sizes(report: Report) -> Section | None:
    plot = plots.sizes(report)
    apps = tuple(filter(None, map(carried, report.measurements)))
    return Section("sizes", "Size", plots=(plot,), keyed=True, notes=apps) if plot else None


def _layers(report: Report) -> Section | None:
    """Per layer, what a report has of it: scheme `mixed` measures it, `codebook` too."""
    found: list[Plot | None] = []
    for target in report.targets:
        if target.facts.mixed:
            study = target.facts.mixed.study
            found.append(
                plots.layers(
                    [(f"{each.name} ({each.op})", each.only_quantized.sqnr_db) for each in study.layers],
                    f"SQNR of {target.name} with one layer in int8",
                    f"{target.name}: SQNR of the output with this layer alone in int8, on {study.samples:,} samples.",
                )
            )
        if target.facts.codebook:
            found.append(
                plots.layers(
                    [(each.name, each.sqnr_db) for each in target.facts.codebook.weights if each.entries],
                    f"SQNR of the weights of {target.name}",
                    f"{target.name}: SQNR of each clustered weight against the float one.",
                )
            )
    drawn = tuple(filter(None, found))
    return Section("layers", "Layer by layer", plots=drawn) if drawn else None


def _compression(report: Report) -> Section | None:
    if not isinstance(report.compression, Compression) or not report.compression.states:
        return None
    states = report.compression.states
    rows: list[tuple[str | Cell, ...]] = []
    times: list[tuple[str | Cell, ...]] = []
    for state in states:
        judged = state.value if state.accuracy_top1 is None else state.accuracy_top1
        zeros = f"{state.zeros / max(state.weights, 1):.1%}"
        sizes = (state.parameters, state.macs, state.weights_bytes, state.weights_gzip_bytes)
        rows.append((Cell(state.label, code=True), *(f"{size:,}" for size in sizes), zeros, figure(judged)))
        for runtime, timing in state.runtimes.items() if state.timed else ():
            ratio = ""
            if timing.ratio is not None and timing.ratio_low is not None and timing.ratio_high is not None:
                ratio = f"× {timing.ratio:.2f} ({between(timing.ratio_low, timing.ratio_high)})"
            times.append(
                (Cell(state.label, code=True), runtime, f"{timing.latency_ms:.4g}", ratio, f"{timing.size_bytes:,}")
            )
    heads = ("after", "parameters", "MACs", "bytes of weights", "gzip -9", "zeros", states[0].metric or "top-1")
    tables = [table("The PyTorch model", heads, rows, *heads[1:])]
    if times:
        timed = ("after", "runtime", "p50 ms", "over the state before (95 % interval)", "bytes")
        tables.append(table("Its float files, timed in turns on the host", timed, times, *timed[2:]))
    plot = plots.gains(states)
    return Section(
        "compression", "What each step of [[compress]] bought", tables=tuple(tables), plots=(plot,) if plot else ()
    )


def _slices(report: Report) -> Section | None:
    rows: list[tuple[str | Cell, ...]] = list(slice_rows(report.targets))
    if not rows:
        return None
    return Section(
        "slices", "By slice", tables=(table("On each slice of the samples", HEADS, rows, "samples", "value", "drop"),)
    )
