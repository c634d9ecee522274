"""Builds killed and interrupted at random moments, then built again: the files, the store and the folders are right."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from release_build import SOURCES

from pocketforge.cli.main import main
from storm import shop
from storm.commands import forked_stages
from storm.harness import Storm, Trial
from storm.programs import Ended, adopt_orphans, descendants, orphans_left, start, wait
from storm.shop import Shop

# QUIT, HUP and KILL end a build as they find it; it answers the other two.
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
STAGES = ("data", "reference", "export", "verify", "bench")
# About how long a build goes on, with so many of its stages stored. On a busy machine it takes longer.
SECONDS_LEFT = (2.5, 2.4, 2.2, 0.8, 0.45, 0.03)
# Each so many trials one is a program with a fork server of its own: it imports the toolchain for 8 s.
PROGRAM_EACH, PROGRAM_S = 15, 12.0
PATIENCE_S = 10.0


class Kills:
    def __init__(self, base: Path) -> None:
        self._earlier, self._old = shop.reference(base, weights_safetensors=2)
        self._later, self._new = shop.reference(base)
        self._keys = self._stage_keys()

    def _stage_keys(self) -> dict[str, str]:
        report = json.loads((self._later.out / "report.json").read_text(encoding="utf-8"))
        return {step["stage"]: step["key"] for step in report["steps"]}

    def __call__(self, number: int, rng: random.Random, folder: Path) -> Trial:
        adopt_orphans()
        made = Shop(folder / "work", folder / "cache").fill()
        scratch = folder / "scratch"
        scratch.mkdir()
        kept = rng.randrange(len(STAGES) + 1)
        with_old = rng.random() < 0.7
        is_program = number % PROGRAM_EACH == PROGRAM_EACH - 1
        sent, whom = rng.choice(SIGNALS), rng.choice(("build", "build", "group", "stage"))
        if whom == "stage" and sent in (signal.SIGINT, signal.SIGTERM):
            sent = signal.SIGKILL  # a fork of ours has our handlers until its stage begins
        moment = rng.random()
        what = "a program" if is_program else "a build"
        kind = f"{sent.name} to {whom} of {what}, {kept} stages stored{', over a release' if with_old else ''}"
        seconds = PROGRAM_S if is_program else SECONDS_LEFT[kept]
        for _ in range(3):  # sooner, where it came too late
            self._lay_out(made, kept, with_old)
            begin = _program if is_program else _fork
            hit, ended = _killed(begin(made, scratch), sent, whom, moment * seconds, folder / "said")
            if hit:
                break
            seconds /= 2
        note = (
            f"{kind}; after {moment * seconds:.3f} s, {'hit' if hit else 'too late'}: {ended.code}\n{ended.said[-300:]}"
        )
        wrong = self._judge(made, ended, sent, whom, with_old, hit) or self._judge_again(made, scratch)
        return Trial(f"{sent.name} to {whom}", wrong, note)

    def _lay_out(self, made: Shop, kept: int, with_old: bool) -> None:
        """A cache in which the first `kept` stages are stored, and what an earlier build left."""
        for place in (made.cache, made.out):
            shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._later.cache, made.cache)
        for stage in STAGES[kept:]:
            key = self._keys[stage]
            shutil.rmtree(made.cache / "v1" / "entries" / key[:2] / key)
        if with_old:
            shutil.copytree(self._earlier.out, made.out)

    def _judge(self, made: Shop, ended: Ended, sent: signal.Signals, whom: str, with_old: bool, hit: bool) -> str:
        if left := orphans_left(PATIENCE_S):
            return f"still running after {PATIENCE_S:.0f} s: {len(left)} processes"
        if "Traceback" in ended.said:
            return f"traceback: {ended.said.strip().splitlines()[-1]}"
        if hit and whom == "build":
            answered = sent in (signal.SIGINT, signal.SIGTERM)
            # One that comes after the last line of the build changes nothing any more.
            if ended.code not in ((130, 0) if answered else (-sent, 0)):
                return f"exit code {ended.code} after {sent.name}"
        if hit and whom == "stage" and ended.code not in (0, 3):
            return f"exit code {ended.code} after {sent.name} to a stage"
        wrong = shop.whole_release(made.out) or shop.damaged(made.cache)
        if wrong or not made.out.exists():
            return wrong
        if with_old and whom != "stage":
            if not (made.out / "release").exists():
                return "the release is lost"
            if shop.release_files(made.out) not in (self._old["release"], self._new["release"]):
                return "a release of neither build"
        return ""

    def _judge_again(self, made: Shop, scratch: Path) -> str:
        said = scratch.with_name("said again")
        next_one = wait(_fork(made, scratch)(said), said)  # hangs where a lock is stuck, and the harness says so
        if next_one.code != 0:
            return f"the next build ends with {next_one.code}: {next_one.said.strip()[-150:]}"
        if other := shop.difference(made.built(), self._new):
            return f"the next build is another: {other}"
        wrong = shop.whole_release(made.out) or shop.damaged(made.cache)
        return wrong or shop.leftovers(made, scratch.iterdir())


def _fork(made: Shop, scratch: Path) -> Callable[[Path], int]:
    def do() -> int:
        os.environ.update(POCKETFORGE_CACHE_DIR=str(made.cache), TMPDIR=str(scratch))
        tempfile.tempdir = None
        os.chdir(made.folder)
        with forked_stages():
            return main(["build", "recipe.toml", "--out", "out"])

    return lambda said: start(do, said)


def _program(made: Shop, scratch: Path) -> Callable[[Path], int]:
    environment = {
        **os.environ,
        "POCKETFORGE_CACHE_DIR": str(made.cache),
        "PYTHONPATH": SOURCES,
        "TMPDIR": str(scratch),
    }

    def do() -> int:
        os.chdir(made.folder)
        words = ("-m", "pocketforge", "build", "recipe.toml", "--out", "out")
        os.execve(sys.executable, [sys.executable, *words], environment)

    return lambda said: start(do, said)


def _killed(
    begin: Callable[[Path], int], sent: signal.Signals, whom: str, after_s: float, said: Path
) -> tuple[bool, Ended]:
    """Whether the signal came before the build's end, and how that was."""
    build = begin(said)
    time.sleep(after_s)
    hit = _stat(build) != "Z"
    targets: list[int] = [build]
    if whom == "stage":
        targets = sorted(descendants(build))[-1:] or [build]  # the youngest: before it are a program's servers
    with contextlib.suppress(ProcessLookupError):
        if whom == "group" and hit:
            os.killpg(build, sent)
        else:
            os.kill(targets[0], sent)
    return hit and (whom != "stage" or targets[0] != build), wait(build, said)


def _stat(pid: int) -> Any:
    """The state of a process, as the kernel abbreviates it."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]


def prepare(base: Path) -> Callable[[int, random.Random, Path], Trial]:
    shop.import_toolchain()
    return Kills(base)


STORM = Storm("kills", "builds killed and interrupted at random moments, then built again", 150, 240, prepare)
