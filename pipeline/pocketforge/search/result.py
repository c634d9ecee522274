"""fit.json: what a search found, typed; search/schema.json is written from it (docs/report_schema.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pocketforge.recipe.fit import Sampler
from pocketforge.recipe.metric import Better
from pocketforge.records.words import Count, Name, NotNegative, Sha256
from pocketforge.search.dimension import Value
from pocketforge.search.trial import Trial

FIT_VERSION: Literal[1] = 1
SCHEMA = Path(__file__).with_name("schema.json")


@dataclass(frozen=True, slots=True)
class Aim:
    """An objective.

    Attributes:
        name: As trials have it: the metric, with its device.
        better: Which of its values are better.
        unit: Of its values; empty of shares and plain numbers.
    """

    name: Name
    better: Better
    unit: str


@dataclass(frozen=True, slots=True)
class Searched:
    """A dimension of the space.

    Attributes:
        name: As trials have it.
        kind: "names": values have no order; "ordered": they have one; "log": all between the two, by the logarithm.
        values: To choose from.
    """

    name: Name
    kind: Literal["names", "ordered", "log"]
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Gained:
    """What the search had when a trial was done that bettered its front.

    Attributes:
        trial: Which.
        ended_s: Seconds of search till then.
        work_s: Seconds that all steps took till then.
        hypervolume: What the front covers of the box between the best and the worst value of each objective, 0 to 1.
    """

    trial: Count
    ended_s: NotNegative
    work_s: NotNegative
    hypervolume: NotNegative


@dataclass(frozen=True, slots=True)
class FitResult:
    """A search, with every trial.

    Attributes:
        version: Of this form.
        recipe: The base recipe's name.
        recipe_sha256: Of what it says, without [fit].
        seed: Of the search.
        sampler: Which of Optuna's.
        ended: Why it ended, in words.
        objectives: What was made better, the most important first.
        budgets: That bind, in words.
        space: What trials chose.
        trials: All, in the order in which they were chosen.
        front: Numbers of the trials that keep all budgets and that no other of these beats.
        recommended: Of the front the one that is recommended; None where no trial keeps all budgets.
        reasons: Why, in words.
        importances: Objective → dimension → its share of what makes the difference, 0 to 1; without objectives of which
            too few trials are known.
        gained: How the front grew.
    """

    FILE: ClassVar[str] = "fit.json"

    version: Literal[1]
    recipe: Name
    recipe_sha256: Sha256
    seed: Count
    sampler: Sampler
    ended: Name
    objectives: tuple[Aim, ...]
    budgets: tuple[str, ...]
    space: tuple[Searched, ...]
    trials: tuple[Trial, ...]
    front: tuple[Count, ...]
    recommended: Count | None
    reasons: tuple[str, ...]
    importances: Mapping[str, Mapping[str, float]]
    gained: tuple[Gained, ...]

    @property
    def better(self) -> dict[str, Better]:
        return {aim.name: aim.better for aim in self.objectives}

    def trial(self, number: int) -> Trial:
        return next(trial for trial in self.trials if trial.number == number)
