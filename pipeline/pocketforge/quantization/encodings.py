"""Weights as a file stores them: few bits each, and what turns them back into numbers. Data of NumPy, without torch.

Exporters write the float graph, then put the encoding of each weight in its place: the file computes with exactly the
values that the quantized graph was simulated with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from pocketforge.metrics import Array
from pocketforge.outcomes import files
from pocketforge.outcomes.weights import StoredForm, StoredForms

FILE = "weights.safetensors"  # of a quantize step's folder, beside weights.json


@dataclass(frozen=True, slots=True)
class Encoding:
    """A weight of few levels: value = level · scale, one float32 product, the same in every runtime.

    Attributes:
        levels: Of the weight's shape, in ±(2^(bits-1) - 1).
        scales: Of shape [1] for the whole weight, [channels] when group_size is 0, else [channels, groups].
        bits: Of a level, 8 or 4.
        axis: Of the output channels.
        group_size: So many consecutive inputs of a channel share a scale, where the inputs of a convolution are counted
            as (kernel position, input channel). 0: all of them do.
    """

    levels: NDArray[np.int8]
    scales: NDArray[np.float32]
    bits: int = 8
    axis: int = 0
    group_size: int = 0

    def rows(self) -> NDArray[np.int8]:
        """Levels as they share scales, one row for each: [scales, inputs of one scale]."""
        return np.ascontiguousarray(grouped_order(self.levels, self.axis)).reshape(self.scales.size, -1)

    def values(self) -> NDArray[np.float32]:
        """The weight, of its own shape, in float32."""
        rows = self.rows().astype(np.float32) * self.scales.reshape(-1, 1)
        return np.ascontiguousarray(ungrouped_order(rows, self.levels.shape, self.axis))


def grouped_order(weight: Array, axis: int) -> Array:
    """The weight with its output channels first, then the kernel's positions, the input channels last."""
    channels_first = np.moveaxis(weight, axis, 0)
    return np.moveaxis(channels_first, 1, -1) if weight.ndim > 2 else channels_first


def ungrouped_order(rows: Array, shape: tuple[int, ...], axis: int) -> Array:
    """The inverse of `grouped_order`, from any array of as many elements."""
    ordered = rows.reshape(grouped_order(np.empty(shape, np.bool_), axis).shape)
    channels_first = np.moveaxis(ordered, -1, 1) if len(shape) > 2 else ordered
    return np.moveaxis(channels_first, 0, axis)


def in_nibbles(levels: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Two 4-bit levels to a byte, the lower half first: as ONNX and TFLite both pack INT4."""
    flat = np.ascontiguousarray(levels).reshape(-1)
    bits = np.append(flat, np.zeros(flat.size % 2, np.int8)).view(np.uint8) & 15
    return (bits[::2] | (bits[1::2] << 4)).astype(np.uint8)


def save_encodings(encodings: Mapping[str, Encoding], folder: Path) -> None:
    """Write weights.safetensors (NAME.levels, NAME.scales) and weights.json (the rest, by name)."""
    arrays: dict[str, Array] = {}
    forms = {}
    for name, encoding in sorted(encodings.items()):
        arrays[f"{name}.levels"] = np.ascontiguousarray(encoding.levels)
        arrays[f"{name}.scales"] = np.ascontiguousarray(encoding.scales)
        forms[name] = StoredForm(encoding.bits, encoding.axis, encoding.group_size)
    save_file(arrays, folder / FILE)
    files.write(folder, StoredForms(forms))


def load_encodings(folder: Path) -> dict[str, Encoding]:
    """What `save_encodings` wrote."""
    arrays = load_file(folder / FILE)
    forms = files.read(folder, StoredForms).weights
    return {
        name: Encoding(arrays[f"{name}.levels"], arrays[f"{name}.scales"], form.bits, form.axis, form.group_size)
        for name, form in forms.items()
    }
