"""What readers of TFLite Metadata make of a classifier's scores: a logistic curve over each (ScoreCalibration)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from pocketforge.recipe.faults import Fault, WrongTable

Transformation = Literal["identity", "log", "inverse_logistic"]
MOST_CLASSES = 100_000
_LENGTHS = (0, 3, 4)
_MOST = 1e38  # readers have them as float32


@dataclass(frozen=True, slots=True)
class ScoreCalibration:
    """scale / (1 + exp(-(slope * t(score) + offset))) of each class's score; the file's own outputs stay as they are.

    Attributes:
        curve: A row a class, or one for all: scale, slope, offset, and as a fourth, where there is one, the least score
            that is calibrated. An empty row has no curve.
        transformation: What is done to a score first (t): nothing, its natural logarithm, or log(s / (1 - s)).
        default: What a score without a curve becomes, and one below the least.
    """

    curve: tuple[tuple[float, ...], ...] = ()
    transformation: Transformation = "identity"
    default: float = 0.0

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise WrongTable(*faults)

    def _faults(self) -> Iterator[Fault]:
        if not 1 <= len(self.curve) <= MOST_CLASSES:
            yield Fault(f"wanted a row a class, or one for all, found {len(self.curve)} rows", "curve")
        for number, row in enumerate(self.curve):
            if len(row) not in _LENGTHS:
                yield Fault(f"wanted [scale, slope, offset] with or without a least score, found {list(row)}", "curve")
            elif row and row[0] < 0:
                yield Fault(f"row {number}: a scale is no less than 0, found {row[0]:g}", "curve")
        if any(abs(value) > _MOST for row in (*self.curve, (self.default,)) for value in row):
            yield Fault("a number is none of float32's, as which it is read", "curve")
        if self.curve and not any(self.curve):
            yield Fault("no row has a curve: each score would become the default", "curve")

    def of_classes(self, count: int) -> ScoreCalibration | None:
        """With a row for each of so many classes; None where it has another number of them."""
        if len(self.curve) == 1:
            return replace(self, curve=self.curve * count)
        return self if len(self.curve) == count else None
