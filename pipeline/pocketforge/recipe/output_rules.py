"""Rules between a recipe's [[output]] tables, and what its metrics' names mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pocketforge.recipe.budget import METRICS, THE_TASKS, budget_metrics, output_and_name
from pocketforge.recipe.faults import Fault
from pocketforge.recipe.metric import Metric, Task
from pocketforge.recipe.metrics_of_outputs import drop_name, metrics_of_role
from pocketforge.recipe.names import suggest
from pocketforge.recipe.output import Output, UserMetric, user_metric
from pocketforge.recipe.output_loss import OutputLoss
from pocketforge.recipe.ranges import Range
from pocketforge.recipe.roles import DETECTION, ROLES
from pocketforge.recipe.user_words import user_code

_ANY = Range(-1e30, 1e30)
_TASK_ROLES: dict[str, Task] = {"logits": "classification", "regression": "regression"}


def task_of(outputs: Sequence[Output]) -> Task:
    """The task that [[output]] tables come to: one plain output of scores or numbers is what `task` was for."""
    if not outputs:
        return "classification"
    only = outputs[0]
    plain = len(outputs) == 1 and only.keep and not (only.post.type or only.user_metrics or only.loss != OutputLoss())
    is_own = plain and only.held_against == ROLES[only.role].targets[:1][0] if ROLES[only.role].targets else False
    return _TASK_ROLES.get(only.role, "outputs") if is_own else "outputs"


def faults_of_outputs(outputs: Sequence[Output], names: Sequence[str]) -> Iterator[Fault]:
    """names: model.outputs."""
    for index, output in enumerate(outputs):
        where = f"output[{index}]"
        if not output.name and len(outputs) > 1:
            yield Fault("missing: several outputs are told by their names", f"{where}.name")
        if output.name and names and output.name not in names:
            yield Fault(
                f"no output of model.outputs is named {output.name!r}{suggest(output.name, names)}", f"{where}.name"
            )
        yield from _faults_of_metrics(output, where)
    given = [output.name for output in outputs if output.name]
    for name in sorted({name for name in given if given.count(name) > 1}):
        yield Fault(f"output names must be unique, found {name!r} {given.count(name)} times", "output")
    yield from _faults_of_targets(outputs)
    if outputs and not any(output.keep for output in outputs):
        yield Fault("keep = false for every output: files would have none", "output")
    yield from _faults_of_detection([output for output in outputs if output.keep])


def _faults_of_targets(outputs: Sequence[Output]) -> Iterator[Fault]:
    """One target is one kind of thing, whichever outputs are held against it."""
    kinds: dict[str, tuple[str, str]] = {}
    for index, output in enumerate(outputs):
        if output.keep and output.held_against:
            kind, role = kinds.setdefault(output.held_against, (output.kind_of_target, output.role))
            if kind != output.kind_of_target:
                both = f"{kind} for role {role}, {output.kind_of_target} for role {output.role}"
                yield Fault(f"target {output.held_against!r} is {both}: name another", f"output[{index}].target")


def _faults_of_metrics(output: Output, where: str) -> Iterator[Fault]:
    known = metrics_of_role(output.role)
    for place, written in enumerate(output.metrics):
        at = f"{where}.metrics[{place}]"
        try:
            own = user_metric(written)
        except ValueError as error:
            yield Fault(str(error), at)
            continue
        if own is not None and METRICS.names(own.name):
            yield Fault(f"{own.name} is a metric of ours: call the function otherwise", at)
        elif own is None and METRICS.names(written) and written not in known:
            yield Fault(f"{written} is no metric of role {output.role}; it has: {', '.join(known)}", at)
        elif own is None and written not in known:
            yield Fault(f"unknown value {written!r}{suggest(written, known)}", at)
    if not output.keep and (output.metrics or output.limits.given()):
        yield Fault("keep = false leaves it out of files: nothing judges it there, leave out metrics and limits", where)


def _faults_of_detection(outputs: Sequence[Output]) -> Iterator[Fault]:
    found = {role: [each for each in outputs if each.role == role] for role in sorted(DETECTION)}
    for role, of_role in found.items():
        if len(of_role) > 1:
            yield Fault(f"one detector has one output of role {role}, found {len(of_role)}", "output")
    boxes = found["boxes"][:1]
    if not boxes and (found["scores"] or found["classes"]):
        yield Fault("roles scores and classes are of boxes: no output has role boxes", "output")
    for each in boxes:
        whole = each.post.head or user_code(each.post.type)
        if not found["scores"] and not whole:
            yield Fault(
                "role boxes needs an output of role scores; or, where one output holds both, post = { type = "
                '"nms", head = "rows" } (or "columns"), or a post file.py:function that gives boxes, scores, classes',
                "output",
            )
        elif each.post.head and found["scores"]:
            yield Fault(
                "post.head is for one output with boxes and scores, and there is one of role scores too", "output"
            )


@dataclass(frozen=True, slots=True)
class Named:
    """What a metric's name in a budget, or in `metric`, means.

    Attributes:
        output: Position of the output in the recipe that it is of; None where it is of none.
        name: The metric's own.
        row: All that is known of it.
    """

    output: int | None
    name: str
    row: Metric


def row_of_users(own: UserMetric) -> Metric:
    """The row of a user's metric."""
    return Metric("", own.better, "outputs", own.name, ".4g", _ANY, of_task=False, column=False)


def drop_of_users(own: UserMetric) -> Metric:
    """The row of its drop."""
    return Metric("", "lower", "outputs", f"{own.name} drop", "+.4g", _ANY, drop_of=own.name)


def rows_of(output: Output) -> dict[str, Metric]:
    """Every metric that is taken of an output and its drop, by name."""
    rows: dict[str, Metric] = {}
    for name in output.metric_names:
        if name in METRICS.ours:
            rows |= {name: METRICS[name], drop_name(name): METRICS[drop_name(name)]}
    for own in output.user_metrics:
        rows |= {own.name: row_of_users(own), drop_name(own.name): drop_of_users(own)}
    if "accuracy_top1" in rows:
        rows["accuracy_drop"] = METRICS["accuracy_drop"]
    return rows


def find_metric(word: str, outputs: Sequence[Output]) -> Named | None:
    """The first output's that takes a metric of this name, or the named one's; None where none does.

    outputs: those that are judged.
    """
    wanted, name = output_and_name(word)
    for position, output in enumerate(outputs):
        rows = rows_of(output)
        if name in rows and (not wanted or output.name == wanted):
            return Named(position, name, rows[name])
    row = METRICS.get(name)
    return Named(None, name, row) if row and not row.roles and not wanted else None


def fault_of_metric(word: str, outputs: Sequence[Output]) -> str:
    """Why a budget cannot be on a metric; empty where it can."""
    if word == THE_TASKS or find_metric(word, outputs) is not None:
        return ""
    wanted, name = output_and_name(word)
    taken = [taken for output in outputs for taken in _words(output, len(outputs) > 1)]
    names = [output.name for output in outputs if output.name]
    if wanted and wanted not in names:
        return f"no [[output]] is named {wanted!r}{suggest(wanted, names)}"
    if name in METRICS and METRICS[name].roles:
        plain = METRICS[name].drop_of or name
        who = f"output {wanted!r} does not take" if wanted else "no output takes"
        able = " or ".join(METRICS[name].roles)
        return f"{word}: {who} {plain}; add it to the metrics of an [[output]] of role {able}"
    return f"unknown value {word!r}{suggest(word, {*budget_metrics(), *taken})}"


def _words(output: Output, several: bool) -> Iterable[str]:
    return [f"{output.name}.{name}" if several else name for name in rows_of(output)]
