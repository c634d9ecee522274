"""Processes that a storm kills: forks of it, which have everything imported."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from storm.commands import default_signals

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Ended:
    """code: an exit code, or a signal's number below 0, as in `subprocess`."""

    code: int
    said: str


def start(do: Callable[[], int], said: Path) -> int:
    """A fork that does it, in a session of its own, with what it says in a file; its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    said.write_bytes(b"")  # it may be killed before it says anything
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        signal.alarm(0)
        atexit._clear()  # what the parent does at its end
        default_signals()
        descriptor = os.open(said, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        code = do()
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # the child must not go on as the parent
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def wait(child: int, said: Path) -> Ended:
    """The harness's alarm ends a wait that does not end."""
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), said.read_text(encoding="utf-8", errors="replace"))


def forked(do: Callable[[], int], said: Path) -> Ended:
    return wait(start(do, said), said)


def adopt_orphans() -> None:
    """What our children leave running is ours from now on."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def orphans_left(within_s: float) -> list[str]:
    """Processes that outlive their build for so long. They are then killed."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
        except ChildProcessError:
            return []
    left = descendants(os.getpid())
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    return [str(pid) for pid in left]


def descendants(pid: int) -> list[int]:
    """Processes that this one started, and those that they did."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in brackets, may hold anything.
            state, parent = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(path.parent.name)] = int(parent)
    found, waiting = [], [pid]
    while waiting:
        here = waiting.pop()
        children = [child for child, parent in parents.items() if parent == here]
        found += children
        waiting += children
    return found
