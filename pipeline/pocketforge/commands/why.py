"""Where targets break: for `pocketforge why`, and for a build whose verify found a file wrong."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from pocketforge import events
from pocketforge.errors import PocketforgeError
from pocketforge.facts.gather import gather
from pocketforge.files import explain_os_error
from pocketforge.outcomes.files import read, to_json
from pocketforge.outcomes.why import Explained
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Facts, Plan
from pocketforge.plan.why import SAMPLES, with_why
from pocketforge.recipe import Recipe
from pocketforge.run.part import run_part
from pocketforge.run.walk import Outcome


def why(
    recipe: Recipe, target: str, cache: Path, *, samples: int = SAMPLES, emit: events.Emit = events.ignore
) -> Explained:
    """What stage `why` finds of one target, from the store or found now. Raises the first error that a step met."""
    facts = gather(recipe, cache)
    plan, keys = with_why(make_plan(recipe, facts), recipe, facts, (target,), samples)
    return _found(run_part(plan, (keys[target],), cache, "why", emit), keys[target])


def explain_failures(
    plan: Plan,
    outcome: Outcome,
    recipe: Recipe,
    facts: Facts,
    *,
    cache: Path,
    out: Path,
    emit: events.Emit = events.ignore,
) -> dict[str, dict[str, str]]:
    """Explain each target whose verify said no: target → {"sentence": …, "path": of why.json, in `out`}.

    Writes out/why/TARGET.json and TARGET.png. An explanation that fails is said in its place: the build's own result
    stands without it.
    """
    # Of a file made elsewhere no form of the model is known between PyTorch and the file.
    wrong = [lane.target.name for lane in plan.lanes if not lane.target.file and _is_wrong(outcome, lane.verify)]
    explanations: dict[str, dict[str, str]] = {}
    if not wrong:
        return explanations
    longer, keys = with_why(plan, recipe, facts, tuple(wrong))
    for name in wrong:
        try:
            explained = _found(run_part(longer, (keys[name],), cache, "why", emit), keys[name])
            path = write(explained, out / "why", name)[0]
        except PocketforgeError as error:
            explanations[name] = {"sentence": f"not explained: {error.message}", "path": ""}
            continue
        explanations[name] = {"sentence": explained.sentence, "path": str(path.relative_to(out))}
    return explanations


def write(explained: Explained, folder: Path, name: str = "why") -> list[Path]:
    """NAME.json and NAME.png; the picture is left out where matplotlib is not installed. Raises StoreError."""
    from pocketforge.errors import ToolMissing
    from pocketforge.why.plot import layers_plot

    path = folder / f"{name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(to_json(explained), indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8"
        )
    except OSError as error:
        raise explain_os_error(error, folder, "--out") from error
    written = [path]
    with contextlib.suppress(ToolMissing):
        written.append(layers_plot(explained, folder / f"{name}.png"))
    return written


def _is_wrong(outcome: Outcome, key: str) -> bool:
    """Whether a verify ran and its verdict was no (its record says why), this time or when it was stored."""
    record = outcome.records.get(key)
    return key in outcome.entries and record is not None and bool(record.message)


def _found(outcome: Outcome, key: str) -> Explained:
    return read(outcome.entries[key].files, Explained)
