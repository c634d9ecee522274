"""The whole report, and how each step of the build ended."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pocketforge.files import indented_json, not_finite
from pocketforge.outcomes import files
from pocketforge.records.measured import GateResult, Measurement
from pocketforge.records.model import Agreement, Compression, Reference
from pocketforge.records.target import TargetRecord
from pocketforge.records.words import Bytes, May, Name, NotNegative, Sha256
from pocketforge.registries import STAGES

SCHEMA_VERSION: Literal[1] = 1

StageName = Annotated[str, May(names=tuple(STAGES))]


@dataclass(frozen=True, slots=True)
class StepRecord:
    """How a step ended.

    Attributes:
        stage: What it does.
        lane: For which targets, joined by "+"; "trunk" for all.
        key: Of its result.
        status: "rejected": it was not run, since verify said no to the file. "skipped": the build stopped before it.
        wall_s: Of the run that made the result, also when it was reused.
        message: Why it did not end well; empty when it did.
        log: Path of its log, in the output folder; empty where there is none.
        peak_rss_bytes: Most memory that its own process held, in the run that made the result; 0 where it did not run.
            It is forked from a server that has imported the libraries, whose shared pages count for each step; what it
            started (a runtime, an emulator) does not.
        cpu_s: Processor seconds, user and system, of its process and of all that it started and waited for, in the run
            that made the result; null where it did not end, and where that run did not say. What the server took to
            import the libraries, once a build, is in no step's.
        began_s: When it began, from the build's beginning; null where it did not run in this build (it was reused).
        ended_s: When it ended, likewise. What it waited for its turn lies between.
    """

    stage: StageName
    lane: Name
    key: Sha256
    status: Literal["run", "reused", "failed", "rejected", "skipped"]
    wall_s: NotNegative = 0.0
    message: str = ""
    log: str = ""
    peak_rss_bytes: Bytes = 0
    cpu_s: NotNegative | None = None
    began_s: NotNegative | None = None
    ended_s: NotNegative | None = None


@dataclass(frozen=True, slots=True)
class Empty:
    """What there is not."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a build knows about itself; `verdict` is what the exit code says.

    Attributes:
        recipe: Its name.
        recipe_sha256: Of what the recipe says, not of its comments.
        verdict: "FAIL": a budget is not kept, or a file is wrong. "ERROR": a step did not end.
        targets: In the recipe's order.
        steps: In the plan's order.
        measurements: Every value that a budget can be on.
        gates: Every budget on every target and device that it names.
        reference: The PyTorch model's own facts; empty when the build stopped before it.
        compression: What [[compress]] did and bought; empty without it.
        agreement: Each two files of one quantization, compared.
        environment: Library that the build calls → its version, "none" where it is not installed; and "host".
        warnings: What a user should know, in words.
        data: What the data's folders and files were taken as, and which were passed over, in words.
        wall_s: Of the whole build.
        schema_version: Changes when a reader of an older report would misread a newer one (docs/report.md).
    """

    ALWAYS: ClassVar[frozenset[str]] = frozenset({"agreement", "warnings"})

    recipe: Name
    recipe_sha256: Sha256
    verdict: Literal["PASS", "FAIL", "ERROR"]
    targets: Annotated[tuple[TargetRecord, ...], May(filled=True)]
    steps: Annotated[tuple[StepRecord, ...], May(filled=True)]
    measurements: tuple[Measurement, ...]
    gates: tuple[GateResult, ...]
    reference: Reference | Empty = Empty()
    compression: Compression | Empty = Empty()
    agreement: tuple[Agreement, ...] = ()
    environment: Annotated[Mapping[str, Name], May(keys=("host",))] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    data: tuple[Name, ...] = ()
    wall_s: NotNegative = 0.0
    schema_version: Literal[1] = SCHEMA_VERSION

    def to_json(self) -> dict[str, object]:
        """As report.json has it."""
        data: dict[str, object] = files.to_json(self)
        return data

    def to_text(self) -> str:
        """The same as text, without the newline at its end. Raises ValueError, with the place, for NaN and infinities:
        JSON has none, so whoever measured has to say it otherwise."""
        content = self.to_json()
        try:
            return indented_json(content, indent=1)
        except ValueError as error:
            place = not_finite(content, "report")
            if place is None:
                raise
            raise ValueError(f"{place} is NaN or infinite, which no report can hold") from error

    @classmethod
    def from_json(cls, data: object) -> Report:
        """Read a report back. Raises ValueError when it is of another schema version, not a report, or says PASS where
        its own rows do not."""
        version = data.get("schema_version", "none") if isinstance(data, dict) else "none"
        if version != SCHEMA_VERSION:
            raise ValueError(f"wanted a report of schema version {SCHEMA_VERSION}, found {version}")
        try:
            report = files.from_json(data, cls)
        except (KeyError, ValueError) as error:
            raise ValueError(f"not a whole report: {error}") from None
        against = report._against_its_pass()
        if against:
            raise ValueError(f"not a whole report: report.verdict is PASS, and {against}")
        return report

    def _against_its_pass(self) -> str:
        """What in it no build that passed has, in words; empty for nothing: somebody has changed it."""
        if self.verdict != "PASS":
            return ""
        if not self.targets:
            return "it has no target"
        wrong = (f"target {each.name} is {each.status}" for each in self.targets if each.status != "built")
        kept = (f"{g.budget.metric} of {g.target} is {g.verdict}" for g in self.gates if g.blocks)
        return next(itertools.chain(wrong, kept), "")
