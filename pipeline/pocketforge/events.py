"""What happens during a build, as it happens. The command line draws these; `--progress json` prints them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class BuildStarted:
    steps: int
    stored: int


@dataclass(frozen=True, slots=True)
class StepStarted:
    """`pid` is the process that runs the stage; `log` is where its output goes."""

    stage: str
    lane: str
    key: str
    pid: int
    log: str


@dataclass(frozen=True, slots=True)
class StepProgress:
    """`fraction` of the stage's work done, 0 to 1."""

    stage: str
    lane: str
    fraction: float
    message: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    stage: str
    lane: str
    key: str
    wall_s: float


@dataclass(frozen=True, slots=True)
class StepReused:
    stage: str
    lane: str
    key: str


@dataclass(frozen=True, slots=True)
class StepFailed:
    stage: str
    lane: str
    key: str
    message: str
    log: str


@dataclass(frozen=True, slots=True)
class StepSkipped:
    """Not run, because something it needs failed."""

    stage: str
    lane: str
    key: str
    because: str


@dataclass(frozen=True, slots=True)
class Warned:
    message: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing goes on until somebody else is done: for what, and for whom."""

    message: str


Event = (
    BuildStarted | StepStarted | StepProgress | StepFinished | StepReused | StepFailed | StepSkipped | Warned | Waiting
)
Emit = Callable[[Event], None]
# How far one piece of work is, 0 to 1, and at what.
Progress = Callable[[float, str], None]
# A line for whoever waits.
Say = Callable[[str], None]


def to_json(event: Event) -> dict[str, Any]:
    """The event as plain data, with its kind under `event`."""
    return {"event": type(event).__name__, **dataclasses.asdict(event)}


def ignore(event: Event) -> None:
    """An `Emit` for callers that want no news."""
