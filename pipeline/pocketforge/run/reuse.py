"""Whether a stored result is of what there is now.

A key covers what the recipe names. A result also depends on files that the user's code opened by itself, and on the
results of earlier steps as they were: it notes both, and where one is another the step is run again. A step that is
made again of the same, or comes out as before, leaves those behind it stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from pocketforge.plan.steps import Plan, Step
from pocketforge.run.fingerprints import Fingerprints
from pocketforge.run.made import made
from pocketforge.run.opened import changed_since
from pocketforge.run.store import Entry, Store


def content_of(entry: Entry) -> str:
    """One word for all files of a result."""
    return hashlib.sha256(json.dumps(entry.hashes, sort_keys=True).encode()).hexdigest()


def origin_of(entry: Entry) -> str:
    """One word for what a result was made of: its key, what the user's code opened, and the same of earlier results."""
    inputs = made(entry).inputs
    needs = {role: origin for role, (origin, _) in inputs.needs.items()}
    made_of = [entry.key, [each.to_json() for each in inputs.opened], needs]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def needs_of(step: Step, entries: Mapping[str, Entry]) -> dict[str, tuple[str, str]]:
    """Role → origin and content of the earlier result. Raises KeyError when one is not there."""
    return {role: (origin_of(entries[key]), content_of(entries[key])) for role, key in step.needs.items()}


def _same_needs(before: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]]) -> bool:
    """Whether earlier results are the same by origin (their bytes may hold paths) or by content."""
    return before.keys() == now.keys() and all({*before[role]} & {*now[role]} for role in now)


def difference(step: Step, entry: Entry, entries: Mapping[str, Entry], memory: Fingerprints) -> str | None:
    """None where the result is of what there is; else the file that changed, "" where an earlier result did."""
    if any(key not in entries for key in step.needs.values()):
        return ""
    inputs = made(entry).inputs
    if not _same_needs(inputs.needs, needs_of(step, entries)):
        return ""
    return changed_since(inputs.opened, step, memory) or None


def reusable(plan: Plan, store: Store) -> dict[str, Entry]:
    """Key → result, of all steps that a build would not run. Their own files are not verified."""
    entries: dict[str, Entry] = {}
    with Fingerprints(store.root) as memory:
        for step in plan.steps:
            entry = store.peek(step.key)
            if entry is not None and difference(step, entry, entries, memory) is None:
                entries[step.key] = entry
    return entries
