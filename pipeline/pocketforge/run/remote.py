"""A build and the store that it shares with others: what the walk asks before a step is run, and says after.

Whatever the remote store does, the build is as it would be without: what cannot be fetched is made, what cannot be kept
there is kept here. A store that is down, slow or full is left alone after the first trouble, which is said once.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from pocketforge import events
from pocketforge.errors import RefusedEntry, RemoteStoreError, StoreError
from pocketforge.plan.steps import Step
from pocketforge.run.remote_store import RemoteStore, Tell
from pocketforge.run.store import Entry, Store

# Whether a result, of which only the notes are here, is one of what there is now.
Fits = Callable[[Entry], bool]
_SAY_AFTER_S = 2.0


class Remote(Protocol):
    """What a walk knows of other stores. Neither raises for what it meets there."""

    def fetch(self, step: Step, store: Store, fits: Fits, stopping: Callable[[], bool]) -> bool:
        """Whether the step's result is in the local store now. Called while its lock is held."""

    def publish(self, step: Step, entry: Entry) -> None:
        """A result was made: others may have it."""


class NoRemote:
    """There is the local store alone."""

    def fetch(self, step: Step, store: Store, fits: Fits, stopping: Callable[[], bool]) -> bool:
        return False

    def publish(self, step: Step, entry: Entry) -> None:
        return None


class BuildRemote:
    """A remote store for one build: use it as a context. What is sent goes in a thread; the end waits for it.

    writes: False where this build may only read there. emit: from several threads.
    """

    def __init__(self, remote: RemoteStore, emit: events.Emit, *, writes: bool) -> None:
        self._remote, self._emit = remote, emit
        self._reads, self._writes = True, writes
        self._refused: set[str] = set()
        self._stopping: Callable[[], bool] = lambda: False
        self._stopped = threading.Event()
        remote.files.give_up = lambda: self._stopped.is_set() or self._stopping()
        self._queue: queue.Queue[tuple[Step, Entry] | None] = queue.Queue()
        self._raised: list[BaseException] = []
        self._sender = threading.Thread(target=self._send_all, daemon=True, name="remote-store-sender")

    def __enter__(self) -> Self:
        self._sender.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._stopped.set()
        self._queue.put(None)
        try:
            self._sender.join(0 if kind is not None else _SAY_AFTER_S)
            if kind is None and self._sender.is_alive():
                self._emit(events.Waiting(f"sending results to {self._remote.words}"))
                self._sender.join()
        except BaseException:  # ^C while it is waited for
            self._stopped.set()
            raise
        if self._raised and kind is None:
            raise self._raised[0]

    def fetch(self, step: Step, store: Store, fits: Fits, stopping: Callable[[], bool]) -> bool:
        if not self._reads:
            return False
        self._stopping = stopping
        started = time.monotonic()
        try:
            manifest = self._remote.manifest(step.key)
            if manifest is None or not fits(manifest.entry()):
                return False
            tell = self._telling("fetch", step, manifest.size_bytes)
            moved = self._remote.fetch(manifest, store, tell)
        except RefusedEntry as refused:
            self._refused.add(step.key)
            self._emit(events.EntryRefused(step.stage, step.lane, step.key, self._remote.words, refused.why))
            return False
        except RemoteStoreError as error:
            if not stopping():
                self._leave(error, "nothing more is fetched or sent by this build, which goes on without")
                self._reads = self._writes = False
            return False
        except StoreError as error:
            if not stopping():
                self._emit(events.Warned(f"{step.name} could not be fetched: {error.message}; it is run"))
            return False
        if moved is None:
            self._emit(events.Warned(f"{step.name}: its result went from {self._remote.words} meanwhile; it is run"))
            return False
        wall_s = time.monotonic() - started
        self._emit(
            events.Transferred("fetch", step.stage, step.lane, step.key, moved.size_bytes, moved.moved_bytes, wall_s)
        )
        if self._writes:
            with contextlib.suppress(RemoteStoreError):  # it is cleared the sooner, and nothing else
                self._remote.freshen(step.key)
        return True

    def publish(self, step: Step, entry: Entry) -> None:
        if self._writes:
            self._queue.put((step, entry))

    def _send_all(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._writes and not self._stopped.is_set():
                try:
                    self._send(*item)
                # The user's own, of being told: it ends the build, where that waits for us.
                except BaseException as error:
                    self._raised.append(error)
                    self._writes = False
            del item  # and with it the hold on the entry

    def _send(self, step: Step, entry: Entry) -> None:
        started = time.monotonic()
        tell = self._telling("send", step, entry.size_bytes)
        try:
            moved = self._remote.publish(entry, again=step.key in self._refused, tell=tell)
        except RemoteStoreError as error:
            self._writes = False
            if not self._stopped.is_set() and not self._stopping():
                self._leave(error, "nothing more is sent there by this build")
            return
        except StoreError as error:
            self._emit(events.Warned(f"{step.name} is not sent to {self._remote.words}: {error.message}"))
            return
        if not moved.there:
            wall_s = time.monotonic() - started
            self._emit(
                events.Transferred("send", step.stage, step.lane, step.key, moved.size_bytes, moved.moved_bytes, wall_s)
            )

    def _leave(self, error: RemoteStoreError, what: str) -> None:
        hint = f" ({error.hint})" if error.hint else ""
        self._emit(events.Warned(f"remote store: {error.message}{hint}; {what}"))

    def _telling(self, direction: str, step: Step, size_bytes: int) -> Tell:
        started = time.monotonic()

        def tell(done_bytes: int, moved_bytes: int) -> None:
            if done_bytes < size_bytes:  # the last is the end, which is said by itself
                rate = moved_bytes / max(time.monotonic() - started, 1e-3)
                self._emit(
                    events.Transferring(direction, step.stage, step.lane, step.key, done_bytes, size_bytes, rate)
                )

        return tell
