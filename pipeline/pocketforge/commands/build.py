"""One build from end to end: recipe → facts → plan → run → measurements → gate → report → release folder."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketforge import events
from pocketforge.commands.cluster import Cluster, joined
from pocketforge.commands.remote import RemoteRequest, for_build
from pocketforge.commands.why import explain_failures
from pocketforge.errors import EXIT_GATE_FAILED, EXIT_OK, EXIT_STAGE, PocketforgeError, StoreError
from pocketforge.facts.checkout import Checkout, checkout_of
from pocketforge.facts.gather import gather
from pocketforge.facts.phones import add_phones, without_absent
from pocketforge.facts.plugged import check_parts
from pocketforge.facts.sources import inputs_of
from pocketforge.files import explain_os_error
from pocketforge.history.entry import Entry
from pocketforge.history.opening import open_history
from pocketforge.history.places import Place
from pocketforge.model.checkpoint_files import CheckpointInput, copy_portable
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Facts, Plan, ReadFiles
from pocketforge.recipe import Recipe
from pocketforge.recipe.part import left_out, with_targets
from pocketforge.records import Reference, Report, WhyWrong
from pocketforge.release.inputs import Inputs
from pocketforge.report.page import write as html
from pocketforge.results.app_size import check_app
from pocketforge.results.baselines import baselines_of
from pocketforge.results.output_folder import CHECKPOINT, PAGE, REPORT, Draft, drafted, take
from pocketforge.results.release import write_release
from pocketforge.results.report import make_report, recipe_digest
from pocketforge.run.engine import Start
from pocketforge.run.inputs import unchanged
from pocketforge.run.store import Store
from pocketforge.run.walk import Outcome, run_plan


@dataclass(frozen=True, slots=True)
class Built:
    """What `build` gives back.

    Attributes:
        report: What was found.
        report_path: Where it is written.
        page: The same for a browser; None where it could not be made.
        release: The folder of files to ship; None where the gate or a stage failed.
        checkpoint: The folder of the compressed model; None where nothing compressed it.
        errors: Of the failed stages, in the plan's order; the first decides the exit code.
        kept: Where a history has it, in words; empty where none was asked for.
        not_kept: Why the history that was asked for has it not. All else is as it would be without one.
    """

    report: Report
    report_path: Path
    page: Path | None
    release: Path | None
    checkpoint: Path | None = None
    errors: tuple[PocketforgeError, ...] = ()
    kept: str = ""
    not_kept: PocketforgeError | None = None

    @property
    def error(self) -> PocketforgeError | None:
        return self.errors[0] if self.errors else None

    @property
    def exit_code(self) -> int:
        if self.error is not None:
            return self.error.exit_code
        if self.report.verdict != "PASS":
            return EXIT_GATE_FAILED
        return EXIT_OK if self.not_kept is None else EXIT_STAGE


def build(
    recipe: Recipe,
    *,
    cache: Path,
    out: Path,
    targets: Collection[str] = (),
    jobs: int = 1,
    refresh: bool = False,
    keep_failed: bool = False,
    phones: Sequence[str] = (),
    history: Place | None = None,
    remote: RemoteRequest | None = None,
    cluster: Cluster | None = None,
    emit: events.Emit = events.ignore,
) -> Built:
    """Build every target of a recipe, judge it, and write report.json and, if the gate passes, release/.

    targets: only these, and the report is of a recipe that has no others; all where none are named. phones: "adb",
    "adb:SERIAL" or "adb:all": run on these too, also where the recipe has no device for them. history: keep the build
    there, too. remote: ask this store before a step is run, and give it what was made. cluster: its workers run the
    steps; this machine where there is none.
    Waits for another build that writes into `out`. Raises RecipeError, PluginFailed, StoreError and DeviceUnavailable
    (a phone is not there) before anything ran, and what `open_history` does; errors of stages, and of keeping it at the
    end, are in the result. A StoreError or PluginFailed afterwards leaves the earlier results.
    """
    with joined(cluster) as engine_of:
        return _build(
            recipe, engine_of, cache=cache, out=out, targets=targets, jobs=jobs, refresh=refresh,
            keep_failed=keep_failed, phones=phones, history=history, remote=remote, emit=emit,
        )  # fmt: skip


def _build(
    recipe: Recipe,
    engine_of: Callable[[Facts], Start | None],
    *,
    cache: Path,
    out: Path,
    targets: Collection[str],
    jobs: int,
    refresh: bool,
    keep_failed: bool,
    phones: Sequence[str],
    history: Place | None,
    remote: RemoteRequest | None,
    emit: events.Emit,
) -> Built:
    started = time.monotonic()
    emit = events.one_at_a_time(emit)
    shared = for_build(remote, emit)
    if history is not None:
        open_history(history, create=True)  # hours before it is needed
    check_parts(recipe)
    store = Store(cache)
    asked = with_targets(recipe, targets)
    unasked, with_phones = left_out(recipe, asked), add_phones(asked, phones)
    recipe, facts, absent = _facts(with_phones, cache, refresh)
    check_app(recipe)
    baselines = baselines_of(recipe)
    for text in (*unasked, *absent):
        emit(events.Warned(text))
    plan = make_plan(recipe, facts)
    with take(out, emit) as waited:
        if waited:  # what was read may have changed meanwhile
            recipe, facts, absent = _facts(with_phones, cache, refresh)
            plan = make_plan(recipe, facts)
        inputs = inputs_of(recipe, facts)
        checkout = _checkout(recipe, inputs) if history is not None else Checkout()
        with shared as others:
            outcome = run_plan(
                plan,
                store,
                logs=out / "logs",
                jobs=jobs,
                refresh=refresh,
                began=started,
                engine=engine_of(facts),
                emit=emit,
                remote=others,
            )
        with drafted(out) as draft:
            why = explain_failures(plan, outcome, recipe, facts, cache=cache, out=draft.folder, emit=emit)
            with _os_errors(store, out):
                why_wrong = {target: WhyWrong(**words) for target, words in why.items()}
                wall_s = time.monotonic() - started
                report = make_report(recipe, facts, plan, outcome, why=why_wrong, wall_s=wall_s, baselines=baselines)
            # By what the user wrote, not by which phones were there.
            warnings = (*unasked, *absent, *report.warnings)
            report = dataclasses.replace(report, recipe_sha256=recipe_digest(asked), warnings=warnings)
            with _os_errors(store, out):
                built = write_results(
                    recipe, plan, outcome, report, inputs, out, draft, keep_failed=keep_failed, page=_page(report, emit)
                )
    return built if history is None else _kept(built, history, checkout)


def write_results(
    recipe: Recipe,
    plan: Plan,
    outcome: Outcome,
    report: Report,
    inputs: Inputs,
    out: Path,
    draft: Draft,
    *,
    keep_failed: bool,
    page: str,
) -> Built:
    """All that a build leaves in `out`, in the place of what an earlier one left: all of it, or nothing.

    page: The report for a browser; empty where there is none. Raises OSError, StoreError.
    """
    release = write_release(recipe, plan, outcome, report, inputs, draft.folder, keep_failed=keep_failed)
    checkpoint = _write_checkpoint(recipe, plan, outcome, report, draft.folder)
    (draft.folder / REPORT).write_text(f"{report.to_text()}\n", encoding="utf-8")
    shown = _write_page(page, draft.folder / PAGE) if page else False
    draft.commit()
    errors = tuple(outcome.errors[s.key] for s in plan.steps if s.key in outcome.errors)
    written = out / release if release else None
    return Built(
        report, out / REPORT, out / PAGE if shown else None, written, out / CHECKPOINT if checkpoint else None, errors
    )


def _checkout(recipe: Recipe, inputs: Inputs) -> Checkout:
    """Of what the build reads: files that the recipe names and the commit has not make it a dirty one, too."""
    found = checkout_of(Path(recipe.folder or "."))
    commit = inputs.commit
    return dataclasses.replace(found, dirty=not commit.clean) if commit and commit.id == found.commit else found


def _kept(built: Built, history: Place, checkout: Checkout) -> Built:
    try:
        number, _ = open_history(history, create=True).add(Entry.of_now(built.report, checkout, time.time()))
    except PocketforgeError as error:
        return dataclasses.replace(built, not_kept=error)
    of = (
        f"commit {checkout.commit[:9]}{'+' if checkout.dirty else ''}"
        if checkout.commit
        else "no commit that git tells of"
    )
    return dataclasses.replace(built, kept=f"build {number} in {history.words}, of {of}")


def _page(report: Report, emit: events.Emit) -> str:
    """The report for a browser. All that it says is in report.json: where it cannot be made, that is said, and the
    build is what it is."""
    try:
        return f"{html(report)}\n"
    except Exception as error:  # whatever drawing meets in figures that nobody foresaw
        emit(events.Warned(f"{PAGE} could not be made: {type(error).__name__}: {error}"))
        return ""


def _write_page(page: str, path: Path) -> bool:
    """Whether it is there: a disk without room for it has room for the report."""
    try:
        path.write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError:
        path.unlink(missing_ok=True)
        return False
    return True


@contextlib.contextmanager
def _os_errors(store: Store, out: Path) -> Iterator[None]:
    """What cannot be written is the output folder's; what cannot be read was in the store a moment ago."""
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str) and Path(error.filename).is_relative_to(store.root):
            raise StoreError(
                f"a stored result cannot be read any more: {error.filename}: {error.strerror}",
                "build again: what is gone is made anew",
            ) from error
        raise explain_os_error(error, out, "--out") from error


def _facts(recipe: Recipe, cache: Path, refresh: bool) -> tuple[Recipe, Facts, list[str]]:
    """What the plan depends on, the recipe without the phones that are not there, and a line for each of those."""
    facts = gather(recipe, cache, refresh=refresh)
    recipe, absent = without_absent(recipe, facts.phones)
    return recipe, facts, list(absent)


def _write_checkpoint(recipe: Recipe, plan: Plan, outcome: Outcome, report: Report, draft: Path) -> bool:
    """The compressed PyTorch model, to load anywhere: `draft/checkpoint`.

    Raises ChangedInput when the definition is no longer the one that was built.
    """
    if not plan.changes or plan.changes[-1].key not in outcome.entries:
        return False
    reference = report.reference
    taken = reference.inputs if isinstance(reference, Reference) else ()
    arguments = [each.argument for each in recipe.model.inputs] or [""] * len(taken)
    inputs = [
        CheckpointInput(each.name, each.shape, each.dtype, argument)
        for each, argument in zip(taken, arguments, strict=bool(taken))
    ]
    copy_portable(outcome.entries[plan.changes[-1].key].files, draft / CHECKPOINT, recipe.resolve, inputs)
    unchanged(_definition(plan), "the checkpoint's definition")
    return True


def _definition(plan: Plan) -> list[ReadFiles]:
    return [read for role, read in plan.step(plan.reference).files.items() if role == "definition"]
