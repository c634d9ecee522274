"""Counting the instructions of one inference exactly, with a stock qemu or, faster, with a plugin.

`-d exec,nochain` makes qemu announce every translation block that it enters and `in_asm` shows each block's
instructions once; a program of ours (native/block_reader.c) reads that log while it is written and keeps a number a
block. A qemu with plugins counts in the process itself (native/block_counter_plugin.c). Both give the same Counts.

An instruction that faults ends its block early and the whole block is counted; inference code does not fault.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pocketforge.devices.answers import Log, NativeAnswer
from pocketforge.devices.emulator import log_switch, plugin, qemu_log
from pocketforge.devices.emulator.counts import Block, Counts, agree, words_of
from pocketforge.devices.emulator.functions import FunctionMap
from pocketforge.devices.emulator.instructions import by_class, classify
from pocketforge.devices.emulator.launch import Machine, Order, launch
from pocketforge.devices.emulator.native_runners import native_runner
from pocketforge.devices.emulator.parts import SETUP, Emulator
from pocketforge.errors import DeviceError
from pocketforge.files import hash_file

# Inferences before the first window. The second one's allocations may still differ from the third's by some 140
# instructions, which only a small model's tolerance notices: it is counted again, with one more.
WARMUPS = (1, 2)
WINDOWS = 2


def count(machine: Machine, order: Order) -> Counts:
    """Count one inference of `order.model` on its first sample. All threads are counted.

    The order's mode, warm-up and windows are chosen here. Counts.conclusive is False when the windows differ by more
    than the runtime's tolerance, or when the log leaves a doubt. Raises what `launch` raises, and DeviceError when
    qemu's log is not what it should be.
    """
    for warmup in WARMUPS:
        counts = _count_once(machine, order, warmup)
        if counts.conclusive:
            break
    return counts


def _count_once(machine: Machine, order: Order, warmup: int) -> Counts:
    order = replace(order, mode="count", warmup=max(order.warmup, warmup), windows=max(order.windows, WINDOWS))
    cpu = machine.cpu
    answer, log = _run(machine, order)
    if log["windows"] != order.windows:
        raise DeviceError(
            f"counting {order.model.name}: wanted {order.windows} windows, found {log['windows']} in qemu's log",
            f"this runner does not mark its inferences; make it again: {SETUP}",
        )
    return _counts(log, answer, machine.emulator, order, cpu)


Words = tuple[int, ...]


def _run(machine: Machine, order: Order) -> tuple[NativeAnswer, Log]:
    """The runner's answer and the counter's, by the quickest of the ways that this qemu knows."""
    emulator = machine.emulator
    counter = plugin.find(emulator.qemu, emulator.reader.parent)
    if counter:
        with _by_plugin(counter) as (options, fds, result):
            answer = launch(machine, order, qemu_options=options, pass_fds=fds)
        return answer, _found(result, order)
    if order.threads == 1:
        with log_switch.gate(log_switch.turn_on) as gate, qemu_log.read(emulator.reader, log_switch.QUIET) as log:
            options, fds, result = log
            fds += (gate.descriptor,)
            gated = replace(order, gate=gate.descriptor)
            answer = launch(machine, gated, qemu_options=options, pass_fds=fds, started=gate.started)
        read = _found(result, order)
        if gate.opened and read["windows"]:
            return answer, read
    with qemu_log.read(emulator.reader, log_switch.COUNTING) as (options, fds, result):
        answer = launch(machine, order, qemu_options=options, pass_fds=fds)
    return answer, _found(result, order)


def _found(result: list[str], order: Order) -> Log:
    try:
        log: Log = json.loads(result[0])
    except (IndexError, ValueError):
        raise DeviceError(
            f"counting {order.model.name}: the counter gave no result", f"make it again: {SETUP}"
        ) from None
    assert isinstance(log, dict)
    return log


@contextlib.contextmanager
def _by_plugin(path: Path) -> qemu_log.Way:
    result: list[str] = []
    with tempfile.TemporaryFile() as out:
        option = f"{plugin.escaped(path)},out=/proc/self/fd/{out.fileno()}"
        yield ("-plugin", option), (out.fileno(),), result
        result.append(qemu_log.text_of(out))


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


def _counts(log: Log, answer: NativeAnswer, emulator: Emulator, order: Order, cpu: str) -> Counts:
    """Put the counter's blocks and the runner's account of its libraries together."""
    rows = [(pc, entered, executions, words_of(text)) for pc, entered, executions, text in log["blocks"]]
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
    tolerance = native_runner(order.runtime).tolerance
    return Counts(
        instructions=windows[-1],
        windows=windows,
        tolerance=tolerance,
        conclusive=agree(windows, tolerance) and not log["doubts"],
        by_class=dict(sorted(by_class((word, b.executions) for b in blocks for word in b.words).items())),
        by_function=dict(sorted(by_function.items(), key=lambda item: (-item[1], item[0]))),
        blocks=tuple(sorted(blocks, key=lambda b: (b.pc, b.words))),
        libraries={name: hash_file(path) for name, path in sorted(files.items())},
        qemu=f"qemu-aarch64 {emulator.qemu_version}",
        cpu=cpu,
        runner={
            "runtime": answer["runtime"],
            "runtime_version": answer["runtime_version"],
            "model_sha256": answer["model_sha256"],
            "threads": order.threads,
            "warmup": order.warmup,
            "windows": order.windows,
        },
        threads=log["threads"],
        doubts=tuple(log["doubts"]),
    )
