"""The steps of a build as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pocketforge.outcomes.reference import WeightsRead
from pocketforge.report.tables import console, table, weights_lines


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of a plan.

    Attributes:
        stage: What it does.
        lane: For which targets.
        key: Of its result.
        stored: Whether that is there.
        needs: Role → key of the step whose result it reads.
    """

    stage: str
    lane: str
    key: str
    stored: bool
    needs: Mapping[str, str]


def show_plan(steps: Sequence[PlannedStep], notes: Sequence[str] = (), weights: WeightsRead | None = None) -> None:
    """Each step, the beginning of its key, whether its result is stored; then what data and weights were taken as."""
    rows = table("plan", "stage", "lane", "key", "stored")
    for step in steps:
        rows.add_row(step.stage, step.lane.replace("+", " + "), step.key[:16], "yes" if step.stored else "no")
    screen = console()
    screen.print(rows)
    to_run = sum(not step.stored for step in steps)
    screen.print(f"{len(steps)} steps, {to_run} to run")
    for note in notes:
        screen.print(f"data  {note}")
    for line in weights_lines(weights):
        screen.print(line)
