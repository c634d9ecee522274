"""`pocketforge gate`."""

from __future__ import annotations

from pathlib import Path

import click

from pocketforge.cli.options import RecipePath, echo_error, json_option, print_json, verbose_option
from pocketforge.errors import EXIT_GATE_FAILED, EXIT_OK, EXIT_STAGE


@click.command("gate")
@click.argument("report", type=click.Path(path_type=Path))
@click.option("--recipe", type=RecipePath(), help="Judge by this recipe's budgets, not by those in the report.")
@verbose_option
@json_option
@click.pass_context
def command(ctx: click.Context, report: Path, recipe: Path | None, verbose: bool, as_json: bool) -> None:
    """Say if a report keeps its budgets, or those of another recipe.

    Exits 0 if every budget is kept, 1 if not, 3 if the build had failed. REPORT is a report.json or the folder it is
    in. Nothing is measured and release/ is left as it is.
    """
    import dataclasses

    from pocketforge.recipe.toml import load_recipe
    from pocketforge.report.files import load_report, shown
    from pocketforge.results.gate import judge

    loaded = load_report(report)
    asked = None if recipe is None else load_recipe(recipe)
    with shown(report):
        gates = loaded.gates if asked is None else judge(asked, loaded.measurements)
        if as_json:
            print_json([dataclasses.asdict(g) for g in gates])
        else:
            from pocketforge.report.terminal import show_gates

            show_gates(gates, verbose=verbose)
    if loaded.verdict == "ERROR":
        echo_error("the build behind this report did not finish: its stages failed")
        ctx.exit(EXIT_STAGE)
    wrong = [t.name for t in loaded.targets if t.status != "built"]
    if wrong:
        echo_error(f"targets that failed verify: {', '.join(wrong)}")
    ctx.exit(EXIT_GATE_FAILED if wrong or any(g.blocks for g in gates) else EXIT_OK)
