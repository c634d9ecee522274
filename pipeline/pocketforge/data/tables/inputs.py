"""Cells that become a model's inputs: files are decoded, texts stay texts, numbers become arrays."""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pocketforge.data.base import Array
from pocketforge.data.file_samples import file_digest, file_sketch
from pocketforge.data.read_audio import Rates, read_audio
from pocketforge.data.read_image import read_image
from pocketforge.data.tables.file_cells import file_at, file_kind
from pocketforge.data.tables.rows import Blob, Cell, FileKind
from pocketforge.errors import ModelError

InputKind = Literal["image", "sound", "array", "text", "whole", "real"]


@dataclass(frozen=True, slots=True)
class Reader:
    """How files of a table's cells are found and read.

    Attributes:
        folder: What paths are relative to; None where no cell is one.
        rates: Holds that sound has one rate.
        animated: Gets the names of images that have several frames.
    """

    folder: Path | None
    rates: Rates
    animated: set[str]

    def file(self, cell: Cell, kind: FileKind, where: str) -> Array:
        """An image, sound or array. Raises ModelError for what is not there or cannot be read."""
        if cell is None or cell == "":
            raise ModelError(f"data.source: {where} names no file")
        if isinstance(cell, Blob):
            name, data = cell.name, cell.read()
        else:
            name, data = self.path(cell, where), None
            found = file_kind(name.name)
            if found != kind:
                raise ModelError(
                    f"data.source: {where} names {name.name!r}, wanted {_FILES[kind]} as in the first record"
                )
        if kind == "image":
            image, frames = read_image(name, data)
            if frames:
                self.animated.add(str(name))
            return image
        if kind == "sound":
            sound, rate = read_audio(name, data)
            self.rates.check(name, rate)
            return sound
        return _read_array(name, data)

    def path(self, cell: Cell, where: str) -> Path:
        """Raises ModelError for a file that is not there, and where all files are in the table itself."""
        if self.folder is None:
            raise ModelError(f"data.source: {where} is {str(cell)[:60]!r}: wanted the file itself, not its name")
        return file_at(cell, self.folder, where)

    def digest(self, cell: Cell, where: str) -> str:
        """Of what a cell holds: of a file its content, not what it is decoded to."""
        if isinstance(cell, Blob):
            return hashlib.sha256(cell.read()).hexdigest()
        if self._is_file(cell):
            return file_digest(self.path(cell, where))
        return hashlib.sha256(as_text(cell)).hexdigest()

    def sketch(self, cell: Cell, where: str) -> bytes:
        """8 bytes that are equal where the digests are."""
        if isinstance(cell, Blob):
            return cell.sketch()
        if self._is_file(cell):
            return file_sketch(self.path(cell, where))
        return hashlib.blake2b(as_text(cell), digest_size=8).digest()

    def _is_file(self, cell: Cell) -> bool:
        return self.folder is not None and isinstance(cell, str) and file_kind(cell) is not None


_FILES: dict[str, str] = {"image": "an image", "sound": "a sound file", "array": "a .npy file"}


def as_text(cell: Cell) -> bytes:
    """What a plain cell is, in one way for all."""
    return repr(cell).encode("utf-8", "surrogatepass")


def kind_of_input(cell: Cell, *, typed: bool, files: bool) -> InputKind:
    """What a column is by its first cell. Raises ValueError for an empty one."""
    if isinstance(cell, Blob):
        return cell.kind
    if cell is None or cell == "":
        raise ValueError("is empty")
    if isinstance(cell, str):
        kind = file_kind(cell) if files else None
        if kind is not None:
            return kind
        if typed or number_in(cell) is None:
            return "text"
        cell = number_in(cell)
    return "whole" if all(isinstance(each, int) for each in leaves(cell)) else "real"


def number_in(text: str) -> int | float | None:
    """The number that a text of CSV is; None where it is none."""
    try:
        return int(text)
    except ValueError:
        try:
            number = float(text)
        except ValueError:
            return None
        return number if math.isfinite(number) else None


def leaves(cell: Cell) -> list[Cell]:
    """The numbers of a list of lists, whatever they are."""
    if not isinstance(cell, list):
        return [cell]
    return [leaf for each in cell for leaf in leaves(each)]


def numbers_of(cell: Cell, kind: InputKind, *, typed: bool, where: str) -> Array:
    """int64 of a column of whole numbers, else float32. Raises ModelError for what is no number."""
    value = number_in(cell) if isinstance(cell, str) and not typed else cell
    wanted = int if kind == "whole" else int | float
    if value is None or not all(isinstance(leaf, wanted) for leaf in leaves(value)):
        what = "whole numbers" if kind == "whole" else "numbers"
        raise ModelError(
            f"data.source: {where} is {str(cell)[:60]!r}: wanted {what}, as in other records",
            "a column is of one kind; in CSV one whose first cell is a number is of numbers (texts: use jsonl)",
        )
    try:
        return np.asarray(value, np.int64 if kind == "whole" else np.float32)
    except (ValueError, OverflowError) as error:
        raise ModelError(f"data.source: {where} cannot be made an array: {error}") from error


def text_input(cell: Cell, where: str) -> Array:
    """An array of shape () of text. Raises ModelError for what is none."""
    if not isinstance(cell, str) or not cell:
        raise ModelError(f"data.source: {where} is {str(cell)[:60]!r}: wanted a text, as in other records")
    return np.asarray(cell)


def _read_array(path: Path, data: bytes | None) -> Array:
    try:
        array: Array = np.load(io.BytesIO(data) if data is not None else path, allow_pickle=False)
    except Exception as error:  # a damaged file raises whatever its bytes happen to ask for
        raise ModelError(
            f"data.source: {path} cannot be read as .npy: {error or type(error).__name__}",
            "save plain number arrays with np.save(file, x); object arrays (pickles) are not read",
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise ModelError(f"data.source: {path} holds no array of numbers")
    return array
