"""Files of this computer."""

from __future__ import annotations

import hashlib
from pathlib import Path

from android_bench.errors import BadFile


def sha256_of(path: Path) -> str:
    """Raises BadFile."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}", "check the path") from None
