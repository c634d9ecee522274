"""One step's result: its stage runs in a process, over the files that the key is of, and what it wrote is published."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pocketforge import events
from pocketforge.errors import ChangedInput, PocketforgeError, StoreError
from pocketforge.plan.steps import Step
from pocketforge.registries import stage_info
from pocketforge.run.build_inputs import BuildInputs
from pocketforge.run.inputs import Watch
from pocketforge.run.made import Made
from pocketforge.run.opened import NOTES
from pocketforge.run.processes import Listener, Processes
from pocketforge.run.scratch import scratch
from pocketforge.run.store import Entry, Store
from pocketforge.run.worker import Job, Used


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes results of steps.

    Attributes:
        store: Where results are published.
        inputs: Watches the user's files, and what the steps of this build find in them.
        processes: Of the build's stages.
        entries: The results so far, by key.
        refresh: Keys whose half-done work is thrown away.
        emit: Gets the build's events.
        folder: The working folder of stages; None for ours.
    """

    store: Store
    inputs: BuildInputs
    processes: Processes
    entries: Mapping[str, Entry]
    refresh: Collection[str]
    emit: events.Emit
    folder: Path | None = None

    def make(self, step: Step, log: Path, started: float) -> Entry:
        """Run the step's stage and publish what it wrote. started: the monotonic time from which the step counts."""
        inputs = {role: self.entries[key].files for role, key in step.needs.items()} | dict(step.paths)
        watch = self.inputs.watch(step)
        resumable = stage_info(step.stage).resumable
        if resumable:
            inputs |= {"partial": self._partial(step, watch), "logs": log.with_suffix("")}
        with self.store.workspace() as out:
            notes = inputs["partial"] / NOTES if resumable else out.parent / NOTES
            try:
                try:
                    with _scratch() as temporary:
                        used = self._run(step, inputs, out, log, temporary, notes)
                except PocketforgeError as error:
                    if not self.processes.stopping.is_set():
                        self.inputs.read_by(step, watch, notes, error)
                    raise
                read = self.inputs.read_by(step, watch, notes)
            except ChangedInput:
                self.store.forget_partial(step.key)
                raise
            notes.unlink(missing_ok=True)
            wall_s = round(time.monotonic() - started, 3)
            about = Made(step.stage, step.lane, wall_s, used.peak_rss_bytes, step.spec.to_json(), read, used.cpu_s)
            entry = self.store.publish(step.key, out, about.to_json())
        if resumable:
            self.store.forget_partial(step.key)
        return entry

    def _partial(self, step: Step, watch: Watch) -> Path:
        """The step's half-done work, if it is of the files that there are now; else none."""
        if step.key in self.refresh:
            self.store.forget_partial(step.key)
        elif not self.inputs.may_go_on(step, watch, self.store.partial(step.key)):
            self.emit(events.Warned(f"{step.name} begins anew: a file that it read was touched since it broke off"))
            self.store.forget_partial(step.key)
        folder = self.store.partial(step.key)
        self.inputs.sign(step, watch, folder)
        return folder

    def _run(self, step: Step, inputs: Mapping[str, Path], out: Path, log: Path, temporary: Path, notes: Path) -> Used:
        """What the stage took. notes: of what the user's code opens."""
        stage = stage_info(step.stage)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            # Here, not in the stage's process: one that is killed at once has its log too.
            log.write_bytes(b"")
        except OSError as error:
            what = f"cannot write the log {log}: {error.strerror}"
            raise StoreError(what, "choose another folder with --out") from None
        noted = notes if stage.user_code else None
        job = Job(stage.module, dict(inputs), step.spec, out, log, temporary, noted, self.store.root, self.folder)
        listener = Listener(
            started=lambda pid: self.emit(events.StepStarted(step.stage, step.lane, step.key, pid, str(log))),
            progress=lambda part, text: self.emit(events.StepProgress(step.stage, step.lane, part, text)),
        )
        return self.processes.run(step.name, job, listener, away=bool(step.place))


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
