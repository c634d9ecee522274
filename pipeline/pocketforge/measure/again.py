"""Whether a file that nothing is known of answers a sample the same again, whatever it was given before; and whether
each of its inputs changes anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketforge.devices.base import FurtherSamples
from pocketforge.devices.outputs import Output, stored_outputs
from pocketforge.measure.file_checks import check
from pocketforge.metrics import Array
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.outcomes.verify import FileCheck

# At most, and fewer of large samples, but two.
_SAMPLES = 16
_MOST_BYTES = 2**26
# Of an output's largest value: more than a runtime's own sums differ by, in whichever order.
_SAME = 1e-4


@dataclass(frozen=True, slots=True)
class Again:
    """Some of the samples once more, in the session that has run them all.

    Attributes:
        count: How many: the first.
        turned: Those from the last to the first, so that neither a state nor a seed gives what it gave.
        mixed: Place of an input → those with this input's values of another sample; of a file with several.
    """

    count: int
    turned: FurtherSamples
    mixed: dict[int, FurtherSamples]

    @property
    def samples(self) -> tuple[FurtherSamples, ...]:
        return (self.turned, *self.mixed.values())


def write_again(samples: Sequence[Path], folder: Path) -> Again:
    """samples: of each of the file's inputs, in its order. folder: a new one for them and for what is answered."""
    whole = [np.load(path, mmap_mode="r") for path in samples]
    each_bytes = sum(array[:1].nbytes for array in whole)
    count = max(2, min(_SAMPLES, _MOST_BYTES // max(1, each_bytes)))
    arrays = [np.array(array[:count]) for array in whole]
    several = len(arrays) > 1
    mixed = {
        place: _written(
            [np.roll(each, 1, 0) if number == place else each for number, each in enumerate(arrays)],
            folder / f"mixed_{place}",
        )
        for place, array in enumerate(arrays)
        if several and not np.array_equal(array[1:], array[:-1])
    }
    return Again(len(arrays[0]), _written([each[::-1] for each in arrays], folder / "turned"), mixed)


def _written(arrays: Sequence[Array], folder: Path) -> FurtherSamples:
    folder.mkdir(parents=True)
    paths = [folder / f"inputs_{number}.npy" for number in range(len(arrays))]
    for path, array in zip(paths, arrays, strict=True):
        np.save(path, array)
    return FurtherSamples(tuple(paths), folder / "answers")


def check_again(again: Again, outputs: Sequence[Output], tensors: Sequence[TensorSpec]) -> list[FileCheck]:
    """outputs: what the file answered at first. tensors: its outputs."""
    checks = []
    for first, other in zip(outputs, stored_outputs(again.turned.outputs, tensors), strict=True):
        of = f" of {first.name}" if len(outputs) > 1 else ""
        apart = _apart(first.values[: again.count], other.values[::-1])
        found = f"{apart} of {again.count} samples are answered otherwise" if apart else "it is"
        wanted = "the same answer to a sample, whatever came before it"
        checks.append(check(f"same again{of}", wanted, found, not apart))
    return checks


def idle_inputs(
    again: Again, outputs: Sequence[Output], tensors: Sequence[TensorSpec], inputs: Sequence[TensorSpec]
) -> Iterator[str]:
    """Inputs whose values change no output, in words: right of some nets, and worth knowing."""
    for place, mixed in again.mixed.items():
        answers = stored_outputs(mixed.outputs, tensors)
        if all(_same(a.values[: again.count], b.values) for a, b in zip(outputs, answers, strict=True)):
            yield (
                f"input {inputs[place].name} changes nothing: {again.count} samples with its values of another sample "
                "get the same answers"
            )


def _same(one: Array, other: Array) -> bool:
    return one.shape == other.shape and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _apart(one: Array, other: Array) -> int:
    """How many samples' values differ."""
    if one.shape != other.shape:
        return len(one)
    if one.dtype.kind != "f":
        differ = one != other
    else:
        finite = np.abs(one[np.isfinite(one)])
        differ = ~np.isclose(one, other, rtol=0, atol=_SAME * float(finite.max(initial=0)), equal_nan=True)
    return int(differ.reshape(len(one), -1).any(axis=1).sum())
