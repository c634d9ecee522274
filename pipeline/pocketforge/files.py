"""Files, one way to each: read whole, written in one rename, hashed, found; errors in the user's words."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import json
import math
import os
import re
import stat
import tempfile
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pocketforge.errors import ModelError, StoreError

# Control characters of C1, line and paragraph separators, changes of direction, halves of surrogate pairs.
_OBEYED = re.compile("[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

# Drafts of files that are written whole: what a killed process leaves, in the folder of the file.
DRAFTS = ".*.part"
# Makes a path written in a recipe absolute.
Resolve = Callable[[str], Path]


def is_special(path: Path) -> bool:
    """Is there a pipe, a socket or a device: what may never end, or never begin to answer, when it is read?"""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # what is not there is not special; the reader says that it is not there
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def refuse_special(path: Path) -> None:
    """Raises OSError for a path that `is_special`, with its name; where OSErrors are said to the user anyway."""
    if is_special(path):
        raise OSError(errno.EINVAL, "it is no regular file (a pipe, a socket or a device)", str(path))


def read_whole(path: Path) -> bytes:
    """The file's bytes. Raises ModelError when it is not there or cannot be read."""
    try:
        refuse_special(path)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"there is no file {path}") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error


def write_whole(path: Path, data: bytes, option: str = "--output") -> None:
    """Put `data` in place of what was there, in one rename. Raises StoreError, and then leaves nothing behind.

    option: what chooses another place, for the error.
    """
    try:
        replace_whole(path, data)
    except OSError as error:
        raise explain_os_error(error, path.parent, option) from error


def replace_whole(path: Path, data: bytes, *, on_disk: bool = False) -> None:
    """As `write_whole`, for where OSErrors are said by the caller.

    on_disk: also after a power cut; without it, that can leave the new name on an empty file.
    """
    draft = path.with_name(f".{uuid.uuid4().hex}.part")  # the name may be as long as names can be
    try:
        draft.write_bytes(data)
        if on_disk:
            sync(draft)
        os.replace(draft, path)
    finally:
        with contextlib.suppress(OSError):  # an error above says what is wrong with the place
            draft.unlink()


def json_text(value: object) -> str:
    """JSON as people read it: letters of all languages as they are, but no character that a terminal obeys.

    Names come from the user's folders and files; JSON itself escapes only those before the space. Raises ValueError for
    NaN and infinities, which JSON has not.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True, allow_nan=False)
    return _OBEYED.sub(lambda found: f"\\u{ord(found.group()):04x}", text) + "\n"


def indented_json(value: object, indent: int) -> str:
    """`json.dumps(value, indent=indent, sort_keys=True, allow_nan=False)`, to the byte, without a step of Python's for
    each number of a long list: a report holds every timed inference. Raises ValueError for NaN and infinities.
    """
    compact = json.JSONEncoder(sort_keys=True, allow_nan=False).encode

    def written(part: object, margin: str) -> str:
        inner = margin + " " * indent
        if isinstance(part, dict) and part:
            items = (f"{compact({key: 0})[1:-4]}: {written(each, inner)}" for key, each in sorted(part.items()))
            return f"{{{inner}{f',{inner}'.join(items)}{margin}}}"
        if isinstance(part, list | tuple) and part:
            if {*map(type, part)} <= {int, float}:
                return f"[{inner}{compact(part)[1:-1].replace(', ', f',{inner}')}{margin}]"
            return f"[{inner}{f',{inner}'.join(written(each, inner) for each in part)}{margin}]"
        return compact(part)

    return written(value, "\n")


def not_finite(value: object, place: str = "") -> str | None:
    """Where JSON holds a number that is NaN or infinite, as `gates[3].value`; None where it holds none.

    JSON has no such numbers; Python's reads and writes them all the same. place: of `value` itself.
    """
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    parts: Iterable[tuple[str, object]] = ()
    if isinstance(value, Mapping):
        parts = ((f"{place}.{key}" if place else str(key), each) for key, each in value.items())
    elif isinstance(value, list | tuple):
        parts = ((f"{place}[{index}]", each) for index, each in enumerate(value))
    found = (not_finite(each, name) for name, each in parts)
    return next((each for each in found if each is not None), None)


def exchange(one: Path, other: Path) -> bool:
    """Each takes the other's place, in one step; both must be there. False where this system or disk has no such step.

    Raises OSError.
    """
    call = _exchange_call()
    if call is None:
        return False
    if call(os.fsencode(one), os.fsencode(other)) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


@functools.cache
def _exchange_call() -> Callable[[bytes, bytes], int] | None:
    """Linux's renameat2 (glibc 2.28) or macOS's renamex_np; Python has neither."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = -100  # AT_FDCWD
    if hasattr(libc, "renameat2"):
        return lambda one, other: int(libc.renameat2(here, one, here, other, ctypes.c_uint(2)))  # RENAME_EXCHANGE
    if hasattr(libc, "renamex_np"):
        return lambda one, other: int(libc.renamex_np(one, other, ctypes.c_uint(2)))  # RENAME_SWAP
    return None


def check_writable(folder: Path) -> None:
    """Raises OSError where no file can be made. The one that is tried has no name, where the disk has such: a kill
    leaves nothing."""
    tempfile.TemporaryFile(dir=folder).close()


def sync_tree(folder: Path) -> None:
    """Wait until a folder, and all that is in it, is on the disk. Raises OSError."""
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            sync(path)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # some file systems keep folders by themselves
            raise
    finally:
        os.close(descriptor)


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, as hex. Raises OSError, also for what is no regular file."""
    refuse_special(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def gzip_size_bytes(path: Path) -> int:
    """What a file takes packed by gzip -9, which is read in parts and written nowhere. Raises OSError."""
    packer = zlib.compressobj(9, wbits=31)
    size_bytes = 0
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            size_bytes += len(packer.compress(part))
    return size_bytes + len(packer.flush())


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
    return StoreError(f"cannot use {place}: {error.strerror or error}", f"choose another folder with {option}")


def resolver(data_root: Path | None) -> Resolve:
    """What makes a source's path absolute: relative to `data_root`, else to the current folder."""
    return lambda path: Path(os.path.abspath(os.path.join(data_root or "", os.path.expanduser(path))))
