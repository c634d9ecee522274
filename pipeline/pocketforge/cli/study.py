"""`pocketforge study`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketforge.cli.options import (
    FiniteRange,
    cache_option,
    echo,
    json_option,
    print_json,
    progress_option,
    recipe_argument,
)
from pocketforge.registries import RUNTIMES
from pocketforge.report.progress import progress
from pocketforge.studies.settings import BASES, METHODS, Basis, Method

if TYPE_CHECKING:
    from pocketforge import events
    from pocketforge.studies.pruning_study import PruningStudy
    from pocketforge.studies.tables import Table

BITS = ("2", "3", "4", "5", "6", "7", "8")


class _Choices(click.ParamType[tuple[str, ...]]):
    """Some of the known names, separated by commas."""

    name = "list"

    def __init__(self, known: Collection[str]) -> None:
        self.known = known

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        from pocketforge.studies.ratios import parse_choice

        if isinstance(value, tuple):
            return value
        try:
            return parse_choice(str(value), self.known)
        except ValueError as error:
            self.fail(str(error), param, ctx)


out_option = click.option(
    "--out", "-o", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for what is found.  [default: build/NAME/study in the current folder]",
)  # fmt: skip


@click.group("study")
def command() -> None:
    """Compare ways of pruning and of quantizing a recipe's model."""


@command.command("sensitivity")
@recipe_argument
@out_option
@click.option(
    "--max-accuracy-drop", type=FiniteRange(0, 1, max_open=True), default=0.01, show_default=True,
    help='What one layer may cost, for the ratios that ratio = "auto" would take.',
)  # fmt: skip
@cache_option
@progress_option
@json_option
def sensitivity(
    recipe: Path, out: Path | None, max_accuracy_drop: float, cache: Path, progress_mode: str, as_json: bool
) -> None:
    """Show what each layer's channels are worth.

    Accuracy against the share removed of one layer at a time, all others whole. Measured on calibration and train
    samples, never on eval samples. Writes sensitivity.json and a heat map, sensitivity.png. The result is stored: a
    build with ratio = "auto" goes on from it.
    """
    from pocketforge.outcomes.files import to_json
    from pocketforge.pruning.sensitivity import choose_ratios
    from pocketforge.recipe.toml import load_recipe
    from pocketforge.studies.plots import heat_map
    from pocketforge.studies.sensitivity import study
    from pocketforge.studies.tables import sensitivity_table

    loaded = load_recipe(recipe, "pocketforge study")
    with progress(progress_mode) as emit:
        measured = study(loaded, cache, emit)
    chosen = choose_ratios(measured, max_accuracy_drop)
    folder = _folder(out, loaded.name)
    _write_json(folder / "sensitivity.json", to_json(measured))
    heat_map(measured, chosen, folder / "sensitivity.png")
    if as_json:
        print_json({**to_json(measured), "max_accuracy_drop": max_accuracy_drop, "chosen": chosen})
        return
    _show(sensitivity_table(measured, chosen))
    echo(f'auto: the ratios that ratio = "auto" takes with max_accuracy_drop = {max_accuracy_drop:g}')
    echo(f"written to {folder}: sensitivity.json, sensitivity.png")


@command.command("pruning")
@recipe_argument
@click.option(
    "--ratios", default="0.1..0.7", show_default=True, metavar="A..B[:STEP]|A,B",
    help="Shares to remove: a range, or a list.",
)  # fmt: skip
@click.option("--step", default="", metavar="STEP", help="Step of a range of --ratios.  [default: 0.1]")
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Trainings of each cell.")
@click.option("--epochs", type=click.IntRange(1, 10_000), help="Epochs of every fine-tuning.  [default: the recipe's]")
@click.option("--methods", type=_Choices(METHODS), default=",".join(METHODS), show_default=True, help="To compare.")
@click.option(
    "--by", type=_Choices(BASES), default=",".join(BASES), show_default=True, help="What a share is a share of."
)
@click.option("--runtimes", type=_Choices(RUNTIMES), help="To export to and to time in.  [default: the targets']")
@click.option("--rounds", type=click.IntRange(2, 50), default=4, show_default=True, help="How often files are timed.")
@out_option
@cache_option
@progress_option
@json_option
def pruning(
    recipe: Path,
    ratios: str,
    step: str,
    seeds: int,
    epochs: int | None,
    methods: tuple[Method, ...],
    by: tuple[Basis, ...],
    runtimes: tuple[str, ...] | None,
    rounds: int,
    out: Path | None,
    cache: Path,
    progress_mode: str,
    as_json: bool,
) -> None:
    """Compare removing channels, layers, weights, and both.

    All at the same removed share of parameters, and of MACs, with the same fine-tuning: the recipe's last one;
    settings of a method are those of the recipe's own entry of its type. What is finished is kept in OUT/cells: the
    same command goes on from there. Writes study.json, study.csv and plots.
    """
    from pocketforge.studies.ratios import parse_ratios

    try:
        asked = parse_ratios(ratios, step)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--ratios'") from None

    from pocketforge.recipe.toml import load_recipe

    loaded = load_recipe(recipe, "pocketforge study")

    from pocketforge.studies.cells import Cells
    from pocketforge.studies.pruning import finetune_budget, run_study
    from pocketforge.studies.settings import Settings

    settings = Settings(
        ratios=asked,
        seeds=seeds,
        methods=methods,
        by=by,
        runtimes=runtimes or tuple(dict.fromkeys(target.runtime for target in loaded.targets)),
        finetune=finetune_budget(loaded, epochs),
        rounds=rounds,
    )
    folder = _folder(out, loaded.name)
    cells = Cells(folder / "cells")
    with progress(progress_mode) as emit:
        tell, watch = _news(progress_mode, emit, "pruning")
        study = run_study(loaded, settings, cache, cells, tell=tell, watch=watch)
    written = _write_study(study, folder)
    if as_json:
        print_json(study.to_json())
        return
    _show_study(study)
    echo(f"written to {folder}: {', '.join(written)}")


@command.command("layers")
@recipe_argument
@click.option("--target", default="", help="Whose backend and calibration count.  [default: the first static int8 one]")
@out_option
@cache_option
@progress_option
@json_option
def layers(recipe: Path, target: str, out: Path | None, cache: Path, progress_mode: str, as_json: bool) -> None:
    """Show what each layer costs in int8.

    Accuracy and SQNR with only that layer in int8, and with only that layer in float. Measured on calibration and
    train samples, never on eval samples. Writes layers.json and layers.png. The result is stored: a target of scheme
    mixed goes on from it.
    """
    from pocketforge.outcomes.files import to_json
    from pocketforge.recipe.toml import load_recipe
    from pocketforge.report.quantization import layers_table
    from pocketforge.report.tables import console
    from pocketforge.studies.layers import study
    from pocketforge.studies.plots import layer_bars

    loaded = load_recipe(recipe, "pocketforge study")
    with progress(progress_mode) as emit:
        costs = study(loaded, target, cache, emit)
    folder = _folder(out, loaded.name)
    content = to_json(costs)
    _write_json(folder / "layers.json", content)
    layer_bars(costs, folder / "layers.png")
    if as_json:
        print_json(content)
        return
    console().print(layers_table(costs, f"{loaded.name}: what each layer costs"))
    echo(f"written to {folder}: layers.json, layers.png")


@command.command("quantizers")
@recipe_argument
@click.option("--bits", type=_Choices(BITS), default="2,3,4,5,6,8", show_default=True, help="Of each weight's index.")
@out_option
@cache_option
@progress_option
@json_option
def quantizers(
    recipe: Path, bits: tuple[str, ...], out: Path | None, cache: Path, progress_mode: str, as_json: bool
) -> None:
    """Compare uniform, quantile and k-means weights.

    All at the same bits, on the model as targets get it: error of the weights, SQNR of the outputs on calibration
    samples, accuracy on eval samples, packed size and gzip. What is finished is kept in OUT/cells: the same command
    goes on from there. Writes quantizers.json, quantizers.csv and quantizers.png.
    """
    from pocketforge.recipe.toml import load_recipe

    loaded = load_recipe(recipe, "pocketforge study")

    _silence_torchao()
    from pocketforge.studies.cells import Cells
    from pocketforge.studies.plots import accuracy_by_size
    from pocketforge.studies.quantizers import run_study
    from pocketforge.studies.tables import quantizer_csv, quantizer_table

    folder = _folder(out, loaded.name)
    cells = Cells(folder / "cells")
    with progress(progress_mode) as emit:
        tell, _ = _news(progress_mode, emit, "quantizers")
        study = run_study(loaded, [int(number) for number in bits], cache, cells, tell=tell, emit=emit)
    _write_json(folder / "quantizers.json", study.to_json())
    _write(folder / "quantizers.csv", quantizer_csv(study))
    accuracy_by_size(study, folder / "quantizers.png")
    if as_json:
        print_json(study.to_json())
        return
    _show(quantizer_table(study))
    echo(f"written to {folder}: quantizers.json, quantizers.csv, quantizers.png")


def _news(mode: str, emit: events.Emit, study: str) -> tuple[events.Say, events.Progress]:
    """What the study says: a line for each piece, except where only JSON or nothing is wanted; a bar inside a piece."""
    import os
    import time

    from pocketforge import events

    started = time.monotonic()
    emit(events.StepStarted("study", study, "", os.getpid(), ""))

    def tell(words: str) -> None:
        if mode == "json":
            emit(events.StepProgress("study", study, 0.0, words))
        elif mode != "none":
            echo(words, err=True)

    def watch(fraction: float, words: str) -> None:
        if mode != "json":  # a line for every batch would be too many
            emit(events.StepProgress("study", study, fraction, f"{words}, {time.monotonic() - started:.0f} s"))

    return tell, watch


def _silence_torchao() -> None:
    """It warns, when imported, of parts for other hardware that it cannot load."""
    import logging

    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _write_study(study: PruningStudy, folder: Path) -> list[str]:
    from pocketforge.studies.plots import accuracy_by_latency, accuracy_by_share
    from pocketforge.studies.tables import to_csv

    _write_json(folder / "study.json", study.to_json())
    _write(folder / "study.csv", to_csv(study))
    pictures = [accuracy_by_share(study, by, folder / f"accuracy_by_{by}.png") for by in study.settings.by]
    pictures += [
        accuracy_by_latency(study, runtime, folder / f"accuracy_by_latency_{runtime}.png")
        for runtime in study.settings.runtimes
    ]
    return ["study.json", "study.csv", *(picture.name for picture in pictures)]


def _show_study(study: PruningStudy) -> None:
    from pocketforge.studies.tables import accuracy_table, cost_table, faults, verdict_table

    for table in (accuracy_table(study), cost_table(study), verdict_table(study)):
        if table is not None:
            _show(table)
            echo()
    for words in faults(study):
        echo(f"note: {words}")


def _show(table: Table) -> None:
    from pocketforge.report import tables

    shown = tables.table(table.title, *table.columns, numbers=table.numbers)
    for row in table.rows:
        shown.add_row(*row)
    tables.console().print(shown)


def _folder(out: Path | None, name: str) -> Path:
    from pocketforge.cli.options import default_out

    return out if out is not None else default_out(None, name) / "study"


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    import json

    _write(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _write(path: Path, text: str) -> None:
    from pocketforge.files import explain_os_error, write_whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, path.parent, "--out") from error
    write_whole(path, text.encode(), "--out")
