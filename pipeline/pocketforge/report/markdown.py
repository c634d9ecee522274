"""A report as Markdown, for a job's summary: the verdict, targets and their budgets, what went wrong, what changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pocketforge.records import GateResult, Report, TargetRecord
from pocketforge.release.markdown import plain, table
from pocketforge.report import difference
from pocketforge.report.budget_words import budget_name, carried, figure, limit, verdict_words
from pocketforge.report.findings import Finding, findings_of
from pocketforge.report.slices import HEADS, slice_rows

# What GitHub takes of a step is 1 MiB; four bytes is the longest character.
_MOST_OF_SUMMARY = 1_000_000 // 4
_LONGEST_LINE = 4_000


def write(report: Report) -> str:
    return bounded(_lines(report), _MOST_OF_SUMMARY, "a job's summary")


def write_against(report: Report, before: Report) -> str:
    """With what changed since a baseline's report."""
    return bounded([*_lines(report), "", *changes(report, before)], _MOST_OF_SUMMARY, "a job's summary")


def bounded(lines: Iterable[str], most: int, what: str) -> str:
    """The lines as one text of at most `most` characters; where lines are left out, it ends with how many.

    Characters are counted as browsers do it: one outside the basic plane is two.
    """
    every = [_shortened(line) for line in lines]
    lengths = [len(line.encode("utf-16-le")) // 2 + 1 for line in every]
    if sum(lengths) - 1 <= most:
        return "\n".join(every)
    last = f"\n… {len(every):,} of {len(every):,} lines are left out: {what} may have {most:,} characters. "
    last += "`pocketforge report` shows all."
    room, kept = most - len(last) - 1, 0
    while lengths[kept] <= room:
        room -= lengths[kept]
        kept += 1
    return "\n".join([*every[:kept], last.replace(f"{len(every):,}", f"{len(every) - kept:,}", 1)])


def _shortened(line: str) -> str:
    """A line that is no longer than others need to be read, too; what escapes the next character goes with that."""
    return line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE].rstrip("\\") + " …"


def changes(report: Report, before: Report) -> Iterator[str]:
    """What changed since a baseline's report."""
    yield "## Since the baseline"
    yield ""
    verdicts = difference.verdict_changes(before, report)
    yield from (f"- {plain(words)}" for words in verdicts)
    if verdicts:
        yield ""
    rows = difference.value_rows(before, report)
    yield from table(difference.HEADS, rows) if rows else ["No measured value changed."]


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
    return verdict_words(gate), gate.target, budget_name(gate), limit(gate), figure(gate.value)


def _faults(report: Report) -> Iterator[str]:
    yield from map(finding_line, (found for found in findings_of(report) if found.kind != "budget" or found.words))


def finding_line(found: Finding) -> str:
    """`FAIL a: size_bytes ≤ 5: 2 bytes over the maximum`."""
    name = f"{found.name}: " if found.name else ""
    return f"{found.verdict} {found.target}: {name}{found.words}"
