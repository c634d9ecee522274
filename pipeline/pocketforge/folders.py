"""Folders: where the cache is (`--cache-dir`, else POCKETFORGE_CACHE_DIR, else the user's cache folder), where this
machine's locks are, and where modules come from."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

VARIABLE = "POCKETFORGE_CACHE_DIR"
ENVIRONMENTS_VARIABLE = "POCKETFORGE_ENVIRONMENTS_DIR"
PHONES_VARIABLE = "POCKETFORGE_PHONES_DIR"
LOCKS_VARIABLE = "POCKETFORGE_LOCKS_DIR"
HISTORY_VARIABLE = "POCKETFORGE_HISTORY"
REMOTE_VARIABLE = "POCKETFORGE_REMOTE_STORE"
REMOTE_PUBLIC_KEY_VARIABLE = "POCKETFORGE_REMOTE_PUBLIC_KEY"
REMOTE_SIGNING_KEY_VARIABLE = "POCKETFORGE_REMOTE_SIGNING_KEY"
REMOTE_READ_ONLY_VARIABLE = "POCKETFORGE_REMOTE_READ_ONLY"
CLUSTER_VARIABLE = "POCKETFORGE_CLUSTER_DIR"
_SAFE_PATH = "PYTHONSAFEPATH"


class _Asked:
    """What the command line that runs says."""

    cache: Path | None = None


def cache_dir() -> Path:
    """The root of stored results."""
    return _Asked.cache or _chosen(VARIABLE) or _user_cache()


@contextlib.contextmanager
def own_choice() -> Iterator[None]:
    """What `choose_cache` says holds until this ends: one command line's options are not the next one's."""
    _Asked.cache = None
    try:
        yield
    finally:
        _Asked.cache = None


def choose_cache(folder: Path) -> None:
    """`--cache-dir`: it goes before POCKETFORGE_CACHE_DIR."""
    _Asked.cache = folder.expanduser().absolute()


def environments_dir() -> Path:
    """Python environments of runtimes that cannot live beside ours. Clearing or moving the cache leaves them be."""
    return _chosen(ENVIRONMENTS_VARIABLE) or _user_cache() / "environments"


def phones_dir() -> Path:
    """What was measured of phones themselves. Like environments, it outlives the cache."""
    return _chosen(PHONES_VARIABLE) or _user_cache() / "phones"


def history_file() -> Path:
    """Where builds are kept that a history is asked to keep without saying where: no cache, since it cannot be made
    again."""
    from platformdirs import user_data_path

    return user_data_path("pocketforge", appauthor=False) / "history.sqlite"


def cluster_dir() -> Path:
    """Certificates by which the machines of a cluster know each other: no cache, and no more than one cluster's."""
    from platformdirs import user_data_path

    return _chosen(CLUSTER_VARIABLE) or user_data_path("pocketforge", appauthor=False) / "cluster"


def locks_dir() -> Path:
    """Locks of what the whole machine has once: its processors while one benchmarks, a phone. Neither the cache nor
    TMPDIR nor the user decides where, or two builds would each hold one of their own."""
    return _chosen(LOCKS_VARIABLE) or Path("/tmp/pocketforge-locks")  # noqa: S108 - see run/locks.py


def _chosen(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser().absolute() if value else None


def _user_cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("pocketforge", appauthor=False)


def shipped_dir(name: str) -> Path:
    """A folder that ships (`models`, `device_profiles`): inside an installed package, or at the root of a checkout."""
    package = Path(__file__).parent
    installed = package / "_shipped" / name
    return installed if installed.is_dir() else package.parents[1] / name


def leave_working_folder() -> None:
    """Take the working folder off `sys.path`: a numpy.py or onnx.py of the user's is not the library of that name.

    `python -m` puts it there, and so does a PYTHONPATH with "." or an empty entry. The user's own code gets it back
    (model/user_code.py).
    """
    sys.path[:] = own_path(sys.path)


def own_path(path: Sequence[str]) -> list[str]:
    """`sys.path` without the working folder and the folder of the script that runs.

    They stay where they are what holds Pocketforge itself, in a checkout, or installed packages.
    """
    users = {os.path.dirname(os.path.realpath(script))} if (script := _script()) else set()
    with contextlib.suppress(OSError):  # the working folder is gone: nothing is found there
        here = os.path.realpath(os.getcwd())
        users.add(here)
        path = [entry or here for entry in path]
    package = Path(os.path.realpath(__file__)).parent
    users -= {str(package.parent), str(package.parents[1])}
    installed = ("site-packages", "dist-packages")
    return [entry for entry in path if os.path.realpath(entry) not in users or entry.endswith(installed)]


class _Behind:
    """`sys.path` as it was before `own_modules` and as that made it, for how many."""

    lock = threading.Lock()
    users = 0
    before: ClassVar[list[str]] = []
    made: ClassVar[list[str]] = []


@contextlib.contextmanager
def own_modules() -> Iterator[None]:
    """In a program of the user's: within, what is in their folders stands behind what is installed. Their threads still
    find their own modules. Afterwards `sys.path` is as it was.
    """
    with _Behind.lock:
        _Behind.users += 1
        if _Behind.users == 1:
            kept = own_path(sys.path)
            _Behind.before = list(sys.path)
            _Behind.made = sys.path[:] = [*kept, *(entry for entry in sys.path if entry not in kept)]
    try:
        yield
    finally:
        with _Behind.lock:
            _Behind.users -= 1
            if not _Behind.users:
                # With what others have put in front of it, or behind, and without what they took away.
                now = list(sys.path)
                added = [entry for entry in now if entry not in _Behind.made]
                front = [entry for entry, first in zip(added, now, strict=False) if entry == first]
                sys.path[:] = [*front, *(entry for entry in _Behind.before if entry in now), *added[len(front) :]]


def _script() -> str:
    """The file that Python was started with; empty where it was none."""
    return getattr(sys.modules["__main__"], "__file__", None) or ""


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """Python processes started within look for no modules in the working folder (PYTHONSAFEPATH, Python 3.11)."""
    with in_environment(_SAFE_PATH, "1"):
        yield


@contextlib.contextmanager
def in_environment(name: str, value: str) -> Iterator[None]:
    """The variable is set for the processes started within."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
