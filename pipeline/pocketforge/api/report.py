"""A report, as programs and notebooks have it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocketforge.errors import EXIT_GATE_FAILED, EXIT_OK, EXIT_STAGE, PocketforgeError
from pocketforge.folders import own_modules
from pocketforge.records import GateResult, Measurement, StepRecord, TargetRecord
from pocketforge.records import Report as Record

if TYPE_CHECKING:
    import pandas as pd

    from pocketforge.commands.build import Built

Rows = Literal["measurements", "budgets", "targets", "steps"]


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """What a build found. Two are equal where their report.json is.

    Attributes:
        record: All of report.json, as frozen data; what is most asked for has a name here too.
        path: The report.json that it is in; None of one that was made of JSON.
        page: Its page for a browser; None where there is none.
        release: The folder of files to ship; None where the build did not pass.
        checkpoint: The compressed PyTorch model's folder; None where nothing compressed it.
        errors: Of a build that was just made: what its failed stages met, in the plan's order.
        history: Of such a one: where a history has it, in words; empty where none was asked for.
        not_kept: Of such a one: why the history that was asked for has it not.
    """

    record: Record
    path: Path | None = field(default=None, compare=False)
    page: Path | None = field(default=None, compare=False)
    release: Path | None = field(default=None, compare=False)
    checkpoint: Path | None = field(default=None, compare=False)
    errors: tuple[PocketforgeError, ...] = field(default=(), compare=False)
    history: str = field(default="", compare=False)
    not_kept: PocketforgeError | None = field(default=None, compare=False)

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        return self.record.recipe

    @property
    def verdict(self) -> Literal["PASS", "FAIL", "ERROR"]:
        """ "FAIL": a budget is not kept, or a file is wrong. "ERROR": a step did not end."""
        return self.record.verdict

    @property
    def passed(self) -> bool:
        """Whether every file is right and every budget is kept."""
        return self.verdict == "PASS"

    def __bool__(self) -> bool:
        """Whether it passed: what is no PASS is not taken for one."""
        return self.passed

    @property
    def exit_code(self) -> int:
        """That of `pocketforge build`."""
        if self.verdict == "ERROR":
            return self.errors[0].exit_code if self.errors else EXIT_STAGE
        if not self.passed:
            return EXIT_GATE_FAILED
        return EXIT_OK if self.not_kept is None else EXIT_STAGE

    @property
    def targets(self) -> tuple[TargetRecord, ...]:
        """In the recipe's order."""
        return self.record.targets

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Every value that a budget can be on."""
        return self.record.measurements

    @property
    def budgets(self) -> tuple[GateResult, ...]:
        """Every budget on every target and device that it names, and whether it is kept."""
        return self.record.gates

    @property
    def steps(self) -> tuple[StepRecord, ...]:
        """How every step of the build ended."""
        return self.record.steps

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know, in words."""
        return self.record.warnings

    @property
    def environment(self) -> Mapping[str, str]:
        """Library → version, and the host."""
        return self.record.environment

    @classmethod
    def from_json(cls, data: object) -> Report:
        """Of the content of a report.json. Raises ValueError where it is none, or of a later version."""
        return cls(Record.from_json(data))

    def to_json(self) -> dict[str, Any]:
        """The content of its report.json, in Python's own types."""
        content: dict[str, Any] = json.loads(self.record.to_text())
        return content

    @own_modules()
    def save(self, path: str | os.PathLike[str], format: str | None = None) -> Path:  # noqa: A002 - as the option is called
        """Write it into a file, whole or not at all. Returns the file.

        format: one of `pocketforge report --format`; by the file's ending (.json, .html, .md, .xml …) where it is
        None. Raises RecipeError for a format that there is not, StoreError where the file cannot be written.
        """
        from pocketforge.commands.report import save

        save(self.record, Path(path), format)
        return Path(path)

    @own_modules()
    def show(self, *, verbose: bool = False) -> None:
        """Print it to stdout as `pocketforge report` does. verbose: with the budgets that are kept easily."""
        from pocketforge.report.terminal import show_report

        show_report(self.record, verbose=verbose)

    @own_modules()
    def to_pandas(self, rows: Rows = "measurements") -> pd.DataFrame:
        """A pandas.DataFrame, a row for each measurement, budget, target or step.

        Raises RecipeError for rows that there are not, ToolMissing where pandas is not installed.
        """
        from pocketforge.report.frame import frame

        return frame(self.record, rows)

    def __repr__(self) -> str:
        kept = sum(result.verdict == "PASS" for result in self.budgets)
        of = f"{len(self.targets)} targets, {kept} of {len(self.budgets)} budgets kept"
        return f"<pocketforge.Report {self.recipe!r}: {self.verdict}, {of}>"

    @own_modules()
    def _repr_html_(self) -> str:
        from pocketforge.report.page import in_notebook

        return in_notebook(self.record)


def of_build(built: Built) -> Report:
    """What a build gave, as its report."""
    return Report(
        built.report,
        built.report_path,
        built.page,
        built.release,
        built.checkpoint,
        built.errors,
        built.kept,
        built.not_kept,
    )
