"""A64 instruction words as what a pipeline sees: a group, registers read and written, bytes moved, a branch's target.

capstone only disassembles here. Its own access lists (5.0) miss the operands of `sdot` and the read of a `sqxtn2`'s
destination, so reads and writes are taken from the text of the operands by the rules of the A64 reference manual
(Arm DDI 0487): the first operand is written, stores and compares write none, and accumulating or inserting
instructions also read it. Vector instructions are in `vector_forms`, loads and stores in `memory_forms`, the rest here.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from typing import Protocol

from pocketforge.estimation.instruction import FLAGS, UNKNOWN, Instruction
from pocketforge.estimation.memory_forms import is_memory, memory
from pocketforge.estimation.operands import by_name, has_vector, names, registers
from pocketforge.estimation.vector_forms import plain_name, vector

# Mnemonics of the general registers' groups; what is in no list is "alu".
_GROUPS = by_name(
    {
        "multiply": "mul madd msub mneg smull umull smaddl umaddl smsubl umsubl smulh umulh smnegl umnegl",
        "divide": "sdiv udiv",
        "hint": "nop yield hint bti paciasp autiasp dmb dsb isb clrex prfm prfum",
        "system": "mrs msr svc ldxr ldaxr stxr stlxr ldar stlr casal cas casa swp swpal ldadd ldaddal",
    }
)
_KEEPING = names("movk bfi bfxil bfm bfc")  # they write some bits of their destination, and so read it
_NO_RESULT = names("cmp cmn tst ccmp ccmn nop hint prfm prfum svc")
_SETS_FLAGS = names("cmp cmn tst adds subs ands bics negs adcs sbcs ngcs ccmp ccmn fcmp fcmpe fccmp fccmpe")
_READS_FLAGS = re.compile(r"^(b\.|csel|cset|csetm|csinc|csinv|csneg|cinc|cinv|cneg|ccmp|ccmn|adc|sbc|ngc|fcsel|fccmp)")
_BRANCHES = names("b bl br blr ret cbz cbnz tbz tbnz braa blraa retaa")
# Introduced after capstone 5: (mask, value) → mnemonic and operand pattern (bf16; Arm DDI 0487, C4.1).
_LATER = (
    (0xFFE0FC00, 0x2E40FC00, "bfdot", "2s"),
    (0xFFE0FC00, 0x6E40FC00, "bfdot", "4s"),
    (0xFFE0FC00, 0x6E40EC00, "bfmmla", "4s"),
)
# At an address high enough that a backward branch's target stays positive: its distance is what counts.
_HERE = 1 << 40


class _Disassembler(Protocol):
    """capstone.Cs, which has no types."""

    def disasm_lite(self, code: bytes, offset: int, /) -> Iterator[tuple[int, int, str, str]]:
        """(address, size, mnemonic, operands) of each instruction, up to a word that is none."""


def decode(words: Sequence[int]) -> tuple[Instruction, ...]:
    """The instructions of a block, in order; a word that is no known instruction has the group "unknown"."""
    return tuple(_decode(word) for word in words)


@functools.cache
def _disassembler() -> _Disassembler:
    import capstone

    disassembler: _Disassembler = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    return disassembler


@functools.lru_cache(maxsize=65536)
def _decode(word: int) -> Instruction:
    disassembled = next(_disassembler().disasm_lite(word.to_bytes(4, "little"), _HERE), None)
    if disassembled is None:
        return _later(word)
    _, _, mnemonic, operands = disassembled
    if mnemonic == "udf":  # what no instruction is, by definition
        return Instruction(UNKNOWN, text=f"{mnemonic} {operands}")
    if mnemonic in _BRANCHES or mnemonic.startswith("b."):
        return _branch(mnemonic, operands)
    if is_memory(mnemonic, operands):
        return memory(mnemonic, operands)
    if has_vector(operands):
        name = plain_name(mnemonic)
        return _with_flags(name, vector(name, operands, upper=name != mnemonic))
    return _general(mnemonic, operands)


def _later(word: int) -> Instruction:
    """One that capstone does not know."""
    for mask, value, name, form in _LATER:
        if word & mask == value:
            first, second, third = (word & 31, word >> 5 & 31, word >> 16 & 31)
            return vector(name, f"v{first}.{form}, v{second}.16b, v{third}.16b")
    return Instruction(UNKNOWN, text=f".inst {word:#010x}")


def _general(mnemonic: str, operands: str) -> Instruction:
    """On general registers alone."""
    named = registers(operands)
    if mnemonic in _NO_RESULT or operands.startswith(("wzr", "xzr")):  # a result in the zero register is dropped
        reads, writes = named, named[:0]
    else:
        reads, writes = named if mnemonic in _KEEPING else named[1:], named[:1]
    group = _GROUPS.get(mnemonic) or _alu(mnemonic, operands)
    return _with_flags(mnemonic, Instruction(group, reads, writes, text=f"{mnemonic} {operands}"))


def _alu(mnemonic: str, operands: str) -> str:
    """Shifting an operand costs; shifting it left by up to four places costs less on the newer cores."""
    shift = re.search(r"\b(lsl|lsr|asr|ror|[us]xt[bhwx])(?: #(\d+|0x[0-9a-f]+))?$", operands)
    if shift is None or mnemonic.startswith("mov"):
        return "alu"
    return "alu_lsl" if shift.group(1) == "lsl" and int(shift.group(2) or "0", 0) <= 4 else "alu_shift"


def _branch(mnemonic: str, operands: str) -> Instruction:
    target = re.search(r"#(0x[0-9a-f]+|\d+)$", operands)
    direct = int(target.group(1), 0) - _HERE if target and mnemonic not in ("br", "blr", "ret") else None
    reads = registers(operands) or ((30,) if mnemonic == "ret" else ())
    writes: tuple[int, ...] = (30,) if mnemonic in ("bl", "blr") else ()
    text = f"{mnemonic} {operands}".strip()
    return _with_flags(mnemonic, Instruction("branch", reads, writes, branch=direct, text=text))


def _with_flags(mnemonic: str, instruction: Instruction) -> Instruction:
    """The flags are a register too."""
    reads_flags, sets_flags = _READS_FLAGS.match(mnemonic), mnemonic in _SETS_FLAGS
    if not (reads_flags or sets_flags):
        return instruction
    reads = (*instruction.reads, FLAGS) if reads_flags else instruction.reads
    writes = (*instruction.writes, FLAGS) if sets_flags else instruction.writes
    return dataclasses.replace(instruction, reads=reads, writes=writes)
