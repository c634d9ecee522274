"""All basic blocks of an inference through the scoreboard: cycles, bytes moved, loops left, share not understood.

Blocks that hold 99.95 % of the executed instructions are timed; the rest is charged the average of those.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pocketforge.estimation.core_model import CoreModel, load_core
from pocketforge.estimation.decode import decode
from pocketforge.estimation.instruction import UNKNOWN, Instruction
from pocketforge.estimation.scoreboard import BlockTime, time_block

COVER = 0.9995
INSTRUCTION_BYTES = 4
DENSE = 0.4
"""The share of multiply-accumulates from which a block is a dense one: the kernels of convolutions and products."""
_ACCUMULATING = frozenset({"fp_mac", "dot", "matmul", "int_mul", "int_mul_long", "int_pair_acc"})


class BlockLike(Protocol):
    """One basic block as counted: address, executions per inference, instruction words, and the function it is in."""

    @property
    def pc(self) -> int: ...
    @property
    def executions(self) -> int: ...
    @property
    def words(self) -> tuple[int, ...]: ...
    @property
    def function(self) -> str: ...


class CountsLike(Protocol):
    """What an estimate needs of `pocketforge.devices.emulator.counts.Counts`."""

    @property
    def instructions(self) -> int: ...
    @property
    def conclusive(self) -> bool: ...
    @property
    def blocks(self) -> Sequence[BlockLike]: ...


@dataclass(frozen=True, slots=True)
class TimedBlock:
    """A block with its time.

    Attributes:
        block: As counted.
        instructions: Its words, decoded.
        loops: Whether it ends in a branch to its own start.
        time: Of one pass.
        cycles: Of all its executions.
    """

    block: BlockLike
    instructions: tuple[Instruction, ...]
    loops: bool
    time: BlockTime
    cycles: float


@dataclass(frozen=True, slots=True)
class Work:
    """What the core has to do for one inference.

    Attributes:
        cycles: Of the scoreboard, all blocks.
        dense_cycles: Of these, in blocks that are mostly multiply-accumulates on vectors.
        instructions: Executed.
        timed: The blocks that were timed, most cycles first.
        loop_exits: How often a loop ended.
        calls: Returns, and jumps through a register: targets that have to be predicted.
        loaded_bytes: By all loads.
        stored_bytes: By all stores.
        unknown: Executions of instructions that no table knows.
    """

    cycles: float
    dense_cycles: float
    instructions: int
    timed: tuple[TimedBlock, ...]
    loop_exits: int
    calls: int
    loaded_bytes: int
    stored_bytes: int
    unknown: int


def run_blocks(counts: CountsLike, core: CoreModel) -> Work:
    """Time the hot blocks of `counts` on `core`. Counts without instructions give no cycles."""
    ordered = sorted(_joined(counts.blocks), key=lambda b: (-b.executions * len(b.words), b.pc))
    total = sum(block.executions * len(block.words) for block in ordered)
    executions = _executions(ordered)
    timed: list[TimedBlock] = []
    covered = exits = calls = loaded = stored = unknown = 0
    cycles = dense = 0.0
    for block in ordered:
        times = block.executions
        if not times or not block.words:
            continue
        instructions = decode(block.words)
        for instruction in instructions:
            if instruction.load_bytes or instruction.store_bytes:
                loaded += times * instruction.load_bytes
                stored += times * instruction.store_bytes
            elif instruction.group == UNKNOWN:
                unknown += times
        last = instructions[-1]
        loops = _loops(instructions)
        if loops:
            exits += min(times, executions.get(block.pc + INSTRUCTION_BYTES * len(block.words), 0))
        if last.group == "branch" and last.branch is None:
            calls += times
        if covered < COVER * total:
            time = _timed(block.words, core.name, loops)
            timed.append(TimedBlock(block, instructions, loops, time, time.cycles * times))
            cycles += time.cycles * times
            if sum(i.group in _ACCUMULATING for i in instructions) >= DENSE * len(instructions):
                dense += time.cycles * times
            covered += times * len(block.words)
    if covered:
        cycles *= total / covered
        dense *= total / covered
    timed.sort(key=lambda t: -t.cycles)
    return Work(cycles, dense, total, tuple(timed), exits, calls, loaded, stored, unknown)


@functools.lru_cache(maxsize=65536)
def _timed(words: tuple[int, ...], core: str, loops: bool) -> BlockTime:
    """Runs of one library share their blocks: a calibration meets the same few thousand again and again."""
    return time_block(decode(words), load_core(core), loops=loops)


@dataclass(frozen=True, slots=True)
class _Joined:
    """Blocks that always run one after the other, as one."""

    pc: int
    executions: int
    words: tuple[int, ...]
    function: str


def _joined(blocks: Sequence[BlockLike]) -> list[BlockLike]:
    """Blocks with those joined that qemu cut at a page's end: a loop across it is one loop.

    A block that does not end in a branch runs into the next one; where both ran as often, nothing else enters it.
    """
    at = {block.pc: block for block in blocks if block.words}
    if len(at) != sum(1 for block in blocks if block.words):
        return list(blocks)  # translated again: addresses are not unique, and nothing is certain
    following = {}
    for pc, block in at.items():
        after = at.get(pc + INSTRUCTION_BYTES * len(block.words))
        if after is not None and after.executions == block.executions:
            last = decode(block.words[-1:])[0]
            if last.group not in ("branch", UNKNOWN):
                following[pc] = after
    inside = {block.pc for block in following.values()}
    joined: list[BlockLike] = []
    for pc, block in at.items():
        if pc in inside:
            continue
        words, next_block = block.words, following.get(pc)
        while next_block is not None:
            words += tuple(next_block.words)
            next_block = following.get(next_block.pc)
        joined.append(block if words is block.words else _Joined(pc, block.executions, words, block.function))
    return joined


def _executions(blocks: Sequence[BlockLike]) -> dict[int, int]:
    executions: dict[int, int] = {}
    for block in blocks:
        executions[block.pc] = executions.get(block.pc, 0) + block.executions
    return executions


def _loops(instructions: Sequence[Instruction]) -> bool:
    """Whether the last instruction branches to the first."""
    back = instructions[-1].branch
    return back is not None and back == -INSTRUCTION_BYTES * (len(instructions) - 1)
