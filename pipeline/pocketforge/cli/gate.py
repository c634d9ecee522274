"""`pocketforge gate`."""

from __future__ import annotations

from pathlib import Path

import click

from pocketforge.cli.options import RecipePath, echo, echo_error, json_option, print_json, verbose_option
from pocketforge.errors import RecipeError


@click.command("gate")
@click.argument("report", type=click.Path(path_type=Path))
@click.option("--recipe", type=RecipePath(), help="Judge by this recipe's budgets, not by those in the report.")
@click.option(
    "--run", "runs", type=click.Path(path_type=Path), multiple=True, metavar="REPORT",
    help="With --recipe: another run of the same files, for budgets with a baseline; may be given several times.",
)  # fmt: skip
@click.option("--ratchet", is_flag=True, help="With --recipe: tighten its limits to what was reached.")
@verbose_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    report: Path,
    recipe: Path | None,
    runs: tuple[Path, ...],
    ratchet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Say if a report keeps its budgets, or those of another recipe.

    Without --recipe the verdicts are those of the build, and a waiver counts until its last day. Exits 0 if every
    budget is kept, 1 if not, 3 if the build had failed. REPORT is a report.json or the folder it is in. Nothing is
    measured and release/ is left as it is.
    """
    import dataclasses

    from pocketforge.api.calls import gate, load_report
    from pocketforge.report.files import shown

    if recipe is None and (runs or ratchet):
        raise RecipeError(f"{'--run' if runs else '--ratchet'} needs --recipe: a report's own verdicts are made")
    loaded = load_report(report)
    gated = gate(loaded, recipe, runs=runs)
    with shown(report):
        if as_json:
            print_json([dataclasses.asdict(g) for g in gated.budgets])
        else:
            from pocketforge.report.terminal import show_gates

            show_gates(gated.budgets, verbose=verbose)
    if ratchet and recipe is not None and gated.finished and not gated.wrong:
        from pocketforge.commands.ratchet import ratchet as tighten
        from pocketforge.recipe.toml import load_recipe

        for each in tighten(recipe, load_recipe(recipe), gated.budgets):
            words = f"budget[{each.budget}] {each.metric}: limit {each.before:,.10g} is {each.after:,.10g} now"
            echo(words, err=True)
    if recipe is None:
        echo(
            "these are the verdicts of the build that wrote it: --recipe RECIPE judges by a recipe's budgets", err=True
        )
    if not gated.finished:
        echo_error("the build behind this report did not finish: its stages failed")
    elif gated.wrong:
        echo_error(f"targets that failed verify: {', '.join(gated.wrong)}")
    ctx.exit(gated.exit_code)
