"""One build from end to end: recipe → facts → plan → run → measurements → gate → report → release folder."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketforge import events
from pocketforge.commands.why import explain_failures
from pocketforge.errors import EXIT_GATE_FAILED, EXIT_OK, PocketforgeError
from pocketforge.facts.gather import gather
from pocketforge.facts.phones import add_phones, without_absent
from pocketforge.files import explain_os_error
from pocketforge.model.checkpoint_files import copy_portable
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Plan
from pocketforge.recipe import Recipe
from pocketforge.records import Report
from pocketforge.results.release import discard, write_release
from pocketforge.results.report import make_report, recipe_digest
from pocketforge.run.store import Store
from pocketforge.run.walk import Outcome, run_plan


@dataclass(frozen=True, slots=True)
class Built:
    """What `build` gives back. errors: of the failed stages, in the plan's order; the first decides the exit code."""

    report: Report
    report_path: Path
    release: Path | None
    checkpoint: Path | None = None
    errors: tuple[PocketforgeError, ...] = ()

    @property
    def error(self) -> PocketforgeError | None:
        return self.errors[0] if self.errors else None

    @property
    def exit_code(self) -> int:
        if self.error is not None:
            return self.error.exit_code
        return EXIT_OK if self.report.verdict == "PASS" else EXIT_GATE_FAILED


def build(
    recipe: Recipe,
    *,
    cache: Path,
    out: Path,
    jobs: int = 1,
    refresh: bool = False,
    keep_failed: bool = False,
    phones: Sequence[str] = (),
    emit: events.Emit = events.ignore,
) -> Built:
    """Build every target of a recipe, judge it, and write report.json and, if the gate passes, release/.

    phones: "adb", "adb:SERIAL" or "adb:all": run on these too, also where the recipe has no device for them.
    Raises RecipeError, StoreError and DeviceUnavailable (a phone is not there) before anything ran; errors of stages
    are in the result.
    """
    started = time.monotonic()
    store = Store(cache)
    asked = recipe
    recipe = add_phones(recipe, phones)
    facts = gather(recipe, cache)
    recipe, left_out = without_absent(recipe, facts.phones)
    for text in left_out:
        emit(events.Warned(text))
    plan = make_plan(recipe, facts)
    _prepare(out)
    outcome = run_plan(plan, store, logs=out / "logs", jobs=jobs, refresh=refresh, emit=emit)
    discard(out / "why")
    why = explain_failures(plan, outcome, recipe, facts, cache=cache, out=out, emit=emit)
    report = make_report(recipe, facts, plan, outcome, why=why, wall_s=time.monotonic() - started)
    # By what the user wrote, not by which phones were there.
    warnings = (*left_out, *report.warnings)
    report = dataclasses.replace(report, recipe_sha256=recipe_digest(asked), warnings=warnings)
    report_path = out / "report.json"
    try:
        _write_whole(report_path, json.dumps(report.to_json(), indent=1, sort_keys=True))
        release = write_release(recipe, plan, outcome, report, out, keep_failed=keep_failed)
        checkpoint = _write_checkpoint(recipe, plan, outcome, report, out)
    except OSError as error:
        raise explain_os_error(error, out, "--out") from error
    errors = tuple(outcome.errors[s.key] for s in plan.steps if s.key in outcome.errors)
    return Built(report, report_path, release, checkpoint, errors)


def _write_checkpoint(recipe: Recipe, plan: Plan, outcome: Outcome, report: Report, out: Path) -> Path | None:
    """The compressed PyTorch model, to load anywhere: `out/checkpoint`, whole or not at all."""
    final = out / "checkpoint"
    discard(final)
    if not plan.changes or plan.changes[-1].key not in outcome.entries:
        return None
    draft = out / f".checkpoint.{uuid.uuid4().hex}"
    try:
        inputs = report.reference.get("inputs", ())
        copy_portable(outcome.entries[plan.changes[-1].key].files, draft, recipe.resolve, inputs)
        draft.rename(final)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return final


def _prepare(out: Path) -> None:
    """Make the output folder, and find out now, not after the build, whether it can be written to."""
    probe = out / f".probe-{uuid.uuid4().hex}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise explain_os_error(error, out, "--out") from error


def _write_whole(path: Path, text: str) -> None:
    """Write beside and rename: a report is whole or the old one."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        draft.write_text(text + "\n", encoding="utf-8")
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
