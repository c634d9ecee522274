"""Files, one way to each: read whole, written in one rename, hashed, found; errors in the user's words."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from pocketforge.errors import ModelError, StoreError

# Makes a path written in a recipe absolute.
Resolve = Callable[[str], Path]


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


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def explain_os_error(error: OSError, place: Path, option: str = "--cache-dir") -> StoreError:
    """A StoreError for a failed write: full, read-only, forbidden or broken. `option` chooses another place."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"no space left on the disk of {place}",
            f"free some space (pocketforge cache clear --keep-bytes 1GB) or choose another disk with {option}",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        return StoreError(
            f"cannot write to {place}: {error.strerror}",
            f"choose a folder you can write to with {option}"
            + (" or POCKETFORGE_CACHE_DIR" if option == "--cache-dir" else ""),
        )
    return StoreError(f"cannot use {place}: {error}", f"choose another folder with {option}")


def resolver(data_root: Path | None) -> Resolve:
    """What makes a source's path absolute: relative to `data_root`, else to the current folder."""
    return lambda path: Path(os.path.abspath(os.path.join(data_root or "", os.path.expanduser(path))))
