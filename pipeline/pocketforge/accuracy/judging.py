"""By what a recipe judges the outputs of a model: its words, the data's targets and the model's names put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

from pocketforge.accuracy.post import About
from pocketforge.accuracy.score import Judge
from pocketforge.data.slices import stored_slices
from pocketforge.data.targets_on_disk import TargetBatches, stored_targets
from pocketforge.errors import ModelError
from pocketforge.files import Resolve
from pocketforge.outcomes.data import Sampled, layouts_of
from pocketforge.recipe.names import suggest
from pocketforge.recipe.output import Output, labelled, output_of_task

_CHANNELS = (1, 3, 4)


def make_judge(
    judged: Sequence[Output], names: Sequence[str], task: str, data: Path, sampled: Sampled, resolve: Resolve
) -> Judge:
    """judged: the recipe's. names: of the model's outputs, in order. data: the folder of stage `data`."""
    judge = judge_of(with_names(judged, names, task), stored_targets(data, sampled), about_stored(sampled), resolve)
    return dataclasses.replace(judge, slices=stored_slices(data, sampled.slices))


def about_stored(sampled: Sampled) -> About:
    """What post-processing has to know of the samples that stage `data` wrote."""
    layouts = layouts_of(sampled.preprocess, len(sampled.inputs))
    return About(sampled.labels, image_size([each.shape for each in sampled.inputs], layouts, sampled.states))


def judge_of(outputs: tuple[Output, ...], targets: TargetBatches, about: About, resolve: Resolve) -> Judge:
    """outputs: the recipe's, each with a name."""
    of_labels = labelled(outputs)
    return Judge(outputs, targets, about, of_labels.name if of_labels else "", resolve)


def with_names(judged: Sequence[Output], names: Sequence[str], task: str) -> tuple[Output, ...]:
    """The recipe's outputs, each with the model's name of it. A task, of which none are told, is about the first.

    Raises ModelError for an [[output]] that the model does not have, and for an output without a role.
    """
    judged = judged or (output_of_task(task),)
    if len(judged) == 1 and not judged[0].name and (task != "outputs" or len(names) == 1):
        return (dataclasses.replace(judged[0], name=names[0]),)
    listed = ", ".join(names)
    for output in judged:
        if output.name not in names:
            what = (
                f"[[output]] names {output.name!r}{suggest(output.name, names)}" if output.name else "name is missing"
            )
            raise ModelError(
                f"the model gives {len(names)} outputs ({listed}): {what}",
                "each [[output]] has the name of one; model.outputs names them in their order",
            )
    if task == "outputs" or judged[0].name:
        left = [name for name in names if name not in {output.name for output in judged}]
        if left:
            raise ModelError(
                f"no [[output]] says what the model's {', '.join(map(repr, left))} is (outputs: {listed})",
                'give each a role ("state" for what goes into the next call), or keep = false to leave it out of files',
            )
    return tuple(judged)


def image_size(
    shapes: Sequence[Sequence[int]], layouts: Sequence[str | None], states: Collection[int] = ()
) -> tuple[int, int] | None:
    """Height and width of the first input that is an image; a state of three axes is none.

    shapes: of the model's inputs, without a batch. layouts: what preprocessing makes of each. states: places of those.
    """
    for place, (shape, layout) in enumerate(zip(shapes, layouts, strict=True)):
        if place not in states and len(shape) == 3 and layout in (None, "NCHW", "NHWC"):
            first, second, last = shape
            planes_last = layout == "NHWC" or (first not in _CHANNELS and last in _CHANNELS)
            return (first, second) if planes_last else (second, last)
    return None
