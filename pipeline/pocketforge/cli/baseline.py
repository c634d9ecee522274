"""`pocketforge baseline`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from pocketforge.cli.options import RecipePath, echo, history_option, json_option, print_json

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
    "--from", "reports", multiple=True, required=True, metavar="REPORT|COMMIT|BRANCH",
    help="A report.json or the folder it is in, else a commit or a branch of the history; several are runs of the same "
    "files.",
)  # fmt: skip
@click.option("--add", is_flag=True, help="Add these runs to those that are there.")
@_recipe
@history_option
@json_option
def set_command(
    name: str, reports: tuple[str, ...], add: bool, recipe: Path, history: str | None, as_json: bool
) -> None:
    """Make reports the baseline NAME."""
    from pocketforge.commands.baseline import set_baseline, taken_from

    found = taken_from(reports, recipe, history)
    written = set_baseline(recipe.parent, name, [run for runs, _ in found for run in runs], add=add)
    if as_json:
        print_json(dataclasses.asdict(written))
        return
    whence = "; ".join(words for _, words in found if words)
    runs = f"{written.runs} run{'s' if written.runs > 1 else ''} of {written.recipe}"
    echo(f"{written.file}: {runs}{f', {whence}' if whence else ''}")


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
