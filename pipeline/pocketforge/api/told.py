"""`progress` of a call: nothing, lines on stderr, or a function of the user's."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from pocketforge import events


class _Stopped(BaseException):
    """Carries what a function of the user's raised past all that handles the build's own errors."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


@contextlib.contextmanager
def events_told(progress: bool | Callable[[events.Event], None]) -> Iterator[events.Emit]:
    """An `Emit` for a build. What a function raises ends the build that is within, and is raised here."""
    if progress is False:
        yield events.ignore
    elif progress is True:
        from pocketforge.report.progress import progress as drawn

        with drawn("bars" if sys.stderr is not None and sys.stderr.isatty() else "plain") as emit:
            yield emit
    else:
        told = progress

        def call(event: events.Event) -> None:
            try:
                told(event)
            except BaseException as error:
                raise _Stopped(error) from None

        try:
            yield call
        except _Stopped as stopped:
            raise stopped.error from None


def lines_told(progress: bool | Callable[[str], None]) -> events.Say:
    """The same for lines."""
    if progress is False:
        return lambda text: None
    if progress is True:
        from pocketforge.report.progress import say

        return say
    return progress
