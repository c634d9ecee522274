"""What a model answered to the samples: every output by its name, as a runner or PyTorch wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketforge.metrics import real_values


@dataclass(frozen=True, slots=True)
class Output:
    """One output on the samples, samples first.

    values: real values where the file gives levels of a scale. dtype: of the values; integers and booleans that stand
    for themselves (an argmax, a mask, indices) are right or wrong, not near.
    """

    name: str
    values: NDArray[Any]

    @property
    def is_exact(self) -> bool:
        """Whether it is one of integers or booleans."""
        return self.values.dtype.kind in "iub"

    def first(self, count: int) -> Output:
        """On the first samples only."""
        return Output(self.name, self.values[:count])


def stored_outputs(folder: Path, tensors: Sequence[Mapping[str, Any]]) -> tuple[Output, ...]:
    """Every output that lies in `folder`. tensors: their names, and scale and zero point where they have them."""
    found = []
    for number, tensor in enumerate(tensors):
        values = np.load(folder / f"outputs_{number}.npy", mmap_mode="r")
        found.append(Output(str(tensor["name"]), real_values(values, tensor.get("scale"), tensor.get("zero_point"))))
    return tuple(found)


def paired(here: Sequence[Output], wanted: Sequence[Output]) -> list[tuple[Output, Output]]:
    """The outputs that both have, by name, where their shapes are the same: others cannot be compared."""
    by_name = {output.name: output for output in here}
    pairs = [(by_name[output.name], output) for output in wanted if output.name in by_name]
    return [(one, other) for one, other in pairs if one.values.shape[1:] == other.values.shape[1:]]
