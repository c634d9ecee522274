"""A trial as it is kept: what it chose, how far it came, what it was measured to be."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from pocketforge.errors import StoreError
from pocketforge.files import explain_os_error
from pocketforge.outcomes import files
from pocketforge.records.words import Count, NotNegative, Sha256
from pocketforge.search.dimension import Value

# How far a trial came: untrained and short are the cheap looks at it, full is what a build would be.
Rung = Literal["untrained", "short", "full"]
State = Literal["full", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One recipe that was tried.

    Attributes:
        number: From 0, in the order in which they were chosen.
        choice: Dimension → what it chose; empty of the recipe as it is.
        label: What it is, in words, where it is no choice: "the recipe as it is, target NAME"; else empty.
        recipe_sha256: Of what its full recipe says.
        state: "full": trained fully and measured. "stopped": what was known before that was enough. "failed": a step
            met an error, or the file is wrong.
        rung: The last that it was measured at.
        values: Objective → its value at that rung.
        violations: Budget in words → by how much of its limit it is not kept, 0 where it is; at that rung.
        reason: Why it was stopped or failed; empty otherwise.
        log: The log of a step that failed; empty otherwise.
        seconds: That the steps took which ran for it first, of one core or as many as they use.
        ended_s: When it ended, in seconds of search.
        marks: What the sampler has to remember of it.
    """

    number: Count
    choice: Mapping[str, Value]
    label: str
    recipe_sha256: Sha256
    state: State
    rung: Rung
    values: Mapping[str, float]
    violations: Mapping[str, float]
    reason: str = ""
    log: str = ""
    seconds: NotNegative = 0.0
    ended_s: NotNegative = 0.0
    marks: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_feasible(self) -> bool:
        """Whether it was measured fully and every budget is kept: nothing else can be recommended."""
        return self.state == "full" and all(value <= 0 for value in self.violations.values())


@dataclass(frozen=True, slots=True)
class Begun:
    """The first line of a search's file: of what the trials after it are.

    Attributes:
        version: Of this form.
        recipe_sha256: Of what the base recipe says.
        searched_sha256: Of its space, objectives, seed and sampler: trials of another search do not go on this one.
        measured_sha256: Of what the recipe's files are made of: samples, weights, definitions, versions. What was
            measured of others says nothing of these.
    """

    version: Literal[1]
    recipe_sha256: Sha256
    searched_sha256: Sha256
    measured_sha256: Sha256


class Notebook:
    """The trials of a search in a file, a line each, on disk before the next one begins: a kill loses none."""

    FILE: ClassVar[str] = "trials.jsonl"

    def __init__(self, folder: Path, begun: Begun) -> None:
        self.path = folder / self.FILE
        self._begun = begun

    def read(self) -> list[Trial]:
        """The trials so far; none where there is no file. Raises StoreError for one of another search or a damaged one.

        A last line that a kill cut in two is no trial.
        """
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{self.path} cannot be read: {error}", "--fresh begins a new search") from None
        whole = [line for line in lines if line.endswith("\n")]
        if not whole:
            return []
        try:
            begun = files.from_json(json.loads(whole[0]), Begun)
            trials = [files.from_json(json.loads(line), Trial) for line in whole[1:]]
        except ValueError as error:
            raise StoreError(f"{self.path} is damaged: {error}", "--fresh begins a new search") from None
        if begun != self._begun:
            what = "[fit] table is another"
            if begun.recipe_sha256 != self._begun.recipe_sha256:
                what = "recipe is another"
            elif begun.measured_sha256 != self._begun.measured_sha256:
                what = "samples, weights or definitions that it names, or the installed versions, are others"
            raise StoreError(
                f"{self.path} is of another search: the {what} now",
                "--fresh begins a new search (stored steps are used again); or give another --out",
            )
        return trials

    def write(self, trials: Sequence[Trial], *, keep: bool) -> None:
        """Add trials. keep: behind what the file has; else in its place."""
        lines = [json.dumps(files.to_json(each), sort_keys=True, allow_nan=False) for each in trials]
        if not keep:
            lines.insert(0, json.dumps(files.to_json(self._begun), sort_keys=True))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if keep:
                self._cut()
            with self.path.open("a" if keep else "w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise explain_os_error(error, self.path.parent, "--out") from error

    def _cut(self) -> None:
        """Take away half a line at the end, which a kill left."""
        text = self.path.read_bytes()
        if text and not text.endswith(b"\n"):
            self.path.write_bytes(text[: text.rfind(b"\n") + 1])
