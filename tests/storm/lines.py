"""Killed, and interrupted, at every line of the store and of the release that a build executes."""

from __future__ import annotations

import collections
import hashlib
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pocketforge import files
from pocketforge.commands import build as build_command
from pocketforge.facts import gather
from pocketforge.results import release
from pocketforge.run import store as store_module
from pocketforge.run.store import Store
from storm import shop
from storm.harness import Storm, Trial
from storm.programs import forked
from storm.shop import Shop

# Further modules of these rooms are traced when their names have one of the words.
TRACED = [Path(m.__file__ or "").resolve() for m in (store_module, release, build_command, files)]
ROOMS = {Path(m.__file__ or "").resolve().parent for m in (store_module, release, build_command, gather)}
WORDS = ("store", "release", "publish", "output", "memory", "fingerprint")
# Of a line that runs many times (a file, an entry each): so many of its first runs, and its last.
MOST_OF_A_LINE = 2
SIGNALS = (signal.SIGKILL, signal.SIGINT)


def is_traced(filename: str) -> bool:
    """Of the run's and the results' rooms what is about the store or the release, and the build's own writing."""
    path = Path(filename)
    if path in TRACED:
        return True
    return path.parent in ROOMS and any(word in path.stem for word in WORDS)


class Tracer:
    """Counts lines; at `deadly`, counted from 0, sends itself a signal."""

    def __init__(self, deadly: int = -1, number: signal.Signals = signal.SIGKILL) -> None:
        self.lines: list[tuple[str, int]] = []
        self.deadly = deadly
        self.number = number
        self._known: dict[str, bool] = {}

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        name = frame.f_code.co_filename
        if name not in self._known:
            self._known[name] = is_traced(name)
        return self._line if self._known[name] else None

    def _line(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "line":
            self.lines.append((Path(frame.f_code.co_filename).name, frame.f_lineno))
            if len(self.lines) - 1 == self.deadly:
                os.kill(os.getpid(), self.number)
        return self._line


@dataclass(frozen=True)
class Scenario:
    """set_up: makes a folder ready. do: what is killed, in a process of its own; done again in the same folder, it must
    come to its end. judge: what is wrong with what the killed one left. judge_again: after it was done again."""

    name: str
    set_up: Callable[[Path], None]
    do: Callable[[Path], int]
    judge: Callable[[Path, bool], str]
    judge_again: Callable[[Path], str]


def _traced(do: Callable[[Path], int], folder: Path, tracer: Tracer) -> int:
    sys.settrace(tracer)
    try:
        return do(folder)
    finally:
        sys.settrace(None)


def _events(scenario: Scenario, folder: Path) -> list[tuple[int, str]]:
    """Which lines are worth a kill: their places in the order of the run, and their names."""
    scenario.set_up(folder)
    tracer = Tracer()
    code = _traced(scenario.do, folder, tracer)
    assert code in (0, 1), f"{scenario.name} ended with {code}"
    chosen, runs = [], collections.Counter(tracer.lines)
    seen: collections.Counter[tuple[str, int]] = collections.Counter()
    for place, line in enumerate(tracer.lines):
        seen[line] += 1
        if seen[line] <= MOST_OF_A_LINE or seen[line] == runs[line]:
            chosen.append((place, f"{line[0]}:{line[1]}"))
    return chosen


class Lines:
    """Every scenario, signal and line."""

    def __init__(self, base: Path, scenarios: Sequence[Scenario]) -> None:
        self._trials: list[tuple[Scenario, signal.Signals, int, str]] = []
        for scenario in scenarios:
            folder = base / "counted" / scenario.name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            events = _events(scenario, folder)
            self._trials += [(scenario, number, place, line) for number in SIGNALS for place, line in events]

    def __len__(self) -> int:
        return len(self._trials)

    def __call__(self, number: int, rng: random.Random, folder: Path) -> Trial:
        if number >= len(self):
            return Trial("no such line")
        scenario, sent, place, line = self._trials[number]
        kind = f"{scenario.name}, {sent.name}"
        scenario.set_up(folder)
        ended = forked(lambda: _traced(scenario.do, folder, Tracer(place, sent)), folder / "said")
        killed = ended.code in (-sent, 130)
        if not killed and ended.code not in (0, 1):
            return Trial(kind, f"exit code {ended.code} at a line", f"{line}\n{ended.said[-400:]}")
        wrong = scenario.judge(folder, killed)
        if not wrong:
            again = forked(lambda: scenario.do(folder), folder / "said")
            wrong = f"then exit code {again.code}" if again.code not in (0, 1) else scenario.judge_again(folder)
        return Trial(kind, f"{wrong} at {line}" if wrong else "", ended.said[-400:] if wrong else "")


def builds(base: Path) -> list[Scenario]:
    """A build whose steps are all stored, over an older release: one that passes, and one that fails and keeps its
    files."""
    earlier, old = shop.reference(base, weights_safetensors=2)
    found = []
    for name, version, words in (("build", 0, ()), ("failed build", 1, ("--keep-failed",))):
        later, new = shop.reference(base, weights_safetensors=version)
        found.append(_build(name, earlier, later, old, new, version, words))
    return found


def _build(
    name: str, earlier: Shop, later: Shop, old: dict[str, Any], new: dict[str, Any], version: int, words: Sequence[str]
) -> Scenario:
    def here(folder: Path) -> Shop:
        return Shop(folder / "work", folder / "cache")

    def set_up(folder: Path) -> None:
        shutil.copytree(later.cache, folder / "cache")
        shutil.copytree(earlier.out, folder / "work" / "out")
        here(folder).fill(weights_safetensors=version)

    def judge(folder: Path, killed: bool) -> str:
        made = here(folder)
        wrong = shop.whole_release(made.out) or shop.damaged(made.cache)
        if wrong or version == 1:
            return wrong
        if not (made.out / "release").exists():
            return "the release is lost"
        found = shop.release_files(made.out)
        return "" if found in (old["release"], new["release"]) else "a release of neither build"

    def judge_again(folder: Path) -> str:
        made = here(folder)
        wrong = shop.whole_release(made.out) or shop.damaged(made.cache) or shop.leftovers(made)
        other = shop.difference(made.built(), new)
        return wrong or (f"the next build is another: {other}" if other else "")

    def do(folder: Path) -> int:
        return here(folder).build(*words).code

    return Scenario(name, set_up, do, judge, judge_again)


KEYS = [hashlib.sha256(bytes([number])).hexdigest() for number in range(4)]


def store_scenario() -> Scenario:
    """The store's own operations: publish, publish over another, publish over half an entry, discard, clear."""
    allowed = {KEYS[0]: (b"first",), KEYS[1]: (b"old", b"new"), KEYS[2]: (b"third",), KEYS[3]: (b"fourth",)}

    def put(store: Store, key: str, text: bytes) -> None:
        with store.lock(key), store.workspace() as out:
            (out / "sub").mkdir()
            (out / "sub" / "a").write_bytes(text)
            (out / "b").write_bytes(text * 2)
            store.publish(key, out, {"text": text.decode()})

    def set_up(folder: Path) -> None:
        store = Store(folder / "cache")
        put(store, KEYS[1], b"old")
        put(store, KEYS[3], b"fourth")
        (store.root / "entries" / KEYS[2][:2] / KEYS[2] / "files").mkdir(parents=True)
        (store.root / "entries" / KEYS[2][:2] / KEYS[2] / "files" / "b").write_bytes(b"half")

    def do(folder: Path) -> int:
        store = Store(folder / "cache")
        put(store, KEYS[0], b"first")
        store.discard(KEYS[1])
        put(store, KEYS[1], b"new")
        put(store, KEYS[2], b"third")
        (store.partial(KEYS[0]) / "epoch").write_text("1", encoding="utf-8")
        store.touch(KEYS[0])
        store.forget_partial(KEYS[0])
        store.clear(keep_bytes=sum(entry.size_bytes for entry in store.summaries()) - 1)
        put(store, KEYS[3], b"fourth")
        return 0

    def judge(folder: Path, killed: bool) -> str:
        wrong = shop.damaged(folder / "cache")
        store = Store(folder / "cache")
        keys = store.keys()
        for key in keys:
            entry = store.get(key) if not wrong else None
            if entry is not None and (entry.files / "sub" / "a").read_bytes() not in allowed[key]:
                return "a wrong byte"
        return wrong

    def judge_again(folder: Path) -> str:
        wrong = judge(folder, False)
        left = [path.name for path in (folder / "cache" / "v1" / "tmp").iterdir()]
        return wrong or (f"leftovers: {', '.join(left)}" if left else "")

    return Scenario("store", set_up, do, judge, judge_again)


def prepare(base: Path) -> Callable[[int, random.Random, Path], Trial]:
    # No trial needs the toolchain, and a process without it is forked in no time.
    for version in (0, 1, 2):
        shop.reference_apart(base, weights_safetensors=version)
    return Lines(base, [store_scenario(), *builds(base)])


STORM = Storm("lines", "killed and interrupted at every executed line of store and release", 0, 60, prepare)
