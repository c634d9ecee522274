"""What a notebook shows of a report: a row for each target, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pocketforge.records import Report, TargetRecord
from pocketforge.report.choice import interval_of, quality_of, values_of, written
from pocketforge.report.findings import findings_of
from pocketforge.report.markdown import finding_line
from pocketforge.report.tables import milliseconds

_MOST_LINES = 12


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One target, in words.

    Attributes:
        target: It.
        bytes: Of its model file.
        quality: The report's measure of outputs.
        times: Its median on each device that keeps time, with half its interval.
        kept: How many of its budgets are PASS.
    """

    target: TargetRecord
    bytes: str
    quality: str
    times: tuple[str, ...]
    kept: str


def devices_of(report: Report) -> list[str]:
    """Where files were timed."""
    return list(dict.fromkeys(each.device for each in report.measurements if each.metric == "latency_ms"))


def target_rows(report: Report) -> Iterator[TargetRow]:
    quality = quality_of(report)
    for target in report.targets:
        own = [gate for gate in report.gates if gate.target == target.name]
        good = quality.values.get(target.name) if quality else None
        yield TargetRow(
            target,
            f"{target.artifacts[0].size_bytes:,}" if target.artifacts else "",
            written(good) if good else "",
            tuple(_time(report, target.name, device) for device in devices_of(report)),
            f"{sum(gate.verdict == 'PASS' for gate in own)} of {len(own)}",
        )


def _time(report: Report, target: str, device: str) -> str:
    timed = values_of(report, "latency_ms", device).get(target)
    known = interval_of(timed) if timed else None
    if known is None:
        return ""
    value, low, high = known[0].value, known[0].low, known[0].high
    return f"{milliseconds(value)} ({milliseconds(low)} to {milliseconds(high)})"


def wrong_lines(report: Report) -> list[str]:
    """What is not as it should be, the worst of it first; of much of it how much is left out."""
    found = sorted(findings_of(report), key=lambda each: not each.blocks)
    lines = [finding_line(each) for each in found[:_MOST_LINES]]
    return lines + [f"and {len(found) - _MOST_LINES} more"] * (len(found) > _MOST_LINES)
