"""What a build and a worker say to each other about one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pocketforge.errors import PocketforgeError
from pocketforge.plan.steps import Step

# Bytes of one message with files' content; results that fit into one come with the answer.
PIECE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file.

    Attributes:
        name: Of the file, below the folder that is sent.
        offset: Where the part begins.
        content: What it holds.
    """

    name: str
    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class SentFiles:
    """The user's files under one role, as they go to a worker.

    Attributes:
        digest: As in the step's key.
        paths: Absolute, as they are at the build.
        layout: What their places say besides.
        tree: The folder that they are all in; None where they are named one by one.
    """

    digest: str
    paths: tuple[Path, ...]
    layout: str
    tree: Path | None


@dataclass(frozen=True, slots=True)
class Task:
    """A step for a worker.

    Attributes:
        step: Without its files' listings, which are functions of the build's.
        files: Role → the user's files; they are in the folder `mirror`.
        further: Files that no role names and the user's code opens: path → SHA-256.
        mirror: Name of the folder that stands for the build's disk; empty for a step without files.
        folder: The build's working folder.
        needs: Key of an earlier result → its files' hashes.
        preload: Modules that the build's steps import.
        refresh: Whether half-done work is thrown away.
    """

    step: Step
    files: Mapping[str, SentFiles] = field(default_factory=dict)
    further: Mapping[Path, str] = field(default_factory=dict)
    mirror: str = ""
    folder: Path = Path("/")
    needs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    preload: tuple[str, ...] = ()
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """How a step ended on a worker.

    Attributes:
        error: What it met; None where it was done.
        log: What the stage printed.
        meta: What its result says of its making (run/made.py).
        hashes: File of the result → SHA-256.
        pieces: The whole result, where it is small.
        logged: Files that it keeps beside its log: name → content.
        asked_after: Files that the user's code wanted and that were not there, of a step that failed.
        little_memory: The limit in bytes that it was ended at; 0 where it was not.
    """

    error: PocketforgeError | None = None
    log: bytes = b""
    meta: Mapping[str, object] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    pieces: tuple[Piece, ...] | None = None
    logged: Mapping[str, bytes] = field(default_factory=dict)
    asked_after: tuple[str, ...] = ()
    little_memory: int = 0
