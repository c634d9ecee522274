"""A recipe's data, opened: source, split and preprocessing together. Samples are read when asked for, and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketforge.data import open_source
from pocketforge.data.base import Array, Source
from pocketforge.data.labels import read_labels
from pocketforge.data.preprocess import apply
from pocketforge.data.split import Split, split_samples
from pocketforge.data.targets import class_number, real_target
from pocketforge.errors import ModelError
from pocketforge.files import Resolve
from pocketforge.recipe import Preprocess, Recipe, data_spec
from pocketforge.specs.data import DataSpec


@dataclass(frozen=True, slots=True)
class Samples:
    """One split, in the split's order: `samples[i]` is (the model's inputs without batch, the target)."""

    source: Source
    indices: Sequence[int]
    preprocess: Preprocess | None
    task: str
    classes: int  # 0: not known
    where: str  # the source as the recipe names it, for errors
    value_max: float

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[tuple[tuple[Array, ...], Any]]:
        return (self[index] for index in range(len(self)))

    @property
    def ids(self) -> list[str]:
        return [self.source.ids[index] for index in self.indices]

    def name(self, position: int) -> str:
        return self.source.ids[self.indices[position]]

    def __getitem__(self, position: int) -> tuple[tuple[Array, ...], Any]:
        """Raises ModelError for an unreadable sample, NaN or inf, or a label out of range."""
        index = self.indices[position]
        raw, target = self.source.sample(index)
        try:
            return self._checked(raw, target, f"data.source: sample {self.source.ids[index]!r}")
        except ModelError as error:
            raise ModelError(f"{error.message} ({self.where})", error.hint) from error

    def _checked(self, raw: tuple[Array, ...], target: Any, where: str) -> tuple[tuple[Array, ...], Any]:
        try:
            inputs = apply(self.preprocess, self.value_max, raw)
        except ModelError as error:
            raise ModelError(f"{where}: {error.message}", error.hint) from error
        for number, array in enumerate(inputs):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                bad = int(array.size - np.isfinite(array).sum())
                raise ModelError(f"{where} has {bad} values that are NaN or infinite in input {number}")
        if self.task != "classification":
            return inputs, real_target(target, where)
        return inputs, class_number(target, self.classes, where)


@dataclass(frozen=True, slots=True)
class Dataset:
    """An opened source with its split. `labels`: class names from the labels file, else the source's, else ()."""

    source: Source
    split: Split
    preprocess: Preprocess | None
    labels: tuple[str, ...]
    task: str
    where: str = "data"

    @property
    def value_max(self) -> float:
        """The raw value that becomes 1.0. Arrays are images only where the recipe preprocesses them."""
        return self.source.value_max if self.preprocess is not None or self.source.as_images else 0.0

    def samples(self, indices: Sequence[int]) -> Samples:
        known = len(self.labels)
        return Samples(self.source, indices, self.preprocess, self.task, known, self.where, self.value_max)

    @property
    def calibration(self) -> Samples:
        return self.samples(self.split.calibration)

    @property
    def train(self) -> Samples:
        return self.samples(self.split.train)

    @property
    def eval(self) -> Samples:
        return self.samples(self.split.eval)


def open_dataset(spec: DataSpec | Mapping[str, Any], resolve: Resolve, labels_file: Path | None = None) -> Dataset:
    """Open the data of a data stage's spec (see `data_spec`).

    Raises ModelError for missing or malformed data, too few samples, or a labels file that does not fit.
    """
    if isinstance(spec, DataSpec):
        spec = spec.to_json()
    source = open_source(spec["source"], resolve, spec.get("split_folders"))
    split = split_samples(
        source.ids,
        source.split,
        seed=spec["seed"],
        eval_fraction=spec["eval_fraction"],
        eval_samples=spec["eval_samples"],
        calibration_samples=spec["calibration_samples"],
        digest=source.digest,
    )
    labels = source.labels
    if labels_file is not None and spec["task"] == "classification":
        labels = _agreeing(read_labels(labels_file), source.labels, labels_file)
    return Dataset(source, split, preprocess_from(spec["preprocess"]), labels, spec["task"], spec["source"])


def open_recipe(recipe: Recipe) -> Dataset:
    """`open_dataset` for a recipe."""
    labels = recipe.resolve(recipe.data.labels) if recipe.data.labels else None
    return open_dataset(data_spec(recipe.data, recipe.seed, recipe.task), recipe.resolve, labels)


def preprocess_from(fields: Mapping[str, Any] | None) -> Preprocess | None:
    """A Preprocess from its JSON form."""
    if fields is None:
        return None
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    return Preprocess(**values)


def _agreeing(labels: tuple[str, ...], found: tuple[str, ...], path: Path) -> tuple[str, ...]:
    if found and len(labels) != len(found):
        raise ModelError(
            f"data.labels: {path} has {len(labels)} labels, the data has {len(found)} classes "
            f"({', '.join(found[:8])}{' …' if len(found) > 8 else ''})",
            "one line a class, in the order of the model's outputs",
        )
    # The same names in another order would count every answer against the wrong class.
    if found and labels != found and sorted(labels) == sorted(found):
        raise ModelError(
            f"data.labels: {path} has the data's classes in another order: line 1 is {labels[0]!r}, class 0 of the "
            f"data is {found[0]!r}",
            "a source numbers its classes in its own order (class folders: sorted by name); rename or reorder",
        )
    return labels
