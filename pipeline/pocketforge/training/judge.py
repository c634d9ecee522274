"""How good a PyTorch model is on samples: the recipe's metric of it, top-1, its loss."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from pocketforge.accuracy.base import Array
from pocketforge.accuracy.exact import as_float
from pocketforge.accuracy.judging import image_size, judge_of, with_names
from pocketforge.accuracy.post import About
from pocketforge.accuracy.score import score
from pocketforge.data.dataset import Dataset
from pocketforge.data.preprocess_words import describe
from pocketforge.data.targets_on_disk import HeldTargets, is_ragged
from pocketforge.errors import ModelError
from pocketforge.files import Resolve
from pocketforge.model.structure import leaves
from pocketforge.outcomes.data import layouts_of
from pocketforge.recipe.output import Output
from pocketforge.recipe.output_rules import Named, find_metric
from pocketforge.recipe.roles import DETECTION
from pocketforge.recipe.user_words import user_code
from pocketforge.training.batches import Batch, BatchTargets
from pocketforge.training.losses import Loss, checked_outputs, count_right

# What the one target of a task is called among several.
_OF_TASK = {"classification": "label", "regression": "value"}


@dataclass(frozen=True, slots=True)
class Standard:
    """By what a model's answers are judged.

    Attributes:
        names: Of all its outputs, in their order.
        outputs: The recipe's that are kept, each with its name.
        task: `classification`, `regression` or `outputs`.
        metric: The recipe's: `NAME` or `OUTPUT.NAME`.
        about: What post-processing has to know.
        resolve: Makes a path of the recipe absolute.
    """

    names: tuple[str, ...]
    outputs: tuple[Output, ...]
    task: str
    metric: str
    about: About
    resolve: Resolve

    @property
    def named(self) -> Named | None:
        """What the metric is; None where it is none of an output's (the recipe has none that judges)."""
        found = find_metric(self.metric, self.outputs)
        return found if found is not None and found.output is not None else None

    def value(self, model: Callable[..., object], batches: Iterable[Batch]) -> float:
        """The metric of a model (a module is put into eval mode). Raises ModelError where it cannot be taken."""
        with judging(model):
            return self.value_of((model(*inputs), targets) for inputs, targets in batches)

    def value_of(self, answered: Iterable[tuple[object, BatchTargets]], *, strict: bool = True) -> float:
        """The metric of a model's answers, batch by batch; without `strict` NaN where they cannot be judged, as those
        that hold NaN. Raises ModelError otherwise, and where the user's metric does.
        """
        named = self.named
        assert named is not None and named.output is not None, "asked only where there is a metric"
        wanted = self.outputs[named.output]
        # A detector is several outputs.
        together = DETECTION if wanted.role in DETECTION else frozenset()
        judged = tuple(each for each in self.outputs if each is wanted or each.role in together)
        # A user's post-processing is told all outputs.
        told = self.outputs if any(user_code(each.post.type) for each in judged) else judged
        answers, targets = self._together(answered, {each.name for each in told})
        # Labels are of the first of all outputs that has classes.
        judge = dataclasses.replace(judge_of(self.outputs, targets, self.about, self.resolve), outputs=judged)
        faults: dict[str, str] | None = None if strict else {}
        scored = {each.output.name: each for each in score(judge, answers, "the model", faults=faults)}
        if wanted.name not in scored:
            return math.nan
        return as_float(scored[wanted.name].figures.values[named.name])

    def _together(
        self, answered: Iterable[tuple[object, BatchTargets]], wanted: Collection[str]
    ) -> tuple[dict[str, Array], HeldTargets]:
        kept: dict[str, _Kept] = {}
        columns: dict[str, list[Any]] = {}
        with contextlib.ExitStack() as around:
            for answer, targets in answered:
                # Of a task the first output is judged, and others may have no names.
                for name, leaf in zip(self.names, leaves(answer), strict=False):
                    if name in wanted and name not in kept:
                        kept[name] = _Kept(around.enter_context(tempfile.TemporaryFile()))
                    if name in wanted:
                        kept[name].add(leaf.value.numpy())
                for name, column in self._columns(targets):
                    columns.setdefault(name, []).extend(column)
            answers = {name: each.together() for name, each in kept.items()}
        kinds = {each.held_against: each.kind_of_target for each in self.outputs if each.held_against}
        held = {name: _held(column, is_ragged(name, kinds)) for name, column in columns.items()}
        return answers, HeldTargets(held, len(next(iter(columns.values()), [])))

    def _columns(self, targets: BatchTargets) -> list[tuple[str, Sequence[Any]]]:
        if isinstance(targets, Tensor):
            return [(_OF_TASK[self.task], list(targets.numpy()))]
        return [
            (name, [each.numpy() if isinstance(each, Tensor) else each for each in column])
            for name, column in targets.columns.items()
        ]


@dataclass(slots=True)
class _Kept:
    """An output's answers to all samples, in a file that has no name: a segmenter's would not fit into memory.

    Attributes:
        file: Their bytes.
        shapes: Of the batches.
        dtype: Of the answers.
    """

    file: IO[bytes]
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))

    def add(self, values: Array) -> None:
        self.file.write(np.ascontiguousarray(values).tobytes())
        self.shapes.append(values.shape)
        self.dtype = values.dtype

    def together(self) -> Array:
        """Samples first; the file may be closed then. Raises ModelError where batches differ in shape."""
        of_each = {shape[1:] for shape in self.shapes}
        if len(of_each) > 1:
            listed = ", ".join(str(list(shape)) for shape in sorted(of_each))
            raise ModelError(f"the model's answers to single samples differ in shape: {listed}")
        shape = (sum(count for count, *_ in self.shapes), *of_each.pop())
        self.file.flush()
        return np.memmap(self.file, self.dtype, "r", shape=shape) if math.prod(shape) else np.zeros(shape, self.dtype)


def _held(column: list[Any], ragged: bool) -> Any:
    """As stage `data` stores a target: an array, or one entry a sample."""
    shapes = {np.shape(each) for each in column}
    if ragged or len(shapes) > 1 or isinstance(column[0], str):
        return column
    return np.stack(column)


def standard_for(
    names: Sequence[str], outputs: Sequence[Output], task: str, metric: str, about: About, resolve: Resolve
) -> Standard:
    """names: of all the model's outputs. outputs: the recipe's, those that files shall not have too; a task's own.

    Raises ModelError for an [[output]] that the model does not have, and for an output without a role.
    """
    return Standard(tuple(names), kept_outputs(names, outputs, task), task, metric, about, resolve)


def kept_outputs(names: Sequence[str], outputs: Sequence[Output], task: str) -> tuple[Output, ...]:
    """The recipe's outputs that files have, each with the model's name of it. Raises ModelError as `with_names`."""
    dropped = {output.name for output in outputs if not output.keep}
    kept = [output for output in outputs if output.keep]
    return with_names(kept, [name for name in names if name not in dropped], task)


def about_samples(data: Dataset) -> About:
    """What losses and post-processing have to know of a recipe's samples."""
    inputs, _ = data.calibration[0]
    layouts = layouts_of(describe(data.preprocess, data.about), len(inputs))
    return About(data.labels, image_size([array.shape for array in inputs], layouts))


def top1(model: Callable[..., object], batches: Iterable[Batch]) -> float:
    """Top-1 accuracy of `model` (of a module in eval mode), 0 to 1. Raises ModelError for what are no logits of these
    classes.
    """
    right, samples = 0.0, 0
    with judging(model):
        for inputs, targets in batches:
            assert isinstance(targets, Tensor), "samples of a task have one target"
            right += count_right(checked_outputs(model(*inputs), targets, "classification"), targets)
            samples += len(targets)
    return right / samples


def mean_loss(module: nn.Module, batches: Iterable[Batch], loss: Loss) -> float:
    """The loss of `module` in eval mode, over all samples."""
    total = samples = 0.0
    with judging(module):
        for inputs, targets in batches:
            total += float(loss(module(*inputs), targets)) * len(targets)
            samples += len(targets)
    return total / samples


def loss_and_top1(module: nn.Module, batches: Iterable[Batch], loss: Loss) -> tuple[float, float]:
    """`mean_loss` and `top1` of a classifier, each sample computed once. Raises ModelError as `top1`."""
    total, right, samples = 0.0, 0.0, 0
    with judging(module):
        for inputs, targets in batches:
            assert isinstance(targets, Tensor), "samples of a task have one target"
            outputs = module(*inputs)
            total += float(loss(outputs, targets)) * len(targets)
            right += count_right(checked_outputs(outputs, targets, "classification"), targets)
            samples += len(targets)
    return total / samples, right / samples


@contextmanager
def judging(model: Callable[..., object]) -> Iterator[None]:
    """A module is in eval mode within, and nothing keeps gradients."""
    switched = model if isinstance(model, nn.Module) and model.training else None
    if switched is not None:  # a traced graph, which never trains, refuses to be asked
        switched.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if switched is not None:
            switched.train()
