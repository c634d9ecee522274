"""Runs only what a few steps of a plan need: for commands that look at a recipe without building it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from pocketforge import events
from pocketforge.errors import StageFailed
from pocketforge.plan.steps import Plan
from pocketforge.run.scratch import Marked, lasting_tmpdir
from pocketforge.run.store import Store
from pocketforge.run.walk import Outcome, run_plan


def run_part(plan: Plan, keys: Collection[str], cache: Path, name: str, emit: events.Emit = events.ignore) -> Outcome:
    """Make `keys` and what they need, through the store. Raises the first error that a step met.

    name: of the command, for the folder of logs; it is kept only where an error speaks of a log.
    """
    needed = set(keys)
    for step in reversed(plan.steps):  # needs are laid out before what needs them
        if step.key in needed:
            needed.update(step.needs.values())
    part = dataclasses.replace(plan, steps=tuple(step for step in plan.steps if step.key in needed))
    logs = Marked(f"{name}-", lasting_tmpdir())
    keep = False
    try:
        outcome = run_plan(part, Store(cache), logs=logs.path, emit=emit)
        for error in outcome.errors.values():
            keep = isinstance(error, StageFailed)  # its message names the log
            raise error
    finally:
        if keep:
            logs.keep()
        else:
            logs.remove()
    return outcome
