"""Files that the user's code opened in a stage (run/tracker.py) become inputs of its result: noted with it, and
compared before it is used again."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocketforge.errors import ChangedInput, PocketforgeError
from pocketforge.plan.steps import Step
from pocketforge.run.fingerprints import Fingerprints, stamp_of
from pocketforge.run.tracker import MADE, WRITTEN, Note, read_note

NOTES = "reads.jsonl"
ABSENT, THERE = "absent", "there"
_HERE = "."


@dataclass(slots=True)
class Notes:
    """What a stage noted.

    Attributes:
        opened: Path → the first note of a file that it opened.
        listed: Path → the first note of a folder that it listed.
        asked: Path → the first note of a file that it asked after.
        written: Files of its own.
        made: Folders of its own.
    """

    opened: dict[str, Note] = field(default_factory=dict)
    listed: dict[str, Note] = field(default_factory=dict)
    asked: dict[str, Note] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)

    def are_own(self, path: str) -> bool:
        """Whether the stage wrote it itself."""
        if path in self.written or path in self.made:
            return True
        return any(os.fspath(folder) in self.made for folder in Path(path).parents) if self.made else False


@dataclass(frozen=True, slots=True)
class Opened:
    """A file, a folder or a missing file that a result depends on beside its key.

    Attributes:
        path: Its name, from `place`.
        was: What it was: a file's SHA-256, a digest of what a folder held, `absent` or `there`.
        place: Where the name starts: the number of one of the user's folders, `.` for the working folder; None for an
            absolute path.
        without: Of a folder: the names in it that were the stage's own; None for a file.
    """

    path: str
    was: str
    place: int | str | None = None
    without: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """As results note it: what says nothing is left out."""
        start = {} if self.place is None else {"in": self.place}
        own = {} if self.without is None else {"without": list(self.without)}
        return {**start, "path": self.path, "was": self.was, **own}

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Opened:
        own = item.get("without")
        return cls(item["path"], item["was"], item.get("in"), None if own is None else tuple(own))


def read_notes(path: Path) -> Notes:
    """Empty when the stage noted nothing. A line that a kill cut off is passed over."""
    notes = Notes()
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return notes
    by_kind = {"open": notes.opened, "list": notes.listed, THERE: notes.asked, ABSENT: notes.asked}
    for line in lines:
        try:
            note = read_note(line)
        except ValueError:
            continue
        if note.kind == WRITTEN:
            notes.written.add(note.path)
        elif note.kind == MADE:
            notes.made.add(note.path)
        else:
            by_kind[note.kind].setdefault(note.path, note)
    return notes


def inputs_of(notes: Notes, step: Step, memory: Fingerprints, folder: Path | None = None) -> list[Opened]:
    """What a result depends on beside its key: for each file, folder or missing file its name and what it was.

    folder: the stage's working folder, where that is not ours. Raises ChangedInput for one that is no longer what the
    stage found.
    """
    known = {os.fspath(path) for files in step.files.values() for path in files.paths}
    inputs = []
    for path, note in sorted(notes.opened.items()):
        if path not in known and not notes.are_own(path):
            inputs.append(_named(note, step.roots, _content_of(note, step, memory), folder))
    for path, note in sorted(notes.asked.items()):
        if path in notes.opened or path in known or notes.are_own(path) or not _is_near(note, step.roots):
            continue
        if (ABSENT if _is_absent(path) else THERE) != note.kind:
            raise _changed(path, step)
        inputs.append(_named(note, step.roots, note.kind, folder))
    for path, note in sorted(notes.listed.items()):
        if notes.are_own(path):
            continue
        own = sorted(os.path.basename(p) for p in notes.written | notes.made if os.path.dirname(p) == path)
        was = _names(note.names, own)
        if _listing(path, own) != was:
            raise _changed(path, step)
        inputs.append(dataclasses.replace(_named(note, step.roots, was, folder), without=tuple(own)))
    return inputs


def changed_since(inputs: Sequence[Opened], step: Step, memory: Fingerprints) -> str:
    """The first input of a stored result that is not what it was; "" when all are."""
    for path, item in _with_paths(inputs, step.roots):
        if _now(path, item, memory) != item.was:
            return path
    return ""


def contents(inputs: Sequence[Opened], roots: Sequence[Path], folder: Path | None = None) -> dict[tuple[str, str], str]:
    """(path, of what) → what it was, for comparing the steps of one build. folder: as of `inputs_of`."""
    was_by_path = {}
    for path, item in _with_paths(inputs, roots, folder):
        if item.without is not None:
            continue  # a build writes beside its recipe: what one step lists may be more than another did
        was_by_path[path, "presence"] = ABSENT if item.was == ABSENT else THERE
        if item.was not in (ABSENT, THERE):
            was_by_path[path, "content"] = item.was
    return was_by_path


def still_as_noted(notes: Notes) -> bool:
    """Whether nothing that was read by work that broke off was touched since."""
    return all(_stamp(p) == note.stamp for p, note in notes.opened.items() if not notes.are_own(p)) and all(
        (ABSENT if _is_absent(p) else THERE) == note.kind for p, note in notes.asked.items() if not notes.are_own(p)
    )


def _with_paths(
    inputs: Sequence[Opened], roots: Sequence[Path], folder: Path | None = None
) -> Iterator[tuple[str, Opened]]:
    for item in inputs:
        if item.place is None:
            yield item.path, item
        else:
            place = item.place
            known = isinstance(place, int) and place < len(roots)
            root = (folder or Path.cwd()) if place == _HERE else roots[int(place)] if known else Path()
            yield os.path.normpath(os.path.join(root, item.path)), item


def _named(note: Note, roots: Sequence[Path], was: str, folder: Path | None) -> Opened:
    """A file's name in an entry: from the folder of the recipe or of the user's code where it lies in one, so that a
    project may lie elsewhere; from the working folder where the code named it so."""
    path = Path(note.path)
    if note.here:
        return Opened(os.path.relpath(path, folder), was, _HERE)
    nearest = _nearest(path, roots)
    return Opened(nearest[1], was, nearest[0]) if nearest else Opened(str(path), was)


def _nearest(path: Path, roots: Sequence[Path]) -> tuple[int, str] | None:
    """The innermost of the folders that the file lies in, and its path from there. A folder may be called by a link
    to it and by what that points to: `Path(__file__).resolve()` is the latter."""
    inside = [
        (len(folder.parts), -number, str(path.relative_to(folder)))
        for number, root in enumerate(roots)
        if root.is_absolute()
        for folder in {root, Path(os.path.realpath(root))}
        if path.is_relative_to(folder)
    ]
    if not inside:
        return None
    _, number, within = max(inside)
    return -number, within


def _is_near(note: Note, roots: Sequence[Path]) -> bool:
    """Whether the user's code asked after a file of his. Libraries ask after files all over the disk."""
    return note.here or _nearest(Path(note.path), roots) is not None or note.failed


def _content_of(note: Note, step: Step, memory: Fingerprints) -> str:
    if _stamp(note.path) != note.stamp:
        raise _changed(note.path, step)
    try:
        sha256 = memory.sha256(Path(note.path))
    except (OSError, PocketforgeError) as error:
        raise _changed(note.path, step) from error
    if note.sha256 not in ("", sha256):
        raise _changed(note.path, step)
    return sha256


def _changed(path: str, step: Step) -> ChangedInput:
    return ChangedInput(path, f"changed while the code of {step.name} read it")


def _now(path: str, item: Opened, memory: Fingerprints) -> str:
    if item.without is not None:
        return _listing(path, item.without)
    if item.was in (ABSENT, THERE):
        return ABSENT if _is_absent(path) else THERE
    try:
        return memory.sha256(Path(path))
    except (OSError, PocketforgeError):
        return ABSENT


def _stamp(path: str) -> tuple[int, ...]:
    """As a note has it; empty where no file is."""
    try:
        stamp = stamp_of(path)
    except (OSError, PocketforgeError):
        return ()
    return (stamp.size, stamp.mtime_ns, stamp.ctime_ns, stamp.inode)


def _is_absent(path: str) -> bool:
    return not os.path.exists(path)


def _listing(path: str, without: Sequence[str]) -> str:
    try:
        return _names(os.listdir(path), without)
    except OSError:
        return ABSENT


def _names(names: Sequence[str], without: Sequence[str]) -> str:
    listed = sorted({*names} - {*without})
    return hashlib.sha256(b"\0".join(map(os.fsencode, listed))).hexdigest()
