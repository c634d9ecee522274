"""The engine of several machines: each step goes to a worker that has what it asks, and its result comes back into the
build's own store, verified there as a local one is."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pickle
import threading
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from pocketforge import events
from pocketforge.errors import ChangedInput, DeviceUnavailable, StageFailed, StoreError
from pocketforge.files import explain_os_error, hash_file
from pocketforge.plan.steps import Step
from pocketforge.registries import stage_info
from pocketforge.run.cluster import mirror, transfer
from pocketforge.run.cluster.link import Link, Word
from pocketforge.run.cluster.offers import asked_of
from pocketforge.run.cluster.placement import Node, NodeLost, NodeUnfit, Pool, TooLittleMemory, run_somewhere
from pocketforge.run.cluster.wire import Answer, Piece, Task
from pocketforge.run.engine import Start, Work, one_at_each_place
from pocketforge.run.store import Entry

# Steps that wait for a worker hold a thread each, and nothing else.
_MOST_STEPS = 256
_LOOK_EACH_S = 0.5
# A step is sent again with the files that its code turned out to want; one that wants more each time is not.
_MOST_TIMES = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Here:
    """What a build's machine is, in the words of offers.

    Attributes:
        versions: Those that workers must have.
        facts: Of the machine, which keys hold; of phones, `phone:SERIAL` → identity.
        patience_s: How long a step waits while no worker that is there could run it.
    """

    versions: Mapping[str, str]
    facts: Mapping[str, str]
    patience_s: float = 60.0


def over(link: Link, here: Here) -> Start:
    """Steps run on the workers of a cluster."""
    return functools.partial(_Cluster, link=link, here=here)


class _Cluster:
    most_at_a_time = _MOST_STEPS

    def __init__(self, work: Work, *, link: Link, here: Here) -> None:
        self._work, self._link, self._here = work, link, here
        self._pool = Pool(here.versions, here.patience_s, lambda text: work.emit(events.Warned(text)))
        self._stopping = threading.Event()
        self._over = threading.Event()
        self._gone: StageFailed | None = None  # the scheduler, and why
        self._preload = tuple(dict.fromkeys(name for step in work.plan.steps for name in step.preload))
        self._further: set[Path] = set()  # files that a step's code opened by itself: later steps' may, too
        self._look()
        self._looking = threading.Thread(target=self._look_on, daemon=True, name="cluster")
        self._looking.start()

    # As the walk calls it.

    def startable(self, ready: Sequence[Step], running: Collection[Step]) -> list[Step]:
        return one_at_each_place(ready, running)[: self.most_at_a_time - len(running)]

    def alone(self, step: Step) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()  # the worker that runs it sees to that, on its machine

    def make(self, step: Step, log: Path, started: float) -> Entry:
        _begin_log(log)
        try:
            asked = asked_of(step, self._here.facts)
            run_on = functools.partial(self._make_on, step, log)
            return run_somewhere(self._pool, step.name, asked, run_on, self._is_over)
        except (StageFailed, DeviceUnavailable) as error:
            raise (self._gone or error) from None

    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        self._stopping.set()
        while True:
            try:
                return self._link.stop()
            except KeyboardInterrupt:  # said twice
                continue

    def close(self) -> None:
        self._over.set()
        self._looking.join(timeout=5)

    # Who is there.

    def _is_over(self) -> bool:
        return self._stopping.is_set() or self._gone is not None

    def _look(self) -> None:
        try:
            self._pool.update(self._link.offers())
        except StageFailed as error:
            self._gone = error
            self._pool.update({})

    def _look_on(self) -> None:
        while not self._over.wait(_LOOK_EACH_S) and self._gone is None:
            self._look()

    # One step on one worker.

    def _make_on(self, step: Step, log: Path, node: Node) -> Entry:
        self._work.inputs.watch(step)  # its files are still those of the key
        files = mirror.sent(step.files)
        known = sorted(self._further) if stage_info(step.stage).user_code else []
        further = {path: hash_file(path) for path in _here([*map(str, known)])}
        for _ in range(_MOST_TIMES):
            task = Task(
                dataclasses.replace(step, files={}),
                files,
                dict(further),
                mirror.name_of(files, further),
                Path.cwd(),
                {key: self._work.entries[key].hashes for key in step.needs.values()},
                self._preload,
                step.key in self._work.refresh,
            )
            self._send_what_it_lacks(node, task)
            answer = self._run(step, task, log, node)
            _keep_log(log, answer)
            if isinstance(answer.error, StoreError):
                raise self._unfit(node, answer.error)
            if answer.little_memory:
                raise TooLittleMemory(answer.little_memory)
            changed, wanted = "", _here(answer.asked_after)
            if answer.error is None:
                entry = self._fetched(step, answer, node)
                differs = self._work.inputs.difference(step, entry)
                if differs is None:
                    return entry
                self._work.store.discard(step.key)
                changed, wanted = differs, _here([differs])
            new = {path: hash_file(path) for path in wanted if path not in further}
            if not new and answer.error is not None:
                raise answer.error
            if not new:
                raise StageFailed(
                    f"its code reads {changed or 'what is not the same'} on worker {node.offer.name}, which is another "
                    "there than here",
                    "name it in the recipe, keep it beside the recipe, or build with --engine local",
                )
            further |= new
            self._further.update(new)
        raise StageFailed(
            f"its code wants other files each time it runs: {', '.join(map(str, list(further)[:3]))} …",
            "build with --engine local",
        )

    def _run(self, step: Step, task: Task, log: Path, node: Node) -> Answer:
        def heard(word: Word) -> None:
            emit = self._work.emit
            if "pid" in word:
                emit(events.StepStarted(step.stage, step.lane, step.key, int(word["pid"]), str(log)))
            elif "fraction" in word:
                emit(events.StepProgress(step.stage, step.lane, float(word["fraction"]), str(word["text"])))
            elif "waits" in word:
                emit(events.Waiting(f"worker {node.offer.name}: {word['waits']}"))
            elif "warned" in word:
                emit(events.Warned(f"worker {node.offer.name}: {word['warned']}"))

        content = pickle.dumps(task)
        try:
            return self._link.run(node.address, content, heard, lambda: self._pool.is_there(node.address))
        except NodeLost:
            if not self._is_over():
                self._look()  # is it the worker, or the scheduler?
            raise

    # Files, both ways.

    def _send_what_it_lacks(self, node: Node, task: Task) -> None:
        if not task.needs and not task.mirror:
            return
        keys, files = self._link.ask(node.address, "lacks", task.needs, task.mirror)
        for key in keys:
            entry = self._work.entries[key]
            self._send(node, key, transfer.files_of(entry), mirror=False, meta=entry.meta, hashes=entry.hashes)
        if files:
            found = mirror.paths_of(task.files, task.further)
            self._send(node, task.mirror, found, mirror=True, meta=None, hashes={})

    def _send(
        self,
        node: Node,
        what: str,
        files: Mapping[str, Path],
        *,
        mirror: bool,
        meta: Mapping[str, object] | None,
        hashes: Mapping[str, str],
    ) -> None:
        token = uuid.uuid4().hex
        batches = transfer.pieces(files)
        try:
            self._link.ask(node.address, "begin", token, mirror=mirror)
            while batch := self._read(batches, mirror):
                if self._is_over():
                    raise StageFailed("interrupted")
                self._link.ask(node.address, "take", token, batch)
            self._link.ask(node.address, "finish", token, what, meta, hashes)
        except StoreError as error:
            raise self._unfit(node, error) from error

    @staticmethod
    def _read(batches: Iterator[tuple[Piece, ...]], mirror: bool) -> tuple[Piece, ...]:
        try:
            return next(batches, ())
        except OSError as error:
            if mirror:
                raise ChangedInput(error.filename, "cannot be read any more") from error
            raise StageFailed(f"a stored result cannot be read any more: {error}", "build again") from error

    def _unfit(self, node: Node, error: StoreError) -> NodeUnfit:
        message = f"worker {node.offer.name}: {error.message}"
        self._work.emit(events.Warned(message))
        return NodeUnfit(node.address, StoreError(message, error.hint))

    def _fetched(self, step: Step, answer: Answer, node: Node) -> Entry:
        with self._work.store.workspace() as out:
            if answer.pieces is not None:
                transfer.write(out, answer.pieces)
            else:
                for name in sorted(answer.hashes):
                    self._fetch(step.key, name, out, node)
            return transfer.publish(self._work.store, step.key, out, answer.meta, answer.hashes)

    def _fetch(self, key: str, name: str, out: Path, node: Node) -> None:
        offset = 0
        while True:
            content = self._link.ask(node.address, "give", key, name, offset)
            transfer.write(out, [Piece(name, offset, content)])
            offset += len(content)
            if not content:
                return
            if self._is_over():
                raise StageFailed("interrupted")


def _here(paths: Sequence[str]) -> list[Path]:
    """Of the files that were not there, those that are here."""
    return [path for path in map(Path, paths) if path.is_absolute() and path.is_file()]


def _begin_log(log: Path) -> None:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
    except OSError as error:
        raise StoreError(f"cannot write the log {log}: {error.strerror}", "choose another folder with --out") from None


def _keep_log(log: Path, answer: Answer) -> None:
    try:
        log.write_bytes(answer.log)
        for name, content in answer.logged.items():
            transfer.write(log.with_suffix(""), [Piece(name, 0, content)])
    except OSError as error:
        raise explain_os_error(error, log, "--out") from error
