"""`pocketforge plan`."""

from __future__ import annotations

from pathlib import Path

import click

from pocketforge.cli.options import cache_option, json_option, print_json, recipe_argument


@click.command("plan")
@recipe_argument
@cache_option
@json_option
def command(recipe: Path, cache: Path, as_json: bool) -> None:
    """Show the steps of a build, their keys, and which are stored.

    Nothing is run, and no toolchain is loaded.
    """
    from pocketforge.facts.gather import gather
    from pocketforge.plan.lanes import make_plan
    from pocketforge.recipe.toml import load_recipe
    from pocketforge.run.store import Store

    loaded = load_recipe(recipe)
    facts = gather(loaded, cache)
    plan = make_plan(loaded, facts)
    store = Store(cache)
    rows = [
        {"stage": s.stage, "lane": s.lane, "key": s.key, "stored": store.has(s.key), "needs": dict(s.needs)}
        for s in plan.steps
    ]
    if as_json:
        print_json({"recipe": loaded.name, "steps": rows, "data": list(facts.data_notes)})
        return
    from pocketforge.report.terminal import show_plan

    show_plan(rows, facts.data_notes)
