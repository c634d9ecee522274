"""A recipe's data, opened: source, split and preprocessing together. Samples are read when asked for, and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketforge.data import open_source
from pocketforge.data.base import Array, Source
from pocketforge.data.preprocess import apply
from pocketforge.data.split import Split, split_samples
from pocketforge.errors import ModelError
from pocketforge.files import Resolve
from pocketforge.recipe import Preprocess, Recipe, data_spec


@dataclass(frozen=True, slots=True)
class Samples:
    """One split, in the split's order: `samples[i]` is (the model's inputs without batch, the target)."""

    source: Source
    indices: Sequence[int]
    preprocess: Preprocess | None
    task: str
    classes: int  # 0: not known

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
        inputs = apply(self.preprocess, self.source.value_max, raw)
        name = f"sample {self.source.ids[index]!r}"
        for number, array in enumerate(inputs):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                bad = int(array.size - np.isfinite(array).sum())
                raise ModelError(f"data.source: {name} has {bad} values that are NaN or infinite in input {number}")
        return inputs, self._checked(target, name)

    def _checked(self, target: Any, name: str) -> Any:
        if self.task != "classification":
            value = np.asarray(target, np.float32)
            if not np.isfinite(value).all():
                raise ModelError(f"data.source: {name} has a target that is NaN or infinite")
            return value
        if not isinstance(target, int):
            raise ModelError(
                f"data.source: {name} has the target {np.asarray(target).tolist()!r}, not a class number",
                'targets of task "classification" are integers; for numbers set task = "regression"',
            )
        if target < 0 or (self.classes and target >= self.classes):
            most = f"0 to {self.classes - 1}" if self.classes else "0 or more"
            raise ModelError(f"data.source: {name} has label {target}, out of range: wanted {most}")
        return target


@dataclass(frozen=True, slots=True)
class Dataset:
    """An opened source with its split. `labels`: class names from the labels file, else the source's, else ()."""

    source: Source
    split: Split
    preprocess: Preprocess | None
    labels: tuple[str, ...]
    task: str

    def samples(self, indices: Sequence[int]) -> Samples:
        return Samples(self.source, indices, self.preprocess, self.task, len(self.labels))

    @property
    def calibration(self) -> Samples:
        return self.samples(self.split.calibration)

    @property
    def train(self) -> Samples:
        return self.samples(self.split.train)

    @property
    def eval(self) -> Samples:
        return self.samples(self.split.eval)


def open_dataset(spec: Mapping[str, Any], resolve: Resolve, labels_file: Path | None = None) -> Dataset:
    """Open the data of a data stage's spec (see `data_spec`).

    Raises ModelError for missing or malformed data, too few samples, or a labels file that does not fit.
    """
    source = open_source(spec["source"], resolve)
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
    return Dataset(source, split, preprocess_from(spec["preprocess"]), labels, spec["task"])


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


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names, one a line; blank lines at the end do not count. ModelError when unreadable or empty."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8").rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"data.labels: {path} cannot be read: {error}", "a text file, one class name a line"
        ) from error
    if not lines or not all(lines):
        raise ModelError(f"data.labels: {path} is empty or has an empty line", "a text file, one class name a line")
    return tuple(lines)


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
