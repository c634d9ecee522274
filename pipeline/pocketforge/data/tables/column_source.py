"""Samples of a table, whatever its format: one reading of all records when it is opened, then each when asked for."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pocketforge.data.base import Array, Place, PlainSource, SplitName
from pocketforge.data.boxes import BoxNotes
from pocketforge.data.official_splits import choose_parts
from pocketforge.data.packed import Numbered, Splits, Texts
from pocketforge.data.read_audio import Rates
from pocketforge.data.read_image import STEPS
from pocketforge.data.tables.cell_targets import Reading, target_of
from pocketforge.data.tables.choose import choose_columns
from pocketforge.data.tables.class_names import ClassNames, class_cells
from pocketforge.data.tables.inputs import (
    InputKind,
    Reader,
    as_text,
    kind_of_input,
    leaves,
    number_in,
    numbers_of,
    text_input,
)
from pocketforge.data.tables.rows import Cell, FileKind, Rows
from pocketforge.data.tables.words import Words
from pocketforge.data.targets import Targets
from pocketforge.errors import ModelError

_FILES: tuple[FileKind, ...] = ("image", "sound", "array")


class ColumnSource(PlainSource):
    """`label` alone is a class number, `value` alone a number; all else is Targets."""

    def __init__(self, rows: Rows, place: Place, folder: Path, where: str, *, files: bool = True) -> None:
        """folder: what paths in cells are relative to. where: the table, for errors. files: whether texts of cells are
        names of files; not where all is in the table."""
        self._rows, self._where = rows, where
        self._columns = choose_columns(rows.names, place.columns, where, [])
        if not len(rows):
            raise ModelError(f"data.source: {where} has no records")
        known = next((rows.classes(column) for _, kind, column in self._columns.targets if kind == "label"), ())
        self._reading = Reading(
            Reader(folder if files else None, Rates(), set()),
            ClassNames(place.labels, known, where, typed=rows.typed),
            place.mask_values,
            BoxNotes(),
            rows.typed,
        )
        self._kinds = self._first_kinds()
        self._plain = not any(kind in _FILES for kind in self._kinds)
        self._sketches = array("Q")
        self._kept: array[int] | range = range(len(rows))
        self._words = Words()
        ids = Texts()
        self._scan(ids)
        self.labels = self._reading.classes.labels
        self.split, self.ids = self._splits(place), self._ids(ids)
        self._check_ids(ids)
        self.as_images = self._kinds == ["image"] and not self._columns.features
        self.value_max = 255.0 if self.as_images else 0.0
        self.reading = STEPS if self.as_images else ()

    def _first_kinds(self) -> list[InputKind]:
        kinds = []
        for column, cell in zip(self._columns.inputs, self._rows.cells(0, self._columns.inputs), strict=True):
            try:
                kinds.append(kind_of_input(cell, typed=self._rows.typed, files=self._reading.files.folder is not None))
            except ValueError as error:
                raise ModelError(f"data.source: {self._rows.where(0)}: {column} {error}") from None
        return kinds

    def _scan(self, ids: Texts) -> None:
        """One reading of all records: classes, splits, ids, and what inputs are."""
        chosen, rows = self._columns, self._rows
        columns = [name for name in chosen.all if name not in chosen.slices or name in self._needed()]
        at = {name: place for place, name in enumerate(columns)}
        inputs = [at[name] for name in (*chosen.inputs, *chosen.features)]
        whole = [place for place, kind in enumerate(self._kinds) if kind == "whole"]
        classes = self._reading.classes
        named = [(kind, at[column], column) for name, kind, column in chosen.targets if name in (kind, "label")]
        for index, cells in enumerate(rows.scan(columns)):
            if chosen.split:
                self._words.add(cells[at[chosen.split]], rows, index)
            if chosen.id:
                ids.append(str(cells[at[chosen.id]]))
            for kind, place, column in named:
                for cell in class_cells(kind, cells[place], typed=rows.typed):
                    if cell is None or cell == "" or classes.knows(cell) or (kind == "tags" and cell == -100):
                        continue
                    classes.add(cell, f"{rows.where(index)} ({column})")
            for place in whole:
                if self._kinds[place] == "whole" and not _is_whole(cells[inputs[place]], rows.typed):
                    self._kinds[place] = "real"
            if self._plain:
                held = as_text([cells[place] for place in inputs])
                self._sketches.append(int.from_bytes(hashlib.blake2b(held, digest_size=8).digest(), "little"))
        classes.close()

    def _needed(self) -> set[str]:
        chosen = self._columns
        return {*chosen.inputs, *chosen.features, *(column for _, _, column in chosen.targets), chosen.id, chosen.split}

    def _splits(self, place: Place) -> Sequence[SplitName | None]:
        parts = self._rows.parts
        if not self._columns.split:
            splits = Splits()
            for part in parts:
                splits.extend(part.split, part.count)
            return splits
        if any(part.split for part in parts):
            raise ModelError(
                f"data.source: {self._where}: both the files' names and the column {self._columns.split!r} say "
                "the split",
                "name one file, or leave out columns.split",
            )
        chosen = choose_parts(
            self._words.words, place.split_folders, f"column {self._columns.split!r}", self._words.notes
        )
        if place.split_folders is None and set(chosen.values()) == {None}:
            raise ModelError(
                f"data.source: {self._where}: column {self._columns.split!r} has no word of a split: "
                f"{', '.join(map(repr, self._words.words[:8]))}",
                'train, val, test …; or write these in [data]: split_folders = { train = ["…"], eval = ["…"] }',
            )
        self._kept = array(
            "Q", (row for row, code in enumerate(self._words.codes) if self._words.words[code] in chosen)
        )
        return Splits(chosen[self._words.words[self._words.codes[row]]] for row in self._kept)

    def _ids(self, ids: Texts) -> Sequence[str]:
        if self._columns.id:
            return ids if isinstance(self._kept, range) else Texts(ids[row] for row in self._kept)
        numbered = Numbered([(part.prefix, part.count) for part in self._rows.parts])
        return numbered if isinstance(self._kept, range) else Texts(numbered[row] for row in self._kept)

    def _check_ids(self, ids: Texts) -> None:
        """The split goes by ids: of two samples of one id both would be on one side, and errors name either."""
        if not self._columns.id:
            return
        hashes = np.fromiter((hash(each) for each in ids), np.int64, len(ids))
        order = np.argsort(hashes, kind="stable")
        for first, second in zip(*(order[part] for part in _neighbours(hashes[order])), strict=True):
            if ids[int(first)] == ids[int(second)]:
                raise ModelError(
                    f"data.source: {self._rows.where(int(second))} has the id {ids[int(second)]!r}, as "
                    f"{self._rows.where(int(first))}",
                    "an id is of one sample; leave out columns.id to number them",
                )

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def sample_rate(self) -> int:  # type: ignore[override]
        """Of the first sound that was read."""
        if "sound" in self._kinds and not self._reading.files.rates.rate:
            self.sample(0)
        return self._reading.files.rates.rate

    def sample(self, index: int) -> tuple[tuple[Array, ...], object]:
        chosen, row = self._columns, self._kept[index]
        columns = [*chosen.inputs, *chosen.features, *(column for _, _, column in chosen.targets)]
        cells, where = self._rows.cells(row, columns), self._rows.where(row)
        count, vector = len(chosen.inputs), len(chosen.features)
        inputs = [
            self._input(cell, kind, f"{where} ({column})")
            for cell, kind, column in zip(cells[:count], self._kinds, columns[:count], strict=True)
        ]
        if vector:
            inputs.append(self._vector(cells[count : count + vector], columns[count : count + vector], where))
        image = inputs[0] if self._kinds[:1] == ["image"] else None
        targets = {
            name: target_of(kind, cell, self._reading, image, f"{where} ({column})")
            for (name, kind, column), cell in zip(chosen.targets, cells[count + vector :], strict=True)
        }
        _check_counts(targets, where)
        alone = list(targets) in (["label"], ["value"])
        return tuple(inputs), targets.popitem()[1] if alone else Targets(targets)

    def _input(self, cell: Cell, kind: InputKind, where: str) -> Array:
        if kind == "image" or kind == "sound" or kind == "array":
            return self._reading.files.file(cell, kind, where)
        return (
            text_input(cell, where) if kind == "text" else numbers_of(cell, kind, typed=self._rows.typed, where=where)
        )

    def _vector(self, cells: Sequence[Cell], columns: Sequence[str], where: str) -> Array:
        numbers = [
            numbers_of(cell, "real", typed=self._rows.typed, where=f"{where} ({column})")
            for cell, column in zip(cells, columns, strict=True)
        ]
        for number, column in zip(numbers, columns, strict=True):
            if number.shape != ():
                raise ModelError(f"data.source: {where} ({column}) is a list: features are one number each")
        return np.asarray(numbers, np.float32)

    def slices(self, index: int) -> Mapping[str, str]:
        row = self._kept[index]
        cells = self._rows.cells(row, self._columns.slices)
        return {name: "" if cell is None else str(cell) for name, cell in zip(self._columns.slices, cells, strict=True)}

    def digest(self, index: int) -> str:
        row = self._kept[index]
        digest = hashlib.sha256()
        for cell in self._inputs(row):
            digest.update(self._reading.files.digest(cell, self._rows.where(row)).encode())
        return digest.hexdigest()

    def sketch(self, index: int) -> bytes:
        row = self._kept[index]
        if self._plain:
            return self._sketches[row].to_bytes(8, "little")
        held = b"".join(self._reading.files.sketch(cell, self._rows.where(row)) for cell in self._inputs(row))
        return hashlib.blake2b(held, digest_size=8).digest()

    def _inputs(self, row: int) -> tuple[Cell, ...]:
        return self._rows.cells(row, (*self._columns.inputs, *self._columns.features))

    def notes(self) -> Sequence[str]:
        animated = self._reading.files.animated
        frames = [f"{len(animated)} images have several frames, of which the first is read"] if animated else []
        return [*self._words.notes, *self._reading.boxes.lines(), *frames]


def _is_whole(cell: Cell, typed: bool) -> bool:
    value = number_in(cell) if isinstance(cell, str) and not typed else cell
    return all(isinstance(leaf, int) for leaf in leaves(value))


def _neighbours(ordered: Array) -> tuple[Array, Array]:
    """Places of equal values that follow each other in a sorted array."""
    (places,) = np.nonzero(ordered[1:] == ordered[:-1])
    return places, places + 1


def _check_counts(targets: Mapping[str, object], where: str) -> None:
    """Boxes, their classes, crowds and keypoints are of the same objects."""
    counts = {
        name: len(found)
        for name in ("boxes", "classes", "crowd", "areas", "keypoints")
        if isinstance(found := targets.get(name), np.ndarray)
    }
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise ModelError(f"data.source: {where} has {told}: wanted as many of each")
