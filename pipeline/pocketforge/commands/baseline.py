"""What `pocketforge baseline` does: reports under a name beside a recipe, for budgets to be held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketforge.commands.history import baseline_from
from pocketforge.errors import RecipeError
from pocketforge.history.places import asked_or_default
from pocketforge.recipe.names import check_name
from pocketforge.records import Report
from pocketforge.report.files import load_report
from pocketforge.results.baselines import FOLDER, baseline_file, read_baseline, write_baseline


@dataclass(frozen=True, slots=True)
class Baseline:
    """One that is there.

    Attributes:
        name: Its name.
        file: Where it is.
        recipe: Of its reports.
        runs: How many these are.
        targets: Of the last of them.
    """

    name: str
    file: str
    recipe: str
    runs: int
    targets: tuple[str, ...]


def set_baseline(folder: Path, name: str, reports: Sequence[Report], *, add: bool) -> Baseline:
    """Write the reports under the name. folder: the recipe's. add: to those that are there.

    Raises RecipeError for a name that is none, for reports of other files, and where there is nothing to add to.
    """
    try:
        check_name(name, "the baseline's name")
    except ValueError as error:
        raise RecipeError(str(error)) from None
    file = baseline_file(folder, name)
    if add and not file.exists():
        raise RecipeError(f"there is no baseline at {file} to add to", "leave out --add")
    runs = [*(read_baseline(file) if add else ()), *reports]
    write_baseline(file, runs)
    return _of(file, runs)


def taken_from(said: Sequence[str], recipe: Path, history: str | None) -> list[tuple[list[Report], str]]:
    """The reports of each path; of what is none, those that the history has of such a commit or branch, and which these
    are, in words. history: where it is; None for where the user keeps it.

    Raises RecipeError for what is neither, and what `open_history` does.
    """
    found = []
    for each in said:
        path = Path(each)
        if path.exists() or path.suffix == ".json":
            found.append(([load_report(path)], ""))
            continue
        from pocketforge.recipe.toml import load_recipe

        place = asked_or_default(history)
        if place.file is not None and not place.file.exists():
            raise RecipeError(
                f"{each!r} is no report, and there is no history at {place.words} to look for a commit or a branch",
                "pocketforge build writes build/NAME/report.json; pocketforge build --history keeps builds",
            )
        found.append(baseline_from(place, each, load_recipe(recipe).name, recipe.parent))
    return found


def list_baselines(folder: Path) -> list[Baseline]:
    """All of a recipe's folder, by name. Raises RecipeError for one that cannot be read."""
    return [_of(file, read_baseline(file)) for file in sorted((folder / FOLDER).glob("*.json"))]


def _of(file: Path, runs: Sequence[Report]) -> Baseline:
    last = runs[-1]
    return Baseline(file.stem, str(file), last.recipe, len(runs), tuple(target.name for target in last.targets))
