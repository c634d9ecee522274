"""`pocketforge plan`."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketforge.cli.options import cache_option, json_option, print_json, recipe_argument
from pocketforge.errors import DamagedEntry

if TYPE_CHECKING:
    from pocketforge.outcomes.reference import WeightsRead
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
    from pocketforge.outcomes.files import to_json
    from pocketforge.plan.lanes import make_plan
    from pocketforge.recipe.toml import load_recipe
    from pocketforge.report.plan_table import PlannedStep, show_plan
    from pocketforge.run.reuse import reusable
    from pocketforge.run.store import Store

    loaded = load_recipe(recipe)
    facts = gather(loaded, cache)
    plan = make_plan(loaded, facts)
    store = Store(cache)
    stored = reusable(plan, store)
    steps = [PlannedStep(s.stage, s.lane, s.key, s.key in stored, dict(s.needs)) for s in plan.steps]
    weights = _weights(store, plan.reference)
    if as_json:
        known = {"weights": to_json(weights)} if weights else {}
        rows = [dataclasses.asdict(step) for step in steps]
        print_json({"recipe": loaded.name, "steps": rows, "data": list(facts.data_notes), **known})
        return
    show_plan(steps, facts.data_notes, weights)


def _weights(store: Store, reference: str) -> WeightsRead | None:
    """How the weights were read, where that is known: when the model was loaded."""
    from pocketforge.outcomes.files import read
    from pocketforge.outcomes.reference import Reference

    with contextlib.suppress(DamagedEntry):  # a build makes it again
        entry = store.get(reference) if reference else None
        if entry is not None:
            return read(entry.files, Reference).weights
    return None
