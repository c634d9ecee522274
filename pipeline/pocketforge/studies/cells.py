"""What a study has found so far, one small JSON file a piece, so that a kill loses at most the piece being made."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pocketforge.files import explain_os_error


def key_of(about: Any) -> str:
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

    def get(self, key: str) -> dict[str, Any] | None:
        """A result, or None when there is none (or it is damaged: then it is made again)."""
        try:
            found = json.loads((self.folder / f"{key}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def put(self, key: str, result: Mapping[str, Any]) -> None:
        """Keep a result, in one rename."""
        draft = self.folder / f".{key}.{os.getpid()}.part"
        try:
            draft.write_text(json.dumps(result, indent=1, sort_keys=True, allow_nan=False) + "\n", "utf-8")
            os.replace(draft, self.folder / f"{key}.json")
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise explain_os_error(error, self.folder, "--out") from error

    def once(self, key: str, make: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
        """The result of `key`, made and kept if it is not there; and whether it was there."""
        found = self.get(key)
        if found is not None:
            return found, True
        made = make()
        self.guard()
        self.put(key, made)
        # As it will be read back: the same types in every run (JSON has no tuples).
        return json.loads(json.dumps(made)), False

    def partial(self, key: str) -> Path:
        path = self.folder / "partial" / key
        path.mkdir(parents=True, exist_ok=True)
        return path

    def forget_partial(self, key: str) -> None:
        shutil.rmtree(self.folder / "partial" / key, ignore_errors=True)

    def files(self, name: str) -> Path:
        """Where the files of a structure lie; empty or not there when it was not exported."""
        return self.folder / "files" / name
