"""The tests' own adb: a private server on a socket in the file system, and the real client to ask it."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

_GUARD = Path(__file__).with_name("adb_guard.py")


class AdbServer:
    """program: what POCKETFORGE_ADB should be: the real client, with a home of its own. Nothing listens on TCP."""

    def __init__(self, adb: Path) -> None:
        # A short path: a socket's may have 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="pf-adb-"))
        self.socket = f"localfilesystem:{self.folder / 's'}"
        self.program = self.folder / "adb"
        words = {**self.variables(), "HOME": str(self.folder), "TMPDIR": str(self.folder)}
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in words.items())
        self.program.write_text(f'#!/bin/sh\n{exports}exec {shlex.quote(str(adb))} "$@"\n')
        self.program.chmod(0o755)
        guard = [sys.executable, str(_GUARD), str(self.program), str(self.folder / "s")]
        self._guard = subprocess.Popen(
            guard, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self._heard("started")

    def variables(self) -> Mapping[str, str]:
        return {
            "ADB_SERVER_SOCKET": self.socket,
            "ADB_MDNS": "0",
            "ADB_LIBUSB": "0",
            # Else the server takes ports from 5555 on for emulators'.
            "ADB_LOCAL_TRANSPORT_MAX_PORT": "5553",
        }

    def __call__(self, *words: str, timeout_s: float = 60, check: bool = False) -> subprocess.CompletedProcess[str]:
        """The real client, as a user would call it."""
        argv = [os.fspath(self.program), *words]
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=check
        )

    def ask(self, service: str) -> str | None:
        """What the server itself says, without a client, which is a process of 10 CPU ms; None where none listens.

        Source: AOSP, packages/modules/adb, SERVICES.TXT, OVERVIEW.TXT: a length in four hexadecimal digits, the text.
        """
        with socket.socket(socket.AF_UNIX) as link, contextlib.suppress(OSError, ValueError):
            link.settimeout(60)
            link.connect(str(self.folder / "s"))
            link.sendall(f"{len(service):04x}{service}".encode())
            with link.makefile("rb") as answer:
                good, length = answer.read(4), answer.read(4)
                return answer.read(int(length, 16)).decode() if good in (b"OKAY", b"FAIL") else None
        return None

    def kill(self) -> None:
        """SIGKILL to the server: links drop, the client would start another."""
        self._ask("kill")

    def start(self) -> None:
        """A server again, in place of any that the client started meanwhile."""
        self._ask("start")

    def pids(self) -> Sequence[int]:
        """Of the servers that listen on the socket: by their environment, as a client starts one by itself."""
        wanted = f"ADB_SERVER_SOCKET={self.socket}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if b"server" in words and wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def close(self) -> None:
        self._guard.communicate(timeout=30)

    def _ask(self, word: str) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{word}\n")
        self._guard.stdin.flush()
        self._heard("done")

    def _heard(self, word: str) -> None:
        assert self._guard.stdout is not None
        line = self._guard.stdout.readline().strip()
        if line != word:
            raise RuntimeError(f"the tests' adb server does not run: wanted {word!r}, heard {line!r}")

    def __enter__(self) -> AdbServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
