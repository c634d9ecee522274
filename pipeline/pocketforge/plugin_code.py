"""How code of installed packages is run in our own process: it prints to stderr, and its errors name the package.

stdout is for results: what a package prints there would stand in the middle of `--json`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

from pocketforge.errors import Interrupted, PluginFailed, PocketforgeError, first_line


@contextlib.contextmanager
def calling(
    what: str, hint: str, *, ours: tuple[type[BaseException], ...] = (PocketforgeError,), prints: bool = False
) -> Iterator[None]:
    """Around code of a package. Raises PluginFailed in the place of whatever it raises, SystemExit too.

    what: whose code failed to do what, before the colon. ours: errors that it may raise on purpose, and that pass.
    prints: whether it is asked to write to stdout.
    """
    try:
        with contextlib.nullcontext() if prints else stdout_to_stderr():
            yield
    except PluginFailed:
        raise
    except BaseException as error:
        if isinstance(error, ours) or _is_the_users(error):
            raise
        raise PluginFailed(f"{what}: {first_line(error)}", hint) from error


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Whatever writes to stdout writes to stderr, also by its descriptor (libraries in C, other programs)."""
    with contextlib.redirect_stdout(sys.stderr):
        kept = _swapped()
        try:
            yield
        finally:
            if kept is not None:
                _flush()
                os.dup2(kept, 1)
                os.close(kept)


def _swapped() -> int | None:
    """Let descriptor 1 be what 2 is. Gives a copy of what it was; None where one of them is closed."""
    _flush()
    try:
        kept = os.dup(1)
    except OSError:
        return None
    try:
        os.dup2(2, 1)
    except OSError:
        os.close(kept)
        return None
    return kept


def _flush() -> None:
    """What was written by Python's own stream goes where descriptor 1 goes now, and not where it goes later."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.__stdout__.flush()  # type: ignore[union-attr]  # None without a terminal: AttributeError


def _is_the_users(error: BaseException) -> bool:
    """Whether a KeyboardInterrupt is a ^C. Where Python's own handler raises it, nothing tells it from a package's."""
    if isinstance(error, Interrupted):
        return True
    return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler
