"""Cycles of a basic block that runs again and again, on one core type's pipes.

Two machines, both deliberately simple (compare uops.info's and llvm-mca's bounds; A. Abel and J. Reineke, "uiCA",
ICS 2022, for why loops need the dependency chain and the front end together):

- out of order: `width` instructions enter a cycle, at most `window` are in flight, each starts on the first free unit
  once its operands are there, all leave in order;
- in order: up to `width` start a cycle, none before the one in front of it.

A block whose last branch goes back to its own start is followed by itself, registers included. Any other block is
timed among copies of itself too, but with all registers ready at its start: what its neighbours leave unfinished
overlaps with it on a real core, and a chain from its end to its start would be false.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pocketforge.estimation.core_model import CoreModel
from pocketforge.estimation.decode import FLAGS, Instruction

_LEAST_ROUNDS = 6
_REGISTERS = FLAGS + 1


@dataclass(frozen=True, slots=True)
class BlockTime:
    """`cycles` of one pass; `bounds`: what each limit alone would cost; `bound`: the one that decides."""

    cycles: float
    bounds: Mapping[str, float]
    bound: str


def time_block(instructions: Sequence[Instruction], core: CoreModel, *, loops: bool) -> BlockTime:
    """Steady-state cycles of one pass through a block, with the limits that explain it."""
    if not instructions:
        return BlockTime(0.0, {}, "front end")
    run = _in_order if core.in_order else _out_of_order
    # Enough rounds to fill the window three times, so that the second half of them is steady.
    rounds = max(_LEAST_ROUNDS, 2 * -(-3 * core.window // (2 * len(instructions))))
    steps = _steps(instructions, core)
    ends = run(steps, core, rounds, loops)
    half = rounds // 2
    cycles = (ends[-1] - ends[half - 1]) / (rounds - half)
    bounds = {"front end": len(instructions) / core.width, **_pressure(instructions, core)}
    bounds["dependency chain"] = _chain(steps, core) if loops else 0.0
    bound = max(bounds, key=lambda name: bounds[name])
    if cycles > 1.15 * bounds[bound]:
        bound = "issue order" if core.in_order else "latency in the window"
    return BlockTime(cycles, bounds, bound)


def _pressure(instructions: Sequence[Instruction], core: CoreModel) -> dict[str, float]:
    """Busy cycles of each set of pipes, spread evenly; wider sets also carry what only their members can take."""
    demand: dict[tuple[int, ...], float] = {}
    for instruction in instructions:
        cost = core.cost(instruction)
        for units in cost.uses:
            demand[units] = demand.get(units, 0.0) + cost.cycles
        if instruction.base >= 0:
            for units in core.narrow["writeback"][0].uses:
                demand[units] = demand.get(units, 0.0) + 1
    found = {}
    for units in demand:
        inside = sum(cycles for other, cycles in demand.items() if set(other) <= set(units))
        found["pipe " + "/".join(sorted({core.units[i].split(".")[0] for i in units}))] = inside / len(units)
    return found


@dataclass(frozen=True, slots=True)
class _Step:
    """One instruction, made ready for the loops below: plain tuples instead of objects, as they run 10⁵ times."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    kept: int  # the accumulator, or -1
    base: int
    group: int
    uses: tuple[tuple[int, ...], ...]
    cycles: int
    latency: int
    accumulate: int
    alone: bool


def _steps(instructions: Sequence[Instruction], core: CoreModel) -> list[_Step]:
    """The block's instructions with their costs; of equal pipes, those with the least work of their own come first.

    (A scheduler balances its queues; always taking the first pipe would starve what only that pipe can do.)
    """
    costs = [core.cost(instruction) for instruction in instructions]
    own = [0.0] * len(core.units)
    for cost in costs:
        for units in cost.uses:
            for unit in units:
                own[unit] += cost.cycles / len(units) ** 2
    groups: dict[str, int] = {}
    return [
        _Step(
            instruction.reads,
            instruction.writes,
            instruction.accumulator,
            instruction.base,
            groups.setdefault(instruction.group, len(groups)),
            tuple(tuple(sorted(units, key=lambda unit: own[unit])) for units in cost.uses),
            cost.cycles,
            # A long transfer delivers its last register when it ends.
            cost.latency + (cost.cycles - 1 if instruction.load_bytes else 0),
            cost.accumulate,
            cost.alone,
        )
        for instruction, cost in zip(instructions, costs, strict=True)
    ]


class _Registers:
    """When each register's value can be used, and which group made it (for forwarding between accumulators)."""

    __slots__ = ("group", "late", "when", "writeback")

    def __init__(self, core: CoreModel) -> None:
        self.writeback = core.narrow["writeback"][0].latency
        self.clear()

    def clear(self) -> None:
        self.when = [0] * _REGISTERS
        self.late = [0] * _REGISTERS
        self.group = [-1] * _REGISTERS

    def ready(self, step: _Step) -> int:
        when = self.when
        start = 0
        for register in step.reads:
            if when[register] > start:
                start = when[register]
        kept = step.kept
        if kept >= 0:
            at = self.late[kept] if self.group[kept] == step.group else when[kept]
            if at > start:
                start = at
        return start

    def finish(self, step: _Step, start: int) -> None:
        for register in step.writes:
            self.when[register] = start + step.latency
            self.late[register] = start + step.accumulate
            self.group[register] = step.group
        if step.base >= 0:
            self.when[step.base] = start + self.writeback


def _chain(steps: Sequence[_Step], core: CoreModel) -> float:
    """Growth of the longest dependency path over passes: the bound of a loop on a machine without limits."""
    registers = _Registers(core)
    ends = []
    for _ in range(8):
        last = 0
        for step in steps:
            start = registers.ready(step)
            registers.finish(step, start)
            last = max(last, start)
        ends.append(last)
    return (ends[-1] - ends[3]) / 4


def _out_of_order(steps: Sequence[_Step], core: CoreModel, rounds: int, loops: bool) -> list[int]:
    """Cycle at which each round has left the machine."""
    busy: list[set[int]] = [set() for _ in core.units]
    registers = _Registers(core)
    writeback = core.narrow["writeback"][0].uses
    left: list[int] = []  # when each instruction so far left, in order
    ends = []
    width, window = core.width, core.window
    entered = last = 0
    for _ in range(rounds):
        if not loops:
            registers.clear()
        for step in steps:
            number = len(left)
            start = entered // width
            if number >= window and left[number - window] > start:
                start = left[number - window]
                entered = start * width
            entered += 1
            start = max(start, registers.ready(step))
            for units in step.uses:
                start = _reserve(busy, units, start, step.cycles)
            if step.base >= 0:
                for units in writeback:
                    _reserve(busy, units, start, 1)
            registers.finish(step, start)
            last = max(last, start + (step.latency or 1))
            left.append(last)
        ends.append(last)
    return ends


def _reserve(busy: list[set[int]], units: tuple[int, ...], start: int, cycles: int) -> int:
    """Take the unit that is free soonest from `start` on for `cycles`; gaps are used."""
    best, chosen = -1, units[0]
    for unit in units:
        taken = busy[unit]
        at = start
        if cycles == 1:
            while at in taken:
                at += 1
        else:
            while any(at + k in taken for k in range(cycles)):
                at += 1
        if best < 0 or at < best:
            best, chosen = at, unit
            if at == start:
                break
    busy[chosen].update(range(best, best + cycles))
    return best


def _in_order(steps: Sequence[_Step], core: CoreModel, rounds: int, loops: bool) -> list[int]:
    """Cycle at which each round's last instruction has started."""
    free = [0] * len(core.units)
    registers = _Registers(core)
    now, slots, blocked = 0, 0, 0  # cycle, instructions started in it, first cycle after one that issues alone
    ends = []
    for _ in range(rounds):
        if not loops:
            registers.clear()
        for step in steps:
            at = max(now, blocked, registers.ready(step))
            while True:
                room = at > now or (slots < core.width and not (step.alone and slots))
                units = _units_at(free, step, at) if room else None
                if units is not None:
                    break
                at += 1
            slots = slots + 1 if at == now else 1
            now = at
            for unit in units:
                free[unit] = at + step.cycles
            if step.alone:
                blocked = at + step.cycles
            registers.finish(step, at)
        ends.append(max(now + 1, blocked))
    return ends


def _units_at(free: list[int], step: _Step, at: int) -> list[int] | None:
    """A free unit for each use at this cycle, or None."""
    taken: list[int] = []
    for units in step.uses:
        for unit in units:
            if free[unit] <= at and unit not in taken:
                taken.append(unit)
                break
        else:
            return None
    return taken
