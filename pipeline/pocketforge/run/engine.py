"""Where the steps of a build run. The walk (walk.py) decides which are due; an engine has the places.

Here is the interface, and the engine of one machine: each stage in a process of its own, so many at a time. The engine
of many machines is in cluster/.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pocketforge import events
from pocketforge.plan.steps import Plan, Step
from pocketforge.run.build_inputs import BuildInputs
from pocketforge.run.locks import HOST_BENCHMARK, hold_of_machine
from pocketforge.run.make import Maker
from pocketforge.run.processes import Processes
from pocketforge.run.store import Entry, Store


@dataclass(frozen=True, slots=True)
class Work:
    """What an engine knows of a build.

    Attributes:
        plan: All of its steps.
        store: Where results are published, whichever machine made them.
        inputs: Watches the user's files, and what the steps of this build find in them.
        entries: The results so far, by key.
        refresh: Keys of steps that run although they are stored.
        again: Further keys of such steps: what their results were made of is another now.
        emit: Gets the build's events.
    """

    plan: Plan
    store: Store
    inputs: BuildInputs
    entries: Mapping[str, Entry]
    refresh: Collection[str]
    again: Collection[str]
    emit: events.Emit


class Engine(Protocol):
    """Makes results of the steps of one build. Its methods are called from the walk's threads, one for each step."""

    @property
    def most_at_a_time(self) -> int:
        """How many steps may be given to it at a time."""

    def startable(self, ready: Sequence[Step], running: Collection[Step]) -> list[Step]:
        """Of the steps that are ready, in the plan's order, those to start now beside those that run."""

    def alone(self, step: Step) -> contextlib.AbstractContextManager[None]:
        """Holds what only one step at a time may have, for as long as the step is made."""

    def make(self, step: Step, log: Path, started: float) -> Entry:
        """The step's result, published in the build's store. Raises PocketforgeError for a step that failed.

        log: gets what the stage prints. started: the monotonic time from which the step counts.
        """

    def stopping(self) -> bool:
        """Whether the build is being stopped: what steps meet then is no failure of theirs."""

    def stop(self) -> None:
        """End all that it started, wherever that runs; start no more."""

    def close(self) -> None:
        """The build is over."""


# Makes the engine of one build.
Start = Callable[[Work], Engine]


def local(jobs: int) -> Start:
    """Steps run on this machine, `jobs` at a time."""
    return functools.partial(_Local, jobs=max(jobs, 1))


class _Local:
    def __init__(self, work: Work, *, jobs: int) -> None:
        self.most_at_a_time = jobs
        self._emit = work.emit
        again = (work.refresh, work.again)
        self._processes = Processes(functools.partial(_preload, work.plan, work.entries, work.store, again))
        self._maker = Maker(work.store, work.inputs, self._processes, work.entries, work.refresh, work.emit)

    def startable(self, ready: Sequence[Step], running: Collection[Step]) -> list[Step]:
        if any(s.exclusive for s in running):
            return []
        free = one_at_each_place(ready, running)
        shared = [s for s in free if not s.exclusive]
        if shared or running:
            # Benchmarks wait until nothing else is left to run beside them.
            return shared[: self.most_at_a_time - len(running)]
        return free[:1]

    @contextlib.contextmanager
    def alone(self, step: Step) -> Iterator[None]:
        with alone_on_machine(step, lambda words: self._emit(events.Waiting(words)), self.stopping):
            yield

    def make(self, step: Step, log: Path, started: float) -> Entry:
        return self._maker.make(step, log, started)

    def stopping(self) -> bool:
        return self._processes.stopping.is_set()

    def stop(self) -> None:
        while True:
            try:
                return self._processes.stop()
            except KeyboardInterrupt:  # said twice: no process is left all the same
                continue

    def close(self) -> None:
        """Nothing is left: each stage ended before its step did."""


@contextlib.contextmanager
def alone_on_machine(step: Step, say: Callable[[str], None], give_up: Callable[[], bool]) -> Iterator[None]:
    """Benchmarks on one machine take turns, whatever their builds' caches, and so do steps on one phone.

    say: told what is waited for. give_up: asked while waiting.
    """
    what = HOST_BENCHMARK if step.exclusive else step.place
    if not what:
        yield
        return

    def waits(holder: str) -> None:
        say(f"{step.name}: {holder} is at work there, and a measurement is made alone")

    with hold_of_machine(what, waits, give_up=give_up):
        yield


def _preload(plan: Plan, entries: Mapping[str, Entry], store: Store, again: Iterable[Collection[str]]) -> Sequence[str]:
    """What the steps still to run import, each module once, in the steps' order.

    Not what those import whose results lie in the store and wait only for one before them that is made again. Should
    such a result turn out to be damaged, its stage imports what it needs for itself. again: steps that run although
    they are stored.
    """
    rerun = {key for keys in again for key in keys}
    pending = [s for s in plan.steps if s.key not in entries and (s.key in rerun or not store.has(s.key))]
    return list(dict.fromkeys(name for step in pending for name in step.preload))


def one_at_each_place(ready: Iterable[Step], running: Iterable[Step]) -> list[Step]:
    """Without those that wait for their place (a phone): they would only hold a worker."""
    busy = {step.place for step in running}
    free = []
    for step in ready:
        if step.place and step.place in busy:
            continue
        busy.add(step.place)
        free.append(step)
    return free
