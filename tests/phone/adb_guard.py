"""Runs the tests' own adb server, and ends it, and any other on its socket, when the tests end or are killed.

argv: adb's program, the socket's path. stdin: the tests hold the other end; a line `start` or `kill` each, answered
by a line on stdout. The client starts a server by itself when there is none: that one would stay for ever.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

_LIMIT_S = 20


def ask_to_end(path: str) -> None:
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(5)
            one.connect(path)
            one.sendall(b"0009host:kill")
            while one.recv(64):
                pass
    except OSError:
        pass


def start(adb: str, path: str) -> subprocess.Popen[bytes]:
    Path(path).unlink(missing_ok=True)
    process = subprocess.Popen(
        [adb, "nodaemon", "server"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end_s = time.monotonic() + _LIMIT_S
    while time.monotonic() < end_s and process.poll() is None:
        try:
            with socket.socket(socket.AF_UNIX) as one:
                one.connect(path)
                return process
        except OSError:
            time.sleep(0.01)
    process.kill()
    raise RuntimeError(f"the adb server did not start: {adb}, exit code {process.wait()}")


def main() -> None:
    adb, path = sys.argv[1:]
    server = start(adb, path)
    print("started", flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            server.kill()
            server.wait()
        elif line.strip() == "start":
            ask_to_end(path)
            server = start(adb, path)
        print("done", flush=True)
    server.kill()
    server.wait()
    ask_to_end(path)
    shutil.rmtree(os.path.dirname(path), ignore_errors=True)


if __name__ == "__main__":
    main()
