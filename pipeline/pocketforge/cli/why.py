"""`pocketforge why`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketforge.cli.console import progress
from pocketforge.cli.options import RecipePath, cache_option, echo, json_option, print_json, progress_option
from pocketforge.errors import EXIT_GATE_FAILED, EXIT_OK

if TYPE_CHECKING:
    from pocketforge.outcomes.why import Explained


@click.command("why")
@click.argument("target")
@click.argument("recipe", type=RecipePath(), default="recipe.toml")
@click.option(
    "--samples",
    type=click.IntRange(1, 10_000_000),
    default=100,
    show_default=True,
    help="How many eval samples, from the first.",
)
@click.option(
    "--out", "-o", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for why.json and why.png.  [default: build/NAME/why/TARGET in the current folder]",
)  # fmt: skip
@cache_option
@progress_option
@json_option
def command(
    target: str, recipe: Path, samples: int, out: Path | None, cache: Path, progress_mode: str, as_json: bool
) -> int:
    """Find the stage and the layer where a target's numbers break.

    Runs real samples through every form of the model: eager, exported, prepared (fake-quantized), converted, lowered
    (the file in plain kernels) and runtime (as an app runs it). Compares each with the one before, and layer by layer
    inside the first that is bad. RECIPE is recipe.toml unless given. Writes why.json and why.png.

    Exit code 0 when no stage is bad, 1 when one is.
    """
    from pocketforge.cli.options import default_out
    from pocketforge.commands.why import why, write
    from pocketforge.outcomes.files import to_json
    from pocketforge.recipe.toml import load_recipe

    loaded = load_recipe(recipe)
    with progress(progress_mode) as emit:
        explained = why(loaded, target, cache, samples=samples, emit=emit)
    folder = out if out is not None else default_out(None, loaded.name) / "why" / target
    written = write(explained, folder)
    if as_json:
        print_json(to_json(explained))
    else:
        _show(explained)
        echo(f"written to {folder}: {', '.join(path.name for path in written)}")
    return EXIT_GATE_FAILED if explained.first_bad_stage else EXIT_OK


def _show(explained: Explained) -> None:
    from pocketforge.report.tables import console
    from pocketforge.report.why import parity_tables

    for table in parity_tables(explained):
        console().print(table)
        echo()
    echo(explained.sentence)
