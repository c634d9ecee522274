"""How far two results of one file on one phone lie apart (A/A), kept for each phone and used by the gate."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketforge.errors import StoreError
from pocketforge.files import explain_os_error, write_whole
from pocketforge.folders import PHONES_VARIABLE, phones_dir


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """How far two measurements of one file lie apart on a phone.

    Attributes:
        relative: A fraction of the latency.
        measured: The day, as 2026-11-22.
        identity: Of the phone as it then was.
        cores: On which of its cores.
        model: The file's name.
        sha256: Of the file.
    """

    relative: float
    measured: str
    identity: str
    cores: str
    model: str
    sha256: str

    def __str__(self) -> str:
        return f"A/A of {self.model} on the {self.cores} cores, {self.measured}"


def _file(serial: str) -> Path:
    # Serials may hold what file names may not.
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in serial)
    return phones_dir() / f"{name}.json"


def load(serial: str, identity: str, cores: str) -> NoiseFloor | None:
    """What was measured on this phone as it is now and on these cores; None when nothing was.

    Raises StoreError for a file that cannot be read.
    """
    path = _file(serial)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        found = [NoiseFloor(**entry) for entry in kept["noise_floors"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"cannot read the noise floors in {path}: {error}", "remove that file, and measure again"
        ) from None
    if kept.get("serial") != serial:
        return None
    return next((floor for floor in found if (floor.identity, floor.cores) == (identity, cores)), None)


def save(serial: str, floor: NoiseFloor) -> Path:
    """Keep it in place of the last one for these cores. Raises StoreError."""
    path = _file(serial)
    try:
        before: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        others = [entry for entry in before["noise_floors"] if entry["cores"] != floor.cores]
    except (OSError, ValueError, TypeError, KeyError):
        others = []  # absent, or damaged: it is written anew
    text = json.dumps({"serial": serial, "noise_floors": [*others, asdict(floor)]}, indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, path.parent, PHONES_VARIABLE) from error
    write_whole(path, (text + "\n").encode(), PHONES_VARIABLE)
    return path


def today() -> str:
    return time.strftime("%Y-%m-%d")
