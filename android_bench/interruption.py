"""Interruptions: what is on a phone is removed after ^C, SIGTERM and SIGHUP too, and a second ^C does not stop that."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

# What ends a Python program without a chance to clean up, unless it is handled. Windows has no SIGHUP.
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(SystemExit):
    """SIGTERM or SIGHUP came. Exit code 128 + signal, as shells have it."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


@contextlib.contextmanager
def ended_in_order() -> Iterator[None]:
    """Within: SIGTERM and SIGHUP raise Terminated, so that `with` and `finally` do their work.

    Only the main thread may decide on signals: in others nothing changes. Signals that are ignored (nohup) or handled
    by somebody else stay so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    changed = {}
    try:
        for signum in _ENDING:
            if signal.getsignal(signum) is signal.SIG_DFL:
                changed[signum] = signal.signal(signum, _end)
        yield
    finally:
        for signum, before in changed.items():
            signal.signal(signum, before)


def _end(signum: int, frame: FrameType | None) -> None:
    raise Terminated(signum)


@contextlib.contextmanager
def not_interrupted(say: Callable[[str], None], words: str) -> Iterator[None]:
    """Within: the first ^C, SIGTERM or SIGHUP only says `words`; the next raises KeyboardInterrupt or Terminated."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    patience = True

    def once(signum: int, frame: FrameType | None) -> None:
        nonlocal patience
        if patience:
            patience = False
            say(words)
        elif signum == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise Terminated(signum)

    before = {}
    try:
        for signum in (signal.SIGINT, *_ENDING):
            if signal.getsignal(signum) not in (signal.SIG_IGN, None):
                before[signum] = signal.signal(signum, once)
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
