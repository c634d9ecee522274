"""Ends a step that has too much, takes too long, or that nobody waits for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pocketforge.errors import StageFailed
from pocketforge.run.processes import Processes

_LOOK_EACH_S = 0.2


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one step.

    Attributes:
        seconds: It may take; 0 for no limit.
        memory_bytes: Resident, its process and all that this started; 0 for no limit.
    """

    seconds: float = 0.0
    memory_bytes: int = 0


class Watchdog:
    """Looks at a step's processes while it is entered.

    given_up: whether nobody waits for the step.
    """

    def __init__(self, limits: Limits, processes: Processes, given_up: Callable[[], bool]) -> None:
        self._limits, self._processes, self._given_up = limits, processes, given_up
        self.pid = 0  # of the stage, once it runs
        self.verdict: StageFailed | None = None  # why it was ended
        self.memory_bytes = 0  # the limit that it was ended at
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="watchdog")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        began = time.monotonic()
        while not self._over.wait(_LOOK_EACH_S):
            why = ""
            if self._given_up():
                why = "nobody waits for it any more"
            elif self._limits.seconds and time.monotonic() - began > self._limits.seconds:
                why = f"it took longer than the {self._limits.seconds:.0f} s that the worker gives a step"
            elif self._limits.memory_bytes and resident_bytes(self.pid) > self._limits.memory_bytes:
                self.memory_bytes = self._limits.memory_bytes
                why = f"it had more than the {self.memory_bytes / 1e9:.1f} GB that the worker gives a step"
            if why:
                self.verdict = StageFailed(why, "pocketforge worker --help names the limits")
                self._processes.stop()
                return


def resident_bytes(pid: int) -> int:
    """Of a process and all below it; 0 where it is gone."""
    if not pid:
        return 0
    import psutil

    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += each.memory_info().rss
    return total
