"""The fork server that stages come from: ours alone, whoever's process this is.

multiprocessing has one fork server a process, which is the user's where Pocketforge is imported by a program. Ours
stands beside it. What stages start from differs from what multiprocessing would give them in two things: the user's
script is not run again (so it needs no `if __name__ == "__main__"`), and modules are looked for neither in the working
folder nor in the script's.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import connection, forkserver, popen_forkserver, reduction, resource_tracker, spawn, util
from multiprocessing.context import set_spawning_popen
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar, TypeAlias

from pocketforge.folders import in_environment, own_path, safe_path

PRELOAD_VARIABLE = "POCKETFORGE_PRELOAD"
# Pickled both ways; who receives asks what it is.
Pipe: TypeAlias = "connection.Connection[Any, Any]"


class StageServer(forkserver.ForkServer):
    """Of one process, which starts it with its first stage, and ends it as `in_use` says, else with itself."""

    def __init__(self) -> None:
        super().__init__()
        self._users = 0
        self._count = threading.Lock()
        self._one = threading.Lock()  # sets the environment for what it starts, and back
        self._owner = os.getpid()
        self.preload(())

    def preload(self, modules: Sequence[str]) -> None:
        """What a server that is not started yet imports before its first stage."""
        self.modules = tuple(modules)
        self.set_forkserver_preload(["pocketforge.run.preloaded"] if modules else [])

    def ensure_running(self) -> None:
        """As multiprocessing's. With SIGINT blocked: a ^C in the terminal goes to every process of the group, and
        would end the server with a traceback while it still imports. Who starts a process hands its signal mask down.
        """
        self._leave_to_parent()
        told = json.dumps({"modules": self.modules, "path": own_path(sys.path)})
        # Both run `python -c`, which looks for modules in the working folder first: a user's own onnx.py or types.py.
        with self._one, safe_path(), in_environment(PRELOAD_VARIABLE, told):
            # Starting the tracker (which ignores SIGINT by itself) unblocks SIGINT: first that, then the server.
            resource_tracker.ensure_running()
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                super().ensure_running()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _leave_to_parent(self) -> None:
        if self._owner != os.getpid():  # a fork of its owner: that server is not our child
            modules = self.modules
            self.__init__()  # type: ignore[misc]
            self.preload(modules)

    def kill(self) -> None:
        """End it at once; a start that waits for it then fails."""
        # Its own stop() waits until it has imported everything: tens of seconds on a busy machine.
        pid: int | None = vars(self)["_forkserver_pid"]
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                # Left for multiprocessing to reap: what is dying still counts as running there, and a stage that
                # starts in these milliseconds would be told that the server hung up.
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """It ends with the last that uses it: a program that has built goes on without a process of ours, and the next
        build's stages find the libraries and the environment as they are then."""
        self._leave_to_parent()
        with self._count:
            self._users += 1
        try:
            yield
        finally:
            with self._count:
                self._users -= 1
                if not self._users:
                    self.kill()
                    with contextlib.suppress(ChildProcessError, FileNotFoundError):
                        self._stop()  # type: ignore[attr-defined]


class _Servers:
    """Which one this process's stages come from: tests have another."""

    current = StageServer()


def current() -> StageServer:
    """The server of this process."""
    return _Servers.current


@contextlib.contextmanager
def replaced(server: StageServer) -> Iterator[None]:
    """Another server is the current one within."""
    before, _Servers.current = _Servers.current, server
    try:
        yield
    finally:
        _Servers.current = before


class _Popen(popen_forkserver.Popen):
    def _launch(self, process_obj: BaseProcess) -> None:
        # As in popen_forkserver, but for what it prepares and from which server.
        buffer = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(_preparation(process_obj.name), buffer)
            reduction.dump(process_obj, buffer)
        finally:
            set_spawning_popen(None)
        self.sentinel, written = current().connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        # A duplicate is what tells the stage that we live.
        alive = os.dup(written)
        close = util.close_fds  # type: ignore[attr-defined]
        self.finalizer = util.Finalize(self, close, (alive, self.sentinel))  # type: ignore[attr-defined]
        with open(written, "wb", closefd=True) as file:
            file.write(buffer.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


def _preparation(name: str) -> dict[str, Any]:
    data: dict[str, Any] = spawn.get_preparation_data(name)
    for main in ("init_main_from_name", "init_main_from_path"):
        data.pop(main, None)
    data["sys_path"] = own_path(sys.path)
    return data


class StageProcess(BaseProcess):
    """A process that the current server forks."""

    _start_method: ClassVar[str] = "forkserver"

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> _Popen:  # noqa: N802 - multiprocessing's name
        return _Popen(process_obj)


class Stages:
    """What starts stages and speaks with them."""

    Process = StageProcess

    @staticmethod
    def Pipe(duplex: bool) -> tuple[Pipe, Pipe]:  # noqa: N802 - multiprocessing's name
        return connection.Pipe(duplex)
