"""Baselines: whole reports under a name, in `baselines/NAME.json` beside the recipe, to be committed with it.

A budget with `baseline` holds a build against one. A baseline of several reports is of several runs of the same files:
how far these lie apart says what is noise. Whoever has reports elsewhere (a history of builds) gives `judge` a mapping
of the same form.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pocketforge.errors import RecipeError
from pocketforge.files import explain_os_error, refuse_special, replace_whole
from pocketforge.recipe import Recipe
from pocketforge.records import Report

# Name → its reports, the oldest first; none under a name that has no baseline.
Baselines = Mapping[str, Sequence[Report]]
FOLDER = "baselines"
_VERSION = 1


def baseline_file(folder: Path, name: str) -> Path:
    """Where the baseline of that name is. folder: the recipe's."""
    return folder / FOLDER / f"{name}.json"


def baselines_of(recipe: Recipe) -> Baselines:
    """All that a recipe's budgets name and that are there. Raises RecipeError for one that cannot be read, and
    for one of another recipe."""
    names = dict.fromkeys(budget.baseline for budget in recipe.budgets if budget.baseline)
    files = {name: baseline_file(Path(recipe.folder), name) for name in names}
    found = {name: read_baseline(file) for name, file in files.items() if file.exists()}
    for name, runs in found.items():
        if runs[-1].recipe != recipe.name:  # several recipes may share a folder, and names of targets
            raise RecipeError(
                f"baseline {name!r} is of recipe {runs[-1].recipe!r}, this one is {recipe.name!r}",
                "baselines beside one another's recipes need names of their own: pocketforge baseline set",
            )
    return found


def read_baseline(file: Path) -> tuple[Report, ...]:
    """Its reports. Raises RecipeError when it is none, or a report in it is not what was put there."""
    hint = "pocketforge baseline set NAME --from REPORT writes one"
    try:
        refuse_special(file)
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("baseline_version") != _VERSION:
            found = content.get("baseline_version", "none") if isinstance(content, dict) else "none"
            raise ValueError(f"wanted baseline_version {_VERSION}, found {found}")
        runs = content.get("runs")
        if not isinstance(runs, list) or not runs:
            raise ValueError("it has no runs")
        return tuple(_run(each, index) for index, each in enumerate(runs))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(f"cannot read the baseline {file}: {reason}", hint) from None


def write_baseline(file: Path, reports: Sequence[Report]) -> None:
    """Raises RecipeError where they are no baseline, StoreError where it cannot be written."""
    _check(reports)
    runs = [{"sha256": _digest(report), "report": report.to_json()} for report in reports]
    text = json.dumps({"baseline_version": _VERSION, "runs": runs}, indent=1, ensure_ascii=False)
    try:
        file.parent.mkdir(exist_ok=True)
        replace_whole(file, f"{text}\n".encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise explain_os_error(error, file.parent, "--recipe") from error


def _run(content: object, index: int) -> Report:
    if not isinstance(content, dict) or not {"sha256", "report"} <= set(content):
        raise ValueError(f"runs[{index}] has no sha256 and report")
    # Of what stands there: a later Pocketforge may write the same report with more keys.
    found = _digest_of(content["report"])
    if found != content["sha256"]:
        raise ValueError(f"runs[{index}].report was changed: wanted SHA-256 {content['sha256']}, found {found}")
    return Report.from_json(content["report"])


def _digest(report: Report) -> str:
    return _digest_of(json.loads(report.to_text()))


def _digest_of(content: object) -> str:
    """SHA-256 of a report as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check(reports: Sequence[Report]) -> None:
    failed = [report.recipe for report in reports if report.verdict == "ERROR"]
    if failed:
        raise RecipeError(f"the build behind a report of {failed[0]} did not finish: it is no baseline")
    wrong = sorted({target.name for report in reports for target in report.targets if target.status != "built"})
    if wrong:
        raise RecipeError(f"a file that failed verify is no baseline: {', '.join(wrong)}")
    names = sorted({report.recipe for report in reports})
    if len(names) > 1:
        raise RecipeError(f"runs of one baseline are of one recipe, found {' and '.join(names)}")
    files = [{target.name: [a.sha256 for a in target.artifacts] for target in report.targets} for report in reports]
    for other in files[1:]:
        differs = sorted(name for name in {*files[0], *other} if files[0].get(name) != other.get(name))
        if differs:
            raise RecipeError(
                f"runs of one baseline are of the same files, and those of {differs[0]} are others",
                "build twice from the same inputs (--refresh measures anew), or set a new baseline without --add",
            )
