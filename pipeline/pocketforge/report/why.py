"""Tables of `pocketforge why`: the stages, the layers of the one that was looked into, and what an app fed."""

from __future__ import annotations

from rich.table import Table

from pocketforge.outcomes.why import Explained
from pocketforge.outcomes.why_app import AppExplained
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


def app_tables(found: AppExplained) -> list[Table]:
    """What the app fed, what explains it, and what that costs."""
    tensors = table(
        f"what the app fed to {found.target}: {found.taken}", "tensor", "eval sample", "as written", "values",
        numbers=(),
    )  # fmt: skip
    for each in found.tensors:
        sample = each.sample if each.named else f"{each.sample} (found)"
        values = f"{each.low:.4g} to {each.high:.4g}"
        tensors.add_row(each.file, sample, f"{each.dtype} {list(each.shape)}", values)
    title = f"{found.tried} comparisons, over {found.samples} eval samples"
    ways = table(title, "what explains it", "error", "largest difference", "", numbers=("error", "largest difference"))
    for way in found.explanations:
        names = f"{way.words} [{' + '.join(way.mistakes)}]" if way.mistakes else way.words
        last = ("explains it", "green") if way.explains else ("", "")
        ways.add_row(names, f"{way.error:.3g}", f"{way.max_abs_diff:.4g}", words(last))
    if not found.cost:
        return [tensors, ways]
    cost = table(f"what it costs on {found.samples} eval samples", "output", "metric", "right", "as the app does it",
                 numbers=("right", "as the app does it"))  # fmt: skip
    for one in found.cost:
        cost.add_row(one.output, one.metric, f"{one.right:.4f}", f"{one.wrong:.4f}")
    return [tensors, ways, cost]


def _fill(table: Table, rows: list[list[str]]) -> None:
    for *cells, last in rows:
        table.add_row(*cells, words((last, _COLOURS.get(last, ""))))
