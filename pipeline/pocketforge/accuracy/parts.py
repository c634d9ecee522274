"""The metrics of an output over all samples and, beside them, over those of each value of a slice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pocketforge.accuracy.base import Array, Batch, Figures, Tally, Unfit
from pocketforge.accuracy.exact import Value
from pocketforge.accuracy.user import UserTally
from pocketforge.data.slices import SliceCodes
from pocketforge.errors import ModelError

# What takes an output's metrics of some samples: ours (None where only the user's are wanted), and the user's.
Tallies = tuple[Tally | None, Sequence[UserTally]]


@dataclass(frozen=True, slots=True)
class PartFigures:
    """The metrics of the samples that have one value in one column.

    Attributes:
        column: The slice: `device`.
        value: Of it: `pixel`.
        samples: How many there are.
        figures: Their metrics; without those that these samples give none of.
        none: Metric → why they give none.
    """

    column: str
    value: str
    samples: int
    figures: Figures
    none: Mapping[str, str] = field(default_factory=dict)


class Parts:
    """Tallies of all samples and of each part, fed with one batch after another."""

    def __init__(self, make: Callable[[], Tallies], slices: Sequence[SliceCodes], count: int) -> None:
        """make: new tallies. count: of the samples that are judged; a value that none of them has is no part."""
        self._whole, self._slices = make(), slices
        self._of = {(each.column, code): make() for each in slices for code in np.unique(each.codes[:count]).tolist()}
        self._samples = dict.fromkeys(self._of, 0)

    def add(
        self, predictions: Batch, values: Mapping[str, Batch], targets: Mapping[str, Batch], start: int, stop: int
    ) -> None:
        """Samples start to stop. predictions: for ours. values: for the user's. Raises Unfit as tallies do."""
        _add(self._whole, predictions, values, targets)
        for each in self._slices:
            codes = each.codes[start:stop]
            for code in np.unique(codes).tolist():
                (places,) = np.nonzero(codes == code)
                self._samples[each.column, code] += len(places)
                some_values, some_targets = ({n: _taken(b, places) for n, b in of.items()} for of in (values, targets))
                _add(self._of[each.column, code], _taken(predictions, places), some_values, some_targets)

    def whole(self, ours: Sequence[str], count: int) -> Figures:
        """Of all samples. ours: the metrics of ours that are wanted. Raises Unfit and ModelError as tallies do."""
        return _figures(self._whole, ours, count)

    def each(self, ours: Sequence[str]) -> Iterator[PartFigures]:
        """Of each part. Metrics that cannot be taken of so few samples are left out, with the reason."""
        values = {each.column: each.values for each in self._slices}
        for (column, code), tallies in self._of.items():
            samples = self._samples[column, code]
            yield _of_part(column, values[column][code], samples, tallies, ours)


def _of_part(column: str, value: str, samples: int, tallies: Tallies, ours: Sequence[str]) -> PartFigures:
    none: dict[str, str] = {}
    found = Figures({}, {}, samples)
    tally, own = tallies
    try:
        found = _figures((tally, ()), ours, samples)
    except (Unfit, ModelError) as error:
        none |= dict.fromkeys(ours, str(error))
    values = {
        name: number for name, number in found.values.items() if math.isfinite(number) and name not in found.certain
    }
    none |= {
        n: found.why.get(n, "its samples give none") for n, number in found.values.items() if not math.isfinite(number)
    }
    for each in own:
        try:
            values[each.own.name] = each.value()
        except ModelError as error:
            none[each.own.name] = error.message
    return PartFigures(column, value, samples, Figures(values, {}, found.counted), none)


def _add(tallies: Tallies, predictions: Batch, values: Mapping[str, Batch], targets: Mapping[str, Batch]) -> None:
    tally, own = tallies
    if tally is not None:
        tally.add(predictions, targets)
    for each in own:
        each.add(values, targets)


def _figures(tallies: Tallies, ours: Sequence[str], count: int) -> Figures:
    tally, own = tallies
    found = tally.figures(ours) if tally is not None else Figures({}, {}, count)
    values: dict[str, Value] = {name: found.values[name] for name in ours}
    values |= {each.own.name: each.value() for each in own}
    return Figures(values, found.classes, found.counted, found.why, found.certain)


def _taken(batch: Batch, places: Array) -> Batch:
    """Some of a batch's samples."""
    return batch[places] if isinstance(batch, np.ndarray) else [batch[place] for place in places.tolist()]
