"""`pocketforge model`."""

from __future__ import annotations

from pathlib import Path

import click

from pocketforge.cli.options import RecipePath, json_option, print_json


class RecipeOrCheckpoint(RecipePath):
    """A recipe file, shipped:NAME, or a checkpoint folder."""

    name = "recipe or checkpoint"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        folder = Path(str(value))
        return folder if folder.is_dir() else super().convert(value, param, ctx)


@click.group("model")
def command() -> None:
    """Show a model: layers, parameters, MACs, and how it was compressed."""


@command.command("show")
@click.argument("model", type=RecipeOrCheckpoint(), metavar="RECIPE|CHECKPOINT")
@json_option
def show(model: Path, as_json: bool) -> None:
    """Show layers, parameters and MACs of the PyTorch model.

    MODEL is a recipe, or a checkpoint folder (build/NAME/checkpoint) of a model that was compressed: then what was
    done to it is shown too. Every layer comes with the shape of its output for one sample.
    """
    import contextlib
    import sys

    from pocketforge.commands.model import summarize, summarize_checkpoint
    from pocketforge.recipe.toml import load_recipe

    # What the user's own model file prints is not our result.
    with contextlib.redirect_stdout(sys.stderr):
        summary = summarize_checkpoint(model) if model.is_dir() else summarize(load_recipe(model, "pocketforge model"))
    if as_json:
        print_json(summary)
        return
    from pocketforge.report.model_file import show_model

    show_model(summary)
