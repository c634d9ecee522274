"""Parquet as records: of the columns asked for, held as Arrow's arrays; a list of structs is none of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketforge.data.base import SplitName
from pocketforge.data.tables.object_rows import cell_of
from pocketforge.data.tables.rows import Cell, Part
from pocketforge.errors import ModelError, ToolMissing
from pocketforge.files import refuse_special
from pocketforge.version import install

if TYPE_CHECKING:
    import pyarrow

_BATCH = 4096


class ParquetRows:
    """Parquet files of the same columns. A column is read when it is first asked for, and then held."""

    typed = True

    def __init__(self, found: Sequence[tuple[SplitName | None, Path]], folder: Path, notes: Sequence[str] = ()) -> None:
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise ToolMissing("Parquet files need pyarrow", install("tables")) from error
        self._parquet: Any = parquet
        self._paths = [path for _, path in found]
        self.notes = notes
        files = [self._opened(path) for path in self._paths]
        self._top: list[str] = files[0].schema_arrow.names
        for path, file in zip(self._paths, files, strict=True):
            if set(file.schema_arrow.names) != set(self._top):
                raise ModelError(
                    f"data.source: {path} has the columns {', '.join(file.schema_arrow.names[:20])}, {self._paths[0]} "
                    f"{', '.join(self._top[:20])}"
                )
        self.names: Sequence[str] = [name for field in files[0].schema_arrow for name in _names(field)]
        several = len(found) > 1
        self.parts = [
            Part(f"{path.relative_to(folder).as_posix()}/" if several else "", file.metadata.num_rows, split)
            for (split, path), file in zip(found, files, strict=True)
        ]
        self._ends = [*accumulate(part.count for part in self.parts)]
        self._columns: dict[tuple[int, str], pyarrow.ChunkedArray] = {}

    def _opened(self, path: Path) -> Any:
        try:
            refuse_special(path)
            return self._parquet.ParquetFile(path)
        except Exception as error:  # a damaged file raises whatever its bytes happen to ask for
            raise ModelError(f"data.source: {path} cannot be read as Parquet: {_line(error)}") from error

    def classes(self, column: str) -> tuple[str, ...]:
        return ()

    def __len__(self) -> int:
        return self._ends[-1]

    def where(self, index: int) -> str:
        number, row = self._place(index)
        return f"{self._paths[number]} row {row}"

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Cell, ...]]:
        for number, part in enumerate(self.parts):
            held = [self._column(number, column) for column in columns]
            for start in range(0, part.count, _BATCH):
                size = min(_BATCH, part.count - start)
                if not held:
                    yield from [()] * size
                    continue
                cells = (each.slice(start, size).to_pylist() for each in held)
                for record in zip(*cells, strict=True):
                    yield self._inner(record, columns)

    def cells(self, index: int, columns: Sequence[str]) -> tuple[Cell, ...]:
        number, row = self._place(index)
        return self._inner(tuple(self._column(number, column)[row].as_py() for column in columns), columns)

    def _inner(self, cells: tuple[Cell, ...], columns: Sequence[str]) -> tuple[Cell, ...]:
        """What `meta.device` names in the struct of `meta`."""
        return tuple(
            cell if column in self._top else cell_of({column.partition(".")[0]: cell}, column)
            for cell, column in zip(cells, columns, strict=True)
        )

    def _column(self, number: int, column: str) -> pyarrow.ChunkedArray:
        name = column if column in self._top else column.partition(".")[0]
        if (number, name) not in self._columns:
            path = self._paths[number]
            try:
                # Repeated words (labels, folders, devices) once: pages hold them so already.
                table = self._parquet.read_table(path, columns=[name], memory_map=True)
            except Exception as error:  # as above
                raise ModelError(f"data.source: {path}: column {name!r} cannot be read: {_line(error)}") from error
            held = table.column(name)
            if "binary" in str(held.type):
                raise ModelError(
                    f"data.source: {path}: column {name!r} holds the bytes of files ({str(held.type)[:60]})",
                    "give paths of files; or load it with datasets.load_dataset and save_to_disk: huggingface:DIR",
                )
            self._columns[number, name] = held
        return self._columns[number, name]

    def _place(self, index: int) -> tuple[int, int]:
        number = bisect_right(self._ends, index)
        return number, index - (self._ends[number - 1] if number else 0)


def _names(field: Any, before: str = "") -> Iterator[str]:
    """Of a column, and of what is in its struct."""
    if str(field.type).startswith("struct<") and "binary" not in str(field.type):
        for inner in field.type:
            yield from _names(inner, f"{before}{field.name}.")
    else:
        yield f"{before}{field.name}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
