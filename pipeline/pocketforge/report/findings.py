"""What a report says is wrong, one finding each, for formats that list problems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pocketforge.records import Report, StepRecord
from pocketforge.report.budget_words import budget_name, figure, limit


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem.

    Attributes:
        kind: "budget": a budget is not PASS. "wrong": a check of verify. "failed": a step did not end.
        target: Of which target.
        name: The budget's or the check's, in words; empty of a failure.
        device: Where it was measured; empty where on none.
        verdict: FAIL, MISSING or INCONCLUSIVE of a budget; "wrong" or "failed".
        words: What was wanted and found.
        blocks: Whether the build fails by it; a budget of severity "warning" does not.
    """

    kind: Literal["budget", "wrong", "failed"]
    target: str
    name: str
    device: str
    verdict: str
    words: str
    blocks: bool


def findings_of(report: Report) -> Iterator[Finding]:
    """Budgets first, in the report's order, then checks and failures, target by target, then steps of none of them."""
    for gate in report.gates:
        if gate.verdict != "PASS":
            name = f"{budget_name(gate)} {limit(gate)}"
            words = gate.reason or f"found {figure(gate.value)}"
            yield Finding("budget", gate.target, name, gate.device, gate.verdict, words, gate.blocks)
    for target in report.targets:
        for check in target.checks:
            if not check.passed:
                words = f"wanted {check.wanted}, found {check.found}"
                yield Finding("wrong", target.name, check.name, "", "wrong", words, True)
        if target.status == "failed":
            words = target.error or "it was not built"
            hint = f" (hint: {target.hint})" if target.hint else ""
            yield Finding("failed", target.name, "", "", "failed", words + hint, True)
    for step in steps_of_no_target(report):
        yield Finding("failed", step.lane, step.stage, "", "failed", step.message or "it did not end", True)


def steps_of_no_target(report: Report) -> list[StepRecord]:
    """Those that failed where no target did: without them a build that did not finish would look whole."""
    told = any(target.status == "failed" for target in report.targets)
    return [] if told else [step for step in report.steps if step.status == "failed"]
