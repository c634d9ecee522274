"""Walks a plan: reuse what is stored, run the rest, each stage in a process of its own.

Steps that do not depend on each other run side by side, where and how many an engine says (engine.py); a benchmark runs
alone. A step that fails takes down only what needs it. Interrupting stops every stage; whatever was finished is
published and will be reused.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from pocketforge import events
from pocketforge.errors import DamagedEntry, PocketforgeError, StageFailed, StoreError
from pocketforge.outcomes import files
from pocketforge.outcomes.files import Kind
from pocketforge.outcomes.verify import Verdict
from pocketforge.plan.steps import Plan, Step
from pocketforge.records import StepRecord
from pocketforge.run.build_inputs import BuildInputs
from pocketforge.run.engine import Start, Work, local
from pocketforge.run.fingerprints import Fingerprints
from pocketforge.run.made import made
from pocketforge.run.remote import NoRemote, Remote
from pocketforge.run.scratch import own_sockets
from pocketforge.run.store import Entry, Store

# Whoever removes files under a build (rm -r) gets them made again so often.
_TRIES = 3


@dataclass(slots=True)
class Outcome:
    """How every step of a plan ended.

    Attributes:
        entries: Key → result, of steps that did not fail.
        records: Key → how it went, for the report.
        errors: Key → what a step that failed met.
        causes: Key of a step that was skipped → key of the step, failed or rejected, that it hung on.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    records: dict[str, StepRecord] = field(default_factory=dict)
    errors: dict[str, PocketforgeError] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)

    def result(self, key: str, kind: type[Kind]) -> Kind | None:
        """What a step's file of this kind says; None when it has no result. Raises as `outcomes.files.read`."""
        entry = self.entries.get(key)
        return None if entry is None else files.read(entry.files, kind)


def run_plan(
    plan: Plan,
    store: Store,
    *,
    logs: Path,
    jobs: int = 1,
    refresh: bool = False,
    began: float | None = None,
    engine: Start | None = None,
    emit: events.Emit = events.ignore,
    remote: Remote | None = None,
) -> Outcome:
    """Run what is not stored. Raises KeyboardInterrupt on ^C, after every stage was stopped.

    jobs: steps at a time, on this machine. engine: where they run instead. refresh: run every step again, also those
    that are stored. logs: a folder for the output of stages, one file each. began: the monotonic time that steps'
    offsets are from; without it, now. remote: a store that is asked before a step is run, and gets what was made.
    """
    own_sockets()
    began = time.monotonic() if began is None else began
    for tried in range(_TRIES):
        # Again: what the first try ran anew is not run a second time.
        again = refresh and not tried
        outcome = _Run(plan, store, logs, engine or local(jobs), again, began, emit, remote or NoRemote()).run()
        gone = [step.name for step in plan.steps if step.key in outcome.entries and not store.has(step.key)]
        if not gone:
            return outcome
        emit(events.Warned(f"gone from the cache while they were in use, and made again: {', '.join(gone)}"))
    raise StoreError(f"stored results vanish again and again from {store.root}", "who else removes files there?")


class _Run:
    """One walk: which steps are reused, which may start, how each ended. Making a result is the engine's."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        logs: Path,
        start: Start,
        refresh: bool,
        began: float,
        emit: events.Emit,
        remote: Remote,
    ) -> None:
        self.plan = plan
        self._remote = remote
        self.store = store
        self.logs = logs
        self._start = start
        self.began = began
        self.outcome = Outcome()
        self._refresh = {s.key for s in plan.steps} if refresh else set()
        # Neither this nor the engine knows this object: it goes with its last reference, and with it the store's hold
        # on entries.
        self.emit = events.one_at_a_time(emit)
        self._told: set[str] = set()  # steps whose stored results are of other files

    def run(self) -> Outcome:
        entries = self.outcome.entries
        with Fingerprints(self.store.root) as memory:
            self._inputs = BuildInputs(self.plan, self.store, entries, memory)
            self._engine = self._start(
                Work(self.plan, self.store, self._inputs, entries, self._refresh, self._told, self.emit)
            )
            try:
                return self._walk()
            finally:
                self._engine.close()

    def _walk(self) -> Outcome:
        waiting = self._reuse_stored()
        self.emit(events.BuildStarted(len(self.plan.steps), len(self.plan.steps) - len(waiting)))
        if not waiting:
            return self.outcome
        if self.store.read_only:
            self.emit(events.Warned(f"{self.store.read_only}; what this run makes is gone when it ends"))
        running: dict[Future[None], Step] = {}
        with ThreadPoolExecutor(self._engine.most_at_a_time, thread_name_prefix="stage") as pool:
            try:
                while waiting or running:
                    for step in self._startable(waiting, running):
                        waiting.remove(step)
                        running[pool.submit(self._run_step, step)] = step
                    if not running:
                        continue  # everything left was skipped
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        del running[future]
                        future.result()
            except BaseException:
                self._engine.stop()
                raise
        return self.outcome

    def _reuse_stored(self) -> list[Step]:
        """Take every stored result; return the steps to run."""
        waiting = []
        for step in self.plan.steps:
            entry = None if step.key in self._refresh else self._stored(step)
            if entry is None:
                waiting.append(step)
            else:
                self._reused(step, entry)
        return waiting

    def _stored(self, step: Step) -> Entry | None:
        """The step's stored result, if it is one of what there is now (reuse.py)."""
        if any(key not in self.outcome.entries for key in step.needs.values()):
            return None
        try:
            entry = self.store.get(step.key)
            changed = self._inputs.difference(step, entry) if entry else None
            if changed and step.key not in self._told:
                self._told.add(step.key)
                self.emit(events.Warned(f"{step.name}: {changed}, which its code reads, is another now; it runs again"))
            return entry if changed is None else None
        except DamagedEntry as damage:
            self.emit(events.Warned(f"{step.name}: {damage.message}; it is made again"))
            self.store.discard(step.key)
            return None

    def _fetched(self, step: Step) -> Entry | None:
        """The same of a remote store, from which it comes into this one."""

        def is_of_now(entry: Entry) -> bool:
            return self._inputs.difference(step, entry) is None

        there = self._remote.fetch(step, self.store, is_of_now, self._engine.stopping)
        return self._stored(step) if there else None

    def _reused(self, step: Step, entry: Entry) -> None:
        self.store.touch(step.key)
        # The record first: a step whose entry is there counts as passed unless its record says otherwise.
        about = made(entry)
        self.outcome.records[step.key] = StepRecord(
            step.stage,
            step.lane,
            step.key,
            "reused",
            about.wall_s,
            _rejection(entry),
            peak_rss_bytes=about.peak_rss_bytes,
            cpu_s=about.cpu_s,
        )
        self.outcome.entries[step.key] = entry
        self.emit(events.StepReused(step.stage, step.lane, step.key))

    def _startable(self, waiting: list[Step], running: Mapping[Future[None], Step]) -> list[Step]:
        """Steps whose needs are there and that have a place to run. Steps that cannot run any more are skipped."""
        ready = []
        for step in list(waiting):
            blocked = [k for k in step.needs.values() if self._cannot_give(k)]
            # A benchmark that two targets share is worth running when one of them passed its verify.
            if step.after and all(self._cannot_give(k) for k in step.after):
                blocked += step.after
            if blocked:
                self._skip(step, self.plan.step(blocked[0]))
                waiting.remove(step)
            elif all(k in self.outcome.entries for k in step.needs.values()) and all(
                k in self.outcome.records for k in step.after
            ):
                ready.append(step)
        return self._engine.startable(ready, running.values())

    def _cannot_give(self, key: str) -> bool:
        record = self.outcome.records.get(key)
        return record is not None and (record.status in ("failed", "skipped", "rejected") or bool(record.message))

    def _skip(self, step: Step, cause: Step) -> None:
        because = f"{cause.name} {'was skipped' if self.outcome.records[cause.key].status == 'skipped' else 'failed'}"
        self.outcome.records[step.key] = StepRecord(step.stage, step.lane, step.key, "skipped", message=because)
        self.outcome.causes[step.key] = self.outcome.causes.get(cause.key, cause.key)
        self.emit(events.StepSkipped(step.stage, step.lane, step.key, because))

    def _run_step(self, step: Step) -> None:
        started = time.monotonic()
        # With the key: a lane has several steps of one stage (a benchmark on each device, a second finetune).
        log = self.logs / f"{step.stage}-{step.lane[:160]}-{step.key[:8]}.log".replace("/", "_")
        try:
            with self.store.lock(step.key, self._engine.stopping):
                # Another build may have made it while we waited for the lock.
                entry = None if step.key in self._refresh else self._stored(step) or self._fetched(step)
                if entry is not None:
                    self._reused(step, entry)
                    return
                with self._engine.alone(step):
                    entry = self._engine.make(step, log, started)
        except PocketforgeError as error:
            if self._engine.stopping():
                return
            if isinstance(error, StageFailed) and not error.log:
                error.stage, error.lane, error.log = step.stage, step.lane, str(log)
            self.outcome.errors[step.key] = error
            wall_s = time.monotonic() - started
            began_s, ended_s = self._when(started)
            self.outcome.records[step.key] = StepRecord(
                step.stage,
                step.lane,
                step.key,
                "failed",
                wall_s,
                error.message,
                str(log),
                began_s=began_s,
                ended_s=ended_s,
            )
            self.emit(events.StepFailed(step.stage, step.lane, step.key, error.message, str(log)))
            return
        # As it is stored: a build that reuses the result says the same.
        about = made(entry)
        rejection = _rejection(entry)
        self.outcome.records[step.key] = StepRecord(
            step.stage,
            step.lane,
            step.key,
            "rejected" if rejection else "run",
            about.wall_s,
            rejection,
            str(log),
            about.peak_rss_bytes,
            about.cpu_s,
            *self._when(started),
        )
        self.outcome.entries[step.key] = entry
        self.emit(events.StepFinished(step.stage, step.lane, step.key, about.wall_s))
        self._remote.publish(step, entry)

    def _when(self, started: float) -> tuple[float, float]:
        """From when to when a step ran that ends now, waiting for its turn included, from the build's beginning."""
        return round(started - self.began, 3), round(time.monotonic() - self.began, 3)


def _rejection(entry: Entry) -> str:
    """Why a stage's own verdict is no, or nothing when it passed or gives none. What would build on it is not run."""
    if Verdict.FILE not in entry.hashes:
        return ""
    verdict = files.read(entry.files, Verdict)
    return "" if verdict.passed else "; ".join(verdict.reasons)
