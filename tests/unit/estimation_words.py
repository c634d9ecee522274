"""Instruction words and counts by hand, for the tests of the estimate."""

from __future__ import annotations

from dataclasses import dataclass

LOAD_X1 = 0xF9400021  # ldr x1, [x1]
SUBS = 0xF1000400  # subs x0, x0, #1
B_NE = 0x54FFFFE1  # b.ne to the instruction before
FADD_CHAIN = 0x4E22D421  # fadd v1.4s, v1.4s, v2.4s
UNKNOWN_WORD = 0x00000000


def fmla(register: int) -> int:
    """fmla vN.4s, v30.4s, v31.4s"""
    return 0x4E3FCFC0 | register


def load_q(register: int) -> int:
    """ldr qN, [x0]"""
    return 0x3DC00000 | register


def load_d(register: int) -> int:
    """ldr dN, [x0]"""
    return 0xFD400000 | register


@dataclass(frozen=True, slots=True)
class Block:
    pc: int
    executions: int
    words: tuple[int, ...]
    function: str = "libtest.so!kernel"


@dataclass(frozen=True, slots=True)
class Counts:
    blocks: tuple[Block, ...]
    conclusive: bool = True

    @property
    def instructions(self) -> int:
        return sum(block.executions * len(block.words) for block in self.blocks)
