"""The processes of one build's stages: started from one fork server, listened to, ended together."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

from pocketforge.errors import StageFailed, describe_exit
from pocketforge.run import stage_server, worker

# A step at work on a phone is told to end, and has so long to put the phone back as it was.
_CLEAN_UP_S = 30.0


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told of a process.

    Attributes:
        started: Gets its process id.
        progress: Gets the fraction of the work done, 0 to 1, and what is at work, in words.
    """

    started: Callable[[int], None]
    progress: Callable[[float, str], None]


class Processes:
    """preload: gives the modules that the fork server imports before its first stage; asked once."""

    def __init__(self, preload: Callable[[], Sequence[str]]) -> None:
        self.stopping = threading.Event()
        self._preload = preload
        self._lock = threading.Lock()  # held while a process starts: what follows is of it
        self._context: worker.StageContext | None = None
        self._children: dict[int, BaseProcess] = {}
        self._away: set[int] = set()  # of these, those that work on a phone

    def run(self, name: str, job: worker.Job, listener: Listener, *, away: bool) -> worker.Used:
        """Run a stage to its end, and what it took. away: it works on a phone.

        Raises what the stage met, StageFailed when its process could not start or ended before it was done.
        """
        process, pid, pipe = self._start(name, job, away)
        try:
            listener.started(pid)
            last = _listen(pipe, listener)
            process.join()
        finally:
            with self._lock:
                self._children.pop(pid, None)
            kill(process)
            pipe.close()
        if isinstance(last, worker.Failed):
            raise last.error
        if last is None:
            raise StageFailed(
                f"the process of {name} ended with {describe_exit(process.exitcode or 0)} before it was done",
                f"its output is in {job.log}",
            )
        return last.used

    def _start(self, name: str, job: worker.Job, away: bool) -> tuple[BaseProcess, int, stage_server.Pipe]:
        """The process, its id, and what it sends."""
        with self._lock:
            if self.stopping.is_set():
                raise StageFailed("interrupted")
            if self._context is None:
                self._context = worker.context(self._preload())
            receiving, sending = self._context.Pipe(False)
            process = self._context.Process(target=worker.stage_main, args=(job, sending), name=name)
            try:
                process.start()
            except (EOFError, OSError) as error:
                receiving.close()
                raise StageFailed(
                    f"the process of {name} could not be started: {error or type(error).__name__}",
                    "is the machine out of memory or processes?",
                ) from None
            finally:
                sending.close()
            pid = process.pid
            assert pid is not None  # it was started
            self._children[pid] = process
            if away:
                self._away.add(pid)
        return process, pid, receiving

    def stop(self) -> None:
        """End all of them, and start no more."""
        self.stopping.set()
        # A thread may hold the lock for as long as the fork server imports libraries: end the server first.
        while not self._lock.acquire(timeout=0.1):
            stage_server.current().kill()
        try:
            away = [self._children[pid] for pid in self._away if pid in self._children]
            for process in self._children.values():
                if process not in away:
                    kill(process)
            for process in away:
                process.terminate()
            deadline = time.monotonic() + _CLEAN_UP_S
            for process in away:
                process.join(max(0.0, deadline - time.monotonic()))
                kill(process)
        finally:
            self._lock.release()


def _listen(pipe: stage_server.Pipe, listener: Listener) -> worker.Finished | worker.Failed | None:
    """What a stage says last; None when its process ended without a word."""
    last: worker.Finished | worker.Failed | None = None
    while True:
        try:
            message: worker.Message = pipe.recv()
        except (EOFError, OSError):
            return last
        if isinstance(message, worker.Progress):
            listener.progress(message.fraction, message.text)
        else:
            last = message


def kill(process: BaseProcess) -> None:
    """End a stage's process and whatever it started (stages lead a group of their own, once they run)."""
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
