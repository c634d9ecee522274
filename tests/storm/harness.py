"""A storm: many trials from a seed, each judged, a JSON line each; goes on where an earlier run stopped.

Trials run in a child that was forked from this process with everything imported. A trial that ends the child (a crash,
a hang) is one wrong trial, and the next child goes on after it. Number and seed make a trial again: `--only 17`.
"""

from __future__ import annotations

import collections
import ctypes
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# In the order in which `nox -s storm` runs them; each a module beside this one.
STORMS = ("recipes", "lines", "inputs", "files", "swaps", "kills")


_PR_SET_PDEATHSIG = 1
# Where the trial of this process says what it is about.
_unjudged: list[Path] = []


@dataclass(frozen=True)
class Trial:
    """What was tried, and what was wrong; nothing when all was right."""

    kind: str
    wrong: str = ""
    note: str = ""


@dataclass(frozen=True)
class Storm:
    """about: for the table. limit_s: a trial that takes longer hangs.

    prepare: what is imported and built once, in a folder that later runs find again; gives what makes one trial of a
    number, its own random numbers and an empty folder. count: how many are worth running; 0 where `prepare` finds out,
    and gives something that has a length.
    """

    name: str
    about: str
    count: int
    limit_s: int
    prepare: Callable[[Path], Callable[[int, random.Random, Path], Trial]]


def load(name: str) -> Storm:
    storm = importlib.import_module(f"storm.{name}").STORM
    assert isinstance(storm, Storm)
    return storm


def run(
    storm: Storm,
    work: Path,
    numbers: Iterable[int] | None = None,
    *,
    seed: int = 0,
    ends: float = float("inf"),
    results: Path | None = None,
) -> None:
    """Judge every trial of `numbers` (by default all) that has no line yet in `results` (by default the storm's own).

    work: results, and what the storm builds once. ends: by time.monotonic(), no trial begins after it.
    """
    results = results or results_file(work, storm.name)
    done = {int(r["number"]) for r in read(results) if r["seed"] == seed}
    if numbers is None and storm.count:
        numbers = range(storm.count)
    if numbers is not None and done.issuperset(numbers := list(numbers)):
        return
    base = work / "base" / storm.name
    base.mkdir(parents=True, exist_ok=True)
    from storm.commands import remembered_machine  # the table of results needs no toolchain

    with remembered_machine():
        _prepare_and_judge(storm, base, numbers, done, results, seed, ends)
    results.with_suffix(".begun").unlink(missing_ok=True)


def _prepare_and_judge(
    storm: Storm, base: Path, numbers: Iterable[int] | None, done: set[int], results: Path, seed: int, ends: float
) -> None:
    trial: Any = storm.prepare(base)
    wanted = [number for number in (range(len(trial)) if numbers is None else numbers) if number not in done]
    while wanted and time.monotonic() < ends:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _judge(storm, trial, wanted, results, seed, ends)
                code = 0
            except BaseException:  # the child must not go on as the parent
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        judged = {int(r["number"]) for r in read(results) if r["seed"] == seed}
        left = [number for number in wanted if number not in judged]
        if status == 0 and left:
            return  # out of time
        if not os.WIFSIGNALED(status) and status != 0:
            raise SystemExit(f"{storm.name} {left[0]}: the storm itself failed, see above")
        if left and status != 0:
            name = signal.Signals(os.WTERMSIG(status)).name
            wrong = f"hang: more than {storm.limit_s} s" if name == "SIGALRM" else f"crash: {name}"
            write(results, {"number": left[0], "seed": seed, **_begun(results), "wrong": wrong})
            left = left[1:]
        wanted = left


def _judge(storm: Storm, trial: Callable[..., Trial], wanted: list[int], results: Path, seed: int, ends: float) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # whoever ends the storm ends its trial
    for number in wanted:
        if time.monotonic() > ends:
            return
        _unjudged[:] = [results.with_suffix(".begun")]
        begin("?")
        before = _cpu_s()
        tempfile.tempdir = None
        top = Path(tempfile.mkdtemp(prefix=f"storm-{storm.name}-"))
        folder, scratch = top / "trial", top / "tmp"
        folder.mkdir()
        scratch.mkdir()
        tempfile.tempdir = str(scratch)  # an error's log outlives its command
        signal.alarm(storm.limit_s)
        try:
            found = trial(number, random.Random(f"{seed}/{storm.name}/{number}"), folder)
        finally:
            signal.alarm(0)
            shutil.rmtree(top, ignore_errors=True)
        line = {
            "number": number,
            "seed": seed,
            "kind": found.kind,
            "wrong": found.wrong[:300],
            "note": found.note[:600],
        }
        write(results, {**line, "cpu_s": round(_cpu_s() - before, 3)})


def begin(kind: str, note: str = "") -> None:
    """What a trial is about, for its line if it ends its process."""
    for path in _unjudged:
        path.write_text(json.dumps({"kind": kind, "note": note[:600]}), encoding="utf-8")


def _begun(results: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(results.with_suffix(".begun").read_text(encoding="utf-8"))
    return found


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def results_file(work: Path, name: str) -> Path:
    work.mkdir(parents=True, exist_ok=True)
    return work / f"{name}.jsonl"


def write(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def _alike(wrong: str) -> str:
    """The same words with other names and numbers are one kind."""
    return re.sub(r"'[^']*'|\S*[\d/]\S*", "…", wrong)[:60]


def table(work: Path) -> str:
    """A row for each storm that has results, and below it what was wrong, by kind."""
    rows = ["| storm | trials | wrong | CPU minutes | command |", "|---|---|---|---|---|"]
    kinds: list[str] = []
    for name in STORMS:
        found = read(results_file(work, name))
        if not found:
            continue
        storm = load(name)
        wrong = [r for r in found if r["wrong"]]
        minutes = sum(float(r.get("cpu_s", 0)) for r in found) / 60
        command = f"`nox -s storm -- {name}`"
        rows.append(f"| {storm.about} | {len(found):,} | {len(wrong):,} | {minutes:.1f} | {command} |")
        # What ended badly outside of our own processes, and was told well.
        outside = collections.Counter(r["note"] for r in found if re.match("outside: .*(SIG|does not end)", r["note"]))
        kinds += [f"{count} × {name}: {note}" for note, count in sorted(outside.items())]
        groups = collections.defaultdict(list)
        for r in wrong:
            groups[_alike(str(r["wrong"]))].append(r)
        for members in sorted(groups.values(), key=len, reverse=True):
            first = min(members, key=lambda r: int(r["number"]))
            kinds.append(f"{len(members)} × {name} --only {first['number']}: {first['kind']}: {first['wrong'][:200]}")
    return "\n".join([*rows, "", *kinds])
