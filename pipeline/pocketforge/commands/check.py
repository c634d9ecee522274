"""What `pocketforge check` does: the trunk of a build without its training, so every mistake of a user's shows."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pocketforge import events
from pocketforge.facts.gather import gather
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe import Recipe
from pocketforge.run.part import run_part


def check(recipe: Recipe, cache: Path, emit: events.Emit = events.ignore) -> dict[str, Any]:
    """Run the data and reference stages; returns what they found. Raises the first error they met."""
    untrained = dataclasses.replace(recipe, compress=())
    facts = gather(untrained, cache)
    plan = make_plan(untrained, facts)
    outcome = run_part(plan, (plan.data, plan.reference), cache, "check", emit)
    data = json.loads((outcome.entries[plan.data].files / "data.json").read_text(encoding="utf-8"))
    model = json.loads((outcome.entries[plan.reference].files / "reference.json").read_text(encoding="utf-8"))
    return {
        "samples": data["counts"],
        "labels": len(data["labels"]),
        "data": [*facts.data_notes, *data["notes"]],
        "inputs": [{k: i[k] for k in ("name", "shape", "dtype")} for i in model["inputs"]],
        "outputs": model["outputs"],
        "parameters": model["parameters"],
        "macs": model["macs"],
        **({"weights": model["weights"]} if "weights" in model else {}),
        "accuracy": {name: round(value, 6) for name, value in model["accuracy"].items()},
        "targets": [t.name for t in recipe.targets],
    }
