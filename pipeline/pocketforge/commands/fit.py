"""What `pocketforge fit` does: searches a recipe's space, and writes the best recipe that was found."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketforge import events
from pocketforge.commands.build import Built, build
from pocketforge.errors import EXIT_GATE_FAILED, EXIT_INTERRUPTED, EXIT_OK, DeviceUnavailable, RecipeError
from pocketforge.facts.gather import gather
from pocketforge.facts.phones import without_absent
from pocketforge.facts.plugged import check_parts
from pocketforge.files import check_writable, json_text, write_whole
from pocketforge.outcomes import files
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe import Fit, Objective, Recipe
from pocketforge.recipe.budget import THE_TASKS
from pocketforge.recipe.fit import Sampler
from pocketforge.recipe.output_rules import find_metric
from pocketforge.recipe.toml import load_recipe
from pocketforge.results.app_size import check_app
from pocketforge.results.baselines import baselines_of
from pocketforge.results.output_folder import take
from pocketforge.results.report import recipe_digest
from pocketforge.search.constraints import known_early, words_of
from pocketforge.search.dimension import Dimension
from pocketforge.search.evaluate import Builds, name_of, with_one_device
from pocketforge.search.importance import importances
from pocketforge.search.loop import Search, Settings
from pocketforge.search.page import write as page_of
from pocketforge.search.probe import check_budgets
from pocketforge.search.reasons import reasons_of
from pocketforge.search.result import FIT_VERSION, Aim, FitResult, Searched
from pocketforge.search.sampling import Asking, imported
from pocketforge.search.space import dimensions_of, fixed_of, space_of, stage_groups
from pocketforge.search.summary import front_of, gained, recommended_of
from pocketforge.search.trial import Begun, Notebook, Trial
from pocketforge.search.trial_recipe import Base, Made, as_it_is, trial_recipe
from pocketforge.streams import printable

PAGE, BEST, LOGS = "fit.html", "best", "logs"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says instead of the recipe.

    Attributes:
        trials: How many at most; None: the recipe's.
        hours: After so long nothing new is begun; None: no limit.
        seed: Of the search; None: the recipe's.
        sampler: None: the recipe's.
        jobs: Steps at a time.
        fresh: Whether earlier trials are thrown away.
        write: Where the recommended recipe goes; None: beside the base recipe, as NAME.fit.toml.
    """

    trials: int | None = None
    hours: float | None = None
    seed: int | None = None
    sampler: Sampler | None = None
    jobs: int = 1
    fresh: bool = False
    write: Path | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """What `fit` gives back.

    Attributes:
        result: What was found.
        folder: Where fit.json and fit.html are.
        recipe: The recommended recipe's file; None where there is none.
        built: The whole build of it; None where it was not made.
        interrupted: Whether ^C ended the search.
    """

    result: FitResult
    folder: Path
    recipe: Path | None
    built: Built | None
    interrupted: bool

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return EXIT_INTERRUPTED
        return EXIT_OK if self.built is not None else EXIT_GATE_FAILED


def fit(
    path: Path,
    asked: Asked,
    *,
    cache: Path,
    out: Path,
    emit: events.Emit = events.ignore,
    say: Callable[[str], None] = lambda line: None,
) -> Fitted:
    """Search, then build the best recipe as a whole, so that what is recommended passed its own gate.

    Raises RecipeError (also for budgets that no point of the space keeps), ModelError, StoreError and ToolMissing.
    """
    imported()
    base = _base(path)
    recipe = base.recipe
    check_parts(recipe)
    check_app(recipe)
    written = _place(path, recipe, asked.write)
    own = recipe.fit or Fit()
    _check_there(recipe, aims := _aims(recipe, own), cache, emit)
    space = space_of(recipe, _groups(recipe) if own.space is None else ())
    dimensions, fixed = dimensions_of(space), fixed_of(space)
    if len(space.target_names) == 1:
        fixed["target"] = space.target_names[0]
    better = {name_of(objective): aim.better for objective, aim in aims}
    sampler, seed = asked.sampler or own.sampler, recipe.seed if asked.seed is None else asked.seed
    early = known_early(_bound(recipe))
    trials = own.trials if asked.trials is None else asked.trials
    hours = math.inf if asked.hours is None else asked.hours
    with take(out, emit):
        builds = Builds(cache, out / LOGS, tuple(each for each, _ in aims), baselines_of(recipe), asked.jobs, emit)
        searched = (dimensions, fixed, [aim for _, aim in aims], sampler, seed, own.batch, own.reduction)
        notebook = Notebook(
            out, Begun(FIT_VERSION, recipe_digest(recipe), _digest(searched), measured_on(recipe, cache))
        )
        known = [] if asked.fresh else notebook.read()
        if not known:
            check_budgets(base, dimensions, fixed, early, builds)
        asking = Asking(dimensions, better, sampler, seed, own.trials, max(4, own.batch // own.reduction))
        settings = Settings(
            base, space.target_names, dimensions, fixed, asking, better, early, trials, own.batch, own.reduction, hours
        )
        search = Search(settings, builds, notebook, say)
        interrupted = False
        try:
            search.run(known)
        except KeyboardInterrupt:
            interrupted, search.ended = True, "interrupted"
        found = list(search.trials)
        chosen, built = _confirmed(found, settings, cache, out / BEST, asked.jobs, emit, interrupted=interrupted)
        result = _result(base, settings, [aim for _, aim in aims], found, chosen, search.ended, sampler, seed)
        if chosen is not None and built is None:
            unbuilt = "Its whole build was not made, since the search was interrupted: `pocketforge build` makes it."
            result = dataclasses.replace(result, reasons=(*result.reasons, unbuilt))
        _write(out, result)
        if chosen is not None:
            made = made_of(settings, result.trial(chosen))
            write_whole(written, _with_head(made, result, path).encode(), "--recipe-out")
    return Fitted(result, out, written if chosen is not None else None, built, interrupted)


def _base(path: Path) -> Base:
    recipe = load_recipe(path, "pocketforge fit")
    if any(target.bucket for target in recipe.targets):
        raise RecipeError(
            f"{path} has a target with `sizes`, which is a file for each size: a trial is one file",
            "search with one size (leave `sizes` out), and put what is found into the recipe",
        )
    return Base(recipe, path.read_text(encoding="utf-8-sig"))


def _place(path: Path, recipe: Recipe, asked: Path | None) -> Path:
    """Where the recommended recipe goes: in the base recipe's folder, from which its paths go. Raises RecipeError."""
    place = asked or Path(recipe.folder) / f"{path.stem}.fit.toml"
    folder = Path(recipe.folder)
    if place.absolute().parent.resolve() != folder:
        raise RecipeError(
            f"--recipe-out must name a file in the recipe's folder, from which the paths in it go, found {place}",
            f"as {folder / 'best.toml'}",
        )
    if place.resolve() == path.resolve():
        raise RecipeError("--recipe-out names the recipe itself", "give another name")
    try:
        check_writable(folder)
    except OSError as error:
        raise RecipeError(
            f"the recommended recipe goes beside the base recipe, and {folder} cannot be written: {error.strerror}",
            "copy the recipe with its model to a folder of yours",
        ) from error
    return place


def _groups(recipe: Recipe) -> tuple[str, ...]:
    from pocketforge.commands.model import summarize

    layers: Any = summarize(recipe)["layers"]
    return stage_groups(layers)


def _aims(recipe: Recipe, own: Fit) -> list[tuple[Objective, Aim]]:
    """The objectives, and what is known of their metrics."""
    named = own.objectives or (Objective(THE_TASKS), Objective("size_bytes"))
    found = []
    for objective in with_one_device(recipe, named):
        word = recipe.task_metric if objective.metric == THE_TASKS else objective.metric
        metric = find_metric(word, recipe.judged)
        assert metric is not None, "the recipe's rules hold that it is there"
        objective = dataclasses.replace(objective, metric=word)
        found.append((objective, Aim(name_of(objective), metric.row.better, metric.row.unit)))
    return found


def _check_there(recipe: Recipe, aims: Sequence[tuple[Objective, Aim]], cache: Path, emit: events.Emit) -> None:
    """Raises DeviceUnavailable where a phone that an objective is on is not there: each trial would fail by it."""
    left, absent = without_absent(recipe, gather(recipe, cache).phones)
    there = {name for device in left.devices for name in device.budget_names}
    for objective, aim in aims:
        if objective.device and objective.device not in there:
            raise DeviceUnavailable(
                f"{aim.name} is an objective, and that device is not there: {'; '.join(absent)}",
                "connect it, or take the objective out of [fit]",
            )
    for line in absent:
        emit(events.Warned(line))


def _bound(recipe: Recipe) -> list[tuple[Any, str]]:
    """Each budget that binds, with each device that it is on."""
    return [
        (budget, device)
        for budget in recipe.budgets
        if budget.severity == "error"
        for device in recipe.devices_of(budget)
    ]


def _digest(searched: Sequence[object]) -> str:
    plain = json.dumps(files.to_json(searched), sort_keys=True, default=str)
    return hashlib.sha256(plain.encode()).hexdigest()


def measured_on(recipe: Recipe, cache: Path) -> str:
    """What the recipe's files are made of and judged by, as the keys of their checks have it."""
    plan = make_plan(recipe, gather(recipe, cache))
    return hashlib.sha256(" ".join(sorted(lane.verify for lane in plan.lanes)).encode()).hexdigest()


def made_of(settings: Settings, trial: Trial) -> Made:
    """A trial's full recipe."""
    if trial.choice:
        return trial_recipe(settings.base, {**settings.fixed, **trial.choice})
    return as_it_is(settings.base, settings.targets[trial.number])


def _confirmed(
    trials: list[Trial], settings: Settings, cache: Path, out: Path, jobs: int, emit: events.Emit, *, interrupted: bool
) -> tuple[int | None, Built | None]:
    """The recommended trial, and its whole build: with the devices and checks that a search leaves out. One that this
    build does not pass is a failed trial, and the next best is asked."""
    while (number := recommended_of(trials, settings.better)) is not None:
        if interrupted:
            return number, None
        (place,) = (index for index, trial in enumerate(trials) if trial.number == number)
        made = made_of(settings, trials[place])
        built = build(made.recipe, cache=cache, out=out, jobs=jobs, emit=emit)
        if built.exit_code == EXIT_OK:
            return number, built
        why = str(built.error) if built.error else _why_not(built)
        trials[place] = dataclasses.replace(trials[place], state="failed", reason=f"its whole build is no PASS: {why}")
    shutil.rmtree(out, ignore_errors=True)
    return None, None


def _why_not(built: Built) -> str:
    gates = [f"{words_of(gate.budget, gate.device)}: {gate.reason}" for gate in built.report.gates if gate.blocks]
    return "; ".join(gates) or ", ".join(f"target {each.name} is {each.status}" for each in built.report.targets)


def _result(
    base: Base, settings: Settings, aims: Sequence[Aim], trials: Sequence[Trial], chosen: int | None, ended: str,
    sampler: Sampler, seed: int,
) -> FitResult:  # fmt: skip
    on_front = front_of(trials, settings.better)
    space: Sequence[Dimension] = settings.dimensions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of forests on few trials
        shares = importances(trials, space, settings.better, seed)
    return FitResult(
        FIT_VERSION,
        base.recipe.name,
        recipe_digest(base.recipe),
        seed,
        sampler,
        ended,
        tuple(aims),
        tuple(words_of(budget, device) for budget, device in _bound(base.recipe)),
        tuple(Searched(each.name, each.kind, each.values) for each in space),
        tuple(trials),
        tuple(on_front),
        chosen,
        reasons_of(trials, on_front, chosen, settings.better),
        shares,
        gained(trials, settings.better),
    )


def _write(out: Path, result: FitResult) -> None:
    write_whole(out / FitResult.FILE, json_text(files.to_json(result)).encode(), "--out")
    write_whole(out / PAGE, f"{page_of(result)}\n".encode("utf-8", "backslashreplace"), "--out")


def _with_head(made: Made, result: FitResult, path: Path) -> str:
    """The recipe with what it is in comments. Names are foreign: no newline of theirs ends a comment."""
    assert result.recommended is not None
    lines = [
        f"Trial {result.recommended} of a search over {path.name}: {result.ended}, sampler {result.sampler}, seed "
        f"{result.seed}.",
        *result.reasons,
    ]
    return "".join(f"# {printable(line)}\n" for line in lines) + "\n" + made.text
