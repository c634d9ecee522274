"""A weights file, read and written whole: errors in the user's words, and written in one rename."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pocketforge.errors import ModelError
from pocketforge.run.store import explain_os_error


def read_whole(path: Path) -> bytes:
    """The file's bytes. Raises ModelError when it is not there or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"there is no file {path}") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` in place of what was there. Raises StoreError, and then leaves nothing behind."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        raise explain_os_error(error, path.parent, "--output") from error
    finally:
        with contextlib.suppress(OSError):  # the error above says what is wrong with the place
            partial.unlink()
