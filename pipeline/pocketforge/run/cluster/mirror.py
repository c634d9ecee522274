"""The user's files on a worker: a folder that stands for the build's disk, with those files in it that a step reads.

Paths keep their places in it, so that a model file finds what lies beside it. Files are the build's as long as their
digest is that of the step's key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from pocketforge.errors import ChangedInput, StoreError
from pocketforge.files import explain_os_error, hash_file
from pocketforge.plan.steps import ReadFiles, Step
from pocketforge.run.cluster.wire import SentFiles, Task
from pocketforge.run.fingerprints import Fingerprints
from pocketforge.run.inputs import look_at

_WHOLE = "whole"
_DAY_S = 86_400


def sent(files: Mapping[str, ReadFiles]) -> dict[str, SentFiles]:
    """What a worker is told of a step's files."""
    return {
        role: SentFiles(
            read.digest,
            tuple(path.absolute() for path in read.paths),
            read.list_again()[1],
            None if read.tree is None else read.tree.absolute(),
        )
        for role, read in files.items()
    }


def name_of(files: Mapping[str, SentFiles], further: Mapping[Path, str]) -> str:
    """Of the mirror that holds these; empty for none."""
    if not files and not further:
        return ""
    told = sorted((each.digest, str(each.paths)) for each in files.values())
    return hashlib.sha256(repr((told, sorted(further.items()))).encode()).hexdigest()[:32]


def paths_of(files: Mapping[str, SentFiles], further: Mapping[Path, str]) -> dict[str, Path]:
    """Name in a mirror → the file here."""
    everything = {path for each in files.values() for path in each.paths} | set(further)
    return {_name(path): path for path in sorted(everything)}


def _name(path: Path) -> str:
    return str(path.relative_to(path.anchor))


class Mirrors:
    """Those of one worker, in `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._running = ""  # the mirror of the step that runs, which may do so for days

    def folder(self, name: str) -> Path:
        """Of a mirror; of one without files for an empty name."""
        return self._root / (name or "nothing") / "disk"

    def place(self, name: str, path: Path) -> Path:
        """Where a path of the build's is in a mirror."""
        return _place(self.folder(name), path)

    def is_whole(self, name: str) -> bool:
        """Whether it is there. Who asks is about to use it, which counts as a use."""
        whole = (self._root / name / _WHOLE).exists()
        if whole:
            with contextlib.suppress(OSError):
                os.utime(self._root / name)
        return whole

    def arriving(self, token: str) -> Path:
        """An empty folder to put the files in."""
        try:
            self._sweep()
            folder = self._root / f"arriving-{token}" / "disk"
            folder.mkdir(parents=True)
        except OSError as error:
            raise explain_os_error(error, self._root) from error
        return folder

    def finish(self, token: str, name: str) -> None:
        """All that was sent is there: it is the mirror of that name from now on, unless another build sent it, too."""
        arrived = self._root / f"arriving-{token}"
        try:
            (arrived / _WHOLE).touch()
            if not self.is_whole(name):
                self.remove(name)
                arrived.rename(self._root / name)
        except OSError as error:
            if not self.is_whole(name):
                raise explain_os_error(error, self._root) from error
        finally:
            shutil.rmtree(arrived, ignore_errors=True)

    def remove(self, name: str) -> None:
        shutil.rmtree(self._root / name, ignore_errors=True)

    def step(self, task: Task, memory: Fingerprints) -> Step:
        """The step over the files that are here, which stay while it is the last that was asked for. Raises StoreError
        where these are not those of its key."""
        self._running = task.mirror
        place = functools.partial(self.place, task.mirror)
        try:
            place(task.folder).mkdir(parents=True, exist_ok=True)
            for path in (*task.step.paths.values(), *(root for root in task.step.roots if root.is_absolute())):
                here = place(path.absolute())
                if not here.exists():
                    (here.parent if path.suffix else here).mkdir(parents=True, exist_ok=True)
            files = {role: self._look(sent_files, place, memory) for role, sent_files in task.files.items()}
            wrong = [str(path) for path, sha256 in task.further.items() if hash_file(place(path)) != sha256]
        except (OSError, ChangedInput) as error:
            raise StoreError(f"the user's files did not arrive: {error}", "build again") from error
        wrong += [role for role, read in files.items() if read.digest != task.files[role].digest]
        if wrong:
            self.remove(task.mirror)
            raise StoreError(f"the user's files did not arrive as they were sent: {', '.join(wrong)}", "build again")
        return dataclasses.replace(
            task.step,
            files=files,
            paths={role: place(path.absolute()) for role, path in task.step.paths.items()},
            roots=tuple(place(path) if path.is_absolute() else path for path in task.step.roots),
        )

    @staticmethod
    def _look(files: SentFiles, place: functools.partial[Path], memory: Fingerprints) -> ReadFiles:
        def listed() -> tuple[Iterable[Path], str]:
            return [place(path) for path in files.paths], files.layout

        return look_at(listed, memory, None if files.tree is None else place(files.tree))

    def _sweep(self) -> None:
        """Those that nothing was done with for a day go."""
        for folder in self._root.iterdir() if self._root.is_dir() else ():
            if folder.name != self._running and folder.stat().st_mtime < time.time() - _DAY_S:
                shutil.rmtree(folder, ignore_errors=True)


def _place(root: Path, path: Path) -> Path:
    return root / _name(path)
