"""One core type's tables: width, execution pipes, and per instruction group the pipes it takes and its latency.

The figures are data (`core_models/*.toml`, read by `core_tables.py`), each with a source.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from pocketforge.errors import RecipeError
from pocketforge.estimation.core_tables import FOLDER, Group, Tables, core_names, read_tables
from pocketforge.estimation.instruction import Instruction


@dataclass(frozen=True, slots=True)
class Cost:
    """What one instruction takes.

    Attributes:
        uses: For each pipe that it needs, the units that will do, by index: one of them is kept for `cycles`.
        latency: Cycles from its start to its result.
        accumulate: Latency to the accumulator of the next instruction of the same group, in cycles.
        cycles: How long it keeps each pipe.
        alone: Nothing else issues while it does (in-order cores).
    """

    uses: tuple[tuple[int, ...], ...]
    latency: int
    accumulate: int
    cycles: int
    alone: bool


@dataclass(frozen=True, slots=True)
class CoreModel:
    """The tables of one core type.

    Attributes:
        name: As device profiles call it: cortex-a76.
        title: As people call it.
        in_order: Whether an instruction waits for the one in front of it.
        nearest: The core type whose fitted parameters serve where this one has none.
        width: Instructions that enter (in order: start) a cycle.
        window: Instructions in flight; 1 where the core is in order.
        units: Its pipes by name, of several alike `NAME.0`, `NAME.1` …; costs refer to them by index.
        narrow: Group → cost of the 64-bit form, and whether it is for each register that is moved.
        wide: The same of the 128-bit form.
        sources: Group, "width" or "window" → "status: source".
    """

    name: str
    title: str
    in_order: bool
    nearest: str
    width: int
    window: int
    units: tuple[str, ...]
    narrow: Mapping[str, tuple[Cost, bool]]
    wide: Mapping[str, tuple[Cost, bool]]
    sources: Mapping[str, str]

    def cost(self, instruction: Instruction) -> Cost:
        """The cost of an instruction; an unknown one is charged as a plain ALU instruction."""
        table = self.wide if instruction.wide else self.narrow
        cost, each = table.get(instruction.group) or self.narrow["alu"]
        if not each or instruction.registers == 1:
            return cost
        return Cost(cost.uses, cost.latency, cost.accumulate, cost.cycles * instruction.registers, cost.alone)


@functools.cache
def load_core(name: str) -> CoreModel:
    """The tables of a core type, by the name that device profiles use. Raises RecipeError for an unknown one."""
    if name not in core_names():
        raise RecipeError(
            f"no pipeline tables for the core {name!r}",
            hint=f"core types that can be estimated: {', '.join(core_names())}",
        )
    return _built(read_tables(name))


def tables_digest() -> str:
    """SHA-256 of all tables: part of what an estimate was made with."""
    whole = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.toml")):
        whole.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()


def _built(tables: Tables) -> CoreModel:
    units = tuple(f"{unit}.{n}" if count > 1 else unit for unit, count in tables.units.items() for n in range(count))

    def members(pipe: str) -> tuple[int, ...]:
        names = tables.pipes.get(pipe, (pipe,))
        return tuple(index for index, unit in enumerate(units) if unit.split(".")[0] in names)

    def cost(group: Group) -> tuple[Cost, bool]:
        accumulate = group.latency if group.accumulate is None else group.accumulate
        uses = tuple(members(pipe) for pipe in group.uses)
        return Cost(uses, group.latency, accumulate, group.cycles, group.alone), group.each

    return CoreModel(
        name=tables.name,
        title=tables.title,
        in_order=tables.order == "in-order",
        nearest=tables.nearest,
        width=tables.width,
        window=tables.window,
        units=units,
        narrow={name: cost(group) for name, group in tables.groups.items()},
        wide={name: cost(group.of_128_bits()) for name, group in tables.groups.items()},
        sources={**tables.front, **{name: group.source for name, group in tables.groups.items()}},
    )
