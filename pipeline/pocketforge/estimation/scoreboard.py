"""Cycles of a basic block that runs again and again, on one core type's pipes.

A scoreboard: for each register the cycle from which its value can be used, for each pipe the cycles at which it is
busy. Instructions are walked in program order, each once, and put at the first cycle that both allow (`machines.py`);
nothing is simulated cycle by cycle. Two machines, both deliberately simple (compare uops.info's and llvm-mca's bounds;
A. Abel and J. Reineke, "uiCA", ICS 2022, for why loops need the dependency chain and the front end together):

- out of order: `width` instructions enter a cycle, at most `window` are in flight, each starts on the first free unit
  once its operands are there, all leave in order;
- in order: up to `width` start a cycle, none before the one in front of it.

A block whose last branch goes back to its own start is followed by itself, registers included. Any other block is
timed among copies of itself too, but with all registers ready at its start: what its neighbours leave unfinished
overlaps with it on a real core, and a chain from its end to its start would be false.

Units: cycles of the core's clock throughout; whole ones inside, fractions where passes are averaged. All figures of a
core (widths, pipes, latencies) are in `core_models/*.toml`, each with its source.

What is taken as perfect: every load hits the first cache (`fitting.py` adds the bytes from further away), every branch
is predicted (it adds the loops' ends), renaming never runs out of registers, loads and stores never wait for each
other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pocketforge.estimation.core_model import CoreModel
from pocketforge.estimation.instruction import Instruction
from pocketforge.estimation.machines import Registers, Step, in_order, out_of_order, steps_of

_LEAST_ROUNDS = 6
# Beyond the highest bound by this factor, no single limit explains the time: it is how they meet.
_EXPLAINED = 1.15
# Passes of a block that the dependency chain is followed for, and after how many its growth is steady: the first ones
# start with all registers ready, and a chain may take turns over several passes (two accumulators in turns).
_CHAIN_PASSES, _CHAIN_SETTLED = 8, 4


@dataclass(frozen=True, slots=True)
class BlockTime:
    """What one pass through a block costs.

    Attributes:
        cycles: Of one pass, in the middle of many.
        bounds: What each limit alone would cost, in cycles: "front end", "pipe NAME", "dependency chain".
        bound: The limit that decides; where none does by itself, "issue order" or "latency in the window".
    """

    cycles: float
    bounds: Mapping[str, float]
    bound: str


def time_block(instructions: Sequence[Instruction], core: CoreModel, *, loops: bool) -> BlockTime:
    """Steady-state cycles of one pass through a block, with the limits that explain it."""
    if not instructions:
        return BlockTime(0.0, {}, "front end")
    run = in_order if core.in_order else out_of_order
    # Enough rounds to fill the window three times, so that the second half of them is steady.
    rounds = max(_LEAST_ROUNDS, 2 * -(-3 * core.window // (2 * len(instructions))))
    steps = steps_of(instructions, core)
    ends = run(steps, core, rounds, loops)
    half = rounds // 2
    cycles = (ends[-1] - ends[half - 1]) / (rounds - half)
    bounds = {"front end": len(instructions) / core.width, **_pressure(instructions, core)}
    bounds["dependency chain"] = _chain(steps, core) if loops else 0.0
    bound = max(bounds, key=lambda name: bounds[name])
    if cycles > _EXPLAINED * bounds[bound]:
        bound = "issue order" if core.in_order else "latency in the window"
    return BlockTime(cycles, bounds, bound)


def _pressure(instructions: Sequence[Instruction], core: CoreModel) -> dict[str, float]:
    """Busy cycles of each set of pipes, spread evenly; wider sets also carry what only their members can take.

    The bound that uops.info computes from port usage: a set of pipes is at least as busy as all work together that no
    pipe outside of it takes, divided by its size.
    """
    demand: dict[tuple[int, ...], float] = {}  # set of units → cycles that must be on one of them
    for instruction in instructions:
        cost = core.cost(instruction)
        for units in cost.uses:
            demand[units] = demand.get(units, 0.0) + cost.cycles
        if instruction.base >= 0:
            for units in core.narrow["writeback"][0].uses:
                demand[units] = demand.get(units, 0.0) + 1
    bounds = {}
    for units in demand:
        inside = sum(cycles for other, cycles in demand.items() if set(other) <= set(units))
        bounds["pipe " + "/".join(sorted({core.units[i].split(".")[0] for i in units}))] = inside / len(units)
    return bounds


def _chain(steps: Sequence[Step], core: CoreModel) -> float:
    """Growth of the longest dependency path over passes: the bound of a loop on a machine without limits."""
    registers = Registers(core)
    ends = []
    for _ in range(_CHAIN_PASSES):
        last = 0
        for step in steps:
            start = registers.ready(step)
            registers.finish(step, start)
            last = max(last, start)
        ends.append(last)
    return (ends[-1] - ends[_CHAIN_SETTLED - 1]) / (_CHAIN_PASSES - _CHAIN_SETTLED)
