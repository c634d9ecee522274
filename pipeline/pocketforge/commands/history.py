"""What `pocketforge history` does: builds kept, found, handed on; and what became of a metric."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pocketforge.errors import RecipeError, StoreError
from pocketforge.facts.checkout import Checkout, checkout_of, commits_there
from pocketforge.files import refuse_special
from pocketforge.history.entry import Build, Entry, Wanted
from pocketforge.history.opening import open_history, without
from pocketforge.history.places import Place
from pocketforge.history.trend import LAST, Line, lines_of
from pocketforge.outcomes import files
from pocketforge.recipe import suggest
from pocketforge.records import Report
from pocketforge.report.files import load_report, report_file, report_of
from pocketforge.results.relative import kind_of_host

if TYPE_CHECKING:
    from pocketforge.history.keeper import History

_VERSION: Literal[1] = 1
_COMMIT = re.compile("([0-9a-f]{40}|[0-9a-f]{64})?")
# So many builds of an export are in one transaction.
_AT_ONCE = 20
# What both databases have as a time.
_TIMES = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Added:
    """A report that a history has now.

    Attributes:
        file: Where it was read.
        build: Its number there.
        new: Whether it was not there before.
    """

    file: str
    build: int
    new: bool


@dataclass(frozen=True, slots=True)
class Passed:
    """A file that was not taken.

    Attributes:
        file: Which.
        reason: Why, in words.
    """

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExportedHead:
    """What a line of an export says beside the report itself.

    Attributes:
        commit: Of what was built; empty where git told of none.
        commit_s: When that was committed, in seconds since 1970; None where nobody knows.
        branch: That was built; empty where none was.
        dirty: Whether what was built had changes that are not in the commit; None where nobody knows.
        built_s: When it was built, in seconds since 1970.
        pocketforge: The version that made the line.
        history_version: Of the line's form.
    """

    commit: str
    commit_s: int | None
    branch: str
    dirty: bool | None
    built_s: int
    pocketforge: str
    history_version: Literal[1]


def add_reports(place: Place, paths: Sequence[Path], commit: str = "", branch: str = "") -> list[Added]:
    """Keep reports of builds of what is checked out now where they lie, or of `commit`. All of them or none.

    Raises RecipeError for what is no report and a commit that is not there; StoreError.
    """
    entries = []
    for path in paths:
        report = load_report(path)
        folder = report_file(path).resolve().parent
        found = checkout_of(folder, commit or "HEAD")
        if commit and not found.commit:
            raise RecipeError(
                f"the repository of {folder} has no commit {commit!r}", "is it one? git fetch gets what others have"
            )
        if branch:
            found = dataclasses.replace(found, branch=branch)
        entries.append(Entry(report, found, _written_s(report_file(path))))
    history = open_history(place, create=True)
    return [Added(str(path), *each) for path, each in zip(paths, history.add_all(entries), strict=True)]


def import_files(place: Place, paths: Sequence[Path]) -> tuple[list[Added], list[Passed]]:
    """Keep old reports, of no known commit, and what `export_lines` wrote: all that can be read, file by file.

    A folder stands for the report.json files in it, at any depth, and the .json and .jsonl files right in it.
    Raises RecipeError where there is nothing to read; StoreError.
    """
    found = [file for path in paths for file in _files_in(path)]
    history = open_history(place, create=True)
    added: list[Added] = []
    passed: list[Passed] = []
    for file in found:
        try:
            for _ in _entries_in(file):  # all of it can be read, before any is added
                pass
            entries = _entries_in(file)
            # Few at a time: a report is a megabyte, and other builds wait for who writes.
            while few := list(itertools.islice(entries, _AT_ONCE)):
                added += [Added(str(file), *each) for each in history.add_all(few)]
        except RecipeError as error:
            passed.append(Passed(str(file), error.message))
    return added, passed


def export_lines(place: Place, wanted: Wanted) -> Iterator[str]:
    """Each build that is wanted as a line of JSON, with its report; `import_files` reads them."""
    for build, text in open_history(place).entries(wanted):
        head = ExportedHead(
            build.commit, build.commit_s, build.branch, build.dirty, build.built_s, build.pocketforge, _VERSION
        )
        yield json.dumps(dataclasses.asdict(head) | {"report": json.loads(text)}, sort_keys=True)


def list_builds(place: Place, wanted: Wanted, most: int | None) -> tuple[list[Build], str]:
    """Builds, the last one first, and what keeps them, in words."""
    history = open_history(place)
    return history.builds(wanted, most), f"{history.words} ({history.server()})"


def show_build(place: Place, said: str) -> tuple[Build, Report]:
    """A build by its number, commit or branch, and its report. Raises RecipeError, StoreError."""
    history = open_history(place)
    build = history.find(said)
    return build, history.report(build.id)


def trend_of(
    place: Place,
    metric: str,
    wanted: Wanted,
    *,
    target: str = "",
    device: str | None = None,
    effect: float | None = None,
    last: int = LAST,
) -> list[Line]:
    """What became of a metric, a line for each recipe, target, device and condition.

    Raises RecipeError where no build has such a value; ToolMissing.
    """
    history = open_history(place)
    found = history.values(metric, wanted, target, device)
    if not found:
        known = history.metrics()
        if metric in known:
            raise RecipeError(f"no build that was asked for has a {metric}", "pocketforge history list shows builds")
        raise RecipeError(f"no build in {history.words} has a metric {metric!r}{suggest(metric, known)}")
    try:
        return lines_of(found, effect, last, history.builds(wanted))
    except ModuleNotFoundError as error:
        raise without(error) from None


def baseline_from(place: Place, said: str, recipe: str, folder: Path) -> tuple[list[Report], str]:
    """The runs of a recipe at a commit, or at the last commit of a branch that has some; and of which builds, in words.

    What is no baseline is passed over: builds with changed files, that did not end, with a wrong file or a budget that
    was not kept, and of commits that the repository of the recipe's folder has not; and of the rest those of other
    files or another kind of host than the last one.
    Raises RecipeError where nothing is left.
    """
    history = open_history(place)
    found = _builds_of(history, said, recipe)
    ordered, elsewhere = _last_first(found, folder)
    for at, build in enumerate(ordered):
        report = history.report(build.id)
        if build.dirty is False and _may_be_baseline(report):
            runs = list(_runs_like(history, build, report, ordered))
            later = at + sum((each.commit_s or 0) > (build.commit_s or 0) for each in elsewhere)
            passed = f" ({later} later build{' is' if later == 1 else 's are'} no baseline)" if later else ""
            return runs, f"commit {build.commit[:12]}{passed}"
    raise RecipeError(
        f"none of the {len(found)} builds of {said!r} is a baseline: files of the commit were changed, a step did not "
        "end, a file is wrong, a budget was not kept, or its commit is not in the recipe's repository (git fetch)",
        "build what was committed, and keep that (pocketforge build --history); baseline set --from REPORT takes a "
        "build's own report, also with a budget that was not kept",
    )


def _builds_of(history: History, said: str, recipe: str) -> list[Build]:
    from pocketforge.history.keeper import is_hash

    found = history.builds(Wanted(recipe, branch=said)) or (
        history.builds(Wanted(recipe, commit=said)) if is_hash(said) else []
    )
    if not found:
        raise RecipeError(
            f"{said!r} is no report, and {history.words} has no build of recipe {recipe!r} of such a branch or commit",
            "pocketforge history list shows them",
        )
    if len({build.commit for build in found}) > 1 and not any(build.branch == said for build in found):
        raise RecipeError(f"several commits begin with {said!r}: give more of it")
    return found


def _last_first(found: Sequence[Build], folder: Path) -> tuple[list[Build], list[Build]]:
    """Builds of the last commit first, of it from the last to the first; and those of commits that the folder's
    repository has not: another project may have a recipe of that name."""
    by_time = sorted(found, key=lambda build: (build.commit_s or 0, build.built_s, build.id), reverse=True)
    there = commits_there(folder, {build.commit for build in found if build.commit})
    if there is None:
        return by_time, []
    place = {commit: at for at, commit in enumerate(there)}
    here = [build for build in by_time if build.commit in place]
    return sorted(here, key=lambda build: place[build.commit]), [each for each in by_time if each.commit not in place]


def _runs_like(history: History, last: Build, report: Report, found: Iterable[Build]) -> Iterator[Report]:
    """Those of its commit, kind of host and files, the last one last."""
    of_last = (last.commit, kind_of_host(last.host), False)
    same = [each for each in found if (each.commit, kind_of_host(each.host), each.dirty) == of_last]
    for each in reversed(same):
        other = report if each.id == last.id else history.report(each.id)
        if _may_be_baseline(other) and _files_of(other) == _files_of(report):
            yield other


def _may_be_baseline(report: Report) -> bool:
    """A budget that was not kept makes none, also where a waiver lets it be: the next build would be as bad and pass.
    What was missing or open may be, as the baseline itself is at first."""
    ended = report.verdict != "ERROR" and all(target.status == "built" for target in report.targets)
    return ended and not any(each.verdict == "FAIL" and each.budget.severity == "error" for each in report.gates)


def _files_of(report: Report) -> dict[str, list[str]]:
    return {target.name: [each.sha256 for each in target.artifacts] for target in report.targets}


def _files_in(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if report_file(path).is_file():
        return [report_file(path)]
    found = {*path.rglob("report.json"), *path.glob("*.json"), *path.glob("*.jsonl")}
    if not found:
        raise RecipeError(f"no report.json in {path}, at any depth, and no .json or .jsonl right in it")
    return sorted(found)


def _entries_in(file: Path) -> Iterator[Entry]:
    """Raises RecipeError, with the line that cannot be read."""
    if file.suffix != ".jsonl":
        yield Entry(load_report(file), built_s=_written_s(file))
        return
    number = 0
    try:
        refuse_special(file)
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                number += 1
                yield _imported(json.loads(line))
    except FileNotFoundError:
        raise RecipeError(f"no file {file}", "pocketforge history export --output FILE.jsonl writes one") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(f"cannot read line {number} of {file}: {reason}") from None
    if not number:
        raise RecipeError(f"{file} is empty")


def _imported(line: object) -> Entry:
    """Raises ValueError."""
    if not isinstance(line, dict) or line.get("history_version") != _VERSION:
        raise ValueError(f"wanted an export of history_version {_VERSION}")
    report = report_of(line.pop("report", None))
    head = files.from_json(line, ExportedHead)
    if not _COMMIT.fullmatch(head.commit):
        raise ValueError(f"commit must be a hash or empty, found {head.commit!r}")
    if not all(each in _TIMES for each in (head.commit_s or 0, head.built_s)):
        raise ValueError("commit_s and built_s must be seconds since 1970, of 64 bits")
    checkout = Checkout(head.commit, head.commit_s, head.branch, head.dirty)
    return Entry(report, checkout, head.built_s, head.pocketforge)


def _written_s(file: Path) -> int:
    try:
        return int(file.stat().st_mtime)
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror}") from None
