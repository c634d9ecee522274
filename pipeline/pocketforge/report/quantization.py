"""What quantization did, as tables in the terminal: mixed precision's choice, files of one quantization compared."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from pocketforge.outcomes.layers import LayerStudy
from pocketforge.outcomes.mixed import MixedChoice
from pocketforge.records import Agreement, TargetRecord
from pocketforge.report.tables import table


def quantization_tables(targets: Sequence[TargetRecord], agreement: Sequence[Agreement]) -> list[Table]:
    """A table for each target of scheme mixed (shared choices once), then one of all pairs of files."""
    tables = []
    shown: list[MixedChoice] = []
    for target in targets:
        mixed = target.facts.mixed
        if mixed and mixed not in shown:
            shown.append(mixed)
            tables.append(layers_table(mixed.study, f"{target.name}: what each layer costs", mixed.float_layers))
    return [*tables, *([_agreement(agreement)] if agreement else [])]


def layers_table(study: LayerStudy, title: str, left_float: Sequence[str] = ()) -> Table:
    """Drop and SQNR with only that layer in int8, and with only that layer in float; what was chosen, if it was."""
    numbers = ("weights", "only int8 drop", "only int8 dB", "only float drop", "only float dB")
    rows = table(f"{title} ({study.samples} samples)", "layer", "op", *numbers, "chosen", numbers=numbers)
    for layer in study.layers:
        cells = [f"{layer.weights:,}"]
        for score in (layer.only_quantized, layer.only_float):
            cells += [f"{score.drop:+.4f}", f"{score.sqnr_db:.1f}"]
        chosen = "float" if layer.name in left_float else "int8" if left_float else ""
        rows.add_row(layer.name, layer.op, *cells, chosen)
    return rows


def _agreement(agreement: Sequence[Agreement]) -> Table:
    several = any(len(pair.outputs) > 1 for pair in agreement)
    exact = any(pair.integer_agreement is not None for pair in agreement)
    numbers = ("argmax agreement", *(["integers equal"] * exact), "SQNR dB", "largest difference", "in steps")
    names = ("one", "other", *(["worst output"] * several))
    rows = table("the same quantization in two files", *names, *numbers, numbers=numbers)
    for pair in agreement:
        rows.add_row(
            *pair.targets,
            *([pair.output] * several),
            _number(pair.argmax_agreement, ".4f"),
            *([_number(pair.integer_agreement, ".4f")] * exact),
            _number(pair.sqnr_db, ".1f"),
            _number(pair.max_abs_diff, ".4g"),
            _number(pair.max_steps, ".1f"),
        )
    return rows


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
