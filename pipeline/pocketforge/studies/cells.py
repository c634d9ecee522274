"""What a study has found so far, one small JSON file a piece, so that a kill loses at most the piece being made."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, Self, TypeVar

from pocketforge.files import explain_os_error, write_whole
from pocketforge.outcomes import files


class Keepable(Protocol):
    """What can be kept: it becomes JSON, and comes back from it."""

    def to_json(self) -> dict[str, object]: ...

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Self:
        """Raises ValueError for what is none."""
        ...


class Plain:
    """A frozen dataclass that is JSON field by field."""

    __slots__ = ()

    def to_json(self) -> dict[str, object]:
        """Every field by its name; without those at their default, where the class has OMIT_UNSET."""
        values: dict[str, object] = files.to_json(self)
        return values

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Self:
        """Raises ValueError with every key that is wrong."""
        return files.from_json(data, cls)


Kind = TypeVar("Kind", bound=Keepable)


def key_of(about: object) -> str:
    """SHA-256 of plain data: what a result depends on."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


class Cells:
    """Results by key in a folder.

    FOLDER/KEY.json         one result
    FOLDER/partial/KEY/     half-done work, to go on from
    FOLDER/files/NAME/      exported model files that are still to be timed
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Called before a result is kept; raises when it is not of what its key says.
        self.guard: Callable[[], None] = lambda: None
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, folder, "--out") from error

    def get(self, key: str, kind: type[Kind]) -> Kind | None:
        """A result, or None when there is none (or it is damaged: then it is made again)."""
        try:
            return kind.from_json(json.loads((self.folder / f"{key}.json").read_text("utf-8")))
        except (OSError, ValueError):
            return None

    def put(self, key: str, result: Keepable) -> None:
        """Keep a result, in one rename. Raises StoreError."""
        text = json.dumps(result.to_json(), indent=1, sort_keys=True, allow_nan=False) + "\n"
        write_whole(self.folder / f"{key}.json", text.encode(), "--out")

    def once(self, key: str, kind: type[Kind], make: Callable[[], Kind]) -> tuple[Kind, bool]:
        """The result of `key`, made and kept if it is not there; and whether it was there."""
        known = self.get(key, kind)
        if known is not None:
            return known, True
        result = make()
        self.guard()
        self.put(key, result)
        return result, False

    def partial(self, key: str) -> Path:
        """A folder for half-done work."""
        path = self.folder / "partial" / key
        path.mkdir(parents=True, exist_ok=True)
        return path

    def forget_partial(self, key: str) -> None:
        """The work is done, or no longer wanted."""
        shutil.rmtree(self.folder / "partial" / key, ignore_errors=True)

    def files(self, name: str) -> Path:
        """Where the files of a structure lie; empty or not there when it was not exported."""
        return self.folder / "files" / name
