"""Checks of one file's outputs: against what was promised, the reference's outputs and limits. NumPy only.

Every output is held against the reference's of that name, and judged by itself: the worst decides, and is named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pocketforge.accuracy.score import Judge, Scored, held_against, in_words, score
from pocketforge.devices.base import RunAnswer
from pocketforge.devices.outputs import Output, paired
from pocketforge.metrics import Array, argmax_agreement, compare, equal_share, last_of_each
from pocketforge.outcomes.accuracy import OutputScore, by_metric
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.outcomes.verify import FileCheck, Measured, OutputFigures
from pocketforge.recipe.budget import METRICS
from pocketforge.recipe.limits import Limits, least_graph_sqnr_db, most_steps_from_graph


def check(name: str, wanted: str, found: str, passed: bool) -> FileCheck:
    """One comparison; NumPy's booleans become Python's."""
    return FileCheck(name, wanted, found, bool(passed))


def check_contract(answer: RunAnswer, exported: Exported) -> list[FileCheck]:
    """The file's inputs and outputs as its runtime sees them, against what the sidecar promises."""
    sides = (("inputs", exported.inputs, answer.inputs), ("outputs", exported.outputs, answer.outputs))
    checks = []
    for side, promised, seen in sides:
        wanted = [_contract(tensor) for tensor in promised]
        found = [_contract(tensor) for tensor in seen]
        checks.append(check(side, "; ".join(wanted), "; ".join(found), wanted == found))
    return checks


def _contract(tensor: TensorSpec) -> str:
    if not tensor.scale:
        return str(tensor)
    # Scales pass through float32 in some formats.
    return f"{tensor} scale {np.float32(tensor.scale):.6g} zero point {tensor.zero_point}"


def check_promise(exported: Exported, reference: Reference) -> list[FileCheck]:
    """That the sidecar promises every output of the model, by name and shape: what a file lacks is not compared."""
    found = "; ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in exported.outputs)
    opened = reference.varying.outputs if reference.varying else [()] * len(reference.outputs)
    wanted = "; ".join(
        f"{tensor.name} {[-1 if axis in axes else length for axis, length in enumerate(tensor.shape)]}"
        for tensor, axes in zip(reference.outputs, opened, strict=True)
    )
    return [] if found == wanted else [check("the model's outputs", wanted, found, False)]


def hold(outputs: Sequence[Output], wanted: Sequence[Output], *, classes: Collection[str]) -> list[OutputFigures]:
    """Every output that both have. classes: names of those that hold the scores of classes."""
    return [_hold(one, other, classes=other.name in classes) for one, other in paired(outputs, wanted)]


def _hold(one: Output, other: Output, *, classes: bool) -> OutputFigures:
    dtype = str(other.values.dtype)
    if other.is_exact:
        return OutputFigures(other.name, dtype, {}, integer_agreement=equal_share(one.values, other.values))
    near = compare(one.values, other.values, classes=classes)
    where = {"dead_channels": near.dead} if near.dead else {}
    where |= {"channel_sqnr_db": near.channel.where} if near.channel else {}
    where |= {"region_sqnr_db": near.region.where} if near.region else {}
    return OutputFigures(
        name=other.name,
        dtype=dtype,
        where=where,
        sqnr_db=near.sqnr_db,
        max_abs_diff=near.max_abs_diff,
        max_diff_ratio=near.max_diff_ratio,
        channel_sqnr_db=near.channel.sqnr_db if near.channel else None,
        region_sqnr_db=near.region.sqnr_db if near.region else None,
        dead_channels=near.dead_count,
    )


@dataclass(frozen=True, slots=True)
class Graph:
    """What a file's own quantized graph answered to the first samples.

    Attributes:
        outputs: Its answers.
        scales: Output → the real value of one level, of outputs that have a scale.
    """

    outputs: Sequence[Output]
    scales: Mapping[str, float] = field(default_factory=dict)

    def hold(
        self,
        figures: OutputFigures,
        outputs: Sequence[Output],
        reference: Sequence[Output],
        *,
        classes: Collection[str],
    ) -> OutputFigures:
        """One output's figures, with how near it is to the graph and what quantizing itself cost the graph."""
        name = figures.name
        one, other = next((pair for pair in paired(outputs, self.outputs) if pair[1].name == name), (None, None))
        if one is None or other is None:
            return figures
        count = len(other.values)
        in_float = next(output for output in reference if output.name == name)
        if in_float.is_exact:
            share = equal_share(one.first(count).values, other.values)
            return dataclasses.replace(figures, graph_integer_agreement=share)
        scored = name in classes
        near = compare(one.first(count).values, other.values, classes=scored)
        costs = compare(other.values, in_float.first(count).values, classes=scored)
        scale = self.scales.get(name)
        return dataclasses.replace(
            figures,
            graph_sqnr_db=near.sqnr_db,
            quantized_sqnr_db=costs.sqnr_db,
            max_steps_from_graph=near.max_abs_diff / scale if scale else None,
            quantized_max_steps=costs.max_abs_diff / scale if scale else None,
        )


@dataclass(frozen=True, slots=True)
class Truth:
    """What a file's outputs are held against.

    Attributes:
        outputs: The model's answers in PyTorch, first the one that a task is about; none of a file made elsewhere that
            is held against nothing but its targets.
        judge: By what outputs are judged that have a role.
        before: What the model's own come to by that.
        task: classification, regression or outputs.
        of_classes: Names of the outputs that hold the scores of classes.
        graph: The quantized graph's answers; None of files that have none.
    """

    outputs: tuple[Output, ...]
    judge: Judge
    before: tuple[Scored, ...]
    task: str
    of_classes: frozenset[str]
    graph: Graph | None = None

    @property
    def is_classification(self) -> bool:
        """Whether the task is about classes: those of the first output."""
        return self.task == "classification"


def truth_of(outputs: tuple[Output, ...], judge: Judge, task: str, graph: Graph | None = None) -> Truth:
    """What files are held against. outputs: the model's in PyTorch. Raises ModelError as `score` does.

    Of a few samples (on a device) some metrics cannot be taken: files are not held to those of these outputs there.
    """
    faults: dict[str, str] = {}
    before = score(judge, {output.name: output.values for output in outputs}, "the model", faults=faults)
    of_classes = frozenset(output.name for output in judge.outputs if output.role == "logits")
    return Truth(outputs, judge.without(faults), before, task, of_classes, graph)


def measure(outputs: Sequence[Output], truth: Truth) -> Measured:
    """The metrics of every output that has a role, their drops from the reference's, and parity of every output."""
    classes, reference, graph = truth.of_classes, truth.outputs, truth.graph
    figures = hold(outputs, reference, classes=classes)
    if not reference:
        figures = [OutputFigures(each.name, str(each.values.dtype), {}) for each in outputs]
    if graph:
        figures = [graph.hold(each, outputs, reference, classes=classes) for each in figures]
    pairs = {other.name: (one, other) for one, other in paired(outputs, reference)}
    if not truth.is_classification:
        figures = [
            _with_agreement(each, *pairs[each.name], truth.judge.targets.count)
            if each.name in classes and each.name in pairs
            else each
            for each in figures
        ]
    faults: dict[str, str] = {}
    judged = [one for one, _ in pairs.values()] if reference else outputs
    scores = _scores(truth, {one.name: one.values for one in judged}, faults)
    measured = dataclasses.replace(
        _worst(figures),
        samples=truth.judge.targets.count,
        scores=scores,
        accuracy=by_metric(scores),
        unscored=faults,
    )
    first = pairs.get(reference[0].name) if reference else None
    if first is None or not truth.is_classification:
        return measured
    simulated = graph.outputs[0].values if graph else None
    samples = truth.judge.targets.count
    return dataclasses.replace(
        measured,
        argmax_agreement=argmax_agreement(
            *(last_of_each(each, samples) for each in (first[0].values, reference[0].values))
        ),
        accuracy_drop=scores[0].drops.get("accuracy_top1") if scores else None,
        graph_argmax_agreement=None if simulated is None else _agreement_with_graph(first[0], simulated, samples),
    )


def _agreement_with_graph(one: Output, simulated: Array, samples: int) -> float | None:
    """Of the first samples, by what is judged of each: of a sequence its last step."""
    steps = max(1, len(one.values) // max(1, samples))
    here, there = (
        last_of_each(each, len(simulated) // steps) for each in (one.first(len(simulated)).values, simulated)
    )
    return argmax_agreement(here, there)


def _with_agreement(figures: OutputFigures, one: Output, other: Output, samples: int) -> OutputFigures:
    here, there = (last_of_each(output.values, samples) for output in (one, other))
    return dataclasses.replace(figures, argmax_agreement=argmax_agreement(here, there))


def _scores(truth: Truth, answers: Mapping[str, Array], faults: dict[str, str]) -> tuple[OutputScore, ...]:
    """The metrics of each output. faults: gets output → why it has none."""
    judged = {output.name for output in truth.judge.outputs if output.metric_names}
    finite = {name: values for name, values in answers.items() if np.isfinite(values).all()}
    faults |= dict.fromkeys(sorted(judged - answers.keys()), "no output of this name and the model's shape")
    faults |= dict.fromkeys(sorted(judged & answers.keys() - finite.keys()), "values that are NaN or infinite")
    before = {each.output.name: each for each in truth.before}
    return tuple(
        held_against(before[each.output.name], each, truth.judge)
        if each.output.name in before
        else in_words(each, truth.judge)
        for each in score(truth.judge, finite, "the file", faults=faults)
    )


def measure_parity(outputs: Sequence[Output], wanted: Sequence[Output], truth: Truth) -> Measured:
    """As `measure`, for outputs held against another run of the same file: there are no labels to compare.

    wanted: of the other run, in the model's order. truth: which outputs score classes, and of how many samples.
    """
    figures = hold(outputs, wanted, classes=truth.of_classes)
    count = truth.judge.targets.count
    agreement = {
        other.name: argmax_agreement(last_of_each(one.values, count), last_of_each(other.values, count))
        for one, other in paired(outputs, wanted)
        if other.name in truth.of_classes
    }
    if truth.is_classification:
        return dataclasses.replace(_worst(figures), argmax_agreement=next(iter(agreement.values()), None))
    return _worst([dataclasses.replace(each, argmax_agreement=agreement.get(each.name)) for each in figures])


def measure_at_size(
    outputs: Sequence[Output], wanted: Sequence[Output], graph: Graph | None, of_classes: Collection[str]
) -> Measured:
    """As `measure`, of a few samples at another size: they have no targets."""
    figures = hold(outputs, wanted, classes=of_classes)
    if graph:
        figures = [graph.hold(each, outputs, wanted, classes=of_classes) for each in figures]
    return _worst(figures)


def summary(measured: Measured) -> str:
    """The worst output's figure, in a few words."""
    if measured.sqnr_db is None:
        share = measured.integer_agreement
        return "no output could be compared" if share is None else f"{share:.1%} of the values agree"
    several = len(measured.outputs) > 1
    return f"SQNR {measured.sqnr_db:.1f} dB" + (f" ({measured.worst_output})" if several else "")


def _worst(figures: Sequence[OutputFigures]) -> Measured:
    """The worst figure of any output, and whose SQNR is the lowest."""

    def of_all(name: str) -> list[float]:
        return [value for each in figures if (value := each.figure(name)) is not None]

    near = {each.name: each.sqnr_db for each in figures if each.sqnr_db is not None}
    exact = {each.name: each.integer_agreement for each in figures if each.integer_agreement is not None}
    judged = near or exact
    return Measured(
        outputs=tuple(figures),
        sqnr_db=min(of_all("sqnr_db"), default=None),
        graph_sqnr_db=min(of_all("graph_sqnr_db"), default=None),
        integer_agreement=min(of_all("integer_agreement"), default=None),
        max_abs_diff=max(of_all("max_abs_diff"), default=None),
        max_diff_ratio=max(of_all("max_diff_ratio"), default=None),
        max_steps_from_graph=max(of_all("max_steps_from_graph"), default=None),
        worst_output=min(judged, key=lambda name: judged[name], default=""),
    )


def check_limits(measured: Measured, limits: Limits) -> list[FileCheck]:
    """Measured values against verify's limits, output by output; those of classification where that is the task."""
    outputs = measured.outputs
    checks = []
    for each in outputs:
        of = f" of {each.name}" if len(outputs) > 1 else ""
        for limit, value in sorted(limits.of(each.name).items()):
            for metric in _metrics(limit):
                if metric == "accuracy_drop" or (figure := each.figure(metric)) is None:
                    continue
                part = each.where.get(metric, "")
                bound = _as_quantized(limit, value, each) if limits.is_relative(limit, each.name) else value
                checks.append(_judged(f"{metric}{of}", limit, bound, figure, part))
    of_classes = {"argmax_agreement": measured.argmax_agreement, "accuracy_drop": measured.accuracy_drop}
    for limit, value in sorted(limits.common.items()):
        for metric in _metrics(limit):
            reached = of_classes.get(metric)
            if reached is not None:
                checks.append(_judged(metric, limit, value, reached, ""))
    return [*checks, *_drop_checks(measured, limits.common), *check_scored(measured)]


def check_scored(measured: Measured) -> list[FileCheck]:
    """Outputs whose metrics could not be taken: what nothing measured keeps no limit."""
    return [check(f"metrics of {name}", "values", why, False) for name, why in measured.unscored.items()]


def _drop_checks(measured: Measured, common: Mapping[str, float]) -> list[FileCheck]:
    """The most that the first metric of each of several outputs may have lost, where it is a share.

    What a classification has lost is checked by its own name.
    """
    limit = common.get("max_accuracy_drop")
    if limit is None or measured.accuracy_drop is not None:
        return []
    checks = []
    for each in measured.scores:
        metric = next(iter(each.metrics), "")
        row = METRICS.if_usable(metric) if metric else None
        if row is not None and row.limits.share:
            checks.append(
                _judged(f"{metric} drop of {each.output}", "max_accuracy_drop", limit, each.drops[metric], "")
            )
    return checks


def empty_drops(truth: Truth, limits: Limits) -> tuple[str, ...]:
    """Of metrics that the model's own answers score 0 by: a drop from there is none, whatever a file answers."""
    if limits.common.get("max_accuracy_drop") is None:
        return ()
    found = []
    for scored in truth.before:
        metric, value = next(iter(scored.figures.values.items()))
        row = METRICS.if_usable(metric)
        if row is not None and row.limits.share and row.better == "higher" and value <= row.limits.low == 0:
            found.append(
                f"{metric} of {scored.output.name} is 0 in PyTorch: max_accuracy_drop holds whatever a file answers, "
                "as there is nothing to lose; give trained weights, or look at labels, preprocessing and post"
            )
    return tuple(found)


def _as_quantized(limit: str, value: float, figures: OutputFigures) -> float:
    """A limit on the way from the graph to the file, or what quantizing itself cost, if that is more."""
    cost_db = figures.quantized_sqnr_db
    if cost_db is None:
        return value
    if limit == "min_graph_sqnr_db":
        return least_graph_sqnr_db(value, cost_db)
    assert figures.graph_sqnr_db is not None and figures.quantized_max_steps is not None, "steps come with dB"
    return most_steps_from_graph(value, figures.graph_sqnr_db, cost_db, figures.quantized_max_steps)


def _metrics(limit: str) -> tuple[str, ...]:
    """What a limit is on: min_sqnr_db on sqnr_db; max_diff_ratio and max_steps_from_graph are figures' own names."""
    if limit in ("max_diff_ratio", "max_steps", "max_steps_from_graph"):
        return (limit,)
    if limit == "min_integer_agreement":
        return ("integer_agreement", "graph_integer_agreement")
    return (limit.partition("_")[2],)


def _judged(name: str, limit: str, value: float, found: float, part: str) -> FileCheck:
    passed = found >= value if limit.startswith("min_") else found <= value
    wanted = f"{'at least' if limit.startswith('min_') else 'at most'} {value:g}"
    if part and limit == "max_dead_channels":
        return check(name, wanted, f"{found:g}: {part} never change where the model's do", passed)
    return check(name, wanted, f"{found:.6g}" + (f" in {part}" if part else ""), passed)
