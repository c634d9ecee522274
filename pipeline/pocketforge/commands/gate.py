"""What a report's budgets say, or those of another recipe. Nothing is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pocketforge.errors import EXIT_GATE_FAILED, EXIT_OK, EXIT_STAGE
from pocketforge.recipe import Recipe
from pocketforge.records import GateResult, Report
from pocketforge.results.baselines import baselines_of
from pocketforge.results.gate import judge
from pocketforge.results.waivers import held_on, today


@dataclass(frozen=True, slots=True)
class Gated:
    """A report, judged.

    Attributes:
        budgets: Every budget on every target and device that it names.
        wrong: Targets whose files are wrong or were not built: no budget makes up for that.
        finished: Whether the build behind the report did.
    """

    budgets: tuple[GateResult, ...]
    wrong: tuple[str, ...]
    finished: bool

    @property
    def verdict(self) -> Literal["PASS", "FAIL", "ERROR"]:
        """As of a report: "ERROR" where the build did not finish."""
        if not self.finished:
            return "ERROR"
        return "FAIL" if self.wrong or any(result.blocks for result in self.budgets) else "PASS"

    @property
    def passed(self) -> bool:
        return self.verdict == "PASS"

    @property
    def exit_code(self) -> int:
        """That of `pocketforge gate`."""
        return {"PASS": EXIT_OK, "FAIL": EXIT_GATE_FAILED, "ERROR": EXIT_STAGE}[self.verdict]

    def __bool__(self) -> bool:
        """Whether it passed: what is no PASS is not taken for one."""
        return self.passed


def gate(report: Report, recipe: Recipe | None = None, further: Sequence[Report] = ()) -> Gated:
    """The report's own verdicts, with the waivers that still hold today, or those by a recipe's budgets.

    further: reports of other runs of the same files, which a recipe's budgets with a baseline also count. Raises
    RecipeError for a baseline that cannot be read.
    """
    results = tuple(held_on(each, today()) for each in report.gates)
    if recipe is not None:
        runs = [each.measurements for each in further]
        results = judge(recipe, report.measurements, baselines=baselines_of(recipe), further=runs)
    wrong = tuple(target.name for target in report.targets if target.status != "built")
    return Gated(results, wrong, report.verdict != "ERROR")
