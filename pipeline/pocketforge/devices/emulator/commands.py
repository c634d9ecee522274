"""Running pip, apt-get and dpkg-deb: with a word now and then, and with nothing left behind when we are stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pocketforge.errors import ToolFailed

SAY_EVERY_S = 15.0


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    doing: str,
    emit: Callable[[str], None],
    hint: str,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program and return what it printed; says every 15 s what it is still `doing`. Raises ToolFailed."""
    started = time.monotonic()
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # A group of its own: apt-get and pip have children, and all of them must end when we are told to.
        start_new_session=True,
    ) as process:
        try:
            while True:
                try:
                    stdout, stderr = process.communicate(timeout=SAY_EVERY_S)
                    break
                except subprocess.TimeoutExpired:
                    emit(f"  still {doing}, {time.monotonic() - started:.0f} s")
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        raise ToolFailed(argv, process.returncode, stderr or stdout, hint=hint)
    return stdout
