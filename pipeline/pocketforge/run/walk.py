"""Walks a plan: reuse what is stored, run the rest, each stage in a process of its own.

Steps that do not depend on each other run side by side (`jobs`); a benchmark runs alone. A step that fails takes
down only what needs it. Interrupting stops every stage; whatever was finished is published and will be reused.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketforge import events
from pocketforge.errors import ChangedInput, DamagedEntry, PocketforgeError, StageFailed, StoreError, describe_exit
from pocketforge.plan.steps import Plan, Step, spec_json
from pocketforge.records import StepRecord
from pocketforge.registries import STAGES
from pocketforge.run import worker
from pocketforge.run.build_inputs import BuildInputs
from pocketforge.run.fingerprints import Fingerprints
from pocketforge.run.inputs import Watch
from pocketforge.run.locks import HOST_BENCHMARK, hold_of_machine
from pocketforge.run.opened import NOTES
from pocketforge.run.scratch import own_tmpdir, scratch
from pocketforge.run.store import Entry, Store

if TYPE_CHECKING:
    from pocketforge.outcomes.files import Kind

# A stage that measured something wrong says so in this file of its result ({"passed": …, "reasons": […]});
# what would build on it is then not run.
VERDICT_FILE = "verdict.json"
# A step at work on a phone is told to end, and has so long to put the phone back as it was.
_CLEAN_UP_S = 30.0
# Whoever removes files under a build (rm -r) gets them made again so often.
_TRIES = 3


@dataclass(slots=True)
class Outcome:
    """How every step of a plan ended. `entries` holds the results of those that did not fail."""

    entries: dict[str, Entry] = field(default_factory=dict)
    records: dict[str, StepRecord] = field(default_factory=dict)
    errors: dict[str, PocketforgeError] = field(default_factory=dict)

    def result(self, key: str, kind: type[Kind]) -> Kind | None:
        """What a step's file of this kind says; None when it has no result. Raises as `outcomes.files.read`."""
        from pocketforge.outcomes import files  # cattrs: a plan alone needs none

        entry = self.entries.get(key)
        return None if entry is None else files.read(entry.files, kind)

    def read(self, key: str, name: str) -> dict[str, Any] | None:
        """What a step wrote into one of its JSON files; None when it has no result."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        found: dict[str, Any] = json.loads((entry.files / name).read_text(encoding="utf-8"))
        return found


def run_plan(
    plan: Plan,
    store: Store,
    *,
    logs: Path,
    jobs: int = 1,
    refresh: bool = False,
    emit: events.Emit = events.ignore,
) -> Outcome:
    """Run what is not stored. Raises KeyboardInterrupt on ^C, after every stage was stopped.

    jobs: steps at a time. refresh: run every step again, also those that are stored. logs: a folder for the
    output of stages, one file each.
    """
    for tried in range(_TRIES):
        # Again: what the first try ran anew is not run a second time.
        with own_tmpdir():
            outcome = _Run(plan, store, logs, max(jobs, 1), refresh and not tried, emit).run()
        gone = [step.name for step in plan.steps if step.key in outcome.entries and not store.has(step.key)]
        if not gone:
            return outcome
        emit(events.Warned(f"gone from the cache while they were in use, and made again: {', '.join(gone)}"))
    raise StoreError(f"stored results vanish again and again from {store.root}", "who else removes files there?")


class _Run:
    def __init__(self, plan: Plan, store: Store, logs: Path, jobs: int, refresh: bool, emit: events.Emit) -> None:
        self.plan = plan
        self.store = store
        self.logs = logs
        self.jobs = jobs
        self.outcome = Outcome()
        self._refresh = {s.key for s in plan.steps} if refresh else set()
        self._emit_event = emit
        self._emit_lock = threading.Lock()
        self._children: dict[int, Any] = {}
        self._away: set[int] = set()  # of these, those that work on a phone
        self._stopping = threading.Event()
        self._context: Any = None
        self._context_lock = threading.Lock()
        self._told: set[str] = set()  # steps whose stored results are of other files

    def emit(self, event: events.Event) -> None:
        with self._emit_lock:
            self._emit_event(event)

    def run(self) -> Outcome:
        with Fingerprints(self.store.root) as memory:
            self._inputs = BuildInputs(self.plan, self.store, self.outcome.entries, memory)
            return self._walk()

    def _walk(self) -> Outcome:
        waiting = self._reuse_stored()
        self.emit(events.BuildStarted(len(self.plan.steps), len(self.plan.steps) - len(waiting)))
        if not waiting:
            return self.outcome
        if self.store.read_only:
            self.emit(events.Warned(f"{self.store.read_only}; what this run makes is gone when it ends"))
        running: dict[Future[None], Step] = {}
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="stage") as pool:
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
                self._stop()
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

    def _reused(self, step: Step, entry: Entry) -> None:
        self.store.touch(step.key)
        # The record first: a step whose entry is there counts as passed unless its record says otherwise.
        wall_s, peak_rss_bytes = float(entry.meta.get("wall_s", 0.0)), int(entry.meta.get("peak_rss_bytes", 0))
        self.outcome.records[step.key] = StepRecord(
            step.stage, step.lane, step.key, "reused", wall_s, _rejection(entry), peak_rss_bytes=peak_rss_bytes
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
        if any(s.exclusive for s in running.values()):
            return []
        ready = one_at_each_place(ready, running.values())
        shared = [s for s in ready if not s.exclusive]
        if shared or running:
            # Benchmarks wait until nothing else is left to run beside them.
            return shared[: self.jobs - len(running)]
        return ready[:1]

    def _cannot_give(self, key: str) -> bool:
        record = self.outcome.records.get(key)
        return record is not None and (record.status in ("failed", "skipped", "rejected") or bool(record.message))

    def _skip(self, step: Step, cause: Step) -> None:
        because = f"{cause.name} {'was skipped' if self.outcome.records[cause.key].status == 'skipped' else 'failed'}"
        self.outcome.records[step.key] = StepRecord(step.stage, step.lane, step.key, "skipped", message=because)
        self.emit(events.StepSkipped(step.stage, step.lane, step.key, because))

    def _run_step(self, step: Step) -> None:
        started = time.monotonic()
        # With the key: a lane has several steps of one stage (a benchmark on each device, a second finetune).
        log = self.logs / f"{step.stage}-{step.lane[:160]}-{step.key[:8]}.log".replace("/", "_")
        try:
            with self.store.lock(step.key, self._stopping.is_set), self._alone(step):
                # Another build may have made it while we waited for the lock.
                entry = None if step.key in self._refresh else self._stored(step)
                if entry is not None:
                    self._reused(step, entry)
                    return
                entry = self._make(step, log, started)
        except PocketforgeError as error:
            if self._stopping.is_set():
                return
            if isinstance(error, StageFailed) and not error.log:
                error.stage, error.lane, error.log = step.stage, step.lane, str(log)
            self.outcome.errors[step.key] = error
            wall_s = time.monotonic() - started
            self.outcome.records[step.key] = StepRecord(
                step.stage, step.lane, step.key, "failed", wall_s, error.message, str(log)
            )
            self.emit(events.StepFailed(step.stage, step.lane, step.key, error.message, str(log)))
            return
        # As it is stored: a build that reuses the result says the same.
        wall_s = float(entry.meta["wall_s"])
        rejection = _rejection(entry)
        self.outcome.records[step.key] = StepRecord(
            step.stage,
            step.lane,
            step.key,
            "rejected" if rejection else "run",
            wall_s,
            rejection,
            str(log),
            int(entry.meta["peak_rss_bytes"]),
        )
        self.outcome.entries[step.key] = entry
        self.emit(events.StepFinished(step.stage, step.lane, step.key, wall_s))

    @contextlib.contextmanager
    def _alone(self, step: Step) -> Any:
        """Benchmarks on one machine take turns, whatever their builds' caches, and so do steps on one phone."""
        what = HOST_BENCHMARK if step.exclusive else step.place
        if not what:
            yield
            return

        def waits(holder: str) -> None:
            self.emit(events.Waiting(f"{step.name}: {holder} is at work there, and a measurement is made alone"))

        with hold_of_machine(what, waits, give_up=self._stopping.is_set):
            yield

    def _make(self, step: Step, log: Path, started: float) -> Entry:
        inputs = {role: self.outcome.entries[key].files for role, key in step.needs.items()} | dict(step.paths)
        watch = self._inputs.watch(step)
        resumable = STAGES[step.stage].resumable
        if resumable:
            inputs |= {"partial": self._partial(step, watch), "logs": log.with_suffix("")}
        with self.store.workspace() as out:
            notes = inputs["partial"] / NOTES if resumable else out.parent / NOTES
            try:
                try:
                    with _scratch() as temporary:
                        peak_rss_bytes = self._run_process(step, inputs, out, log, temporary, notes)
                except PocketforgeError as error:
                    if not self._stopping.is_set():
                        self._inputs.read_by(step, watch, notes, error)
                    raise
                found = self._inputs.read_by(step, watch, notes)
            except ChangedInput:
                self.store.forget_partial(step.key)
                raise
            notes.unlink(missing_ok=True)
            meta = {
                "stage": step.stage,
                "lane": step.lane,
                "wall_s": round(time.monotonic() - started, 3),
                "peak_rss_bytes": peak_rss_bytes,
                "spec": spec_json(step.spec),
                "inputs": found,
            }
            entry = self.store.publish(step.key, out, meta)
        if resumable:
            self.store.forget_partial(step.key)
        return entry

    def _partial(self, step: Step, watch: Watch) -> Path:
        """The step's half-done work, if it is of the files that there are now; else none."""
        if step.key in self._refresh:
            self.store.forget_partial(step.key)
        elif not self._inputs.may_go_on(step, watch, self.store.partial(step.key)):
            self.emit(events.Warned(f"{step.name} begins anew: a file that it read was touched since it broke off"))
            self.store.forget_partial(step.key)
        folder = self.store.partial(step.key)
        self._inputs.sign(step, watch, folder)
        return folder

    def _run_process(
        self, step: Step, inputs: Mapping[str, Path], out: Path, log: Path, temporary: Path, notes: Path
    ) -> int:
        """Returns the process's peak resident memory in bytes. notes: of what the user's code opens."""
        stage = STAGES[step.stage]
        noted = notes if stage.user_code else None
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            # Here, not in the stage's process: one that is killed at once has its log too.
            log.write_bytes(b"")
        except OSError as error:
            what = f"cannot write the log {log}: {error.strerror}"
            raise StoreError(what, "choose another folder with --out") from None
        with self._context_lock:
            if self._stopping.is_set():
                raise StageFailed("interrupted")
            if self._context is None:
                self._context = worker.context(self._preload())
            ours, theirs = self._context.Pipe(duplex=False)
            process = self._context.Process(
                target=worker.stage_main,
                args=(stage.module, dict(inputs), step.spec, out, log, temporary, theirs, noted, self.store.root),
                name=step.name,
            )
            try:
                worker.start(process)
            except (EOFError, OSError) as error:
                ours.close()
                raise StageFailed(
                    f"the process of {step.name} could not be started: {error or type(error).__name__}",
                    "is the machine out of memory or processes?",
                ) from None
            finally:
                theirs.close()
            self._children[process.pid] = process
            if step.place:
                self._away.add(process.pid)
        self.emit(events.StepStarted(step.stage, step.lane, step.key, process.pid, str(log)))
        outcome: tuple[Any, ...] = ("gone",)
        try:
            while True:
                try:
                    message = ours.recv()
                except (EOFError, OSError):
                    break
                if message[0] == "progress":
                    self.emit(events.StepProgress(step.stage, step.lane, message[1], message[2]))
                else:
                    outcome = message
            process.join()
        finally:
            with self._context_lock:
                self._children.pop(process.pid, None)
            _kill(process)
            ours.close()
        if outcome[0] == "error":
            raise outcome[1]
        if outcome[0] != "done":
            raise StageFailed(
                f"the process of {step.name} ended with {describe_exit(process.exitcode or 0)} before it was done",
                f"its output is in {log}",
            )
        return int(outcome[1])

    def _preload(self) -> Sequence[str]:
        """What the steps still to run import, each module once, in the steps' order."""
        pending = [s for s in self.plan.steps if s.key not in self.outcome.entries]
        return list(dict.fromkeys(name for step in pending for name in step.preload))

    def _stop(self) -> None:
        self._stopping.set()
        # A thread may hold the lock for as long as the fork server imports libraries: end the server first.
        while not self._context_lock.acquire(timeout=0.1):
            worker.kill_fork_server()
        try:
            away = [self._children[pid] for pid in self._away if pid in self._children]
            for process in self._children.values():
                if process not in away:
                    _kill(process)
            for process in away:
                process.terminate()
            deadline = time.monotonic() + _CLEAN_UP_S
            for process in away:
                process.join(max(0.0, deadline - time.monotonic()))
                _kill(process)
        finally:
            self._context_lock.release()


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """What a stage and its libraries have for a TMPDIR: gone when the stage is, however it ended."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch())
        except OSError as error:
            what = f"cannot make a temporary folder in {tempfile.gettempdir()}: {error.strerror}"
            raise StoreError(what, "choose another place with TMPDIR") from None
        yield folder


def _kill(process: Any) -> None:
    """End a stage's process and whatever it started (stages lead a group of their own, once they run)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


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


def _rejection(entry: Entry) -> str:
    """Why a stage's own verdict is no, or nothing when it passed or gives none."""
    if VERDICT_FILE not in entry.hashes:
        return ""
    verdict = json.loads((entry.files / VERDICT_FILE).read_text(encoding="utf-8"))
    return "" if verdict["passed"] else "; ".join(verdict["reasons"])
