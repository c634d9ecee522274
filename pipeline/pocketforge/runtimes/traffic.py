"""What each operator of a model file reads and writes: weights and activations, in bytes, in the order they run.

Nothing runs here: sizes follow from the shapes that the file states. An operator's `rows` are the output positions that
each use all of its weights (batch × height × width of a convolution, tokens of a linear layer); 0 where none do.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, cast

from pocketforge.errors import ModelError
from pocketforge.registries import file_formats, nearest_formats
from pocketforge.runtimes.describe import BITS


@dataclass(frozen=True, slots=True)
class Moved:
    """One operator's bytes.

    Attributes:
        kind: The file's name for it, as CONV_2D.
        weight_bytes: Read of stored weights.
        input_bytes: Read of activations.
        output_bytes: Written.
        rows: Output positions that each use all of its weights (see above); 0 where none do.
        window_bytes: Of a depthwise convolution: read of its input again, for the next rows of the output.
        window_held_bytes: The rows of input that one row of the output needs: what has to stay near until then.
        taps: Of a depthwise convolution: values of its window, each a multiply-accumulate for every output value.
    """

    kind: str
    weight_bytes: int
    input_bytes: int
    output_bytes: int
    rows: int = 0
    window_bytes: int = 0
    window_held_bytes: int = 0
    taps: int = 0


class Reader(Protocol):
    """A module that `FileFormat.traffic` names."""

    def read(self, path: Path) -> Iterable[Moved]:
        """Raises ValueError for a shape that is not fixed."""
        ...


def traffic_of(path: Path) -> dict[str, list[dict[str, object]]]:
    """{"operators": [Moved's fields, …]} of a model file.

    Raises ModelError for a format that is not read, or shapes that are not fixed.
    """
    near = nearest_formats()
    formats = near if path.suffix in near else file_formats()
    readers = {suffix: each.traffic for suffix, (_, each) in formats.items() if each.traffic}
    if path.suffix not in readers:
        known = ", ".join(readers)
        raise ModelError(f"what the operators of {path.name} move is known for {known}, not for {path.suffix}")
    reader = cast(Reader, importlib.import_module(readers[path.suffix]))
    try:
        return {"operators": [asdict(moved) for moved in reader.read(path)]}
    except ValueError as error:
        raise ModelError(f"cannot tell what the operators of {path.name} move: {error}") from None


def window(input_bytes: int, height: int, kernel: int, stride: int) -> tuple[int, int]:
    """(window_bytes, window_held_bytes) of a depthwise convolution: kernel and stride are along its input's height."""
    if height < 1 or kernel <= stride:
        return 0, 0
    return input_bytes * (kernel - stride) // stride, input_bytes * min(kernel, height) // height


def size_of(shape: Iterable[int], dtype: str, name: str) -> int:
    """Bytes of a tensor. Raises ValueError for an open dimension or an unknown dtype."""
    dims = list(shape)
    if any(d < 0 for d in dims):
        raise ValueError(f"{name} has no fixed shape: {dims}")
    if dtype not in BITS:
        raise ValueError(f"{name} is of {dtype}")
    return math.ceil(math.prod(dims) * BITS[dtype] / 8)
