"""Starting the adb client and ending it, whatever happens: a frozen link makes it hang for ever.

The client runs in a process group of its own, so that a limit or ^C ends it and its children. A server that the client
starts leaves that group by itself (setsid, AOSP adb/client/main.cpp) and stays, as with any use of adb.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from android_bench.errors import AdbMissing

_CHUNK_BYTES = 1 << 16
# What the client gets to end by itself once `enough` says that nothing more is to come.
_GRACE_S = 0.3


@dataclass(frozen=True, slots=True)
class Finished:
    """How a client ended. code: None when it was ended from here, at its limit (`late`) or because it had said all."""

    code: int | None
    stdout: bytes
    stderr: bytes
    late: bool


def run_client(
    argv: Sequence[str],
    environ: Mapping[str, str],
    timeout_s: float,
    enough: Callable[[bytearray, bytearray], bool] | None = None,
) -> Finished:
    """Run adb to its end, to `timeout_s`, or shortly past the moment when `enough` (of stdout, stderr) holds.

    Raises AdbMissing when it does not start. On any exception, ^C too, no process is left.
    """
    deadline = time.monotonic() + timeout_s
    try:
        process = subprocess.Popen(
            argv,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
    except OSError as error:
        raise AdbMissing(f"{argv[0]} does not start: {error.strerror}", "is it an adb for this computer?") from None
    assert process.stdout is not None and process.stderr is not None
    heard = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    out, err = heard.values()
    ended = False
    try:
        with selectors.DefaultSelector() as selector:
            for stream in heard:
                os.set_blocking(stream, False)
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map() and (left := deadline - time.monotonic()) > 0:
                ready = selector.select(min(left, _GRACE_S))
                if not ready and process.poll() is not None:
                    break  # something it started holds the pipes
                for key, _ in ready:
                    part = os.read(key.fd, _CHUNK_BYTES)
                    heard[key.fd] += part
                    if not part:
                        selector.unregister(key.fd)
                if enough is not None and enough(out, err):
                    deadline = min(deadline, time.monotonic() + _GRACE_S)
                    enough = None
                    ended = True
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(max(deadline - time.monotonic(), 0.01))
        return Finished(code, bytes(out), bytes(err), late=code is None and not ended)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:  # else the number may be another's by now
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
