"""One fork server for all workers of a run: the toolchains are imported once, not once in each.

The worker that needs it first starts it and writes down where it listens, the others take the same. It lives as long as
one of them, as a server of one process does: by a pipe whose other end they hold.
"""

from __future__ import annotations

import json
import os
import select
import threading
from multiprocessing import process, resource_tracker
from pathlib import Path
from typing import Any

from filelock import FileLock

from pocketforge.run.stage_server import StageProcess, StageServer


class CommonServer(StageServer):
    """folder: the run's, where its workers look for the server; None: the server is this process's own."""

    def __init__(self) -> None:
        super().__init__()
        self.folder: Path | None = None
        self._here = threading.RLock()
        self._process: int | None = None  # readable when the server, whoever's child it is, has ended

    def ensure_running(self) -> None:
        if self.folder is None:
            super().ensure_running()
            return
        with self._here:
            resource_tracker.ensure_running()
            if not self._runs():
                with FileLock(self.folder / "server.lock"):
                    if not self._find(self.folder / "server.json"):
                        self._start(self.folder)

    def _runs(self) -> bool:
        return self._process is not None and not select.select([self._process], [], [], 0)[0]

    def _find(self, written: Path) -> bool:
        """Whether another worker's is there and stays, now that we hold on to it."""
        try:
            told = json.loads(written.read_text("utf-8"))
            # What is opened for writing is the pipe itself, whichever end the path names.
            self._take(told["pid"], told["address"], os.open(told["alive"], os.O_WRONLY | os.O_CLOEXEC))
        except (FileNotFoundError, ProcessLookupError):
            return False
        return self._runs()

    def _start(self, folder: Path) -> None:
        first: Any = StageServer()
        first.preload(self.modules)
        ours: Any = process.current_process()
        # Else its socket would go with the temporary folder of the worker that started it.
        before = ours._config.get("tempdir")
        ours._config["tempdir"] = str(folder)
        try:
            first.ensure_running()
        finally:
            ours._config["tempdir"] = before
        self._take(first._forkserver_pid, first._forkserver_address, first._forkserver_alive_fd)
        # It answers when it has imported all: from then on a build that is interrupted has no start to break off.
        nothing = StageProcess(target=int)
        nothing.start()
        nothing.join()
        pipe = os.readlink(f"/proc/self/fd/{first._forkserver_alive_fd}")
        fds = Path(f"/proc/{first._forkserver_pid}/fd")
        told = {
            "pid": first._forkserver_pid,
            "address": first._forkserver_address,
            "alive": next(str(fd) for fd in fds.iterdir() if os.readlink(fd) == pipe),
        }
        (folder / "server.json").write_text(json.dumps(told), "utf-8")

    def _take(self, pid: int, address: str, alive: int) -> None:
        # Not `_forkserver_pid`: who looks there ends the server with a build, or waits for it as for a child.
        mine = vars(self)
        for held in (mine["_forkserver_alive_fd"], self._process):
            if held is not None:
                os.close(held)
        mine["_forkserver_address"], mine["_forkserver_alive_fd"], self._process = address, alive, None
        self._process = os.pidfd_open(pid)
