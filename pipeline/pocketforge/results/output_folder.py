"""The folder that a build writes its results into: one build at a time, and all its results in one swap at the end.

    OUT/report.json  report.html  release/  failed/  checkpoint/  why/     the results, of one build all of them
    OUT/logs/                                                 written as it runs
    OUT/.pocketforge.lock                                     held while a build is at work
    OUT/.pocketforge-HEX/new/                                 a draft: what will take the results' places
    OUT/.pocketforge-HEX/old/                                 what had them

The report goes first and comes last: a report that is there is of the release that is there, whenever a build is
killed. Each folder changes places in one step where the system has one; elsewhere a kill between two steps can leave
the old release under old/, and whoever next takes the folder puts it back.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from pocketforge import events
from pocketforge.files import check_writable, exchange, explain_os_error, sync, sync_tree
from pocketforge.run.locks import hold

REPORT, PAGE, RELEASE, FAILED, CHECKPOINT, WHY = (
    "report.json", "report.html", "release", "failed", "checkpoint", "why",
)  # fmt: skip
_BESIDE = (RELEASE, FAILED, CHECKPOINT, WHY, PAGE)
_DRAFT = ".pocketforge-"
# What builds before drafts left beside their results when they were killed.
_LEFTOVERS = re.compile(r"\.((release|failed|checkpoint|why|report\.json)\.|probe-)[0-9a-f]{32}")


@contextlib.contextmanager
def take(out: Path, emit: events.Emit = events.ignore) -> Iterator[bool]:
    """Have the output folder alone, made if need be; yields whether another build had it before.

    What killed builds left in it is put in order first. Raises StoreError.
    """
    with contextlib.ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)

            def waits(holder: str) -> None:
                emit(events.Waiting(f"{holder} builds into {out}; this build goes on when it is done"))

            waited = stack.enter_context(hold(out / ".pocketforge.lock", waits))
            check_writable(out)  # now, not after the build
            _tidy(out)
        except OSError as error:
            raise explain_os_error(error, out, "--out") from error
        yield waited


def _tidy(out: Path) -> None:
    """Put back what a killed build had taken aside, and remove its drafts: while we hold the lock they are nobody's."""
    for path in list(out.iterdir()):
        if path.name.startswith(_DRAFT) and path.is_dir():
            # Of a swap that was finished the report is in its place, and what is under old/ was to go.
            if os.path.lexists(path / "new" / REPORT):
                for name in _BESIDE:
                    if os.path.lexists(path / "old" / name) and not os.path.lexists(out / name):
                        (path / "old" / name).rename(out / name)
            _remove(path)
        elif _LEFTOVERS.fullmatch(path.name):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


class Draft:
    """Results that are being written, under `folder`, with the names that they will have."""

    def __init__(self, out: Path, work: Path) -> None:
        self.folder = work / "new"
        self.needed = False  # by whoever takes the folder next: not everything could be put back
        self._out = out
        self._old = work / "old"

    def commit(self) -> None:
        """Let the draft take the results' places, and what it does not have be gone from there. Raises OSError.

        After an error all is as it was.
        """
        sync_tree(self.folder)
        undo: list[Callable[[], object]] = []
        with _undisturbed():
            try:
                self._take_aside(REPORT, undo)
                for name in _BESIDE:
                    self._place(name, undo)
                # Nothing can follow it that may fail.
                (self.folder / REPORT).rename(self._out / REPORT)
            except BaseException:
                try:
                    for back in reversed(undo):
                        back()
                except OSError:
                    self.needed = True
                raise
        with contextlib.suppress(OSError):
            sync(self._out)

    def _place(self, name: str, undo: list[Callable[[], object]]) -> None:
        new, place = self.folder / name, self._out / name
        if not os.path.lexists(new):
            self._take_aside(name, undo)
        elif os.path.lexists(place) and exchange(new, place):
            undo.append(lambda: exchange(new, place))
        else:
            self._take_aside(name, undo)
            new.rename(place)
            undo.append(lambda: place.rename(new))

    def _take_aside(self, name: str, undo: list[Callable[[], object]]) -> None:
        place, aside = self._out / name, self._old / name
        if os.path.lexists(place):
            place.rename(aside)
            undo.append(lambda: aside.rename(place))


@contextlib.contextmanager
def drafted(out: Path) -> Iterator[Draft]:
    """A draft in an output folder that we have taken; nothing of it is left afterwards but what was committed."""
    work = out / f"{_DRAFT}{uuid.uuid4().hex}"
    draft = Draft(out, work)
    try:
        try:
            for name in ("new", "old"):
                (work / name).mkdir(parents=True)
        except OSError as error:
            raise explain_os_error(error, out, "--out") from error
        yield draft
    finally:
        if not draft.needed:
            _remove(work)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """^C and SIGTERM wait: what is within takes milliseconds, and an interrupt in its middle would half-do it."""
    came: list[int] = []
    before = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(signal.getsignal(number)):
                    before[number] = signal.signal(number, lambda number, frame: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
