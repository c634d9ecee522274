"""`pocketforge model`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import json_option, print_json, recipe_argument


@click.group("model")
def command() -> None:
    """Show a recipe's model."""


@command.command("show")
@recipe_argument
@json_option
def show(recipe: Path, as_json: bool) -> None:
    """Layers with their parameters and output shapes, total parameters and MACs of the recipe's PyTorch model."""
    from pipeline.config import load_recipe
    from pipeline.model_summary import summarize

    found = summarize(load_recipe(recipe))
    if as_json:
        print_json(found)
        return
    from pipeline.report.model_file import show_model

    show_model(found)
