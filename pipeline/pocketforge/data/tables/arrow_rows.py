"""A Hugging Face data set on disk as records: mapped, not read; images and sound come as their files' bytes."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from pocketforge.data.official_splits import choose_parts
from pocketforge.data.tables.object_rows import cell_of, columns_of
from pocketforge.data.tables.rows import Blob, Cell, FileKind, Part
from pocketforge.errors import ModelError, ToolMissing
from pocketforge.version import install

_PIECE, _BATCH = 256, 1000
_HINT = "the folder of dataset.save_to_disk(…): it holds dataset_info.json and state.json, or dataset_dict.json"


@dataclass(frozen=True, slots=True)
class HeldFile(Blob):
    """A file's content that a record holds.

    Attributes:
        data: The content.
    """

    data: bytes

    def read(self) -> bytes:
        return self.data

    def sketch(self) -> bytes:
        size, middle = len(self.data), len(self.data) // 2
        pieces = [self.data[middle : middle + _PIECE], self.data[max(0, size - _PIECE) :]]
        return hashlib.blake2b(b"".join([size.to_bytes(8, "little"), *pieces]), digest_size=8).digest()


class ArrowRows:
    """What `load_from_disk` gives; columns are features, and `objects.bbox` is a key of the struct in `objects`."""

    typed = True

    def __init__(self, folder: Path, told: Mapping[str, Sequence[str]] | None, notes: list[str]) -> None:
        self._folder = folder
        splits = _load(folder)
        chosen = choose_parts([*splits], told, str(folder), notes)
        self.notes = notes
        self._sets = [splits[name] for name in chosen]
        several = len(chosen) > 1
        self.parts = [
            Part(f"{name}/" if several else "", len(each), split)
            for (name, split), each in zip(chosen.items(), self._sets, strict=True)
        ]
        self._part_names = [*chosen]
        self._ends = [*accumulate(part.count for part in self.parts)]
        features = self._sets[0].features
        for name, each in zip(self._part_names, self._sets, strict=True):
            if each.features.keys() != features.keys():
                raise ModelError(
                    f"data.source: {folder}: split {name!r} has other columns than {self._part_names[0]!r}"
                )
        self._kinds: dict[str, FileKind] = {}
        self._labels: dict[str, tuple[str, ...]] = {}
        for name, feature in features.items():
            self._look(name, feature)
        self._sets = [self._undecoded(each) for each in self._sets]
        self.names: Sequence[str] = self._named(features)

    def _look(self, name: str, feature: Any) -> None:
        kind = type(feature).__name__
        if kind in ("Image", "Audio"):
            self._kinds[name] = "image" if kind == "Image" else "sound"
        elif kind == "ClassLabel":
            self._labels[name] = tuple(feature.names)
        elif kind in ("Sequence", "List", "LargeList"):
            self._look(name, feature.feature)
        elif isinstance(feature, dict):
            for key, inner in feature.items():
                self._look(f"{name}.{key}", inner)

    def _undecoded(self, each: Any) -> Any:
        """Files as their bytes: we decode them as we do all others, and no other library does."""
        for name, kind in self._kinds.items():
            if name in each.features:
                feature = each.features[name]
                if not hasattr(feature, "decode"):
                    raise ModelError(
                        f"data.source: {self._folder}: column {name!r} holds lists of {kind}s, not one each"
                    )
                each = each.cast_column(name, type(feature)(decode=False))
        return each

    def _named(self, features: Mapping[str, Any]) -> list[str]:
        if not len(self) or not self._sets[0].num_rows:
            return list(features)
        plain = {name: None if name in self._kinds else cell for name, cell in self._sets[0][0].items()}
        return list(columns_of(plain))

    def classes(self, column: str) -> tuple[str, ...]:
        return self._labels.get(column, ())

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def where(self, index: int) -> str:
        number, row = self._place(index)
        return f"{self._folder} {self._part_names[number]} row {row}".replace("  ", " ")

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Cell, ...]]:
        for number, each in enumerate(self._sets):
            wanted = each.select_columns(sorted({self._feature(column) for column in columns})) if columns else each
            start = 0
            for batch in wanted.iter(_BATCH):
                size = len(next(iter(batch.values()))) if batch else 0
                for row in range(size):
                    record = {name: held[row] for name, held in batch.items()}
                    yield tuple(self._cell(record, column, number, start + row) for column in columns)
                start += size

    def cells(self, index: int, columns: Sequence[str]) -> tuple[Cell, ...]:
        if not columns:
            return ()
        number, row = self._place(index)
        record = self._sets[number].select_columns(sorted({self._feature(column) for column in columns}))[row]
        return tuple(self._cell(record, column, number, row) for column in columns)

    def _feature(self, column: str) -> str:
        return column if column in self._sets[0].features else column.partition(".")[0]

    def _cell(self, record: Mapping[str, Cell], column: str, number: int, row: int) -> Cell:
        cell = cell_of(record, column)
        kind = self._kinds.get(column)
        if kind is None or cell is None:
            return cell
        name = Path(f"{self._folder}/{self._part_names[number]} row {row} ({column})")
        data = cell.get("bytes") if isinstance(cell, dict) else None
        if not isinstance(data, bytes):
            raise ModelError(
                f"data.source: {name} holds no bytes, but the path of a file elsewhere",
                "save the data set with the files in it: ds.cast_column(…, Image()) and save_to_disk embed them",
            )
        return HeldFile(kind, name, data)

    def _place(self, index: int) -> tuple[int, int]:
        number = bisect_right(self._ends, index)
        return number, index - (self._ends[number - 1] if number else 0)


def _load(folder: Path) -> dict[str, Any]:
    """Split → its Dataset; one without a name where there are no splits."""
    try:
        import datasets
    except ImportError as error:
        raise ToolMissing("Hugging Face data sets need datasets", install("tables")) from error
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # a damaged folder raises whatever its files happen to ask for
        told = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"data.source: {folder} cannot be read as a data set on disk: {told}", _HINT) from error
    return dict(found) if isinstance(found, dict) else {"": found}
