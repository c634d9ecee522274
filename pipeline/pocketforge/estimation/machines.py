"""The scoreboard's two machines: at which cycle each instruction of a block starts, over many passes.

Both walk the instructions in program order and never go back: what an instruction may start at depends on older ones
alone. That is exact for the in-order machine. For the other it means that older instructions choose their pipe first,
as schedulers do that pick the oldest ready one; a younger one may still take a gap that an older one left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pocketforge.estimation.core_model import CoreModel
from pocketforge.estimation.instruction import FLAGS, Instruction

_REGISTERS = FLAGS + 1


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction, made ready for the loops below: plain tuples instead of objects, as they run 10⁵ times.

    Attributes:
        reads: Registers that must be ready when it starts.
        writes: Registers that are ready `latency` after it starts.
        accumulator: A register that it adds to, or -1: forwarded from the same group after `accumulate` cycles.
        base: An address register that it writes back, or -1.
        group: A number for the instruction's group; equal groups forward accumulators to each other.
        uses: For each pipe that it needs, the units that will do, the one to try first in front.
        cycles: How long it keeps each of them.
        latency: Cycles from its start to its result.
        accumulate: Cycles from its start to its result, where the next of its group adds to that.
        alone: Nothing else starts in its cycles (in-order machine).
    """

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    accumulator: int
    base: int
    group: int
    uses: tuple[tuple[int, ...], ...]
    cycles: int
    latency: int
    accumulate: int
    alone: bool


def steps_of(instructions: Sequence[Instruction], core: CoreModel) -> list[Step]:
    """The block's instructions with their costs; of equal pipes, those with the least work of their own come first.

    (A scheduler balances its queues; always taking the first pipe would starve what only that pipe can do.)
    """
    costs = [core.cost(instruction) for instruction in instructions]
    # How much a unit is wanted: work that has no choice counts whole, of n choices 1/n for each, and that once more for
    # how easily it goes elsewhere.
    own = [0.0] * len(core.units)
    for cost in costs:
        for units in cost.uses:
            for unit in units:
                own[unit] += cost.cycles / len(units) ** 2
    groups: dict[str, int] = {}
    return [
        Step(
            reads=instruction.reads,
            writes=instruction.writes,
            accumulator=instruction.accumulator,
            base=instruction.base,
            group=groups.setdefault(instruction.group, len(groups)),
            uses=tuple(tuple(sorted(units, key=lambda unit: own[unit])) for units in cost.uses),
            cycles=cost.cycles,
            # A long transfer delivers its last register when it ends.
            latency=cost.latency + (cost.cycles - 1 if instruction.load_bytes else 0),
            accumulate=cost.accumulate,
            alone=cost.alone,
        )
        for instruction, cost in zip(instructions, costs, strict=True)
    ]


class Registers:
    """From which cycle each register's value can be used, and which group made it (for forwarding accumulators).

    Two cycles a register: `when` for anybody, `late` for the accumulator operand of the group that made it. A core may
    forward a multiply-accumulate's sum to the next one's addend before it reaches the register (`accumulate` in the
    core tables, with its sources): a chain of FMLA then costs 2 cycles a link on an A76, not 4.
    """

    __slots__ = ("group", "late", "when", "writeback")

    def __init__(self, core: CoreModel) -> None:
        self.writeback = core.narrow["writeback"][0].latency
        self.clear()

    def clear(self) -> None:
        """All values are there."""
        self.when = [0] * _REGISTERS
        self.late = [0] * _REGISTERS
        self.group = [-1] * _REGISTERS

    def ready(self, step: Step) -> int:
        """The first cycle at which all that the step reads is there."""
        # By hand, not with max(): this is the innermost loop.
        when = self.when
        start = 0
        for register in step.reads:
            if when[register] > start:
                start = when[register]
        added_to = step.accumulator
        if added_to >= 0:
            at = self.late[added_to] if self.group[added_to] == step.group else when[added_to]
            if at > start:
                start = at
        return start

    def finish(self, step: Step, start: int) -> None:
        """The step starts then: note when its results are there. An older value's readers have been asked already."""
        for register in step.writes:
            self.when[register] = start + step.latency
            self.late[register] = start + step.accumulate
            self.group[register] = step.group
        # After `writes`: the address is there long before what a load brings, also where both are one register.
        if step.base >= 0:
            self.when[step.base] = start + self.writeback


def out_of_order(steps: Sequence[Step], core: CoreModel, rounds: int, loops: bool) -> list[int]:
    """Cycle at which each round has left the machine.

    An instruction starts at the first cycle that four things allow, asked in this order, as each can only move it
    later: the front end (`width` enter a cycle), the window (it enters when the one `window` places before it has
    left), its operands, its pipes. It leaves when it and all older ones are done: a long latency fills the window
    behind it, and only then stops the front end.
    """
    busy: list[set[int]] = [set() for _ in core.units]  # of each unit, the cycles at which it is taken
    registers = Registers(core)
    writeback = core.narrow["writeback"][0].uses
    left: list[int] = []  # when each instruction so far left, in order
    ends = []
    width, window = core.width, core.window
    # Places in the front end taken so far, those that went by unused included: `width` of them are one cycle.
    entered = last = 0
    for _ in range(rounds):
        if not loops:
            registers.clear()
        for step in steps:
            number = len(left)
            start = entered // width
            if number >= window and left[number - window] > start:
                start = left[number - window]
                entered = start * width  # the front end stood still: its places of these cycles are gone
            entered += 1
            ready = registers.ready(step)
            if ready > start:
                start = ready
            # One pipe after the other, each no earlier than the one before: a store's address, then its data.
            for units in step.uses:
                start = _reserve(busy, units, start, step.cycles)
            if step.base >= 0:
                for units in writeback:
                    _reserve(busy, units, start, 1)
            registers.finish(step, start)
            done = start + (step.latency or 1)
            if done > last:  # in order: not before an older one
                last = done
            left.append(last)
        ends.append(last)
    return ends


def _reserve(busy: list[set[int]], units: tuple[int, ...], start: int, cycles: int) -> int:
    """Take the unit that is free soonest from `start` on for `cycles`, and say from when; gaps are used."""
    while True:
        if cycles == 1:
            for unit in units:
                if start not in busy[unit]:
                    busy[unit].add(start)
                    return start
        else:
            wanted = range(start, start + cycles)
            for unit in units:
                if busy[unit].isdisjoint(wanted):
                    busy[unit].update(wanted)
                    return start
        start += 1


def in_order(steps: Sequence[Step], core: CoreModel, rounds: int, loops: bool) -> list[int]:
    """Cycle at which each round's last instruction has started.

    An instruction starts at the first cycle, not before the one in front of it, at which its operands are there, fewer
    than `width` have started, and all its pipes are free at once. One that issues `alone` (the 128-bit loads of an A55)
    needs a cycle without any other, and keeps the next ones back while it lasts. What waits for a value holds up all
    behind it: there is no window, and no gap is ever filled.
    """
    free = [0] * len(core.units)  # of each unit, the first cycle at which it is free again
    registers = Registers(core)
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


def _units_at(free: list[int], step: Step, at: int) -> list[int] | None:
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
