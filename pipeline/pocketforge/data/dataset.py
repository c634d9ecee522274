"""A recipe's data, opened: source, split and preprocessing together. Samples are read when asked for, and checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pocketforge.data import open_source
from pocketforge.data.base import Array, Source, plain_target
from pocketforge.data.labels import read_labels
from pocketforge.data.preprocess import About, prepare
from pocketforge.data.role_targets import check_tags, checked_targets
from pocketforge.data.split import Split, split_samples
from pocketforge.data.targets import Targets, class_number, real_target
from pocketforge.errors import ModelError
from pocketforge.files import Resolve
from pocketforge.recipe import Recipe
from pocketforge.recipe.preprocess import Preprocessing
from pocketforge.specs.data import DataSpec, WantedTarget, data_spec

# Of a checked sample: a class number, real numbers, or several targets by name.
Target: TypeAlias = int | NDArray[np.float32] | Targets
# What a task's own target is called among several.
_OF_TASK = {"classification": "label", "regression": "value"}


@dataclass(frozen=True, slots=True)
class Samples:
    """One split, in the split's order: `samples[i]` is (the model's inputs without batch, the target).

    Attributes:
        source: Where raw samples are read, when they are asked for.
        indices: Those of the source's samples that are the split, in its order.
        preprocess: From a raw sample to the model's input; None feeds arrays as they are.
        task: "classification", "regression" or "outputs".
        classes: How many classes there are; 0 where that is not known.
        where: The source as the recipe names it, for errors.
        about: What the source says of its raw samples.
        targets: Those by name that outputs are held against, of task "outputs".
    """

    source: Source
    indices: Sequence[int]
    preprocess: Preprocessing
    task: str
    classes: int  # 0: not known
    where: str  # the source as the recipe names it, for errors
    about: About
    targets: tuple[WantedTarget, ...] = ()

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[tuple[tuple[Array, ...], Target]]:
        return (self[index] for index in range(len(self)))

    @property
    def ids(self) -> list[str]:
        return [self.source.ids[index] for index in self.indices]

    def name(self, position: int) -> str:
        return self.source.ids[self.indices[position]]

    def raw(self, position: int) -> tuple[Array, ...]:
        """A sample's inputs as the source gives them, before preprocessing."""
        return self.source.sample(self.indices[position])[0]

    def slices(self, position: int) -> Mapping[str, str]:
        """By what a sample's results are told apart."""
        return self.source.slices(self.indices[position])

    def __getitem__(self, position: int) -> tuple[tuple[Array, ...], Target]:
        """Raises ModelError for an unreadable sample, NaN or inf, or a label out of range."""
        index = self.indices[position]
        raw, target = self.source.sample(index)
        try:
            return self._checked(raw, target, f"data.source: sample {self.source.ids[index]!r}")
        except ModelError as error:
            raise ModelError(f"{error.message} ({self.where})", error.hint) from error

    def _checked(self, raw: tuple[Array, ...], target: object, where: str) -> tuple[tuple[Array, ...], Target]:
        try:
            prepared = prepare(self.preprocess, raw, self.about)
        except ModelError as error:
            raise ModelError(f"{where}: {error.message}", error.hint) from error
        inputs = prepared.inputs
        for number, array in enumerate(inputs):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                bad = int(array.size - np.isfinite(array).sum())
                raise ModelError(f"{where} has {bad} values that are NaN or infinite in input {number}")
        if self.task == "outputs":
            targets = checked_targets(target, self.targets, self.classes, prepared.geometry, where)
            for each in self.targets:
                if each.kind == "tags":
                    check_tags(len(targets[each.name]), inputs, self.preprocess, f"{where}: target {each.name!r}")
            return inputs, targets
        if isinstance(target, Targets):
            target = _only(target, _OF_TASK[self.task], self.task, where)
        if self.task != "classification":
            return inputs, real_target(target, where)
        return inputs, class_number(target, self.classes, where)


@dataclass(frozen=True, slots=True)
class Dataset:
    """An opened source with its split.

    Attributes:
        source: The samples.
        split: Which of them calibrate, train and evaluate.
        preprocess: From a raw sample to the model's input; None feeds arrays as they are.
        labels: Class names from the labels file, else the source's, else ().
        task: "classification", "regression" or "outputs".
        where: The source as the recipe names it, for errors.
        resolve: Makes a path written in the recipe absolute.
        targets: Those by name that outputs are held against, of task "outputs".
    """

    source: Source
    split: Split
    preprocess: Preprocessing
    labels: tuple[str, ...]
    task: str
    where: str = "data"
    resolve: Resolve = Path
    targets: tuple[WantedTarget, ...] = ()

    @property
    def value_max(self) -> float:
        """The raw value that becomes 1.0. Arrays are images only where the recipe preprocesses them."""
        return self.source.value_max if self.preprocess is not None or self.source.as_images else 0.0

    @property
    def about(self) -> About:
        source = self.source
        return About(self.value_max, source.sample_rate, tuple(source.reading), self.resolve, source.as_images)

    def samples(self, indices: Sequence[int]) -> Samples:
        known = len(self.labels)
        of = (self.task, known, self.where, self.about, self.targets)
        return Samples(self.source, indices, self.preprocess, *of)

    @property
    def calibration(self) -> Samples:
        return self.samples(self.split.calibration)

    @property
    def train(self) -> Samples:
        return self.samples(self.split.train)

    @property
    def eval(self) -> Samples:
        return self.samples(self.split.eval)


def open_dataset(spec: DataSpec, resolve: Resolve, labels_file: Path | None = None) -> Dataset:
    """Open the data that stage `data` is told of.

    Raises ModelError for missing or malformed data, too few samples, or a labels file that does not fit.
    """
    given = read_labels(labels_file) if labels_file is not None else ()
    source = open_source(
        spec.source,
        resolve,
        dataclasses.asdict(spec.split_folders) if spec.split_folders else None,
        labels=given,
        columns=spec.columns,
        mask_values=spec.mask_values,
    )
    split = split_samples(
        source.ids,
        source.split,
        seed=spec.seed,
        eval_fraction=spec.eval_fraction,
        eval_samples=spec.eval_samples,
        calibration_samples=spec.calibration_samples,
        digest=source.digest,
        sketch=source.sketch,
    )
    labels = source.labels
    if labels_file is not None and spec.task != "regression":
        labels = _agreeing(given, source.labels, labels_file)
    return Dataset(source, split, spec.preprocess, labels, spec.task, spec.source, resolve, spec.targets)


def open_recipe(recipe: Recipe) -> Dataset:
    """`open_dataset` for a recipe."""
    labels = recipe.resolve(recipe.data.labels) if recipe.data.labels else None
    return open_dataset(data_spec(recipe.data, recipe.seed, recipe.task, recipe.judged), recipe.resolve, labels)


def _only(targets: Targets, name: str, task: str, where: str) -> object:
    """The one that a task is about, of several."""
    if name not in targets:
        raise ModelError(
            f"{where} has the targets {', '.join(targets) or 'none'}, and task {task!r} is about {name!r}",
            "say with [[output]] what each output is, and which target it is held against",
        )
    return plain_target(targets[name])


def _agreeing(labels: tuple[str, ...], found: tuple[str, ...], path: Path) -> tuple[str, ...]:
    if found and len(labels) != len(found):
        raise ModelError(
            f"data.labels: {path} has {len(labels)} labels, the data has {len(found)} classes "
            f"({', '.join(found[:8])}{' …' if len(found) > 8 else ''})",
            "one line a class, in the order of the model's outputs",
        )
    # A class's name in another's place would count its answers against the wrong one, however it is written.
    here, there = ([_plain(name) for name in names] for names in (labels, found))
    for number, (one, other) in enumerate(zip(here, there, strict=False)):
        if one != other and one in there and here[there.index(one)] != one:
            raise ModelError(
                f"data.labels: {path} has the data's classes in another order: line {number + 1} is "
                f"{labels[number]!r}, class {number} of the data is {found[number]!r}",
                "a source numbers its classes in its own order (class folders: sorted by name); rename or reorder",
            )
    return labels


def _plain(name: str) -> str:
    """A class's name, whatever stands between its words, in small letters."""
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name
