"""`pocketforge plan`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pocketforge.cli.options import cache_option, json_option, print_json, recipe_argument
from pocketforge.errors import DamagedEntry

if TYPE_CHECKING:
    from pocketforge.run.store import Store


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
    from pocketforge.run.reuse import reusable
    from pocketforge.run.store import Store

    loaded = load_recipe(recipe)
    facts = gather(loaded, cache)
    plan = make_plan(loaded, facts)
    store = Store(cache)
    stored = reusable(plan, store)
    rows = [
        {"stage": s.stage, "lane": s.lane, "key": s.key, "stored": s.key in stored, "needs": dict(s.needs)}
        for s in plan.steps
    ]
    weights = _weights(store, plan.reference)
    if as_json:
        known = {"weights": weights} if weights else {}
        print_json({"recipe": loaded.name, "steps": rows, "data": list(facts.data_notes), **known})
        return
    from pocketforge.report.terminal import show_plan

    show_plan(rows, facts.data_notes, weights)


def _weights(store: Store, reference: str) -> dict[str, Any]:
    """How the weights were read, where that is known: when the model was loaded."""
    with contextlib.suppress(DamagedEntry):  # a build makes it again
        entry = store.get(reference)
        if entry is not None:
            found: dict[str, Any] = json.loads((entry.files / "reference.json").read_text("utf-8"))
            return dict(found.get("weights", {}))
    return {}
