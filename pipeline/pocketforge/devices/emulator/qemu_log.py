"""qemu's log while it is written: a pipe, and the program of ours that reads it and keeps a number a block."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pocketforge.devices.emulator.parts import SETUP
from pocketforge.errors import DeviceError, DeviceUnavailable, describe_exit

# A larger pipe holds some 13,000 lines: qemu and the reader wake each other up less often.
PIPE_BYTES = 1 << 20
# After qemu has ended, what is left to read is one pipe.
READER_WAIT_S = 60

Way = Iterator[tuple[tuple[str, ...], tuple[int, ...], list[str]]]


@contextlib.contextmanager
def read(reader: Path, items: str) -> Way:
    """qemu's options to log `items`, the file that it must inherit, a list that holds the reader's result at the end.

    Raises DeviceError when qemu's log is not what it should be, DeviceUnavailable.
    """
    result: list[str] = []
    read_end, write_end = os.pipe()
    with contextlib.ExitStack() as stack:
        writing = stack.enter_context(os.fdopen(write_end, "wb", buffering=0))
        reading = stack.enter_context(os.fdopen(read_end, "rb", buffering=0))
        # Refused only where the user's pipes are at their limit: slower, and as exact.
        with contextlib.suppress(OSError):
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        stdout, stderr = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        try:
            process = subprocess.Popen([os.fspath(reader)], stdin=reading, stdout=stdout, stderr=stderr)
        except OSError as error:
            raise DeviceUnavailable(f"{reader} does not start: {error.strerror}", f"make it: {SETUP}") from None
        reading.close()
        try:
            # qemu opens the pipe anew under this name: no FIFO on a disk.
            log = f"/proc/self/fd/{write_end}"
            yield ("-d", items, "-D", log), (write_end,), result
            writing.close()
            process.wait(READER_WAIT_S)
        except subprocess.TimeoutExpired:
            raise DeviceError("the reader of qemu's log did not end", "the machine may be overloaded") from None
        except DeviceError:
            raise
        except Exception:
            # Our end is still open, so it has not ended for want of input: a log that it does not understand ended
            # it, and then qemu, which had nobody left to write to. Give it a moment, being the cause of the other.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
            if process.returncode:
                raise _unreadable(stderr, process.returncode) from None
            raise
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode:
            raise _unreadable(stderr, process.returncode)
        result.append(text_of(stdout))


def _unreadable(stderr: BinaryIO, returncode: int) -> DeviceError:
    if returncode < 0:
        return DeviceError(f"the reader of qemu's log ended with {describe_exit(returncode)}")
    return DeviceError(
        f"qemu's log cannot be counted: {text_of(stderr).strip()}", "another version of qemu may write another log"
    )


def text_of(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")
