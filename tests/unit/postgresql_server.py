"""A PostgreSQL server of the tests' own: in a new folder, on a Unix socket in it, by the programs that Debian installs.

Never the machine's own cluster. It refuses to run as root; then it is nobody's.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

NOBODY = 65534
HOW = "python tests/tools/apt_packages.py"


def programs() -> Path | None:
    """The folder of the newest version's programs, which is on nobody's PATH."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: [int(word) for word in re.findall(r"\d+", str(path))], default=None)


@contextlib.contextmanager
def running(bin_folder: Path) -> Iterator[str]:
    """The URL of a new server, with one database for whoever asks."""
    # Short, and not pytest's own: a socket's path has 107 bytes, and pytest's folders are for one user alone.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    as_nobody: dict[str, Any] = {}
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
    how: dict[str, Any] = {"cwd": folder, "env": env, "stdin": subprocess.DEVNULL, **as_nobody}
    data = str(folder / "data")
    init = ("--username=tester", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions")
    try:
        subprocess.run([bin_folder / "initdb", "--pgdata", data, *init], check=True, capture_output=True, **how)
        # No port of the network: whoever may open the socket's folder may ask.
        options = ("listen_addresses=", f"unix_socket_directories={folder}", "fsync=off", "shared_buffers=8MB")
        argv: list[str | Path] = [
            bin_folder / "postgres",
            "-D",
            data,
            *(word for each in options for word in ("-c", each)),
        ]
        with (folder / "log").open("wb") as log:
            server: subprocess.Popen[bytes] = subprocess.Popen(argv, stdout=log, stderr=log, **how)
        try:
            _wait(server, folder)
            yield f"postgresql://tester@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: nothing in it is kept
            server.wait(timeout=60)
    finally:
        shutil.rmtree(folder)


def _wait(server: subprocess.Popen[bytes], folder: Path) -> None:
    """Until it answers."""
    for _ in range(600):
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(host=str(folder), user="tester", dbname="postgres").close()
            return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError((folder / "log").read_text(errors="replace"))
