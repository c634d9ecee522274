"""Locks between processes: files that the kernel unlocks when their holder dies, with whom one waits for in them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import stat
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

from pocketforge.errors import StoreError
from pocketforge.files import explain_os_error
from pocketforge.folders import LOCKS_VARIABLE, locks_dir

HOST_BENCHMARK = "host-benchmark"
_POLL_S = 0.2


def never() -> bool:
    return False


@contextlib.contextmanager
def hold(
    path: Path,
    waits: Callable[[str], None],
    *,
    give_up: Callable[[], bool] = never,
    remove: bool = True,
) -> Iterator[bool]:
    """Hold the lock file `path` alone; yields whether it had to be waited for.

    waits: called once, when waiting begins, with who holds the lock. give_up: asked while waiting; when true,
    StoreError is raised instead of waiting on. remove: leave no file behind. Raises OSError.
    """
    descriptor, waited = _acquire(path, waits, give_up)
    if not remove:
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, 0o666)  # whatever the umask of who made it
    try:
        about = {"pid": os.getpid(), "host": platform.node(), "since": time.time()}
        with contextlib.suppress(OSError):  # another user's file, or a full disk: the lock holds without words
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(about).encode(), 0)
        yield waited
    finally:
        with contextlib.suppress(OSError):
            # While it is held: whoever opened it meanwhile finds that it is no longer the file of that name.
            if remove:
                path.unlink()
            else:
                os.ftruncate(descriptor, 0)
        os.close(descriptor)


def _acquire(path: Path, waits: Callable[[str], None], give_up: Callable[[], bool]) -> tuple[int, bool]:
    waited = False
    while True:
        descriptor = _opened(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        else:
            if is_file_of(descriptor, path):
                return descriptor, waited
            os.close(descriptor)
            continue
        if not waited:
            waits(holder)
            waited = True
        if give_up():
            raise StoreError(f"gave up waiting for {holder}, which holds {path}")
        time.sleep(_POLL_S)


def _opened(path: Path) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            return os.open(path, os.O_RDWR | flags)
        except PermissionError:
            return os.open(path, os.O_RDONLY | flags)  # another user's: it can be locked all the same
        except FileNotFoundError:
            # Never O_CREAT alone: in /tmp, kernels refuse that on another user's file.
            with contextlib.suppress(FileExistsError):
                return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, 0o666)


def is_file_of(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    try:
        about = json.loads(os.pread(descriptor, 4096, 0))
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about["since"]))
        where = "" if about["host"] == platform.node() else f" on {about['host']}"
        return f"process {int(about['pid'])}{where} (since {since})"
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return "another process"


@contextlib.contextmanager
def hold_of_machine(name: str, waits: Callable[[str], None], *, give_up: Callable[[], bool] = never) -> Iterator[None]:
    """Hold what this machine has once, whichever cache, TMPDIR or user: HOST_BENCHMARK, or the place of a phone."""
    folder = locks_dir()
    with contextlib.ExitStack() as stack:
        try:
            _make_for_all(folder)
            path = folder / f"{urllib.parse.quote(name, safe='')}.lock"
            stack.enter_context(hold(path, waits, give_up=give_up, remove=False))
        except OSError as error:
            raise explain_os_error(error, folder, LOCKS_VARIABLE) from error
        yield


def _make_for_all(folder: Path) -> None:
    """As /tmp is: every user may make files, and remove only their own."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
    else:
        with contextlib.suppress(OSError):
            folder.chmod(0o1777)
