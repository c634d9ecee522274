"""What was not foreseen: one line for the user, and the whole story in a file that the line names."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Sequence
from pathlib import Path

from pocketforge.errors import EXIT_INTERNAL, EXIT_STAGE, EXIT_USAGE, first_line
from pocketforge.folders import cache_dir
from pocketforge.version import version

DEBUG_VARIABLE = "POCKETFORGE_DEBUG"
_KEPT = 20
# A URL's password, and one among its parameters: a log is sent to others.
_PASSWORDS = (
    (re.compile(r"(://[^\s:/@]*):\S*@"), r"\1:***@"),
    (re.compile(r"\b(password=)[^\s&'\"]*"), r"\1***"),
)
# A path that no system opens: whoever wrote it mends it, and a traceback would not help.
_NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP)
# Ours to mend, even though the system said it: we asked it for something that makes no sense.
_OUR_FAULT = (errno.EINVAL, errno.EBADF, errno.EFAULT)


def tell(error: BaseException, argv: Sequence[str]) -> tuple[str, int]:
    """One line about an error that nothing else explained, and the exit code; the traceback goes into a log.

    A system that refuses (a file that cannot be read, no memory, no processes) is no fault of the program: exit code 3.
    With POCKETFORGE_DEBUG set the traceback is on stderr, too.
    """
    if isinstance(error, OSError) and error.errno in _NO_PATH:
        return f"{_shown(error.filename)}{error.strerror}", EXIT_USAGE
    log = _write(error, argv)
    if os.environ.get(DEBUG_VARIABLE) and sys.stderr is not None:
        traceback.print_exception(error)
    where = f"the traceback is in {log}" if log else f"no log could be written; {DEBUG_VARIABLE}=1 shows the traceback"
    if isinstance(error, MemoryError):
        return f"out of memory; {where}", EXIT_STAGE
    if isinstance(error, OSError) and error.errno and (error.errno not in _OUR_FAULT or error.filename):
        return f"{_shown(error.filename)}{error.strerror or error}; {where}", EXIT_STAGE
    return f"internal error: {first_line(error)}; {where}", EXIT_INTERNAL


def _shown(name: object) -> str:
    return f"cannot use {os.fsdecode(name)}: " if isinstance(name, str | bytes | os.PathLike) else ""


def _write(error: BaseException, argv: Sequence[str]) -> Path | None:
    """The log, beside the stored results, else where temporary files go; None where neither can be written."""
    text = "\n".join(
        [
            f"pocketforge {_version()}, Python {platform.python_version()}, {platform.platform()}",
            f"arguments: {list(argv)!r}",
            f"folder: {_folder()}",
            "",
            *traceback.format_exception(error),
        ]
    )
    for password, instead in _PASSWORDS:
        text = password.sub(instead, text)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{uuid.uuid4().hex[:4]}.log"
    for folder in (_logs, lambda: Path(tempfile.gettempdir())):
        with contextlib.suppress(Exception):  # whatever is wrong there, the other may do
            place = folder()
            place.mkdir(parents=True, exist_ok=True)
            path = place / f"error-{name}"
            # New, and for nobody else's eyes: a folder for all to write in may hold a link of that name.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            _forget_old(place)
            return path
    return None


def _logs() -> Path:
    return cache_dir() / "logs"


def _forget_old(folder: Path) -> None:
    with contextlib.suppress(OSError):
        if folder == _logs():
            for path in sorted(folder.glob("error-*.log"))[:-_KEPT]:
                path.unlink()


def _version() -> str:
    try:
        return version()
    except Exception:  # an installation that is broken may be what there is to tell
        return "of unknown version"


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "gone"
