"""A worker's side of a build: it runs one step at a time over its own store, in a process of its own.

Its methods are what a build may ask of a worker (docs/cluster.md): nothing here gives or takes a file outside its
folders. Dask calls them through `ask` and `run`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pocketforge import events
from pocketforge.errors import DamagedEntry, PocketforgeError, StageFailed
from pocketforge.plan.steps import Plan, Step
from pocketforge.run import stage_server, worker
from pocketforge.run.build_inputs import BuildInputs
from pocketforge.run.cluster import offers, transfer
from pocketforge.run.cluster.limits import Limits, Watchdog
from pocketforge.run.cluster.mirror import Mirrors
from pocketforge.run.cluster.wire import PIECE_BYTES, Answer, Piece, Task
from pocketforge.run.engine import alone_on_machine
from pocketforge.run.fingerprints import Fingerprints
from pocketforge.run.inputs import Watch
from pocketforge.run.made import MadeOf
from pocketforge.run.make import Maker
from pocketforge.run.opened import read_notes
from pocketforge.run.processes import Processes
from pocketforge.run.store import Entry, Store

# Of a log, what a build is sent of it.
_LOG_BYTES = 8 << 20
# Files of a build that went away in the middle of sending them are kept so long.
_ARRIVES_S = 6 * 3600
Say = Callable[[Mapping[str, object]], None]


@dataclass(frozen=True, slots=True)
class Signals:
    """Between a running step and what carries it.

    Attributes:
        say: Sends the build a word: the stage's process, its progress.
        given_up: Whether nobody waits for the result any more.
    """

    say: Say
    given_up: Callable[[], bool]


class _NotedInputs(BuildInputs):
    """Keeps what the user's code asked for in vain, of a stage that failed too."""

    asked_after: tuple[str, ...] = ()

    def read_by(self, step: Step, watch: Watch, notes: Path, error: PocketforgeError | None = None) -> MadeOf:
        absent = [note.path for note in read_notes(notes).asked.values() if note.kind == "absent"]
        self.asked_after = tuple(absent)
        return super().read_by(step, watch, notes, error)


class Node:
    """offer: what it says of itself. root: its store and its mirrors of users' files. keep_bytes: of results, the
    least recently used of which go; None keeps all. phones: those connected to it, as its builds know phones."""

    current: ClassVar[Node | None] = None

    def __init__(
        self,
        offer: offers.Offer,
        root: Path,
        limits: Limits,
        keep_bytes: int | None = None,
        phones: Sequence[object] = (),
    ) -> None:
        self.offer, self._limits, self._keep_bytes, self._phones = offer, limits, keep_bytes, list(phones)
        self.store = Store(root)
        self._mirrors = Mirrors(root.resolve() / "mirrors")  # beside the store: what stages open in that is not noted
        self._receiving: dict[str, contextlib.ExitStack] = {}
        self._folders: dict[str, Path] = {}
        self._since: dict[str, float] = {}
        self._server = contextlib.ExitStack()
        self._preloaded: set[str] = set()
        self._running: Processes | None = None
        self._lock = threading.Lock()

    # What a build asks.

    def told_offer(self) -> str:
        return offers.to_text(self.offer)

    def told_phones(self) -> list[object]:
        return self._phones

    def lacks(self, needs: Mapping[str, Mapping[str, str]], mirror: str) -> tuple[list[str], bool]:
        """Keys of results that are to be sent, and whether the user's files are. Asked before each step: what too many
        results leave no room for goes now, and nothing between a step and the fetching of what came of it."""
        if self._keep_bytes is not None:
            with contextlib.suppress(PocketforgeError):
                self.store.clear(keep_bytes=self._keep_bytes)
        return [key for key in needs if self._has(key, needs[key]) is None], bool(mirror) and not self._is_whole(mirror)

    def begin(self, token: str, *, mirror: bool) -> None:
        """Files will come, of a result or of a mirror. token: the sender's, which no other has."""
        for old, since in list(self._since.items()):
            if time.monotonic() - since > _ARRIVES_S:
                self._forget(old)
        stack = contextlib.ExitStack()
        folder = self._mirrors.arriving(token) if mirror else stack.enter_context(self.store.workspace())
        with self._lock:
            self._receiving[token], self._folders[token], self._since[token] = stack, folder, time.monotonic()

    def take(self, token: str, parts: Sequence[Piece]) -> None:
        transfer.write(self._folders[token], parts)

    def finish(self, token: str, what: str, meta: Mapping[str, object] | None, hashes: Mapping[str, str]) -> None:
        """All files came. what: a result's key, or the name of a mirror, which has no meta and whose files are verified
        by the step."""
        try:
            if meta is None:
                self._mirrors.finish(token, what)
            else:
                transfer.publish(self.store, what, self._folders[token], meta, hashes)
        finally:
            self._forget(token)

    def give(self, key: str, name: str, offset: int) -> bytes:
        """A piece of a result's file; empty behind its end."""
        entry = self.store.peek(key)
        if entry is None or name not in entry.hashes:
            raise StageFailed(f"the worker has no {name} of result {key[:12]} any more", "build again")
        with (entry.files / name).open("rb") as file:
            file.seek(offset)
            return file.read(PIECE_BYTES)

    def run(self, content: bytes, signals: Signals) -> Answer:
        """Run a step to its end; what it met is in the answer."""
        task: Task = pickle.loads(content)  # noqa: S301 - from a build with our certificate, over Dask's own connection
        with tempfile.TemporaryDirectory(prefix="pocketforge-step-") as folder:
            log = Path(folder, "logs", "log")
            try:
                with Fingerprints(self.store.root) as memory:
                    answer = self._made(task, log, signals, memory)
            except PocketforgeError as error:
                answer = Answer(error)
            except OSError as error:
                answer = Answer(worker.explain(error, self.store.root))
            logged = _small_files(log.with_suffix(""))
            return self._as_called_there(dataclasses.replace(answer, log=_tail(log), logged=logged), task)

    def end_step(self) -> None:
        """At once, if one runs."""
        running = self._running
        if running is not None:
            running.stop()

    def stop(self) -> None:
        """End what runs, and what stages come from."""
        self.end_step()
        self._server.close()

    # How it does that.

    def _made(self, task: Task, log: Path, signals: Signals, memory: Fingerprints) -> Answer:
        step = self._mirrors.step(task, memory)
        entries = self._entries(task)
        # Steps that it needs are known here by their keys alone.
        before = tuple(dataclasses.replace(step, stage="an earlier step", key=key) for key in step.needs.values())
        folder = self._mirrors.place(task.mirror, task.folder)
        inputs = _NotedInputs(Plan((*before, step), "", "", ()), self.store, entries, memory, folder)
        processes = Processes(lambda: self._preload(task.preload))
        watchdog = Watchdog(self._limits, processes, signals.given_up)
        maker = Maker(
            self.store,
            inputs,
            processes,
            entries,
            {step.key} if task.refresh else set(),
            lambda event: _tell(event, watchdog, signals.say),
            folder,
        )
        self._running = processes
        try:
            with watchdog, alone_on_machine(step, lambda words: signals.say({"waits": words}), signals.given_up):
                entry = maker.make(step, log, time.monotonic())
        except PocketforgeError as error:
            if watchdog.memory_bytes:
                return Answer(error, little_memory=watchdog.memory_bytes)
            return Answer(watchdog.verdict or error, asked_after=inputs.asked_after)
        finally:
            self._running = None
        sizes = sum(path.stat().st_size for path in transfer.files_of(entry).values())
        small = None
        if sizes <= PIECE_BYTES:
            small = tuple(part for batch in transfer.pieces(transfer.files_of(entry)) for part in batch)
        return Answer(None, meta=entry.meta, hashes=entry.hashes, pieces=small)

    def _entries(self, task: Task) -> dict[str, Entry]:
        entries = {key: self._has(key, hashes) for key, hashes in task.needs.items()}
        gone = [key for key, entry in entries.items() if entry is None]
        if gone:
            raise StageFailed(f"the worker lost the earlier result {gone[0][:12]}", "build again")
        return {key: entry for key, entry in entries.items() if entry is not None}

    def _as_called_there(self, answer: Answer, task: Task) -> Answer:
        """With the user's files called as they are at the build."""
        ours = str(self._mirrors.folder(task.mirror))
        if answer.error is not None:
            answer.error.message = answer.error.message.replace(ours, "")
            answer.error.hint = answer.error.hint.replace(ours, "")
        log = answer.log.replace(os.fsencode(ours), b"")
        return dataclasses.replace(answer, log=log, asked_after=tuple(p.removeprefix(ours) for p in answer.asked_after))

    def _preload(self, modules: Sequence[str]) -> Sequence[str]:
        """A server that was started for other steps is left for one that has imported what these need, too."""
        if not self._preloaded.issuperset(modules):
            self._server.close()
            self._preloaded.update(modules)
            self._server.enter_context(stage_server.current().in_use())
        return sorted(self._preloaded, key=[*modules, *sorted(self._preloaded)].index)

    def _has(self, key: str, hashes: Mapping[str, str]) -> Entry | None:
        try:
            entry = self.store.get(key)
        except DamagedEntry:
            self.store.discard(key)
            return None
        return entry if entry is not None and entry.hashes == dict(hashes) else None

    def _is_whole(self, mirror: str) -> bool:
        return self._mirrors.is_whole(mirror)

    def _forget(self, token: str) -> None:
        with self._lock:
            stack = self._receiving.pop(token, None)
            self._folders.pop(token, None)
            self._since.pop(token, None)
        if stack is not None:
            stack.close()


def _tell(event: events.Event, watchdog: Watchdog, say: Say) -> None:
    if isinstance(event, events.StepStarted):
        watchdog.pid = event.pid
        say({"pid": event.pid})
    elif isinstance(event, events.StepProgress):
        say({"fraction": event.fraction, "text": event.message})
    elif isinstance(event, events.Warned):
        say({"warned": event.message})


def _tail(log: Path) -> bytes:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_BYTES))
            return file.read()
    except OSError:
        return b""


def _small_files(folder: Path) -> dict[str, bytes]:
    """What a resumable stage keeps for readers (curves of a training)."""
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    if sum(path.stat().st_size for path in files) > _LOG_BYTES:
        return {}
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
