"""What each step of [[compress]] did and bought, as tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from pocketforge.outcomes.gains import State
from pocketforge.records import Compression
from pocketforge.report.tables import table


def compression_tables(compression: Compression) -> list[Table]:
    """The model's state after each step; then its float file and time in each runtime, beside the state before."""
    states = compression.states
    if not states:
        return []
    tables = [_states(states)]
    if any(state.zeros > state.weights // 50 for state in states):
        tables.append(_storage(states))
    return [*tables, _runtimes(states)]


def _states(states: Sequence[State]) -> Table:
    classifies = states[0].accuracy_top1 is not None
    judged = ["top-1"] if classifies else [states[0].metric] if states[0].metric else []
    figures = ["parameters", "MACs", "zeros", "loss", *judged]
    rows = table("compression: the PyTorch model", "after", *figures, numbers=figures)
    for state in states:
        rows.add_row(
            state.label,
            f"{state.parameters:,}",
            f"{state.macs:,}",
            f"{state.zeros / max(state.weights, 1):.1%}",
            "–" if state.loss is None else f"{state.loss:.4f}",
            *([f"{value:.4f}"] if (value := _judged(state)) is not None else []),
        )
    return rows


def _judged(state: State) -> float | None:
    return state.value if state.accuracy_top1 is None else state.accuracy_top1


def _storage(states: Sequence[State]) -> Table:
    """What zeros buy: only where a file is compressed or stored sparsely."""
    columns = ("dense bytes", "gzip -9", "sparse bytes", "sparse gzip")
    rows = table("compression: its weights file", "after", *columns, numbers=columns)
    for state in states:
        sizes = (state.weights_bytes, state.weights_gzip_bytes, state.sparse_bytes, state.sparse_gzip_bytes)
        rows.add_row(state.label, *(f"{size:,}" for size in sizes))
    return rows


def _runtimes(states: Sequence[State]) -> Table:
    """Latencies of float files timed in turns; × is the time over the timed state before, with its interval."""
    numbers = ("bytes", "p50 ms", "× before", "95 % interval")
    rows = table("compression: float files on the host, timed in turns", "after", "runtime", *numbers, numbers=numbers)
    for state in states:
        if not state.timed:
            continue
        for runtime, timing in state.runtimes.items():
            ratio = ("", "")
            if timing.ratio is not None:
                ratio = (f"{timing.ratio:.2f}", f"{timing.ratio_low:.2f}–{timing.ratio_high:.2f}")
            rows.add_row(state.label, runtime, f"{timing.size_bytes:,}", f"{timing.latency_ms:.3f}", *ratio)
    return rows
