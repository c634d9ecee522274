"""Turning qemu's log on in the middle of a run: a count logs its windows, and not what a runtime does before them.

qemu takes what to log from its command line alone, and a line costs it .6 µs: ONNX Runtime runs 28 million blocks
while it loads a file. So qemu starts with items that write nothing here, and the runner waits at a gate before its
first window. There the items of a count are written over the variable in which qemu keeps them (qemu_loglevel).

The variable has no name in a stripped program, but the quiet items' bits are in two words of qemu's own data and no
other: what was read from the command line (used up when qemu starts), and the variable. Where that is not so, or they
may not be written (a kernel that keeps processes apart), the log stays off and the caller counts with a whole log.

What was translated before is shown and announced anew: `nochain` is among the flags by which qemu tells blocks apart,
and the gate is a system call, after which it looks for a block of the flags of now. Other threads might stay in older,
chained blocks: with any, the log stays off too.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# Items and their bits (qemu's include/qemu/log.h, the same since 2016). The quiet ones: x86's far calls, the MMU of a
# whole machine, and the registers of a floating-point unit beside those that `cpu` would show.
QUIET, _QUIET_BITS = "pcall,mmu,fpu", 1 << 6 | 1 << 12 | 1 << 17
COUNTING, _COUNTING_BITS = "exec,nochain,in_asm", 1 << 5 | 1 << 13 | 1 << 1
# A qemu that writes trace events to its log sets this one itself.
_TRACE = 1 << 15
_PLACES = 2
# The program's, and qemu's own for what is freed later (RCU).
_THREADS = 2
# From saying that it comes to waiting, on a machine that does much else.
_ARRIVAL_S = 10.0


@dataclass
class Gate:
    """A gate that the runner comes to.

    Attributes:
        descriptor: What the runner is given.
        started: To be told qemu's process.
        opened: Whether the log has been turned on.
    """

    descriptor: int
    started: Callable[[int], None]
    opened: bool = False


@contextlib.contextmanager
def gate(turn_on: Callable[[int], bool]) -> Iterator[Gate]:
    """`turn_on` is called with the process when the runner is at the gate, which is opened afterwards in any case."""
    our_end, runner_end = socket.socketpair()
    processes: queue.SimpleQueue[int] = queue.SimpleQueue()

    def serve() -> None:
        if our_end.recv(1):
            try:
                gate_.opened = turn_on(processes.get())
            finally:
                with contextlib.suppress(OSError):  # it ended meanwhile
                    our_end.send(b"\0")

    gate_ = Gate(runner_end.fileno(), processes.put)
    with our_end, runner_end:
        keeper = threading.Thread(target=serve, name="log switch", daemon=True)
        keeper.start()
        try:
            yield gate_
        finally:
            our_end.shutdown(socket.SHUT_RDWR)  # for a runner that never came
            processes.put(0)  # and for one that was never known
            keeper.join()


def turn_on(process: int) -> bool:
    """Let a qemu that logs QUIET log COUNTING from now on. False: it was left as it is."""
    try:
        if len(os.listdir(f"/proc/{process}/task")) > _THREADS or not _sleeps(process):
            return False
        with Path(f"/proc/{process}/mem").open("r+b", buffering=0) as memory:
            places = [place for start, end in _data(process) for place in _places(memory, start, end)]
            if not 1 <= len(places) <= _PLACES:
                return False
            for at, traces in places:
                memory.seek(at)
                memory.write(_word(_COUNTING_BITS | traces))
            return True
    except OSError:
        return False


def _sleeps(process: int) -> bool:
    """Does it wait at the gate? It may be on the way there; between two looks at its variable it must not be."""
    deadline = time.monotonic() + _ARRIVAL_S
    while time.monotonic() < deadline:
        if Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "S":
            return True
        time.sleep(0.001)
    return False


def _places(memory: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Addresses of the aligned words that have the quiet items' bits, and _TRACE where that is set too."""
    memory.seek(start)
    data = memory.read(end - start)
    for traces in (0, _TRACE):
        word = _word(_QUIET_BITS | traces)
        at = data.find(word)
        while at >= 0:
            if at % len(word) == 0:
                yield start + at, traces
            at = data.find(word, at + 1)


def _word(bits: int) -> bytes:
    return bits.to_bytes(4, "little")


def _data(process: int) -> Iterator[tuple[int, int]]:
    """Where the program's own variables are: what can be written of its file's memory, and what follows it unnamed."""
    program = os.readlink(f"/proc/{process}/exe")
    following = -1
    for line in Path(f"/proc/{process}/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        extent, rights, _, _, _, *name = line.split(maxsplit=5)
        start, end = (int(text, 16) for text in extent.split("-"))
        if name == [program] or (not name and start == following):
            following = end
            if rights.startswith("rw"):
                yield start, end
