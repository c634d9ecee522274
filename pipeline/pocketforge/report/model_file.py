"""A model file, or a PyTorch model, as tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pocketforge.outcomes.files import from_json
from pocketforge.outcomes.reference import WeightsRead
from pocketforge.report.tables import console, table, weights_lines, words

if TYPE_CHECKING:
    from pocketforge.runtimes.describe import Description, TensorInfo


def show_description(description: Description, *, layers: bool) -> None:
    """Everything `describe` found in a file."""
    screen = console()
    screen.print(words((description.name, "bold"), f"  {description.format}"))
    screen.print(f"sha256 {description.sha256}")
    sizes = f"{description.size_bytes:,} bytes, {description.gzip_bytes:,} with gzip -9"
    screen.print(f"{sizes}, {description.parameters:,} parameters")
    for side, tensors in (("input", description.inputs), ("output", description.outputs)):
        for tensor in tensors:
            screen.print(f"{side:<7} {_tensor(tensor)}")
    rows = table("ops", "op", "count", numbers=("count",))
    for op, count in description.ops.items():
        rows.add_row(op, str(count))
    screen.print(rows)
    for number, delegate in enumerate(description.delegation):
        inner = ", ".join(f"{op} {count}" for op, count in delegate.ops.items())
        screen.print(f"delegate {number}: {delegate.name}: {inner or 'its ops cannot be read'}")
    if description.undelegated_ops:
        left = ", ".join(f"{op} {count}" for op, count in description.undelegated_ops.items())
        screen.print(f"not delegated: {left}")
    weights = ", ".join(f"{dtype} {size:,} bytes" for dtype, size in description.dtypes.items())
    screen.print(f"weights: {weights or 'none'}")
    if layers and description.weights:
        # Where every weight is named after its layer, the layer's own name says nothing more.
        apart = any(not weight.name.startswith(weight.layer) for weight in description.weights)
        names = ("layer", "weight") if apart else ("weight",)
        rows = table("", *names, "shape", "dtype", "parameters", "bytes", numbers=("parameters", "bytes"))
        for weight in description.weights:
            rows.add_row(
                *([weight.layer] if apart else []),
                weight.name,
                str(list(weight.shape)),
                weight.dtype,
                f"{weight.parameters:,}",
                f"{weight.size_bytes:,}",
            )
        screen.print(rows)
    for name, value in description.metadata.items():
        screen.print(f"{name}: {str(value)[:200]}")


def _tensor(tensor: TensorInfo) -> str:
    text = f"{tensor.name} {tensor.dtype} {list(tensor.shape)}"
    if tensor.quantization is not None and tensor.quantization.scales:
        text += f" scale {tensor.quantization.scales[0]:.6g} zero point {tensor.quantization.zero_points[0]}"
    return text


@dataclass(frozen=True, slots=True)
class _Layer:
    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int


@dataclass(frozen=True, slots=True)
class _Input:
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Replaced:
    edit: str
    module: str
    by: Mapping[str, object]

    def __str__(self) -> str:
        arguments = {name: value for name, value in self.by.items() if name != "kind"}
        return f"{self.module} replaced by {self.by.get('kind')}{f' {arguments}' if arguments else ''}"


@dataclass(frozen=True, slots=True)
class _Cut:
    edit: str
    kept: Mapping[str, Mapping[str, int]]

    def __str__(self) -> str:
        channels = ", ".join(f"{name} {dict(dims)}" for name, dims in self.kept.items())
        return f"channels kept, by tensor and dimension: {channels}"


@dataclass(frozen=True, slots=True)
class _Summary:
    """What commands/model.py finds in a PyTorch model."""

    recipe: str
    definition: str
    layers: tuple[_Layer, ...]
    inputs: tuple[_Input, ...]
    parameters: int
    macs: int
    weights: WeightsRead | None = None
    edits: tuple[_Replaced | _Cut, ...] = ()
    masked_weights: Mapping[str, int] = field(default_factory=dict)


def show_model(content: Mapping[str, object]) -> None:
    """What `summarize` found in a PyTorch model."""
    summary = from_json(content, _Summary)
    screen = console()
    rows = table(f"{summary.recipe}: layers", "layer", "kind", "output", "parameters", numbers=("parameters",))
    for layer in summary.layers:
        rows.add_row(layer.name, layer.kind, str(list(layer.output)), f"{layer.parameters:,}")
    screen.print(rows)
    for tensor in summary.inputs:
        screen.print(f"input {tensor.dtype} {list(tensor.shape)}")
    screen.print(f"{summary.parameters:,} parameters, {summary.macs:,} MACs")
    for line in weights_lines(summary.weights):
        screen.print(line)
    for edit in summary.edits:
        screen.print(f"edit    {edit}")
    for name, count in summary.masked_weights.items():
        screen.print(f"mask    {name}: {count:,} weights stay zero")
