"""Where an estimate's cycles go, in words: shares of computing, memory and overheads, layers, the hottest blocks."""

from __future__ import annotations

from collections.abc import Sequence

from pocketforge.estimation.estimate import Estimate, HotBlock
from pocketforge.estimation.layers import Layer

_WHY = {
    "front end": "instructions enter no faster",
    "dependency chain": "each pass waits for the one before",
    "latency in the window": "results arrive late, and too few instructions are in flight",
    "issue order": "instructions wait for the one in front of them",
}


def summary(estimate: Estimate) -> str:
    """One line: the latency, its interval, and what stands behind it."""
    return (
        f"{estimate.latency_ms:.4g} ms estimated on {estimate.core} at {estimate.clock_ghz:g} GHz "
        f"({estimate.low_ms:.4g} to {estimate.high_ms:.4g} with {estimate.coverage:.0%} coverage; {estimate.status})"
    )


def explain(estimate: Estimate, blocks: int = 8) -> list[str]:
    """Lines for `bench --explain`."""
    parts = (
        ("computing", estimate.compute_cycles),
        ("waiting for caches and memory", estimate.memory_cycles),
        ("loop ends and operators", estimate.overhead_cycles),
    )
    lines = [summary(estimate), f"  basis: {estimate.basis}"]
    shares = ", ".join(f"{name} {cycles / estimate.cycles:.0%}" for name, cycles in parts)
    rate = estimate.instructions / estimate.cycles
    lines.append(f"  {estimate.cycles / 1e6:.4g} million cycles: {shares}; {rate:.2f} instructions a cycle")
    lines += ["  " + _line(block) for block in estimate.top[:blocks]]
    rest = 1 - sum(block.share for block in estimate.top[:blocks])
    if rest > 0.001:
        lines.append(f"  {rest:6.1%}  all other blocks")
    return lines


def layer_rows(layers: Sequence[Layer]) -> list[tuple[str, ...]]:
    """Number, operator, cycles, share, weights, activations, what takes most with its share: a row a layer."""
    total = sum(layer.cycles for layer in layers) or 1.0
    return [
        (
            str(layer.number),
            layer.kind,
            f"{layer.cycles:,.0f}",
            f"{layer.cycles / total:.1%}",
            f"{layer.weight_bytes:,}",
            f"{layer.activation_bytes:,}",
            f"{layer.bound} {_most(layer) / layer.cycles:.0%}" if layer.cycles else "",
        )
        for layer in layers
    ]


def _most(layer: Layer) -> float:
    return max(layer.compute_cycles, layer.l2_cycles, layer.l3_cycles, layer.memory_cycles, layer.overhead_cycles)


def _line(block: HotBlock) -> str:
    why = _WHY.get(block.bound, "this pipe is always busy" if block.bound.startswith("pipe ") else "")
    kind = "loop" if block.loops else "block"
    return (
        f"{block.share:6.1%}  {block.function or f'at {block.pc:#x}'}: {kind} of {block.instructions} instructions, "
        f"{block.executions:,} times, {block.instructions_per_cycle:.2f} a cycle, bound by {block.bound}"
        f"{f' ({why})' if why else ''}: {'; '.join(block.text)}"
    )
