"""The search: batches of trials, each a race from a cheap look to full training, until a limit or ^C.

    chosen ──> untrained: is a budget on structure lost already? ──> short training: who leads? ──> full training

A batch is written down when it is over. What a killed search had begun of one is in the store, and the search that
goes on chooses the same trials and finds their steps there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pocketforge.errors import RecipeError
from pocketforge.recipe.metric import Better
from pocketforge.results.report import recipe_digest
from pocketforge.search.dimension import Choice, Dimension, Value
from pocketforge.search.evaluate import Evaluator, Measured
from pocketforge.search.front import losses
from pocketforge.search.halving import hopeless, short_share, survivors
from pocketforge.search.sampling import Asked, Asking
from pocketforge.search.trial import Notebook, Rung, State, Trial
from pocketforge.search.trial_recipe import Base, Made, as_it_is, epochs_of, trial_recipe

# Of a budget's limit: so far over, untrained, that no last bit of training changes it.
SLACK = 0.02


@dataclass(frozen=True, slots=True)
class Settings:
    """What a search goes by.

    Attributes:
        base: The recipe that trials are made of.
        targets: Of those that trials choose from.
        dimensions: Of the space.
        fixed: Values of the space that leave no choice.
        asking: Chooses points.
        better: Objective → which of its values are better.
        known_early: Budgets, in words, that structure alone decides.
        trials: How many in all, those of earlier runs with them.
        batch: So many at a time.
        reduction: One in so many of a batch is trained fully.
        hours: After so long nothing new is begun; infinite: no limit.
    """

    base: Base
    targets: Sequence[str]
    dimensions: Sequence[Dimension]
    fixed: Mapping[str, Value]
    asking: Asking
    better: Mapping[str, Better]
    known_early: Sequence[str]
    trials: int
    batch: int = 8
    reduction: int = 3
    hours: float = math.inf


@dataclass(slots=True)
class _Racer:
    """A trial of the batch at hand."""

    number: int
    asked: Asked
    label: str
    full: Made
    digest: str
    rung: Rung = "untrained"
    state: State | None = None
    measured: Measured = field(default_factory=Measured)
    seconds: float = 0.0
    reason: str = ""


@dataclass(slots=True)
class Search:
    """One run of a search. `run` may be interrupted; `trials` are then what it found.

    Attributes:
        settings: What it goes by.
        evaluator: Measures trials.
        notebook: Keeps them; those in it are the first.
        say: Gets a line for each trial.
        trials: All so far.
        ended: Why it ended, in words.
    """

    settings: Settings
    evaluator: Evaluator
    notebook: Notebook
    say: Callable[[str], None]
    trials: list[Trial] = field(default_factory=list)
    ended: str = ""
    _clock: Callable[[], float] = time.monotonic
    _started: float = 0.0
    _before_s: float = 0.0

    def run(self, known: Sequence[Trial]) -> None:
        """Go on from trials that are known, to the limits."""
        self.trials = list(known)
        self._started = self._clock()
        self._before_s = max((trial.ended_s for trial in known), default=0.0)
        if not self.trials:
            self.notebook.write([], keep=False)
            self._race(self._as_they_are())
        while not self.ended:
            if len(self.trials) >= self.settings.trials:
                self.ended = f"all {self.settings.trials} trials are made"
            elif self._is_late():
                self.ended = f"{self.settings.hours:g} hours are over"
            elif batch := self._chosen():
                self._race(batch)
            else:
                self.ended = "every recipe of the space that could be drawn was tried"

    def _is_late(self) -> bool:
        return self._clock() - self._started >= self.settings.hours * 3600

    def _as_they_are(self) -> list[_Racer]:
        """The recipe's own targets, untouched: trained fully, whatever they are."""
        found = []
        for number, target in enumerate(self.settings.targets):
            made = as_it_is(self.settings.base, target)
            label = f"the recipe as it is, target {target}"
            found.append(_Racer(number, Asked({}), label, made, recipe_digest(made.recipe), rung="full"))
        return found

    def _chosen(self) -> list[_Racer]:
        """The next batch: recipes that no trial had, and that keep the rules of recipes."""
        seen = {trial.recipe_sha256 for trial in self.trials}
        first = len(self.trials)
        batch: list[_Racer] = []
        for number in range(first, min(first + self.settings.batch, self.settings.trials)):
            racer = self._new(number, seen)
            if racer is None:
                break
            seen.add(racer.digest)
            batch.append(racer)
        return batch

    def _new(self, number: int, seen: set[str]) -> _Racer | None:
        drawn: set[tuple[tuple[str, Value], ...]] = {tuple(trial.choice.items()) for trial in self.trials}
        for asked in self.settings.asking.points(self.trials, number):
            if (point := tuple(asked.choice.items())) in drawn:
                continue
            drawn.add(point)
            try:
                made = trial_recipe(self.settings.base, self._whole(asked.choice))
            except RecipeError:  # a scheme that this runtime has not
                continue
            digest = recipe_digest(made.recipe)
            if digest not in seen:
                return _Racer(number, asked, "", made, digest)
        return None

    def _whole(self, choice: Choice) -> Choice:
        return {**self.settings.fixed, **choice}

    def _race(self, batch: list[_Racer]) -> None:
        """All rungs of a batch, then its trials written down."""
        cheap = [each for each in batch if each.rung == "untrained" and epochs_of(each.full)]
        if self.settings.known_early and cheap:
            self._measure(cheap, "untrained", {each.number: None for each in cheap})
            for each in cheap:
                lost = hopeless(each.measured.violations, self.settings.known_early, SLACK)
                if each.state is None and lost:
                    each.state, each.reason = "stopped", f"untrained it does not keep {', '.join(lost)} already"
        self._shorten([each for each in batch if each.rung == "untrained" and each.state is None])
        last = [each for each in batch if each.state is None]
        self._measure(last, "full", {})
        for each in last:
            each.state = each.state or "full"
        ended_s = round(self._before_s + self._clock() - self._started, 1)
        done = [self._kept(each, ended_s) for each in batch]
        self.notebook.write(done, keep=True)
        self.trials += done
        for trial in done:
            self.say(self._line(trial))

    def _shorten(self, batch: list[_Racer]) -> None:
        """Train those that can be for a short while, and stop those that others beat."""
        shares = {each.number: short_share(epochs_of(each.full), self.settings.reduction) for each in batch}
        racing = [each for each in batch if shares[each.number] is not None]
        if self.settings.reduction < 2 or len(racing) < 2:
            return
        self._measure(racing, "short", shares)
        racing = [each for each in racing if each.state is None]
        points = {each.number: losses(each.measured.values, self.settings.better) for each in racing}
        lost = {each.number: sum(each.measured.violations.values()) for each in racing}
        through = survivors(points, lost, self.settings.reduction)
        for each in racing:
            if each.number not in through:
                each.state = "stopped"
                each.reason = f"of {len(racing)} that were trained for a short while, {len(through)} were better"

    def _measure(self, batch: list[_Racer], rung: Rung, shares: Mapping[int, float | None]) -> None:
        """shares: of each one's training; without any it is full."""
        if not batch:
            return
        made = []
        for each in batch:
            choice = self._whole(each.asked.choice)
            share = shares.get(each.number) if rung != "full" else 1.0
            made.append(each.full if rung == "full" else trial_recipe(self.settings.base, choice, share))
        for each, found in zip(batch, self.evaluator.measure(made, rung), strict=True):
            each.rung, each.measured = rung, found
            each.seconds += found.seconds
            if found.reason:
                each.state, each.reason = "failed", found.reason

    def _kept(self, racer: _Racer, ended_s: float) -> Trial:
        assert racer.state is not None, "a batch is over when each of it has ended"
        return Trial(
            racer.number,
            dict(racer.asked.choice),
            racer.label,
            racer.digest,
            racer.state,
            racer.rung,
            dict(racer.measured.values),
            dict(racer.measured.violations),
            racer.reason,
            racer.measured.log,
            round(racer.seconds, 3),
            ended_s,
            dict(racer.asked.marks),
        )

    def _line(self, trial: Trial) -> str:
        values = ", ".join(f"{name} {value:,.6g}" for name, value in trial.values.items())
        ending = {
            "full": "" if trial.is_feasible else " (a budget is not kept)",
            "stopped": ", stopped early",
            "failed": f", failed: {trial.reason}",
        }
        return f"trial {trial.number}: {values or 'nothing measured'}{ending[trial.state]}"
