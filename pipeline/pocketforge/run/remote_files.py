"""Files of a remote store, whatever fsspec reaches them by: read and written whole, listed, removed, within a time.

A file appears whole or not at all: object stores do so by themselves, elsewhere it is written under another name and
renamed. Whatever a library raises is one RemoteStoreError with its cause; a call that gives no answer in time is left
behind in its thread.
"""

from __future__ import annotations

import contextlib
import posixpath
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from pocketforge.errors import PocketforgeError, RecipeError, RemoteStoreError, ToolMissing, first_line
from pocketforge.run.remote_place import FILE, OBJECTS, SFTP, RemotePlace
from pocketforge.version import install

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")
# For one call, which moves at most one part (remote_manifest.py): 70 kB/s, or nothing for so long.
PATIENCE_S = 60.0
_LOGIN_S = 20.0
_POLL_S = 0.1
UNFINISHED = ".part"
# Errors that another try meets again.
_FINAL = (FileNotFoundError, PermissionError, NotImplementedError, IsADirectoryError, NotADirectoryError)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file there.

    Attributes:
        name: Below the store's folder.
        size_bytes: Of its content.
        written: When, in seconds since 1970.
    """

    name: str
    size_bytes: int
    written: float


def never() -> bool:
    return False


class RemoteFiles:
    """give_up: asked while a call is waited for; when true, RemoteStoreError is raised instead."""

    def __init__(
        self, place: RemotePlace, *, patience_s: float = PATIENCE_S, give_up: Callable[[], bool] = never
    ) -> None:
        self.place = place
        self.give_up = give_up
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._opened: tuple[AbstractFileSystem, str] | None = None
        # Where a listing or a rename is no single call of the server's, files are put in place by a rename.
        self._renames = place.scheme not in OBJECTS

    def read(self, name: str) -> bytes | None:
        """A file's bytes; None where there is none."""

        def call(files: AbstractFileSystem, root: str) -> bytes | None:
            try:
                return bytes(files.cat_file(f"{root}/{name}"))
            except FileNotFoundError:
                return None

        return self._do(f"read {name} from", call)

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place of what was there."""

        def call(files: AbstractFileSystem, root: str) -> None:
            path = f"{root}/{name}"
            if not self._renames:
                files.pipe_file(path, data)
                return
            draft = f"{path}.{uuid.uuid4().hex}{UNFINISHED}"
            try:
                files.makedirs(posixpath.dirname(path), exist_ok=True)
                files.pipe_file(draft, data)
                files.mv(draft, path)
            except BaseException:
                with contextlib.suppress(Exception):  # the error says what is wrong with the place
                    files.rm_file(draft)
                raise

        self._do(f"write {name} to", call)

    def sizes(self, folder: str) -> dict[str, int]:
        """Name in a folder → bytes; empty where there is no such folder."""

        def call(files: AbstractFileSystem, root: str) -> dict[str, int]:
            files.invalidate_cache()
            try:
                found = files.ls(f"{root}/{folder}", detail=True)
            except FileNotFoundError:
                return {}
            return {posixpath.basename(each["name"]): int(each["size"]) for each in found if each["type"] == "file"}

        return self._do(f"list {folder} of", call)

    def written(self, name: str) -> float | None:
        """When a file was written, in seconds since 1970; None where there is none."""

        def call(files: AbstractFileSystem, root: str) -> float | None:
            files.invalidate_cache()
            try:
                return _written(files.info(f"{root}/{name}"))
            except FileNotFoundError:
                return None

        return self._do(f"look at {name} in", call)

    def all(self, folder: str) -> list[RemoteFile]:
        """Every file below a folder."""

        def call(files: AbstractFileSystem, root: str) -> list[RemoteFile]:
            files.invalidate_cache()
            found = files.find(f"{root}/{folder}", detail=True)
            start = len(root.lstrip("/")) + 1
            # Some object stores keep a folder that was emptied, and tell of it as of an object.
            files_in_it = {
                below: each
                for name, each in found.items()
                if each["type"] == "file" and (below := name.lstrip("/")[start:]).startswith(f"{folder}/")
            }
            return [RemoteFile(name, int(each["size"]), _written(each)) for name, each in files_in_it.items()]

        return self._do(f"list {folder} of", call, patient=True)

    def remove(self, name: str) -> None:
        """One that is not there is removed already."""

        def call(files: AbstractFileSystem, root: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                files.rm_file(f"{root}/{name}")

        self._do(f"remove {name} from", call)

    def remove_folder(self, name: str) -> None:
        """One that holds nothing. Object stores have none; one that is not empty, or gone, is left as it is."""

        def call(files: AbstractFileSystem, root: str) -> None:
            with contextlib.suppress(Exception):  # each kind has an error of its own for a folder that is not empty
                files.rmdir(f"{root}/{name}")

        if self._renames:
            self._do(f"remove {name} from", call)

    def _do(self, what: str, call: Callable[[AbstractFileSystem, str], T], *, patient: bool = False) -> T:
        """A call, and once more over a new connection where the first broke. patient: it asks the server many times."""
        for tried in range(2):
            try:
                return self._within(lambda: call(*self._file_system()), self._patience_s * (10 if patient else 1))
            except (PocketforgeError, KeyboardInterrupt):
                raise
            except BaseException as error:
                if tried or isinstance(error, _FINAL):
                    raise self._told(what, error) from None
                with self._lock:
                    self._opened = None
        raise AssertionError("unreachable")

    def _told(self, what: str, error: BaseException) -> RemoteStoreError:
        cause = self.place.hide(first_line(error))
        return RemoteStoreError(f"cannot {what} {self.place.words}: {cause}", _hint(error))

    def _within(self, call: Callable[[], T], patience_s: float) -> T:
        """What a call in a thread gives. Libraries' own limits are of many kinds, and some have none."""
        answers: list[T] = []
        errors: list[BaseException] = []
        done = threading.Event()

        def run() -> None:
            try:
                answers.append(call())
            except BaseException as error:
                errors.append(error)
            finally:
                done.set()

        threading.Thread(target=run, daemon=True, name="remote-store").start()
        deadline = time.monotonic() + patience_s
        while not done.wait(_POLL_S):
            if self.give_up():
                raise RemoteStoreError(f"{self.place.words} is not waited for any more")
            if time.monotonic() > deadline:
                raise RemoteStoreError(
                    f"{self.place.words} gave no answer within {patience_s:g} s",
                    "is the server up, and the link not slower than 70 kB/s?",
                )
        if errors:
            raise errors[0]
        return answers[0]

    def _file_system(self) -> tuple[AbstractFileSystem, str]:
        with self._lock:
            if self._opened is None:
                self._opened = _connect(self.place)
            return self._opened


def check_kind(place: RemotePlace) -> None:
    """Raises RecipeError for a scheme that nothing knows, ToolMissing where what knows it is not installed."""
    fsspec = _fsspec()
    if place.scheme in SFTP:
        _ssh()
        return
    try:
        fsspec.get_filesystem_class(place.scheme)
    except ValueError:
        raise RecipeError(
            f"no remote store is reached by {place.scheme!r}",
            f"fsspec knows {', '.join(sorted(fsspec.available_protocols()))}",
        ) from None
    except ImportError as error:
        raise ToolMissing(
            f"{place.scheme}:// needs a package that is not installed: {error}", install("remote")
        ) from None


def _connect(place: RemotePlace) -> tuple[AbstractFileSystem, str]:
    """A file system of our own, and the store's folder in it."""
    fsspec = _fsspec()
    alone: dict[str, Any] = {"skip_instance_cache": True}
    if place.scheme in FILE:
        return fsspec.filesystem("file", **alone), place.path
    if place.scheme in SFTP:
        # Unless told, sshfs has asyncssh take whatever host key comes (known_hosts=None). (): those of the user's file.
        given = {"port": place.port, "username": place.user, "password": place.password}
        return _ssh()(
            place.host.strip("[]"), known_hosts=(), login_timeout=_LOGIN_S, timeout=2 * _LOGIN_S, **alone,
            **{name: value for name, value in given.items() if value is not None},
        ), place.path  # fmt: skip
    if place.scheme in ("s3", "s3a"):
        limits = {"connect_timeout": _LOGIN_S, "read_timeout": PATIENCE_S}
        alone |= {"config_kwargs": limits, "use_listings_cache": False}
    files, root = fsspec.core.url_to_fs(place.url, **alone)
    return files, root.rstrip("/")


def _fsspec() -> Any:
    try:
        import fsspec
    except ImportError:
        raise ToolMissing(
            "a remote store needs the package fsspec, which is not installed", install("remote")
        ) from None
    return fsspec


def _ssh() -> Any:
    """Not fsspec's own, which adds any host key that a server shows to those that it trusts."""
    try:
        from sshfs import SSHFileSystem
    except ImportError:
        raise ToolMissing("sftp:// needs the package sshfs, which is not installed", install("remote")) from None
    return SSHFileSystem


def _written(info: dict[str, Any]) -> float:
    """Kinds tell it under names and in forms of their own."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                return datetime.fromisoformat(value).timestamp()
    raise ValueError(f"it does not say when {info['name']} was written, which clearing goes by")


def _hint(error: BaseException) -> str:
    kind = type(error).__name__
    if kind == "HostKeyNotVerifiable":
        return "the server's key is not in ~/.ssh/known_hosts: connect once by ssh, or add what ssh-keyscan gives"
    if isinstance(error, PermissionError) or kind in ("PermissionDenied", "NoCredentialsError"):
        return "are the credentials there, and may they do this? To read alone: POCKETFORGE_REMOTE_READ_ONLY=1"
    return ""
