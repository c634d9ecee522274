"""Counting the instructions of one inference exactly, with a stock qemu or, faster, with a plugin.

`-d exec,nochain` makes qemu announce every translation block that it enters and `in_asm` shows each block's
instructions once; a program of ours (native/block_reader.c) reads that log while it is written and keeps a number a
block. A qemu with plugins counts in the process itself (native/block_counter_plugin.c). Both give the same Counts.

An instruction that faults ends its block early and the whole block is counted; inference code does not fault.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from pocketforge.devices.emulator import plugin
from pocketforge.devices.emulator.counts import Block, Counts, agree, words_of
from pocketforge.devices.emulator.functions import FunctionMap
from pocketforge.devices.emulator.instructions import by_class, classify
from pocketforge.devices.emulator.launch import Order, launch
from pocketforge.devices.emulator.parts import SETUP, Emulator
from pocketforge.devices.emulator.qemu import cpu_option
from pocketforge.devices.profiles import Cluster, DeviceProfile
from pocketforge.errors import DeviceError, DeviceUnavailable, describe_exit
from pocketforge.files import hash_file

# How far two windows may be apart, as a fraction. ONNX Runtime's allocator does not settle wholly.
TOLERANCES = {"tflite": 1e-4, "executorch": 1e-4, "onnx": 1e-3}
# Inferences before the first window. The second one's allocations may still differ from the third's by some 140
# instructions, which only a small model's tolerance notices: it is counted again, with one more.
WARMUPS = (1, 2)
WINDOWS = 2
# A larger pipe holds some 13,000 lines: qemu and the reader wake each other up less often.
PIPE_BYTES = 1 << 20
# After qemu has ended, what is left to read is one pipe.
READER_WAIT_S = 60


def count(
    emulator: Emulator,
    profile: DeviceProfile,
    cluster: Cluster,
    order: Order,
    *,
    timeout_s: float,
    memory_limit_bytes: int = 0,
) -> Counts:
    """Count one inference of `order.model` on its first sample. All threads are counted.

    The order's mode, warm-up and windows are chosen here. Counts.conclusive is False when the windows differ by more
    than the runtime's tolerance, or when the log leaves a doubt. Raises what `launch` raises, and DeviceError when
    qemu's log is not what it should be.
    """
    for warmup in WARMUPS:
        found = _count_once(emulator, profile, cluster, order, warmup, timeout_s, memory_limit_bytes)
        if found.conclusive:
            break
    return found


def _count_once(
    emulator: Emulator,
    profile: DeviceProfile,
    cluster: Cluster,
    order: Order,
    warmup: int,
    timeout_s: float,
    memory_limit_bytes: int,
) -> Counts:
    order = replace(order, mode="count", warmup=max(order.warmup, warmup), windows=max(order.windows, WINDOWS))
    cpu = cpu_option(profile, cluster, emulator.qemu, emulator.qemu_version)
    counter = plugin.find(emulator.qemu, emulator.reader.parent)
    way = _by_plugin(counter) if counter else _by_log(emulator.reader)
    with way as (options, fds, result):
        answer = launch(
            emulator,
            profile,
            cluster,
            order,
            timeout_s=timeout_s,
            memory_limit_bytes=memory_limit_bytes,
            qemu_options=options,
            pass_fds=fds,
        )
    try:
        found = json.loads(result[0])
    except (IndexError, ValueError):
        raise DeviceError(
            f"counting {order.model.name}: the counter gave no result", f"make it again: {SETUP}"
        ) from None
    if found["windows"] != order.windows:
        raise DeviceError(
            f"counting {order.model.name}: wanted {order.windows} windows, found {found['windows']} in qemu's log",
            f"this runner does not mark its inferences; make it again: {SETUP}",
        )
    return _counts(found, answer, emulator, order, cpu)


Words = tuple[int, ...]
Way = Iterator[tuple[tuple[str, ...], tuple[int, ...], list[str]]]


@contextlib.contextmanager
def _by_log(reader: Path) -> Way:
    """qemu's options, the file that it must inherit, and a list that holds the reader's result at the end."""
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
            yield ("-d", "exec,nochain,in_asm", "-D", log), (write_end,), result
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
        result.append(_text(stdout))


@contextlib.contextmanager
def _by_plugin(path: Path) -> Way:
    result: list[str] = []
    with tempfile.TemporaryFile() as out:
        option = f"{plugin.escaped(path)},out=/proc/self/fd/{out.fileno()}"
        yield ("-plugin", option), (out.fileno(),), result
        result.append(_text(out))


def basic_blocks(translated: Iterable[tuple[int, int, Words]]) -> list[tuple[int, int, Words]]:
    """Straight runs of instructions that ran equally often, ending at branches: (address, executions, words).

    From qemu's translation blocks, which overlap, and whose lengths depend on qemu (a plugin leaves less room in its
    buffer, so long blocks are cut); how often each instruction ran does not.
    """
    ran: dict[tuple[int, int], int] = {}
    for start, executions, words in translated:
        for address, word in enumerate(words):
            at = (start + 4 * address, word)
            ran[at] = ran.get(at, 0) + executions
    blocks: list[tuple[int, int, list[int]]] = []
    following = -1
    for (address, word), executions in sorted(ran.items()):
        if not executions:
            continue
        if address != following or executions != blocks[-1][1]:
            blocks.append((address, executions, []))
        blocks[-1][2].append(word)
        following = -1 if classify(word) == "branch" else address + 4
    return [(address, executions, tuple(words)) for address, executions, words in blocks]


def _unreadable(stderr: BinaryIO, returncode: int) -> DeviceError:
    if returncode < 0:
        return DeviceError(f"the reader of qemu's log ended with {describe_exit(returncode)}")
    return DeviceError(
        f"qemu's log cannot be counted: {_text(stderr).strip()}", "another version of qemu may write another log"
    )


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _counts(found: Mapping[str, Any], answer: Mapping[str, Any], emulator: Emulator, order: Order, cpu: str) -> Counts:
    """Put the counter's blocks and the runner's account of its libraries together."""
    rows = [(pc, entered, executions, words_of(text)) for pc, entered, executions, text in found["blocks"]]
    windows = tuple(sum(e[w] * len(words) for _, _, e, words in rows) for w in range(order.windows))
    functions = FunctionMap(answer["libraries"], emulator.sysroot, (pc for pc, entered, _, _ in rows if entered))
    files: dict[str, Path] = {}
    blocks = []
    for pc, executions, words in basic_blocks((pc, runs[-1], words) for pc, _, runs, words in rows):
        blocks.append(Block(functions.place(pc), executions, words, functions.name(pc)))
        files.update([held] if (held := functions.file(pc)) else [])
    by_function: dict[str, int] = {}
    for block in blocks:
        by_function[block.function] = by_function.get(block.function, 0) + block.executions * len(block.words)
    tolerance = TOLERANCES[order.runtime]
    return Counts(
        instructions=windows[-1],
        windows=windows,
        tolerance=tolerance,
        conclusive=agree(windows, tolerance) and not found["doubts"],
        by_class=dict(sorted(by_class((word, b.executions) for b in blocks for word in b.words).items())),
        by_function=dict(sorted(by_function.items(), key=lambda item: (-item[1], item[0]))),
        blocks=tuple(sorted(blocks, key=lambda b: (b.pc, b.words))),
        libraries={name: hash_file(path) for name, path in sorted(files.items())},
        qemu=f"qemu-aarch64 {emulator.qemu_version}",
        cpu=cpu,
        runner={
            **{key: answer[key] for key in ("runtime", "runtime_version", "model_sha256")},
            "threads": order.threads,
            "warmup": order.warmup,
            "windows": order.windows,
        },
        threads=found["threads"],
        doubts=tuple(found["doubts"]),
    )
