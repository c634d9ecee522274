"""What happens during a build, as it happens. The command line draws these; `--progress json` prints them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BuildStarted:
    """The plan is made.

    Attributes:
        steps: How many it has.
        stored: Of these, how many have a result already.
    """

    steps: int
    stored: int


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A stage begins, in a process of its own.

    Attributes:
        stage: Its name.
        lane: The targets that it is for, joined by "+".
        key: Of the step.
        pid: The process that runs the stage.
        log: Where its output goes; empty where it has none.
    """

    stage: str
    lane: str
    key: str
    pid: int
    log: str


@dataclass(frozen=True, slots=True)
class StepProgress:
    """A stage says how far it is.

    Attributes:
        stage: Its name.
        lane: As in `StepStarted`.
        fraction: Of its work done, 0 to 1.
        message: At what it is.
    """

    stage: str
    lane: str
    fraction: float
    message: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A stage's result is stored.

    Attributes:
        stage: Its name.
        lane: As in `StepStarted`.
        key: Of the step.
        wall_s: How long it took.
    """

    stage: str
    lane: str
    key: str
    wall_s: float


@dataclass(frozen=True, slots=True)
class StepReused:
    """A step's result was there.

    Attributes:
        stage: Its name.
        lane: As in `StepStarted`.
        key: Of the step.
    """

    stage: str
    lane: str
    key: str


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A stage ended with an error.

    Attributes:
        stage: Its name.
        lane: As in `StepStarted`.
        key: Of the step.
        message: The error.
        log: Where its output went.
    """

    stage: str
    lane: str
    key: str
    message: str
    log: str


@dataclass(frozen=True, slots=True)
class StepSkipped:
    """Not run, because something it needs failed.

    Attributes:
        stage: Its name.
        lane: As in `StepStarted`.
        key: Of the step.
        because: What failed.
    """

    stage: str
    lane: str
    key: str
    because: str


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that the user should know.

    Attributes:
        message: What.
    """

    message: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing goes on until somebody else is done.

    Attributes:
        message: For what, and for whom.
    """

    message: str


@dataclass(frozen=True, slots=True)
class Transferring:
    """A result is on its way from a remote store, or to it.

    Attributes:
        direction: `fetch` or `send`.
        stage: That made it.
        lane: As in `StepStarted`.
        key: Of the step.
        done_bytes: Of its files, so far.
        size_bytes: Of its files.
        bytes_per_s: So far.
    """

    direction: str
    stage: str
    lane: str
    key: str
    done_bytes: int
    size_bytes: int
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Transferred:
    """A result has come from a remote store, or is kept there.

    Attributes:
        direction: `fetch` or `send`.
        stage: That made it.
        lane: As in `StepStarted`.
        key: Of the step.
        size_bytes: Of its files.
        moved_bytes: Of these, what was moved now: the rest had come before something broke off.
        wall_s: How long it took.
    """

    direction: str
    stage: str
    lane: str
    key: str
    size_bytes: int
    moved_bytes: int
    wall_s: float


@dataclass(frozen=True, slots=True)
class EntryRefused:
    """A remote store's result is not what it says, or nobody who is trusted signed it: the step is run.

    Attributes:
        stage: Of the step.
        lane: As in `StepStarted`.
        key: Of the step.
        store: The remote store's URL, without a password.
        message: Why.
    """

    stage: str
    lane: str
    key: str
    store: str
    message: str


Event = (
    BuildStarted
    | StepStarted
    | StepProgress
    | StepFinished
    | StepReused
    | StepFailed
    | StepSkipped
    | Warned
    | Waiting
    | Transferring
    | Transferred
    | EntryRefused
)
Emit = Callable[[Event], None]
# How far one piece of work is, 0 to 1, and at what.
Progress = Callable[[float, str], None]
# A line for whoever waits.
Say = Callable[[str], None]


def to_json(event: Event) -> dict[str, object]:
    """The event as plain data, with its kind under `event`."""
    return {"event": type(event).__name__, **dataclasses.asdict(event)}


def one_at_a_time(emit: Emit) -> Emit:
    """The same for several threads."""
    lock = threading.Lock()

    def emit_alone(event: Event) -> None:
        with lock:
            emit(event)

    return emit_alone


def ignore(event: Event) -> None:
    """An `Emit` for callers that want no news."""
