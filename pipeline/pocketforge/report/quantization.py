"""What quantization did, as tables in the terminal: mixed precision's choice, files of one quantization compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from pocketforge.outcomes.files import from_json
from pocketforge.outcomes.layers import LayerStudy
from pocketforge.outcomes.mixed import MixedChoice
from pocketforge.records import TargetRecord
from pocketforge.report.tables import table


def quantization_tables(targets: Sequence[TargetRecord], agreement: Sequence[Mapping[str, Any]]) -> list[Table]:
    """A table for each target of scheme mixed (shared choices once), then one of all pairs of files."""
    made = []
    shown: list[Any] = []
    for target in targets:
        mixed = target.facts.get("mixed")
        if mixed and mixed not in shown:
            shown.append(mixed)
            choice = from_json(mixed, MixedChoice)
            made.append(layers_table(choice.study, f"{target.name}: what each layer costs", choice.float_layers))
    return [*made, *([_agreement(agreement)] if agreement else [])]


def layers_table(study: LayerStudy, title: str, left_float: Sequence[str] = ()) -> Table:
    """Drop and SQNR with only that layer in int8, and with only that layer in float; what was chosen, if it was."""
    numbers = ("weights", "only int8 drop", "only int8 dB", "only float drop", "only float dB")
    made = table(f"{title} ({study.samples} samples)", "layer", "op", *numbers, "chosen", numbers=numbers)
    for layer in study.layers:
        cells = [f"{layer.weights:,}"]
        for score in (layer.only_quantized, layer.only_float):
            cells += [f"{score.drop:+.4f}", f"{score.sqnr_db:.1f}"]
        chosen = "float" if layer.name in left_float else "int8" if left_float else ""
        made.add_row(layer.name, layer.op, *cells, chosen)
    return made


def _agreement(agreement: Sequence[Mapping[str, Any]]) -> Table:
    several = any(len(pair.get("outputs", ())) > 1 for pair in agreement)
    exact = any(pair.get("integer_agreement") is not None for pair in agreement)
    numbers = ("argmax agreement", *(["integers equal"] * exact), "SQNR dB", "largest difference", "in steps")
    names = ("one", "other", *(["worst output"] * several))
    made = table("the same quantization in two files", *names, *numbers, numbers=numbers)
    for pair in agreement:
        made.add_row(
            *pair["targets"],
            *([pair.get("output", "")] * several),
            _number(pair["argmax_agreement"], ".4f"),
            *([_number(pair.get("integer_agreement"), ".4f")] * exact),
            _number(pair["sqnr_db"], ".1f"),
            _number(pair["max_abs_diff"], ".4g"),
            _number(pair["max_steps"], ".1f"),
        )
    return made


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
