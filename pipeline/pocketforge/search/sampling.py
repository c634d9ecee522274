"""Optuna's part: which points to try next. Everything else of a search is ours.

The study lives in memory, and is made of the notebook's trials before each batch: no file of Optuna's own has to be
kept or understood. A sampler's seed follows from the search's seed and how many trials there are, since Optuna's own
draws its first numbers again in each process: a search that goes on chooses what it would have chosen undisturbed.
"""

from __future__ import annotations

import hashlib
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pocketforge.errors import ToolMissing
from pocketforge.recipe.fit import Sampler
from pocketforge.recipe.metric import Better
from pocketforge.search.dimension import Dimension, Value
from pocketforge.search.trial import Trial
from pocketforge.version import install

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

# Of a search's trials so many are drawn evenly before a model of the good ones is made, within these bounds.
_STARTUP_SHARE, _LEAST_STARTUP, _MOST_STARTUP = 0.25, 4, 10
# A choice that is no new recipe is drawn anew so often, then the space is taken to be tried.
_TRIES_BY_SAMPLER, _TRIES_EVENLY = 4, 400
_GENERATION = ":generation"  # how the key of a trial's generation ends


@dataclass(frozen=True, slots=True)
class Asked:
    """A point that was chosen.

    Attributes:
        choice: Dimension → value.
        marks: What the sampler has to remember of it.
    """

    choice: Mapping[str, Value]
    marks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asking:
    """Chooses points.

    Attributes:
        dimensions: Of the space.
        better: Objective → which of its values are better.
        sampler: Which of Optuna's.
        seed: Of the search.
        trials: How many the search may make.
        population: Of nsga2: how many fully trained trials are one generation.
    """

    dimensions: Sequence[Dimension]
    better: Mapping[str, Better]
    sampler: Sampler
    seed: int
    trials: int = 40
    population: int = 4

    def points(self, trials: Sequence[Trial], number: int) -> Iterator[Asked]:
        """Points for trial `number` and those after it, without end but of a space that can be tried; each call of
        `next` is one more try. Raises ToolMissing without Optuna."""
        study = self._study(trials)
        for attempt in range(_TRIES_BY_SAMPLER):
            yield self._ask(study, seed_of(self.seed, number, attempt))
        evenly = random.Random(seed_of(self.seed, number, _TRIES_BY_SAMPLER))  # noqa: S311 - no secret
        for _ in range(_TRIES_EVENLY):
            yield Asked({each.name: each.drawn(evenly.random()) for each in self.dimensions})

    def importances(self, trials: Sequence[Trial], place: int) -> dict[str, float]:
        """Dimension → its share in the objective at `place`, the greatest first."""
        study = self._study(trials)
        of = imported().importance
        with _quiet():
            evaluator = of.FanovaImportanceEvaluator(seed=self.seed % 2**31)
            found = of.get_param_importances(study, evaluator=evaluator, target=lambda trial: trial.values[place])
        return {name: float(share) for name, share in found.items()}

    def _ask(self, study: Study, seed: int) -> Asked:
        with _quiet():
            study.sampler = self._sampler(seed)
            trial = study.ask(self._distributions())
            said = study.get_trials(deepcopy=False)[trial.number].system_attrs
        marks = {key: int(number) for key, number in said.items() if key.endswith(_GENERATION)}
        return Asked({each.name: each.at(trial.params[each.name]) for each in self.dimensions}, marks)

    def _study(self, trials: Sequence[Trial]) -> Study:
        optuna = imported()
        with _quiet():
            directions = ["maximize" if way == "higher" else "minimize" for way in self.better.values()]
            study: Study = optuna.create_study(directions=directions, sampler=self._sampler(self.seed))
            for trial in trials:
                if trial.choice:
                    study.add_trial(self._known(trial))
        return study

    def _known(self, trial: Trial) -> Any:
        """A trial as Optuna has it. It takes a constraint that is not there for one that is kept: all are said."""
        optuna = imported()
        states = optuna.trial.TrialState
        state = {"full": states.COMPLETE, "stopped": states.PRUNED, "failed": states.FAIL}[trial.state]
        return optuna.create_trial(
            state=state,
            values=[trial.values[name] for name in self.better] if trial.state == "full" else None,
            params={each.name: _plain(each.place(trial.choice[each.name]), each) for each in self.dimensions},
            distributions=self._distributions(),
            constraints=dict(trial.violations),
            system_attrs=dict(trial.marks),
        )

    def _distributions(self) -> dict[str, BaseDistribution]:
        of = imported().distributions
        made: dict[str, BaseDistribution] = {}
        for each in self.dimensions:
            if each.kind == "names":
                made[each.name] = of.CategoricalDistribution(list(range(len(each.values))))
            elif each.kind == "ordered":
                made[each.name] = of.IntDistribution(0, len(each.values) - 1)
            else:
                made[each.name] = of.FloatDistribution(float(each.values[0]), float(each.values[1]), log=True)
        return made

    def _sampler(self, seed: int) -> Any:
        samplers = imported().samplers
        if self.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        if self.sampler == "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=max(2, self.population))
        return samplers.TPESampler(seed=seed, n_startup_trials=startup_of(self.trials), multivariate=True)


def _plain(place: float, dimension: Dimension) -> float | int:
    return place if dimension.kind == "log" else int(place)


def startup_of(trials: int) -> int:
    return max(_LEAST_STARTUP, min(_MOST_STARTUP, round(trials * _STARTUP_SHARE)))


def seed_of(seed: int, number: int, attempt: int) -> int:
    """For each try of each trial its own, from the search's seed alone."""
    text = f"{seed}/{number}/{attempt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def imported() -> Any:
    """Optuna. Raises ToolMissing."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ToolMissing("fit needs the package optuna, which is not installed", install("fit")) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class _quiet(warnings.catch_warnings):  # noqa: N801 - as it is used
    """Optuna warns that options of its samplers may change: the version is pinned."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        return entered
