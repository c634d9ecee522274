"""What a pipeline sees of one A64 instruction."""

from __future__ import annotations

from dataclasses import dataclass

FLAGS = 64  # register numbers: 0…30 x, 31 sp, 32…63 v, 64 the flags

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        group: What the core tables know it as: a key of their `groups`, or "unknown".
        reads: Registers whose values it needs when it starts.
        writes: Registers whose values it makes.
        accumulator: A register both read late and written: producers of the same group forward to it. -1: none.
        base: An address register written back. -1: none.
        wide: Its Q form (128 bits).
        registers: How many vectors a load, store or table look-up moves.
        load_bytes: Bytes read from memory.
        store_bytes: Bytes written to memory.
        branch: A direct branch's distance from this instruction, in bytes; None for all others.
        text: As a disassembler writes it.
    """

    group: str
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    accumulator: int = -1
    base: int = -1
    wide: bool = False
    registers: int = 1
    load_bytes: int = 0
    store_bytes: int = 0
    branch: int | None = None
    text: str = ""
