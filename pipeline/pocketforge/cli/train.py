"""`pocketforge train`."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Literal

import click

from pocketforge import events
from pocketforge.cli.options import FiniteRange, echo, json_option, print_json, progress_option, recipe_argument
from pocketforge.report.progress import progress


@click.command("train")
@recipe_argument
@click.option(
    "--epochs", type=click.IntRange(1, 10_000), default=30, show_default=True, help="Passes over the train split."
)
@click.option("--lr", type=FiniteRange(0, 100, min_open=True), default=3e-3, show_default=True, help="Learning rate.")
@click.option("--batch-size", type=click.IntRange(2, 65_536), default=64, show_default=True, help="Samples a step.")
@click.option("--optimizer", type=click.Choice(["adamw", "sgd"]), default="adamw", show_default=True, help="Optimizer.")
@click.option("--weight-decay", type=FiniteRange(0, 10), default=1e-2, show_default=True, help="Weight decay.")
@click.option(
    "--label-smoothing", type=FiniteRange(0, 1, max_open=True), default=0.0, show_default=True,
    help="Share of the label that is spread over all classes.",
)  # fmt: skip
@click.option(
    "--shift", type=click.IntRange(0, 1024), default=0, show_default=True, help="Random shift in pixels (images)."
)
@click.option(
    "--warmup-epochs",
    type=FiniteRange(0, 10_000),
    default=0.0,
    show_default=True,
    help="Epochs in which lr rises from 0.",
)
@click.option(
    "--ema-decay", type=FiniteRange(0, 1, max_open=True), default=0.0, show_default=True,
    help="Keep a moving average of the weights (0: off).",
)  # fmt: skip
@click.option(
    "--clip-norm", type=FiniteRange(0, 1e9), default=0.0, show_default=True,
    help="Largest norm of all gradients (0: off).",
)  # fmt: skip
@progress_option
@json_option
def command(
    recipe: Path,
    epochs: int,
    lr: float,
    batch_size: int,
    optimizer: Literal["adamw", "sgd"],
    weight_decay: float,
    label_smoothing: float,
    shift: int,
    warmup_epochs: float,
    ema_decay: float,
    clip_norm: float,
    progress_mode: str,
    as_json: bool,
) -> None:
    """Train a recipe's model from scratch and write its weights.

    The file is the one that the recipe names as model.weights, replaced only when the training is done. The train
    split is trained on, never the eval or calibration split; the same recipe and options give the same weights.
    """
    from pocketforge.commands.train import train_from_recipe
    from pocketforge.outcomes.files import to_json
    from pocketforge.recipe.compress import Finetune
    from pocketforge.recipe.toml import load_recipe

    try:
        settings = Finetune(
            epochs=epochs,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            batch_size=batch_size,
            label_smoothing=label_smoothing,
            shift=shift,
            warmup_epochs=warmup_epochs,
            ema_decay=ema_decay,
            clip_norm=clip_norm,
        )
    except ValueError as error:  # a rule between two options
        raise click.UsageError(str(error)) from None
    loaded = load_recipe(recipe, "pocketforge train")
    started = time.monotonic()
    # What the user's own model file prints is not our result.
    with progress(progress_mode) as emit, contextlib.redirect_stdout(sys.stderr):
        emit(events.StepStarted("train", loaded.name, "", 0, ""))
        result = train_from_recipe(
            loaded,
            settings,
            emit=lambda fraction, text: emit(events.StepProgress("train", loaded.name, fraction, text)),
        )
        emit(events.StepFinished("train", loaded.name, "", time.monotonic() - started))
    if as_json:
        print_json(to_json(result))
        return
    echo(f"trained  {result.train_samples} samples, {epochs} epochs, last loss {result.history[-1].loss:.4f}")
    echo(f"top-1    {result.eval_accuracy:.4f} on {result.eval_samples} held-out samples")
    echo(f"weights  {result.weights}")
