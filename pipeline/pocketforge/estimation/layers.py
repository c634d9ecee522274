"""An estimate, layer by layer: what each operator computes, moves and waits for, and what bounds it.

What memory costs is each operator's own, as in the whole estimate. Computing was counted for the whole inference: its
dense cycles are divided by how often each operator uses its weights, all others by the values that it makes (`_light`),
loop ends like the computing. So the layers' sum is the estimate, and the division is a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pocketforge.estimation.blocks import Work
from pocketforge.estimation.fitting import Parameters
from pocketforge.estimation.traffic import Caches, Levels, Operator, Traffic, levels

# Cycles a byte of an A76's scoreboard in XNNPACK's kernels: a depthwise convolution's output byte and tap (53 cycles
# for 25 taps of 8 floats), the end of a dense tile (31 for 48 floats), and a byte that any other operator reads or
# writes (14 for 16 floats in and out). Only their proportions count.
_TAP, _TILE, _VALUE = 53 / (25 * 32), 31 / (48 * 4), 14 / (2 * 16 * 4)


@dataclass(frozen=True, slots=True)
class Layer:
    """One operator of the estimate.

    Attributes:
        number: Its place, from 1.
        kind: As its format calls it.
        cycles: Of all that follow.
        compute_cycles: Of its instructions.
        l2_cycles: Waiting for the second cache, and for what a depthwise convolution reads again.
        l3_cycles: Waiting for what cores share.
        memory_cycles: Waiting for memory beyond its own dense computing.
        overhead_cycles: Of its loops' ends, and of starting it.
        weight_bytes: Stored weights that it reads.
        activation_bytes: Read and written.
        bound: What takes most: "compute", "L2", "L3", "memory" or "overhead".
    """

    number: int
    kind: str
    cycles: float
    compute_cycles: float
    l2_cycles: float
    l3_cycles: float
    memory_cycles: float
    overhead_cycles: float
    weight_bytes: int
    activation_bytes: int
    bound: str

    def to_json(self) -> dict[str, object]:
        """Every field by its name."""
        return asdict(self)


def layers(work: Work, traffic: Traffic, caches: Caches, parameters: Parameters) -> tuple[Layer, ...]:
    """Every operator, in the order in which they run; their cycles together are `fitting.predict`'s."""
    dense = shares([dense_work(operator) for operator in traffic.operators])
    light = shares([_light(operator) for operator in traffic.operators])
    moved = levels(traffic, caches)
    made = []
    for number, (operator, each) in enumerate(zip(traffic.operators, moved, strict=True)):
        heavy = parameters.dense_scale * work.dense_cycles * dense[number]
        computing = heavy + parameters.compute_scale * (work.cycles - work.dense_cycles) * light[number]
        share = (dense[number] * work.dense_cycles + light[number] * (work.cycles - work.dense_cycles)) / work.cycles
        made.append(_layer(number + 1, operator, (computing, heavy, share * work.loop_exits), each, caches, parameters))
    return tuple(made)


def dense_work(operator: Operator) -> int:
    """How often an operator uses its weights' bytes."""
    return operator.weight_bytes * max(operator.rows, 1) if not operator.taps else 0


def shares(amounts: Sequence[float]) -> list[float]:
    """Of their sum; equal ones where all are nothing."""
    total = sum(amounts)
    return [amount / total if total else 1 / len(amounts) for amount in amounts]


def _light(operator: Operator) -> float:
    if operator.taps:
        return _TAP * operator.output_bytes * operator.taps
    if operator.rows:
        return _TILE * operator.output_bytes
    return _VALUE * (operator.input_bytes + operator.output_bytes)


def _layer(
    number: int,
    operator: Operator,
    work: tuple[float, float, float],
    moved: Levels,
    caches: Caches,
    parameters: Parameters,
) -> Layer:
    computing, heavy, exits = work
    waiting = moved.memory_bytes * caches.clock_ghz / (caches.memory_gb_per_s * parameters.memory_share)
    parts = {
        "compute": computing,
        "L2": moved.l2_bytes / parameters.l2_bytes_per_cycle + moved.window_bytes / parameters.window_bytes_per_cycle,
        "L3": moved.l3_bytes / parameters.l3_bytes_per_cycle,
        "memory": max(0.0, waiting - heavy),
        "overhead": exits * parameters.loop_exit_cycles + parameters.operator_cycles,
    }
    return Layer(
        number,
        operator.kind,
        sum(parts.values()),
        parts["compute"],
        parts["L2"],
        parts["L3"],
        parts["memory"],
        parts["overhead"],
        weight_bytes=operator.weight_bytes,
        activation_bytes=operator.input_bytes + operator.output_bytes,
        bound=max(parts, key=lambda name: parts[name]),
    )
