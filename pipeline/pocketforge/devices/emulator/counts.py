"""Exact instruction counts of one inference: by class, by function, by block; and what grew between two of them.

A count is the number of A64 instructions that an emulated run executed between two marks around one inference. It is
no time: what an instruction costs on a core is pipeline/pocketforge/estimation's business.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

FORMAT = 1
# fp_mac, int_mac: multiply-accumulate on floats, on integers; dot: sdot/udot (4 products a lane); i8mm: int8 matrix
# products and mixed-sign dots; the rest by what the instruction does to memory or to the flow.
CLASSES = ("fp_mac", "int_mac", "dot", "i8mm", "load", "store", "branch", "other")
# Words that the disassembler does not know: a class of their own, so that nothing hides in "other".
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Block:
    """A straight run of instructions that ran equally often.

    Attributes:
        pc: Its address in the library's file, plus 2^36 times the library's number in the order of loading.
        executions: So often in one inference (the last window).
        words: Its A64 instructions.
        function: `library!symbol`, as in Counts.by_function.
    """

    pc: int
    executions: int
    words: tuple[int, ...]
    function: str


@dataclass(frozen=True, slots=True)
class Counts:
    """What one inference executed.

    Attributes:
        instructions: The last window's.
        windows: Each counted inference's.
        tolerance: How far windows may be apart, as a fraction of the largest.
        conclusive: Whether they agree within it and nothing else is in doubt; else `doubts` or the windows say why.
        by_class: CLASSES, and UNKNOWN when there are such words → instructions.
        by_function: `library!symbol`, or `library+0x…` where the library has no symbol → instructions.
        blocks: What the sums are of.
        libraries: File name → SHA-256.
        qemu: Its version.
        cpu: Its -cpu.
        runner: What the runner said of itself and its runtime.
        threads: So many ran; all are counted.
        doubts: Why the log may not be whole.
    """

    instructions: int
    windows: tuple[int, ...]
    tolerance: float
    conclusive: bool
    by_class: Mapping[str, int]
    by_function: Mapping[str, int]
    blocks: tuple[Block, ...]
    libraries: Mapping[str, str]
    qemu: str
    cpu: str
    runner: Mapping[str, object]
    threads: int = 1
    doubts: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A block is [pc, executions, "words, 8 hexadecimal digits each", function]."""
        blocks = [[b.pc, b.executions, "".join(f"{w:08x}" for w in b.words), b.function] for b in self.blocks]
        return {**self.without_blocks(), "blocks": blocks}

    def without_blocks(self) -> dict[str, Any]:
        """All of it but the blocks, which are most of it."""
        return {
            "format": FORMAT,
            "instructions": self.instructions,
            "windows": list(self.windows),
            "tolerance": self.tolerance,
            "conclusive": self.conclusive,
            "doubts": list(self.doubts),
            "threads": self.threads,
            "by_class": dict(self.by_class),
            "by_function": dict(self.by_function),
            "libraries": dict(self.libraries),
            "qemu": self.qemu,
            "cpu": self.cpu,
            "runner": dict(self.runner),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Counts:
        """Raises ValueError, saying what is wrong; sums are checked against the blocks."""
        try:
            if data["format"] != FORMAT:
                raise ValueError(f"counts of format {data['format']!r}, not {FORMAT}")
            counts = Counts(
                instructions=_whole(data["instructions"]),
                windows=tuple(_whole(w) for w in data["windows"]),
                tolerance=float(data["tolerance"]),
                conclusive=bool(data["conclusive"]),
                by_class={str(k): _whole(v) for k, v in data["by_class"].items()},
                by_function={str(k): _whole(v) for k, v in data["by_function"].items()},
                blocks=tuple(
                    Block(_whole(pc), _whole(executions), words_of(text), str(function))
                    for pc, executions, text, function in data["blocks"]
                ),
                libraries={str(k): str(v) for k, v in data["libraries"].items()},
                qemu=str(data["qemu"]),
                cpu=str(data["cpu"]),
                runner=dict(data["runner"]),
                threads=_whole(data["threads"]),
                doubts=tuple(str(d) for d in data["doubts"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not instruction counts: {type(error).__name__} {error}") from None
        for name, total in (
            ("blocks", sum(b.executions * len(b.words) for b in counts.blocks)),
            ("classes", sum(counts.by_class.values())),
            ("functions", sum(counts.by_function.values())),
        ):
            if total != counts.instructions:
                raise ValueError(f"damaged counts: the {name} sum to {total}, not {counts.instructions} instructions")
        return counts


def words_of(text: str) -> tuple[int, ...]:
    """Instruction words from 8 hexadecimal digits each. Raises ValueError."""
    if len(text) % 8:
        raise ValueError(f"{len(text)} digits are no whole number of instructions")
    content = bytes.fromhex(text)
    if 2 * len(content) != len(text):
        raise ValueError(f"wanted hexadecimal digits, found {text!r}")  # fromhex passes over spaces
    return struct.unpack(f">{len(content) // 4}I", content)


def agree(windows: tuple[int, ...], tolerance: float) -> bool:
    """Do at least two windows differ by no more than `tolerance`, a fraction of the largest?"""
    return len(windows) >= 2 and max(windows) - min(windows) <= tolerance * max(windows) and min(windows) > 0


@dataclass(frozen=True, slots=True)
class Growth:
    """How one class or function changed, in instructions per inference.

    Attributes:
        kind: What it is a sum of.
        name: The class's or the function's.
        before: In the older counts.
        after: In the newer ones.
    """

    kind: Literal["total", "class", "function"]
    name: str
    before: int
    after: int

    @property
    def absolute(self) -> int:
        return self.after - self.before

    @property
    def percent(self) -> float | None:
        """None for what was not there before."""
        return 100.0 * self.absolute / self.before if self.before else None


class Summed(Protocol):
    """The sums of Counts, which a report keeps."""

    @property
    def instructions(self) -> int: ...
    @property
    def by_class(self) -> Mapping[str, int]: ...
    @property
    def by_function(self) -> Mapping[str, int]: ...
    @property
    def libraries(self) -> Mapping[str, str]: ...


def compare(before: Summed, after: Summed) -> tuple[Growth, ...]:
    """The total, then the classes, then the functions, in each the largest growth first; unchanged ones are left out.

    Addresses in two builds of a library mean nothing to each other: the functions without a symbol of a library whose
    SHA-256 differs are one row, "library (functions without names)".
    """
    rows = [Growth("total", "instructions", before.instructions, after.instructions)]
    rows += _changed("class", before.by_class, after.by_class)
    changed = {
        name
        for name in {*before.libraries, *after.libraries}
        if before.libraries.get(name) != after.libraries.get(name)
    }
    rows += _changed("function", _folded(before.by_function, changed), _folded(after.by_function, changed))
    return tuple(rows)


def _changed(kind: Literal["class", "function"], before: Mapping[str, int], after: Mapping[str, int]) -> list[Growth]:
    rows = [Growth(kind, name, before.get(name, 0), after.get(name, 0)) for name in {*before, *after}]
    return sorted((row for row in rows if row.absolute), key=lambda row: (-row.absolute, row.name))


def _folded(functions: Mapping[str, int], changed: set[str]) -> dict[str, int]:
    folded: dict[str, int] = {}
    for name, count in functions.items():
        library, plus, _ = name.partition("+0x")
        key = f"{library} (functions without names)" if plus and library in changed else name
        folded[key] = folded.get(key, 0) + count
    return folded


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value
