"""The user's files that steps read: looked at for the key, and again around each stage, so that a result is of them.

A stage reads long after its key was made. Files whose stamps are the same before it begins and after it ended were not
touched meanwhile; what was touched (written and put back, too) may have been read as something else, and its result is
not published.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pocketforge.errors import ChangedInput, PocketforgeError
from pocketforge.plan.steps import ReadFiles, Step
from pocketforge.run.fingerprints import Fingerprints, Stamp, folder_stamp, is_racy, stamp_of

_TRIES = 3
# Each is told by its name and hash in a release's provenance; a data set's images are told together.
_TOLD_APART = 64


def look_at(
    list_files: Callable[[], tuple[Iterable[Path], str]], memory: Fingerprints, tree: Path | None = None
) -> ReadFiles:
    """Hash files.

    list_files: gives their paths, and what is to be hashed of their places besides. tree: the folder whose listing
    decides which they are; None where nothing but their names does. Raises OSError for a file that cannot be read,
    ChangedInput for what goes on changing.
    """
    before: list[Stamp] = []
    for _ in range(_TRIES):
        began_ns = time.time_ns()
        listed_now, layout = list_files()
        files = sorted(listed_now)
        folders = _folders(files, tree)
        listed = [folder_stamp(folder) for folder in folders]
        # A clock that is ahead of ours (a server's) says nothing: then two equal looks do.
        if listed == before or all(stamp.ctime_ns < began_ns for stamp in listed):
            break
        before = listed
    else:
        raise ChangedInput(tree, "goes on changing while it is read", "let what writes it finish, then run again")
    root = os.path.commonpath([p.parent for p in files]) if files else ""
    hashes: list[str] = []
    digest, marks, racy = hashlib.sha256(), [], any(is_racy(stamp, began_ns) for stamp in listed)
    for number, (path, known) in enumerate(zip(files, memory.prints(files), strict=True)):
        line = f"{os.path.relpath(path, root)} {known.sha256}"
        # A name may hold bytes that are no text: they come back as they were.
        digest.update(("\n" if number else "").encode() + os.fsencode(line))
        marks.append(mark(known.stamp))
        if len(files) <= _TOLD_APART:
            hashes.append(known.sha256)
        racy = racy or known.racy
    if layout:
        digest.update(f"\n{layout}".encode())
    folder_marks = tuple(mark(stamp) for stamp in listed)
    return ReadFiles(
        digest.hexdigest(), list_files, tuple(files), tuple(marks), tuple(folders), folder_marks, tree, racy,
        tuple(hashes),
    )  # fmt: skip


def mark(stamp: Stamp) -> int:
    # Python's hash of numbers is the same in every process, and 64 bits of a million files do not meet by chance.
    return hash(tuple(stamp))


def _folders(files: Sequence[Path], tree: Path | None) -> list[Path]:
    if tree is None:
        return []
    folders = {tree}
    for folder in {path.parent for path in files}:
        while folder not in folders and folder.is_relative_to(tree):
            folders.add(folder)
            folder = folder.parent
    return sorted(folders)


class Watch:
    """The files of one step, from before its stage begins until its result is published."""

    def __init__(self, step: Step, memory: Fingerprints) -> None:
        self._step = step
        self._memory = memory
        self._files: dict[str, ReadFiles] = {}

    def begin(self) -> None:
        """Raises ChangedInput unless the files are still those of the key."""
        for role, files in self._step.files.items():
            if files.racy or _touched(files) is not None:
                files = same_content(files, self._step.name, self._memory)
            self._files[role] = files

    def end(self) -> None:
        """Raises ChangedInput unless nothing was touched since `begin`."""
        for files in self._files.values():
            touched = _touched(files)
            if touched is None and not files.racy:
                continue
            same_content(files, self._step.name, self._memory)
            if touched is not None:
                raise ChangedInput(touched, f"was touched while {self._step.name} read it")

    def state(self) -> str:
        """What `begin` saw, in one word: another when a file was touched since."""
        digest = hashlib.sha256()
        for role, files in sorted(self._files.items()):
            digest.update(repr((role, files.digest, files.marks, files.folder_marks)).encode())
        return digest.hexdigest()


def unchanged(files: Iterable[ReadFiles], what: str) -> None:
    """Raises ChangedInput when files were touched since they were looked at, and are others now."""
    for role in files:
        if role.racy or _touched(role) is not None:
            same_content(role, what)


def same_content(files: ReadFiles, what: str, memory: Fingerprints | None = None) -> ReadFiles:
    """The files as they are now. Raises ChangedInput when their content is another; what: made of them, in words."""
    try:
        now = look_at(files.list_again, memory or Fingerprints(None), files.tree)
    except (OSError, PocketforgeError) as error:
        gone = _touched(files) or files.tree
        raise ChangedInput(gone, f"changed while the build ran, and {what} is of it: {error}") from error
    if now.digest != files.digest:
        raise ChangedInput(_first_difference(files, now), f"changed while the build ran, and {what} is of it")
    return now


def _touched(files: ReadFiles) -> Path | None:
    """The first file or folder that is not as it was."""
    for path, was in zip(files.paths, files.marks, strict=True):
        try:
            if mark(stamp_of(path)) != was:
                return path
        except (OSError, PocketforgeError):
            return path
    for path, was in zip(files.folders, files.folder_marks, strict=True):
        try:
            if mark(folder_stamp(path)) != was:
                return path
        except OSError:
            return path
    return None


def _first_difference(before: ReadFiles, now: ReadFiles) -> Path:
    other = {*before.paths} ^ {*now.paths}
    if other:
        return min(other)
    marks = zip(before.paths, before.marks, now.marks, strict=True)
    # Where every stamp is as it was, a file changed twice within a tick of the clock: any may be it.
    return next((path for path, was, is_now in marks if was != is_now), before.tree or before.paths[0])
