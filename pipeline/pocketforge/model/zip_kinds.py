"""What kind of PyTorch file a zip is, by the names of its members: nothing of it is loaded."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path


def holds_torchscript(names: Iterable[str]) -> bool:
    """Whether members of these names are a TorchScript file: code, and constants beside it."""
    inside = {name.partition("/")[2] for name in names}
    return "constants.pkl" in inside or any(name.startswith("code/") for name in inside)


def is_torchscript(path: Path) -> bool:
    """False also for what is no zip, or none that can be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return holds_torchscript(names)
