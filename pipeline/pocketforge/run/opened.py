"""Files that the user's code opened in a stage (run/tracker.py) become inputs of its result: noted with it, and
compared before it is used again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocketforge.errors import ChangedInput, PocketforgeError
from pocketforge.plan.steps import Step
from pocketforge.run.fingerprints import Fingerprints, stamp_of
from pocketforge.run.tracker import MADE, WRITTEN

NOTES = "reads.jsonl"
ABSENT, THERE = "absent", "there"
_HERE = "."


@dataclass(slots=True)
class Notes:
    """What a stage noted: path → the first note of each kind. `written`, `made`: files and folders of its own."""

    opened: dict[str, dict[str, Any]] = field(default_factory=dict)
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)

    def are_own(self, path: str) -> bool:
        """Whether the stage wrote it itself."""
        if path in self.written or path in self.made:
            return True
        return any(os.fspath(folder) in self.made for folder in Path(path).parents) if self.made else False


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
            note = json.loads(line)
        except ValueError:
            continue
        if note["kind"] == WRITTEN:
            notes.written.add(note["path"])
        elif note["kind"] == MADE:
            notes.made.add(note["path"])
        else:
            by_kind[note["kind"]].setdefault(note["path"], note)
    return notes


def inputs_of(notes: Notes, step: Step, memory: Fingerprints) -> list[dict[str, Any]]:
    """What a result depends on beside its key: for each file, folder or missing file its name and what it was.

    Raises ChangedInput for one that is no longer what the stage found.
    """
    known = {os.fspath(path) for files in step.files.values() for path in files.paths}
    found = []
    for path, note in sorted(notes.opened.items()):
        if path not in known and not notes.are_own(path):
            found.append({**_name(note, step.roots), "was": _content_of(note, step, memory)})
    for path, note in sorted(notes.asked.items()):
        if path in notes.opened or path in known or notes.are_own(path) or not _is_near(note, step.roots):
            continue
        if (ABSENT if _is_absent(path) else THERE) != note["kind"]:
            raise _changed(path, step)
        found.append({**_name(note, step.roots), "was": note["kind"]})
    for path, note in sorted(notes.listed.items()):
        if notes.are_own(path):
            continue
        own = sorted(os.path.basename(p) for p in notes.written | notes.made if os.path.dirname(p) == path)
        was = _names(note["names"], own)
        if _listing(path, own) != was:
            raise _changed(path, step)
        found.append({**_name(note, step.roots), "was": was, "without": own})
    return found


def changed_since(inputs: Sequence[Mapping[str, Any]], step: Step, memory: Fingerprints) -> str:
    """The first input of a stored result that is not what it was; "" when all are."""
    for path, item in _with_paths(inputs, step.roots):
        if _now(path, item, memory) != item["was"]:
            return path
    return ""


def contents(inputs: Sequence[Mapping[str, Any]], roots: Sequence[Path]) -> dict[tuple[str, str], str]:
    """(path, of what) → what it was, for comparing the steps of one build."""
    found = {}
    for path, item in _with_paths(inputs, roots):
        if "without" in item:
            continue  # a build writes beside its recipe: what one step lists may be more than another did
        found[path, "presence"] = ABSENT if item["was"] == ABSENT else THERE
        if item["was"] not in (ABSENT, THERE):
            found[path, "content"] = item["was"]
    return found


def still_as_noted(notes: Notes) -> bool:
    """Whether nothing that was read by work that broke off was touched since."""
    return all(_stamp(p) == note["stamp"] for p, note in notes.opened.items() if not notes.are_own(p)) and all(
        (ABSENT if _is_absent(p) else THERE) == note["kind"] for p, note in notes.asked.items() if not notes.are_own(p)
    )


def _with_paths(inputs: Sequence[Mapping[str, Any]], roots: Sequence[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for item in inputs:
        place = item.get("in", "")
        if place == "":
            yield item["path"], item
        else:
            root = Path.cwd() if place == _HERE else roots[place] if place < len(roots) else Path()
            yield os.path.normpath(os.path.join(root, item["path"])), item


def _name(note: Mapping[str, Any], roots: Sequence[Path]) -> dict[str, Any]:
    """A file's name in an entry: from the folder of the recipe or of the user's code where it lies in one, so that a
    project may lie elsewhere; from the working folder where the code named it so."""
    path = Path(note["path"])
    if note["here"]:
        return {"in": _HERE, "path": os.path.relpath(path)}
    nearest = _nearest(path, roots)
    return {"in": nearest[0], "path": nearest[1]} if nearest else {"path": str(path)}


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


def _is_near(note: Mapping[str, Any], roots: Sequence[Path]) -> bool:
    """Whether the user's code asked after a file of his. Libraries ask after files all over the disk."""
    return bool(note["here"]) or _nearest(Path(note["path"]), roots) is not None or note.get("failed", False)


def _content_of(note: Mapping[str, Any], step: Step, memory: Fingerprints) -> str:
    path = note["path"]
    if _stamp(path) != note["stamp"]:
        raise _changed(path, step)
    try:
        sha256 = memory.sha256(Path(path))
    except (OSError, PocketforgeError) as error:
        raise _changed(path, step) from error
    if note["sha256"] not in ("", sha256):
        raise _changed(path, step)
    return sha256


def _changed(path: str, step: Step) -> ChangedInput:
    return ChangedInput(path, f"changed while the code of {step.name} read it")


def _now(path: str, item: Mapping[str, Any], memory: Fingerprints) -> str:
    if "without" in item:
        return _listing(path, item["without"])
    if item["was"] in (ABSENT, THERE):
        return ABSENT if _is_absent(path) else THERE
    try:
        return memory.sha256(Path(path))
    except (OSError, PocketforgeError):
        return ABSENT


def _stamp(path: str) -> list[int]:
    try:
        stamp = stamp_of(path)
    except (OSError, PocketforgeError):
        return []
    return [stamp.size, stamp.mtime_ns, stamp.ctime_ns, stamp.inode]


def _is_absent(path: str) -> bool:
    return not os.path.exists(path)


def _listing(path: str, without: Sequence[str]) -> str:
    try:
        return _names(os.listdir(path), without)
    except OSError:
        return ABSENT


def _names(names: Sequence[str], without: Sequence[str]) -> str:
    kept = sorted({*names} - {*without})
    return hashlib.sha256(b"\0".join(map(os.fsencode, kept))).hexdigest()
