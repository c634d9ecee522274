"""Files swapped under a build, at every boundary of its stages, and put back: no wrong verdict, and nothing stored
under another content's key.

A build either ends as the files that it began with say, or with an error that names the file; and whatever it did, the
builds after it answer as builds of each version that nobody disturbed.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocketforge import events
from pocketforge.commands.build import build
from pocketforge.errors import PocketforgeError
from pocketforge.recipe.toml import load_recipe
from storm import shop
from storm.commands import forked_stages
from storm.harness import Storm, Trial
from storm.shop import FILES, Shop, content

# Of two data sources; each file in the one that reads it.
CASES = [(("npz", name)) for name in FILES if name != "function.py"] + [
    ("function", "function.py"),
    ("function", "samples.npz"),
]
# No plan knows of them: a build begins with them when its stage reads them.
OPENED_BY_USER_CODE = {("npz", "scale.json"), ("function", "samples.npz")}
STAGES = ("data", "reference", "export", "verify", "bench")
# In the order in which a build meets them.
MOMENTS = (
    "BuildStarted",
    *(f"{event} {stage}" for stage in STAGES for event in ("StepStarted", "StepDone", "StepFinished")),
)
HOWS = ("replaced", "overwritten", "replaced, same time", "overwritten, same time", "linked elsewhere")
AFTERWARDS = "after the build"


@dataclass
class Swap:
    """Puts the other version in place at one moment, and the first back at another."""

    path: Path
    versions: tuple[bytes, bytes]
    how: str
    there: str
    back: str
    met: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._times_ns = self._stat_ns()

    def _stat_ns(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_atime_ns, found.st_mtime_ns

    def emit(self, event: events.Event) -> None:
        name = type(event).__name__
        stage = getattr(event, "stage", "")
        if name == "StepProgress":
            # The stage has read and computed; what it wrote is not yet published.
            name = "StepDone" if getattr(event, "fraction", 0.0) >= 1.0 else name
        self.moment(f"{name} {stage}".strip())

    def moment(self, moment: str) -> None:
        if moment in self.met:
            return
        self.met.append(moment)
        if moment == self.there:
            self.put(1)
        if moment == self.back:
            self.put(0)

    def put(self, version: int) -> None:
        written = self.versions[version]
        if self.how == "linked elsewhere":
            target = self.path.with_name(f"{self.path.name}.{version}")
            target.write_bytes(written)
            link = self.path.with_name(f"{self.path.name}.link")
            link.symlink_to(target.name)
            link.replace(self.path)
            return
        if self.how.startswith("replaced"):
            draft = self.path.with_name(f"{self.path.name}.draft")
            draft.write_bytes(written)
            draft.replace(self.path)
        else:
            with self.path.open("r+b") as file:
                file.write(written)
                file.truncate()
        if self.how.endswith("same time"):
            os.utime(self.path, ns=self._times_ns)


class Swaps:
    def __init__(self, base: Path) -> None:
        # What a build of each version leaves, by (source, file, version).
        self._answers: dict[tuple[str, str, int], tuple[Shop, dict[str, Any]]] = {}
        for source, name in CASES:
            for version in (0, 1):
                self._answers[source, name, version] = shop.reference(base, source, **{name.replace(".", "_"): version})

    def __call__(self, number: int, rng: random.Random, folder: Path) -> Trial:
        source, name = CASES[number % len(CASES)]
        how = rng.choice(HOWS)
        place = min(rng.randrange(len(MOMENTS)), rng.randrange(len(MOMENTS)))  # earlier, more is still read
        back = rng.choice((*MOMENTS[place + 1 :][:4], AFTERWARDS, AFTERWARDS)) if rng.random() < 0.85 else AFTERWARDS
        first = rng.randrange(2)  # which version the build begins with
        refresh = rng.random() < 0.2
        between = rng.random() < 0.15  # swapped between two builds, not under one
        there = "between builds" if between else MOMENTS[place]
        made = Shop(folder / "work", folder / "cache", source).fill(**{name.replace(".", "_"): first})
        # The other version's results are stored: who asks for them must get them, whatever was done.
        began, other = (self._answers[source, name, version] for version in (first, 1 - first))
        shutil.copytree(other[0].cache, made.cache)
        if refresh or between:
            _merge(began[0].cache, made.cache)
        swap = Swap(made.folder / name, (content(name, first), content(name, 1 - first)), how, there, back)
        kind = f"{name} {how} at {there}, back at {back}{', --refresh' if refresh else ''}"
        if between:
            _build(made)
            swap.put(1)
            wrong = _compare("the build after the swap", _build(made), other[1])
        else:
            # Where nothing had read it before, the build is one of the other version.
            late = [other[1]] if (source, name) in OPENED_BY_USER_CODE else []
            wrong = _disturbed(made, swap, name, [began[1], *late], refresh)
        swap.put(0)
        wrong = wrong or _compare("the first version's next build", _build(made), began[1])
        if not wrong:
            swap.put(1)
            wrong = _compare("the other version's next build", _build(made), other[1])
        return Trial(f"{name} ({source})", wrong, kind)


def _disturbed(made: Shop, swap: Swap, name: str, allowed: Sequence[dict[str, Any]], refresh: bool) -> str:
    found = _build(made, swap.emit, refresh=refresh)
    if isinstance(found, PocketforgeError):
        return "" if name in str(found) else f"the file is not named: {str(found)[:150]}"
    wrong = [_compare("the build under the swap", found, wanted) for wanted in allowed]
    return wrong[0] if all(wrong) else ""


def _merge(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("fingerprints*"))


def _build(
    made: Shop, emit: events.Emit = events.ignore, *, refresh: bool = False
) -> dict[str, Any] | PocketforgeError:
    """What it left, or its first error."""
    shutil.rmtree(made.out, ignore_errors=True)
    try:
        with forked_stages():
            recipe = load_recipe(made.folder / "recipe.toml")
            built = build(recipe, cache=made.cache, out=made.out, emit=emit, refresh=refresh)
    except PocketforgeError as error:
        return error
    return built.error or made.built()


def _compare(what: str, found: dict[str, Any] | PocketforgeError, wanted: dict[str, Any]) -> str:
    if isinstance(found, PocketforgeError):
        return f"{what} fails: {str(found)[:150]}"
    if found.get("verdict") != wanted["verdict"]:
        return f"{what} has a wrong verdict: {found.get('verdict')} for {wanted['verdict']}"
    other = shop.difference(found, wanted)
    return f"{what} is another: {other}" if other else ""


def prepare(base: Path) -> Callable[[int, random.Random, Path], Trial]:
    shop.import_toolchain()
    return Swaps(base)


STORM = Storm("swaps", "files swapped under a build and put back, at every boundary of its stages", 300, 120, prepare)
