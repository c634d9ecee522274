"""`digits`: the 1797 handwritten digits of UCI that come with scikit-learn, 8×8×1, values 0 to 16."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

from pocketforge.data.base import Array, Place, PlainSource, SourceFiles, SplitName, array_digest
from pocketforge.data.files import existing_file
from pocketforge.errors import ToolMissing


def digits_file() -> Path:
    """scikit-learn's own copy of the UCI digits, found without importing scikit-learn (1.5 s)."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise ToolMissing("data source digits needs scikit-learn", "pip install scikit-learn")
    return existing_file(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz", "digits")


class Digits(PlainSource):
    """Read from scikit-learn's own file: the same numbers as `load_digits()` without importing scipy (1.5 s)."""

    labels = tuple(str(digit) for digit in range(10))
    value_max = 16.0
    as_images = True

    def __init__(self) -> None:
        import numpy as np

        with gzip.open(digits_file(), "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.float32)
        self._images = table[:, :-1].reshape(-1, 8, 8, 1)
        self._targets = table[:, -1].astype(np.int64)
        self.ids = [str(index) for index in range(len(table))]
        self.split: list[SplitName | None] = [None] * len(table)

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, index: int) -> tuple[tuple[Array, ...], int]:
        return (self._images[index],), int(self._targets[index])

    def digest(self, index: int) -> str:
        return array_digest([self._images[index]])


def files(place: Place) -> SourceFiles:
    """Raises ToolMissing without scikit-learn."""
    return SourceFiles((digits_file(),))


def open_place(place: Place) -> Digits:
    """Raises ToolMissing without scikit-learn."""
    return Digits()
