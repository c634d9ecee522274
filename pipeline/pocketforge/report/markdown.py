"""A report as Markdown, short enough for a pull request: the verdict, targets and their budgets, what went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pocketforge.records import GateResult, Report, TargetRecord
from pocketforge.release.markdown import plain, table
from pocketforge.report.budget_words import budget_name, carried, figure, limit
from pocketforge.report.slices import HEADS, slice_rows


def write(report: Report) -> str:
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield f"# {plain(report.recipe)}: {report.verdict}"
    yield ""
    yield from table(
        ("target", "runtime", "scheme", "state", "bytes"),
        ((t.name, t.runtime, t.scheme, t.status, _size(t)) for t in report.targets),
    )
    slices = slice_rows(report.targets)
    if slices:
        yield ""
        yield from table(HEADS, slices)
    if report.gates:
        yield ""
        yield from table(("verdict", "target", "metric", "limit", "found"), (_budget(gate) for gate in report.gates))
    apps = filter(None, map(carried, report.measurements))
    notes = [*_faults(report), *apps, *(f"warning: {warning}" for warning in report.warnings)]
    if notes:
        yield ""
        yield from (f"- {plain(note)}" for note in notes)


def _size(target: TargetRecord) -> str:
    return f"{target.artifacts[0].size_bytes:,}" if target.artifacts else ""


def _budget(gate: GateResult) -> Sequence[str]:
    verdict = f"{gate.verdict} (warning)" if gate.budget.severity == "warning" else gate.verdict
    return verdict, gate.target, budget_name(gate), limit(gate), figure(gate.value)


def _faults(report: Report) -> Iterator[str]:
    for gate in report.gates:
        if gate.reason:
            yield f"{gate.verdict} {gate.target}: {budget_name(gate)}: {gate.reason}"
    for target in report.targets:
        for check in target.checks:
            if not check.passed:
                yield f"wrong {target.name}: {check.name}: wanted {check.wanted}, found {check.found}"
        if target.error:
            yield f"failed {target.name}: {target.error}" + (f" (hint: {target.hint})" if target.hint else "")
