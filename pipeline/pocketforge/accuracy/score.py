"""The metrics of every output that a recipe judges, of PyTorch's outputs or a file's, streamed over the samples."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from pocketforge.accuracy.base import Array, Figures, Unfit
from pocketforge.accuracy.boxes import as_boxes, detected
from pocketforge.accuracy.exact import as_float, loss
from pocketforge.accuracy.parts import PartFigures, Parts, Tallies
from pocketforge.accuracy.post import About, probabilities_fault, processed
from pocketforge.accuracy.tallies import tally_of
from pocketforge.accuracy.user import UserTally, call_post, user_object
from pocketforge.data.slices import SliceCodes
from pocketforge.data.targets_on_disk import TargetBatches
from pocketforge.errors import ModelError
from pocketforge.files import Resolve
from pocketforge.metrics import last_of_each
from pocketforge.outcomes.accuracy import OutputScore, SliceScore
from pocketforge.recipe.budget import METRICS
from pocketforge.recipe.output import Output
from pocketforge.recipe.roles import DETECTION, page_of
from pocketforge.recipe.user_words import user_code

BATCH = 64


@dataclass(frozen=True, slots=True)
class Judge:
    """By what outputs are judged.

    Attributes:
        outputs: The recipe's that are judged, each with a name.
        targets: Of the samples.
        about: What post-processing has to know.
        labelled: The output whose classes (or letters) the labels name; empty for none.
        resolve: Makes a path of the recipe absolute: of the user's metrics and post-processing.
        slices: Of the samples: columns by whose values metrics are taken, too.
    """

    outputs: tuple[Output, ...]
    targets: TargetBatches
    about: About
    labelled: str
    resolve: Resolve
    slices: tuple[SliceCodes, ...] = ()

    def about_of(self, output: Output) -> About:
        """What post-processing of one output has to know: labels are one output's alone."""
        return self.about if output.name == self.labelled else dataclasses.replace(self.about, labels=())

    def without(self, names: Collection[str]) -> Judge:
        """Without the metrics of these outputs."""
        return dataclasses.replace(self, outputs=tuple(each for each in self.outputs if each.name not in names))

    def first(self, count: int) -> Judge:
        """On the first samples only."""
        return dataclasses.replace(self, targets=self.targets.first(count))


@dataclass(frozen=True, slots=True)
class Scored:
    """One output's metrics before they become floats.

    Attributes:
        output: The recipe's.
        figures: Its values, exact where they are ratios of counts.
        parts: The same of each part of the samples, by the judge's slices.
    """

    output: Output
    figures: Figures
    parts: tuple[PartFigures, ...] = ()


def score(
    judge: Judge,
    answers: Mapping[str, Array],
    whose: str,
    *,
    check: bool = False,
    faults: dict[str, str] | None = None,
) -> tuple[Scored, ...]:
    """Every output that has metrics and is among the answers. answers: output → its values, samples first.

    whose: for errors, `the model` or `the file`. check: also that the recipe takes scores for what they are. faults:
    gets output → why a metric cannot be taken of it; without, that is a ModelError. Raises ModelError also where the
    user's code raises or gives no number.
    """
    # Of sequences what the last step gave counts.
    answers = {name: last_of_each(values, judge.targets.count) for name, values in answers.items()}
    scored = []
    for output in judge.outputs:
        if not output.metric_names or output.role in DETECTION - {"boxes"} or output.name not in answers:
            continue
        name = f"output {output.name!r} of {whose} (role {output.role})"
        try:
            each = _scored(judge, output, answers, name, check=check)
        except Unfit as error:
            if faults is not None:
                faults[output.name] = str(error)
                continue
            hint = f"what such outputs and their targets are: {page_of(output.role)}"
            raise ModelError(f"{name}: {error}", hint) from None
        scored.append(each)
    return tuple(scored)


def _scored(judge: Judge, output: Output, answers: Mapping[str, Array], whose: str, *, check: bool) -> Scored:
    ours = [name for name in output.metric_names if name in METRICS.ours]
    about = judge.about_of(output)
    group: dict[str, Output] = {}
    if output.role == "boxes":
        group = {each.role: each for each in judge.outputs if each.role in DETECTION}
    names = [each.name for each in group.values() if each.name in answers] or [output.name]
    least, most = math.inf, -math.inf
    with contextlib.ExitStack() as around:
        own = [
            (each, *around.enter_context(user_object(each.file, each.name, "metric", judge.resolve)))
            for each in output.user_metrics
        ]
        code = user_code(output.post.type)
        post = around.enter_context(user_object(*code, "post", judge.resolve)) if code else None
        absent = [each.name for each in judge.outputs if each.name not in answers] if post else []
        if absent:
            raise Unfit(f"its post-processing is told all outputs, and {', '.join(absent)} cannot be judged")

        def tallies() -> Tallies:
            users = [UserTally(*each, whose) for each in own]
            # After the user's code: it may want more of torchmetrics than we import (library.py).
            return tally_of(output) if ours else None, users

        parts = Parts(tallies, judge.slices, judge.targets.count)
        for start in range(0, judge.targets.count, BATCH):
            stop = min(start + BATCH, judge.targets.count)
            values = {name: np.asarray(answers[name][start:stop]) for name in names}
            for array in values.values():
                # argmax would take NaN for the largest score, and a threshold for a no.
                if array.dtype.kind == "f" and np.isnan(array).any():
                    raise Unfit("it answers NaN")
            targets = {name: judge.targets.batch(name, start, stop) for name in judge.targets.listed}
            if output.role in ("logits", "multilabel", "binary"):
                least, most = min(least, float(values[output.name].min())), max(most, float(values[output.name].max()))
            if post is not None:
                predictions = call_post(post, {n: np.asarray(a[start:stop]) for n, a in answers.items()}, whose)
                predictions = as_boxes(predictions) if output.role == "boxes" else predictions
            elif output.role == "boxes":
                by_role = {role: values[each.name] for role, each in group.items() if each.name in values}
                predictions = detected(group, by_role, about, exact=check)
            else:
                predictions = processed(output, values[output.name], targets, about)
            parts.add(predictions, {**values, output.name: predictions}, targets, start, stop)
        fault = probabilities_fault(output, least, most) if check else ""
        if fault:
            raise Unfit(fault)
        figures = _finite(parts.whole(ours, judge.targets.count))
        return Scored(output, figures, tuple(parts.each(ours)))


def _finite(figures: Figures) -> Figures:
    for name, value in figures.values.items():
        if not math.isfinite(value):
            raise Unfit(f"{name} is {float(value)}: {figures.why.get(name, 'its samples give none')}")
    return figures


def in_words(scored: Scored, judge: Judge) -> OutputScore:
    """For JSON: floats, and classes by their names. What is the same whatever is answered is left out."""
    labels = judge.about_of(scored.output).labels
    figures = scored.figures
    wanted = set(scored.output.metric_names)
    return OutputScore(
        output=scored.output.name,
        role=scored.output.role,
        metrics={name: as_float(value) for name, value in figures.values.items() if name not in figures.certain},
        counted=figures.counted,
        better={own.name: own.better for own in scored.output.user_metrics},
        classes={
            name: {_label(labels, number): as_float(value) for number, value in each.items()}
            for name, each in figures.classes.items()
            if name in wanted and each
        },
        slices=tuple(
            SliceScore(
                part.column,
                part.value,
                part.samples,
                part.figures.counted,
                {name: as_float(value) for name, value in part.figures.values.items()},
                none=part.none,
            )
            for part in scored.parts
        ),
    )


def _label(labels: tuple[str, ...], number: int) -> str:
    return labels[number] if number < len(labels) and len(set(labels)) == len(labels) else str(number)


def drops(before: Scored, after: Scored) -> dict[str, float]:
    """Metric → how much worse it is than before, in its unit."""
    return _losses(before.figures, after.figures, after.output)


def held_against(before: Scored, after: Scored, judge: Judge) -> OutputScore:
    """A file's metrics in words, with the drops from the PyTorch model's, of the whole and of each part."""
    said = in_words(after, judge)
    was = {(part.column, part.value): part.figures for part in before.parts}
    return dataclasses.replace(
        said,
        drops=drops(before, after),
        slices=tuple(
            dataclasses.replace(each, drops=_losses(was[part.column, part.value], part.figures, after.output))
            for each, part in zip(said.slices, after.parts, strict=True)
        ),
    )


def _losses(before: Figures, after: Figures, output: Output) -> dict[str, float]:
    better = {own.name: own.better for own in output.user_metrics}
    return {
        name: loss(before.values[name], value, better.get(name) or METRICS[name].better)
        for name, value in after.values.items()
        if name in before.values and name not in after.certain
    }
