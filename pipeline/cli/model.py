"""`pocketforge model`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import json_option, print_json, recipe_argument


@click.group("model")
def command() -> None:
    """Show a recipe's model: layers, parameters, MACs."""


@command.command("show")
@recipe_argument
@json_option
def show(recipe: Path, as_json: bool) -> None:
    """Show layers, parameters and MACs of the PyTorch model.

    Every layer comes with the shape of its output for one sample.
    """
    import contextlib
    import sys

    from pipeline.config import load_recipe
    from pipeline.model_summary import summarize

    # What the user's own model file prints is not our result.
    with contextlib.redirect_stdout(sys.stderr):
        found = summarize(load_recipe(recipe))
    if as_json:
        print_json(found)
        return
    from pipeline.report.model_file import show_model

    show_model(found)
