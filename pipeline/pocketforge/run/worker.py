"""The process that runs one stage.

Stages run in children of a fork server that has imported the heavy libraries once: each stage still has a process
of its own, so a crash or an out-of-memory kill ends that stage and nothing else, but a build does not pay the
exporters' imports (10 s and more) again for every step. Files are always *verified and benchmarked* in new
processes that hold only their runtime (see devices/host.py), never in a fork.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol, TypeAlias

from pocketforge.errors import (
    ModelError,
    PocketforgeError,
    RecipeError,
    StageFailed,
    ToolFailed,
    ToolMissing,
    first_line,
)
from pocketforge.files import explain_os_error
from pocketforge.run import stage_server, tracker
from pocketforge.run.stage_server import Pipe
from pocketforge.specs.base import Spec

_FULL = (errno.ENOSPC, errno.EDQUOT)
# With less than this left, a write that failed for no stated reason failed for lack of space.
_NOTHING_LEFT_BYTES = 64 * 1024


class StageContext(Protocol):
    """What starts the processes of stages: one of multiprocessing's contexts."""

    @property
    def Pipe(self) -> Callable[[bool], tuple[Pipe, Pipe]]: ...  # noqa: N802 - multiprocessing's names

    @property
    def Process(self) -> Callable[..., BaseProcess]: ...  # noqa: N802


@dataclass(frozen=True, slots=True)
class Job:
    """What a stage's process is told.

    Attributes:
        module: The stage's, whose `run(inputs, spec, out, emit)` is called.
        inputs: Role → the folder of an earlier result, or the user's own path.
        spec: What the stage is told (specs/).
        out: The empty folder for its result.
        log: File that gets its stdout and stderr.
        scratch: Folder that is its TMPDIR.
        notes: Where to note what the user's code opens; None for a stage that runs none.
        store: The store's folder, whose files are not noted.
        folder: Its working folder; None for that of who started it.
    """

    module: str
    inputs: Mapping[str, Path]
    spec: Spec
    out: Path
    log: Path
    scratch: Path
    notes: Path | None = None
    store: Path | None = None
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Said by a stage at work.

    Attributes:
        fraction: Of its work, 0 to 1.
        text: What it does.
    """

    fraction: float
    text: str


@dataclass(frozen=True, slots=True)
class Used:
    """What a stage took of the machine.

    Attributes:
        cpu_s: User and system time of its process, and of all that it started and waited for.
        peak_rss_bytes: The most resident memory that its own process had. It begins with the pages that it shares with
            the fork server: these count as its own, and what it started does not.
    """

    cpu_s: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Said last by a stage that did its work.

    Attributes:
        used: What that took.
    """

    used: Used


@dataclass(frozen=True, slots=True)
class Failed:
    """Said last by a stage that did not.

    Attributes:
        error: As the user shall see it.
    """

    error: PocketforgeError


Message: TypeAlias = Progress | Finished | Failed


def context(preload: Sequence[str]) -> StageContext:
    """What starts stages from the current fork server, which imports `preload` before its first one."""
    stage_server.current().preload(preload)
    return stage_server.Stages()


def stage_main(job: Job, pipe: Pipe) -> None:
    """Body of a stage's process: run the stage, and send Progress, then Finished or Failed."""
    # A group of our own, so that the build can end us together with whatever we started, and a ^C in the
    # terminal reaches only the build itself.
    os.setsid()
    # Locks that libraries make (progress bars) need no clean-up by the build's resource tracker under "fork".
    multiprocessing.set_start_method("fork", force=True)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ["TMPDIR"] = tempfile.tempdir = str(job.scratch)
    descriptor = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    _end_with_the_build()
    if job.folder is not None:
        os.chdir(job.folder)
    lock = threading.Lock()

    def send(message: Message) -> None:
        with lock:
            pipe.send(message)

    try:
        stage = importlib.import_module(job.module)
        if job.notes is not None:
            tracker.start(job.notes, tuple(str(path) for path in (job.out, job.scratch, job.store) if path))
        stage.run(job.inputs, job.spec, job.out, lambda part, text="": send(Progress(float(part), str(text))))
    except Exception as error:
        # The log may be on the disk that is full: what is said to the build counts more.
        with contextlib.suppress(OSError):
            traceback.print_exc()
        send(Failed(explain(error, job.out)))
    else:
        send(Finished(_used()))
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    pipe.close()
    # The libraries' threads and exit handlers have nothing left to do that matters, and some hang.
    os._exit(0)


def _used() -> Used:
    """Asked by the process itself: its parent is the fork server, which has no word for it."""
    own, started = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu_s = own.ru_utime + own.ru_stime + started.ru_utime + started.ru_stime
    # Kilobytes, on Linux. Not the children's: theirs starts from the size of who forked them, also beyond exec.
    return Used(round(cpu_s, 3), own.ru_maxrss * 1024)


def explain(error: Exception, out: Path) -> PocketforgeError:
    """What a stage raised, as the user shall see it; `out` is the folder that it wrote into."""
    if _is_out_of_space(error, out):
        return explain_os_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), out)
    if isinstance(error, PocketforgeError):
        return error
    if isinstance(error, MemoryError):
        return StageFailed("the stage ran out of memory", "use fewer samples or a smaller batch")
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return explain_os_error(error, out)
    if isinstance(error, ImportError):
        return _missing(error)
    return _crash(error)


def _is_out_of_space(error: Exception, out: Path) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    if isinstance(error, RecipeError | ModelError):
        return False
    if isinstance(error, ToolFailed) and os.strerror(errno.ENOSPC) in error.stderr_tail:
        return True
    # NumPy, torch and the exporters have their own words for a write that fails.
    with contextlib.suppress(OSError):
        disk = os.statvfs(out)
        # Some disks do not say how large they are.
        return disk.f_blocks > 0 and disk.f_bavail * disk.f_frsize < _NOTHING_LEFT_BYTES
    return False


def _crash(error: BaseException) -> StageFailed:
    return StageFailed(first_line(error), "the whole story is in the log")


def _missing(error: ImportError) -> PocketforgeError:
    return ToolMissing(f"cannot import {error.name or error}: {error}", "pocketforge doctor says what is missing")


def _end_with_the_build() -> None:
    """Die when the build dies, even by kill -9: nobody would read the result."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
