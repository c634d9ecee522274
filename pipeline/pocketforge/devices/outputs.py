"""What a model answered to the samples: every output by its name, as a runner or PyTorch wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketforge.errors import StageFailed
from pocketforge.metrics import Array, real_values
from pocketforge.outcomes.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Output:
    """One output on the samples.

    Integers and booleans that stand for themselves (an argmax, a mask, indices) are right or wrong, not near.

    Attributes:
        name: The output's.
        values: Samples first; real values where the file gives levels of a scale.
    """

    name: str
    values: Array

    @property
    def is_exact(self) -> bool:
        """Whether it is one of integers or booleans."""
        return self.values.dtype.kind in "iub"

    def first(self, count: int) -> Output:
        """On the first samples only."""
        return Output(self.name, self.values[:count])


def stored_outputs(folder: Path, tensors: Sequence[TensorSpec]) -> tuple[Output, ...]:
    """Every output of a file that lies in `folder`, by what the file says of them."""
    return tuple(
        Output(tensor.name, real_values(_values(folder, number), tensor.scale, tensor.zero_point))
        for number, tensor in enumerate(tensors)
    )


def named_outputs(folder: Path, names: Iterable[str]) -> tuple[Output, ...]:
    """Every output that a graph in PyTorch gave, real values all of them."""
    return tuple(Output(name, _values(folder, number)) for number, name in enumerate(names))


def _values(folder: Path, number: int) -> Array:
    values: Array = np.load(folder / f"outputs_{number}.npy", mmap_mode="r")
    return values


def check_complete(here: Sequence[Output], there: Sequence[Output], samples: int, whose: str) -> None:
    """Raises StageFailed where a device answered fewer samples than it was given, or values of another shape than the
    host's: what cannot be paired would not be compared, and pass. whose: the device, in words."""
    for one, other in zip(here, there, strict=True):
        wanted, found = (samples, *other.values.shape[1:]), one.values.shape
        if wanted != found:
            raise StageFailed(
                f"{whose} was given {samples} samples: wanted output {one.name} of shape {list(wanted)}, found "
                f"{list(found)}"
            )


def paired(here: Sequence[Output], wanted: Sequence[Output]) -> list[tuple[Output, Output]]:
    """The outputs that both have, by name, where their shapes are the same: others cannot be compared."""
    by_name = {output.name: output for output in here}
    pairs = [(by_name[output.name], output) for output in wanted if output.name in by_name]
    return [(one, other) for one, other in pairs if one.values.shape[1:] == other.values.shape[1:]]
