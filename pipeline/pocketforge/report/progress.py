"""Events of a build on stderr: bars on a terminal, lines, JSON, or only warnings.

What a failed step has to say is said once, at the end, by the command.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pocketforge import events
from pocketforge.streams import json_text, printable, told

if TYPE_CHECKING:
    from rich.progress import TaskID

_VERBS = {"fetch": "fetched", "send": "sent"}
_NOUNS = {"fetch": "fetching", "send": "sending"}


@contextlib.contextmanager
def progress(mode: str) -> Iterator[events.Emit]:
    """An `Emit` that draws as `--progress` says; `auto` is bars on a terminal and only warnings elsewhere."""
    if mode == "auto":
        mode = "bars" if sys.stderr is not None and sys.stderr.isatty() else "none"
    if mode == "bars":
        with _bars() as emit:
            yield emit
    else:
        yield {"plain": _plain, "json": _json, "none": _warnings}[mode]


def say(text: str) -> None:
    """A line on stderr, as it is now: a notebook's is another in each cell."""
    if sys.stderr is not None:
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()


def _json(event: events.Event) -> None:
    say(json_text(events.to_json(event)))


def _warnings(event: events.Event) -> None:
    match event:
        case events.Warned(text):
            for line in told(text, "warning"):
                say(line)
        case events.EntryRefused(stage, lane, _, store, message):
            for line in told(_refused(stage, lane, store, message), "warning"):
                say(line)
        case events.Waiting(message):
            say(f"waiting: {message}")


def _plain(event: events.Event) -> None:
    match event:
        case events.BuildStarted(steps, stored):
            say(f"{steps} steps, {stored} of them stored")
        case events.StepStarted(stage, lane):
            say(f"  start   {stage:<10} {lane}")
        case events.StepFinished(stage, lane, _, wall_s):
            say(f"  done    {stage:<10} {lane}  {wall_s:.1f} s")
        case events.StepFailed(stage, lane):
            say(f"  failed  {stage:<10} {lane}")
        case events.StepReused(stage, lane):
            say(f"  reused  {stage:<10} {lane}")
        case events.StepSkipped(stage, lane, _, because):
            say(f"  skipped {stage:<10} {lane}: {because}")
        case events.Transferred(direction, stage, lane):
            say(f"  {_VERBS[direction]:<7} {stage:<10} {lane}  {_moved(event)}")
        case _:
            _warnings(event)


@contextlib.contextmanager
def _bars() -> Iterator[events.Emit]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from pocketforge.report.tables import console, words

    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[news]}", markup=False),
        TimeElapsedColumn(),
        console=console(stderr=True),
        transient=True,
    )
    tasks: dict[tuple[str, str], TaskID] = {}

    def close(stage: str, lane: str) -> None:
        task = tasks.pop((stage, lane), None)
        if task is not None:
            bars.remove_task(task)

    def emit(event: events.Event) -> None:
        match event:
            case events.StepStarted(stage, lane):
                tasks[stage, lane] = bars.add_task(f"{stage} {_short(lane)}", total=1.0, news="")
            case events.StepProgress(stage, lane, fraction, message):
                if (stage, lane) in tasks:
                    bars.update(tasks[stage, lane], completed=fraction, news=printable(message))
            case events.StepFinished(stage, lane, _, wall_s):
                close(stage, lane)
                bars.console.print(words(("  done    ", "green"), f"{stage:<10} {_short(lane)}  {wall_s:.1f} s"))
            case events.StepFailed(stage, lane):
                close(stage, lane)
                bars.console.print(words(("  failed  ", "red"), f"{stage:<10} {_short(lane)}"))
            case events.StepSkipped(stage, lane, _, because):
                bars.console.print(f"  skipped {stage:<10} {_short(lane)}: {because}")
            case events.Transferring(direction, stage, lane, key, done_bytes, size_bytes, bytes_per_s):
                if (direction, key) not in tasks:
                    what = f"{_NOUNS[direction]} {stage} {_short(lane)}"
                    tasks[direction, key] = bars.add_task(what, total=1.0, news="")
                news = f"{done_bytes / 1e6:.1f} of {size_bytes / 1e6:.1f} MB, {bytes_per_s / 1e6:.1f} MB/s"
                bars.update(tasks[direction, key], completed=done_bytes / size_bytes, news=news)
            case events.Transferred(direction, stage, lane, key):
                close(direction, key)
                what = f"{stage:<10} {_short(lane)}  {_moved(event)}"
                bars.console.print(words((f"  {_VERBS[direction]:<7} ", "green"), what))
            case events.EntryRefused(stage, lane, key, store, message):
                close("fetch", key)
                bars.console.print(f"  warning: {_refused(stage, lane, store, message)}", style="yellow")
            case events.Warned(message):
                bars.console.print(f"  warning: {message}", style="yellow")
            case events.Waiting(message):
                bars.console.print(f"  waiting: {message}")

    with bars:
        yield emit


def _moved(event: events.Transferred) -> str:
    """How much a transfer moved, and how fast."""
    rate = event.moved_bytes / 1e6 / max(event.wall_s, 1e-3)
    part = "" if event.moved_bytes == event.size_bytes else f" ({event.moved_bytes / 1e6:.2f} MB now)"
    return f"{event.size_bytes / 1e6:.2f} MB{part} at {rate:.1f} MB/s"


def _refused(stage: str, lane: str, store: str, message: str) -> str:
    return f"the result of {stage}[{lane}] in {store} is refused: {message}; the step is run"


def _short(lane: str) -> str:
    """A step that serves several lanes, in few words."""
    first, *rest = lane.split("+")
    return f"{first} and {len(rest)} more" if rest else first
