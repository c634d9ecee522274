"""Commands in this process, their stages forked from it: what a storm imports once, no trial imports again."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import re
import signal
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from release_build import Done
from warm_server import in_process

from pocketforge.facts import gather, versions
from pocketforge.run import worker

_ASKED = ((versions, "version_of"), (gather, "host_identity"), (gather, "kernels_here"))
# What may stand in a terminal's text besides letters: a line's end, and a tab.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@contextlib.contextmanager
def forked_stages() -> Iterator[None]:
    """Stages are forks of this process, which has imported what they need."""

    def context(preload: Sequence[str]) -> Any:
        return multiprocessing.get_context("fork")

    before, worker.context = worker.context, context
    try:
        yield
    finally:
        worker.context = before


def command(*args: object, cache: Path, cwd: Path, timeout_s: float = 60, env: dict[str, str] | None = None) -> Done:
    """Run `pocketforge ARGS` here. Raises subprocess.TimeoutExpired."""
    return in_process(*args, cache=cache, cwd=cwd, timeout=timeout_s, env=env, stages=forked_stages())


@contextlib.contextmanager
def remembered_machine() -> Iterator[None]:
    """What a plan asks of this machine does not change between trials: versions, processor, kernels. Afterwards they
    are asked for again: a storm may run in a process of other tests."""
    resource_tracker.ensure_running()  # its process is no trial's
    asked = [(module, name, getattr(module, name)) for module, name in _ASKED]
    try:
        for module, name, known in asked:
            setattr(module, name, functools.cache(known))
        yield
    finally:
        for module, name, known in asked:
            setattr(module, name, known)


def badly_said(done: Done, codes: tuple[int, ...] = (0, 2), names: str = "") -> str:
    """What is wrong with how a command ended; nothing when it ended well.

    codes: those that are right. names: what an error has to name.
    """
    said = done.stdout + done.stderr
    if "Traceback (most recent call last)" in said:
        last = [line for line in done.stderr.splitlines() if line and line[0] not in " \t"]
        return f"traceback: {last[-1] if last else ''}"
    if done.code not in codes:
        return f"exit code {done.code}: {_first(done.stderr)}"
    if raw := CONTROLS.search(said):
        return f"raw control character: {raw[0]!r} in {_first(said[max(0, raw.start() - 30) :])!r}"
    if done.code == 0:
        return ""
    if not re.search("^(error|Error): ", done.stderr, re.MULTILINE):
        return f"no error said: exit code {done.code} with {_first(done.stderr)!r}"
    if names and names not in done.stderr:
        return f"the file is not named: {_first(done.stderr)}"
    return ""


def _first(text: str) -> str:
    return (text.strip().splitlines() or [""])[0][:200]


def default_signals() -> None:
    """As a command finds them that a shell starts."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.umask(0o022)
