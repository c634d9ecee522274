"""What `pocketforge check` does: the trunk of a build without its training, so every mistake of a user's shows."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pipeline import events
from pipeline.errors import StageFailed
from pipeline.facts import gather
from pipeline.plan import make_plan
from pipeline.recipe import Recipe
from pipeline.run import run_plan
from pipeline.store import Store


def check(recipe: Recipe, cache: Path, emit: events.Emit = events.ignore) -> dict[str, Any]:
    """Run the data and reference stages; returns what they found. Raises the first error they met."""
    store = Store(cache)
    untrained = dataclasses.replace(recipe, compress=())
    plan = make_plan(untrained, gather(untrained, cache))
    trunk = dataclasses.replace(plan, steps=tuple(s for s in plan.steps if s.key in (plan.data, plan.reference)))
    logs = Path(tempfile.mkdtemp(prefix="pocketforge-check-"))
    keep = False
    try:
        outcome = run_plan(trunk, store, logs=logs, emit=emit)
        for error in outcome.errors.values():
            keep = isinstance(error, StageFailed)  # its message names the log
            raise error
    finally:
        if not keep:
            shutil.rmtree(logs, ignore_errors=True)
    data = json.loads((outcome.entries[plan.data].files / "data.json").read_text(encoding="utf-8"))
    model = json.loads((outcome.entries[plan.reference].files / "reference.json").read_text(encoding="utf-8"))
    return {
        "samples": data["counts"],
        "labels": len(data["labels"]),
        "inputs": [{k: i[k] for k in ("name", "shape", "dtype")} for i in model["inputs"]],
        "outputs": model["outputs"],
        "parameters": model["parameters"],
        "macs": model["macs"],
        "accuracy": {name: round(value, 6) for name, value in model["accuracy"].items()},
        "targets": [t.name for t in recipe.targets],
    }
