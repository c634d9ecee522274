"""Tables of `pocketforge why`: the stages, and the layers of the one that was looked into."""

from __future__ import annotations

from rich.table import Table

from pocketforge.outcomes.why import Explained
from pocketforge.report.tables import table, words
from pocketforge.why.words import layer_rows, stage_rows

_COLOURS = {"BAD": "red", "ok": "green", "first bad": "red"}


def parity_tables(found: Explained) -> list[Table]:
    """The forms, and the layers of the one that was looked into."""
    stages = table(
        f"{found.target} ({found.runtime}, {found.scheme}), {found.samples} eval samples",
        "stage", "from first dB", "from before dB", "argmax agrees", "verdict",
        numbers=("from first dB", "from before dB", "argmax agrees"),
    )  # fmt: skip
    _fill(stages, stage_rows(found.stages))
    if not found.layers:
        return [stages]
    layers = table(
        f"layers of {found.layers_of}, against the stage before ({found.layer_samples} samples)",
        "layer", "op", "SQNR dB", "own dB", "",
        numbers=("SQNR dB", "own dB"),
    )  # fmt: skip
    _fill(layers, layer_rows(found))
    return [stages, layers]


def _fill(table: Table, rows: list[list[str]]) -> None:
    for *cells, last in rows:
        table.add_row(*cells, words((last, _COLOURS.get(last, ""))))
