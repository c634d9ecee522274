"""`pocketforge baseline`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from pocketforge.cli.options import RecipePath, echo, json_option, print_json

_recipe = click.option(
    "--recipe", type=RecipePath(), default="recipe.toml", show_default=True, help="The recipe that it is beside."
)


@click.group("baseline")
def command() -> None:
    """Keep reports for budgets that say how much worse a build may be.

    They are under a name, in baselines/NAME.json beside the recipe, to be committed with it.
    """


@command.command("set")
@click.argument("name")
@click.option(
    "--from", "reports", type=click.Path(path_type=Path), multiple=True, required=True, metavar="REPORT",
    help="A report.json or the folder it is in; several are runs of the same files.",
)  # fmt: skip
@click.option("--add", is_flag=True, help="Add these runs to those that are there.")
@_recipe
@json_option
def set_command(name: str, reports: tuple[Path, ...], add: bool, recipe: Path, as_json: bool) -> None:
    """Make reports the baseline NAME."""
    from pocketforge.commands.baseline import set_baseline
    from pocketforge.report.files import load_report

    written = set_baseline(recipe.parent, name, [load_report(each) for each in reports], add=add)
    if as_json:
        print_json(dataclasses.asdict(written))
    else:
        echo(f"{written.file}: {written.runs} run{'s' if written.runs > 1 else ''} of {written.recipe}")


@command.command("list")
@_recipe
@json_option
def list_command(recipe: Path, as_json: bool) -> None:
    """List the baselines beside a recipe."""
    from pocketforge.commands.baseline import list_baselines

    found = list_baselines(recipe.parent)
    if as_json:
        print_json([dataclasses.asdict(each) for each in found])
        return
    for each in found:
        echo(f"{each.name}: {each.runs} run{'s' if each.runs > 1 else ''} of {each.recipe} ({', '.join(each.targets)})")
