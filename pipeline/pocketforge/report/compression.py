"""What each step of [[compress]] did and bought, as tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from pocketforge.report.tables import table


def compression_tables(compression: Mapping[str, Any]) -> list[Table]:
    """The model's state after each step; then its float file and time in each runtime, beside the state before."""
    states: Sequence[Mapping[str, Any]] = compression.get("states", ())
    if not states:
        return []
    made = [_states(states)]
    if any(state["zeros"] > state["weights"] // 50 for state in states):
        made.append(_storage(states))
    return [*made, _runtimes(states)]


def _states(states: Sequence[Mapping[str, Any]]) -> Table:
    figures = ["parameters", "MACs", "zeros", "loss", *(["top-1"] if "accuracy_top1" in states[0] else [])]
    made = table("compression: the PyTorch model", "after", *figures, numbers=figures)
    for state in states:
        cells = [
            f"{state['parameters']:,}",
            f"{state['macs']:,}",
            f"{state['zeros'] / max(state['weights'], 1):.1%}",
            f"{state['loss']:.4f}",
        ]
        if "accuracy_top1" in state:
            cells.append(f"{state['accuracy_top1']:.4f}")
        made.add_row(state["label"], *cells)
    return made


def _storage(states: Sequence[Mapping[str, Any]]) -> Table:
    """What zeros buy: only where a file is compressed or stored sparsely."""
    columns = {"dense bytes": "weights_bytes", "gzip -9": "weights_gzip_bytes", "sparse bytes": "sparse_bytes"}
    columns["sparse gzip"] = "sparse_gzip_bytes"
    made = table("compression: its weights file", "after", *columns, numbers=tuple(columns))
    for state in states:
        made.add_row(state["label"], *(f"{state[key]:,}" for key in columns.values()))
    return made


def _runtimes(states: Sequence[Mapping[str, Any]]) -> Table:
    """Latencies of float files timed in turns; × is the time over the timed state before, with its interval."""
    numbers = ("bytes", "p50 ms", "× before", "95 % interval")
    made = table("compression: float files on the host, timed in turns", "after", "runtime", *numbers, numbers=numbers)
    for state in states:
        if not state["timed"]:
            continue
        for runtime, found in state["runtimes"].items():
            ratio = ("", "")
            if "ratio" in found:
                ratio = (f"{found['ratio']:.2f}", f"{found['ratio_low']:.2f}–{found['ratio_high']:.2f}")
            made.add_row(state["label"], runtime, f"{found['size_bytes']:,}", f"{found['latency_ms']:.3f}", *ratio)
    return made
