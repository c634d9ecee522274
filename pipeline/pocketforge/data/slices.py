"""Slices of the eval samples: columns by whose values results are told apart, as stage `data` writes them.

`eval_slices.npy` holds, for each column, a number for each sample: the place of its value in data.json's list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketforge.errors import ModelError
from pocketforge.outcomes.data import SliceColumn, SliceCount

FILE = "eval_slices.npy"
# A column with more is an id, a time or a measured number: each value has a metric of its own in every report.
MOST_VALUES = 100


@dataclass(frozen=True, slots=True)
class SliceCodes:
    """One column of the eval samples.

    Attributes:
        column: Its name.
        values: In order; an empty text where a sample has none.
        codes: (N,): the place of each sample's value.
    """

    column: str
    values: tuple[str, ...]
    codes: NDArray[Any]


def write_slices(found: Sequence[Mapping[str, str]], names: Sequence[str], out: Path) -> tuple[SliceColumn, ...]:
    """found: the slices of each sample, in order. names: of the samples, for errors.

    Raises ModelError for a column of too many values, for a value that is no text, and where a sample has other columns
    than the first.
    """
    columns = tuple(found[0]) if found else ()
    for name, each in zip(names, found, strict=True):
        if set(each) != set(columns):
            raise ModelError(
                f"data.source: sample {name!r} has the slices {_listed(each)}, the first has {_listed(columns)}",
                "all samples have the same slices; a text may be empty",
            )
    codes, told = [], []
    for column in columns:
        cells = [each[column] for each in found]
        _check_text(column, cells, names)
        # Not NumPy's unique: its texts end before a NUL.
        counts = Counter(cells)
        values = sorted(counts)
        if len(values) > MOST_VALUES:
            raise ModelError(
                f"data.columns.slices: {column!r} has {len(values)} values among the {len(found)} eval samples "
                f"({values[0]!r}, {values[1]!r} …), wanted at most {MOST_VALUES}",
                "results are told apart by each value: group them in a column of their own, or leave it out of slices",
            )
        place = {value: number for number, value in enumerate(values)}
        codes.append(np.array([place[cell] for cell in cells], np.uint8))
        told.append(SliceColumn(column, tuple(SliceCount(value, counts[value]) for value in values)))
    if codes:
        np.save(out / FILE, np.stack(codes))
    return tuple(told)


def _check_text(column: str, cells: Sequence[str], names: Sequence[str]) -> None:
    """Raises ModelError for a value that no report can hold: halves of surrogate pairs, as JSON may have."""
    for name, cell in zip(names, cells, strict=True):
        try:
            cell.encode("utf-8")
        except UnicodeEncodeError:
            raise ModelError(
                f"data.source: sample {name!r}: {column!r} is not valid text: {cell!r}", "a text in UTF-8, or none"
            ) from None


def _listed(columns: Sequence[str] | Mapping[str, str]) -> str:
    return ", ".join(columns) or "none"


def stored_slices(folder: Path, columns: Sequence[SliceColumn]) -> tuple[SliceCodes, ...]:
    """What stage `data` wrote. columns: of its data.json."""
    if not columns:
        return ()
    codes = np.load(folder / FILE)
    return tuple(
        SliceCodes(each.name, tuple(value.value for value in each.values), codes[place])
        for place, each in enumerate(columns)
    )
