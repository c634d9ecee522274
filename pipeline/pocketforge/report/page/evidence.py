"""The page's evidence: every figure with the file that it is of, every check, every step, what all of it ran on."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from pocketforge.records import HowCompared, HowElse, Measurement, Reference, Report, TargetRecord
from pocketforge.report.budget_words import figure
from pocketforge.report.choice import interval_of
from pocketforge.report.page import plots
from pocketforge.report.page.parts import TONES, Cell, Section, Table, table
from pocketforge.report.page.timeline import timeline, totals
from pocketforge.results.kernels import in_words
from pocketforge.results.latency import load_range, processes_of, rounds_of
from pocketforge.results.plugin_words import in_our_words

_FIGURES = ("metric", "value", "unit", "where", "samples", "interval")
_STEPS = ("stage", "lane", "state", "began s", "wall s", "CPU s", "peak bytes", "key")


def evidence(report: Report) -> Iterator[Section | None]:
    yield _figures(report)
    yield _checks(report)
    yield _agreement(report)
    yield _steps(report)
    yield _surroundings(report)


def between(low: float, high: float) -> str:
    """An interval; an end that the samples cannot bound is `?`."""
    return "–".join(_end(end) for end in (low, high))


def _end(value: float) -> str:
    if not isfinite(value):
        return "?"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _figures(report: Report) -> Section:
    """A table for each file: its SHA-256, and all that was measured of it."""
    files = {artifact.sha256: artifact.path for target in report.targets for artifact in target.artifacts}
    of: dict[tuple[str, str], list[Measurement]] = {}
    for each in report.measurements:
        of.setdefault((each.target, each.artifact_sha256), []).append(each)
    tables = [_files(report)] if files else []
    for (target, sha256), measured in of.items():
        rows = [_figure(each) for each in measured]
        caption = f"{target}: {files.get(sha256, 'the PyTorch model, or a file that is not shipped')}, SHA-256 {sha256}"
        tables.append(table(caption, _FIGURES, rows, "value", "samples", "interval"))
    missing = () if tables else ("Nothing was measured.",)
    return Section("figures", "Every figure", tables=tuple(tables), folded=True, notes=missing)


def _files(report: Report) -> Table:
    rows: list[tuple[str | Cell, ...]] = [
        (
            Cell(each.path, f"{target.name}, {each.kind}", code=True),
            f"{each.size_bytes:,}",
            f"{each.gzip_bytes:,}",
            Cell(each.sha256, code=True),
        )
        for target in report.targets
        for each in target.artifacts
    ]
    return table("Files, with the SHA-256 of each", ("file", "bytes", "gzip -9", "SHA-256"), rows, "bytes", "gzip -9")


def _figure(measured: Measurement) -> tuple[str | Cell, ...]:
    device = f" {measured.device}" if measured.device and measured.device != measured.via else ""
    known, loads = interval_of(measured), load_range(measured.how) if measured.metric == "load_ms" else None
    if known:
        interval = f"{between(known[0].low, known[0].high)} ({known[1]})"
    else:
        interval = f"{between(*loads)} (least, largest)" if loads else ""
    name = Cell(measured.metric, _output(measured))
    return name, figure(measured.value) or "0", measured.unit, f"{measured.via}{device}", _samples(measured), interval


def _output(measured: Measurement) -> str:
    how = measured.how
    if isinstance(how, HowElse):
        return ", ".join(f"{name} {value}" for name, value in how.more.items() if isinstance(value, str | int | float))
    if not isinstance(how, HowCompared):
        return ""
    worst = "" if how.worst is None else f"worst: {how.worst or 'none given'}"
    return ", ".join(filter(None, (f"output {how.output}" if how.output else "", worst)))


def _samples(measured: Measurement) -> str:
    how = measured.how
    if isinstance(how, HowCompared):
        return f"{how.samples:,}"
    if not measured.samples:
        return ""
    form = in_our_words(how)[0]
    for parts, what in (
        (processes_of(measured.samples, form), "processes"),
        (rounds_of(measured.samples, form), "rounds"),
    ):
        if parts:
            return f"{len(measured.samples):,} in {len(parts)} {what}"
    return f"{len(measured.samples):,}"


def _checks(report: Report) -> Section | None:
    tables = tuple(filter(None, map(_checks_of, report.targets)))
    return Section("checks", "What verify compared", tables=tables, folded=True) if tables else None


def _checks_of(target: TargetRecord) -> Table | None:
    rows: list[tuple[str | Cell, ...]] = [
        (
            check.name,
            check.wanted,
            check.found,
            Cell("passed" if check.passed else "wrong", tone="good" if check.passed else "bad"),
        )
        for check in target.checks
    ]
    return table(target.name, ("check", "wanted", "found", "verdict"), rows) if rows else None


def _agreement(report: Report) -> Section | None:
    rows: list[tuple[str | Cell, ...]] = [
        (
            *(Cell(name, code=True) for name in each.targets),
            Cell("" if each.argmax_agreement is None else f"{each.argmax_agreement:.4f}"),
            "" if each.sqnr_db is None else f"{each.sqnr_db:.1f}",
            figure(each.max_abs_diff),
            f"{each.samples:,}",
        )
        for each in report.agreement
    ]
    heads = ("one", "other", "argmax agreement", "SQNR dB", "largest difference", "samples")
    tables = (table("Held together, the worst output of each two", heads, rows, *heads[2:]),)
    return Section("agreement", "The same quantization in two files", tables=tables) if rows else None


def _steps(report: Report) -> Section:
    rows: list[tuple[str | Cell, ...]] = [
        (
            step.stage,
            Cell(step.lane.replace("+", " + "), code=True),
            Cell(step.status, step.message, TONES.get(step.status, "")),
            "" if step.began_s is None else f"{step.began_s:.1f}",
            f"{step.wall_s:.1f}",
            "" if step.cpu_s is None else f"{step.cpu_s:.1f}",
            f"{step.peak_rss_bytes:,}" if step.peak_rss_bytes else "",
            Cell(step.key[:12], code=True),
        )
        for step in report.steps
    ]
    notes = [
        "Bars of a lane are durations: steps ran beside each other.",
        "The first step waits while the libraries are imported, once for all; that CPU time is in no step's.",
    ]
    if not any(step.began_s is not None for step in report.steps):
        notes.append("When steps began is not drawn: none ran in this build, or an earlier version wrote the report.")
    return Section(
        "steps",
        "How the build spent its time",
        tuple(totals(report)),
        tables=(table("Steps", _STEPS, rows, *_STEPS[3:7]),),
        folded=True,
        plots=tuple(filter(None, (timeline(report), plots.steps(report)))),
        keyed=True,
        notes=tuple(notes),
    )


def _surroundings(report: Report) -> Section:
    facts: list[tuple[str | Cell, ...]] = [("recipe's SHA-256", Cell(report.recipe_sha256, code=True))]
    if isinstance(report.reference, Reference) and report.reference.weights:
        weights = report.reference.weights
        facts.append((f"weights {weights.file}", "; ".join(weights.done) or "read as they are"))
    for target in report.targets:
        if target.facts.numerics:
            facts.append((Cell(target.name, code=True), target.facts.numerics))
        if target.facts.elsewhere:
            facts.append((Cell(target.name, code=True), target.facts.elsewhere.in_words()))
        if target.facts.kernels:
            facts.append((Cell(target.name, code=True), f"judged on {in_words(target.facts.kernels)}"))
    facts += [(name, version) for name, version in sorted(report.environment.items())]
    notes = tuple(f"data: {note}" for note in report.data)
    return Section(
        "surroundings",
        "What it ran on",
        tables=(table("Versions and numbers", ("what", "is"), facts),),
        folded=True,
        notes=notes,
    )
