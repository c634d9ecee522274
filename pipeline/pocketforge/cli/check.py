"""`pocketforge check`."""

from __future__ import annotations

from pathlib import Path

import click

from pocketforge.cli.options import cache_option, echo, json_option, print_json, progress_option, recipe_argument
from pocketforge.errors import EXIT_OK, EXIT_USAGE
from pocketforge.report.progress import progress


@click.command("check")
@recipe_argument
@cache_option
@click.option("--all-samples", is_flag=True, help="Evaluate on every eval sample, as a build does.")
@click.option("--verbose", is_flag=True, help="List every layer and operation with the numbers it will compute in.")
@progress_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, recipe: Path, cache: Path, all_samples: bool, verbose: bool, progress_mode: str, as_json: bool
) -> None:
    """Check a recipe, its model and its data without exporting anything.

    Reads and splits the data, builds the model, loads its weights, traces it and runs it on eval samples: on 100 of
    them where they are large (images of 224 × 224), so that it ends in seconds. Each int8 target's quantizer is run as
    far as it goes without calibration: which layers and operations will be int8, which stay float, what a build
    would refuse (then it exits with 2, as the build would). What this finds out is stored: a build goes on from it
    where every eval sample was evaluated.
    """
    from pocketforge.commands.check import check
    from pocketforge.recipe.toml import load_recipe

    with progress(progress_mode) as emit:
        checked = check(load_recipe(recipe), cache, emit, all_samples=all_samples)
    if as_json:
        print_json(checked.to_json())
    else:
        from pocketforge.report.checked import show_check

        many = len(checked.targets)
        echo(f"{recipe}: {f'{len(checked.refused)} of {many} targets refused' if checked.refused else 'good'}")
        show_check(checked, verbose=verbose)
    ctx.exit(EXIT_USAGE if checked.refused else EXIT_OK)
