"""What every runtime's exporter takes and gives."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from pocketforge.errors import ToolMissing
from pocketforge.outcomes.tensors import TensorSpec as TensorSpec
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.registries import RUNTIMES

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram


# What an exporter may leave beside its file: a list of {op, handle, layer}, by which a runtime's errors are understood.
NODES = "nodes.json"


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """A traced batch-1 program to write for a runtime.

    program: float, or PT2E-converted with folded weights. unfolded: the same with weights still float behind their
    quantize ops (TFLite's converter wants that); None when not quantized. layout: asked of the file; model_layout:
    what PyTorch's model takes. scheme: of the target. encodings: the quantize step's folder where the program's weights
    are to be stored in another form than float32 (weight-only schemes, codebook).
    """

    program: ExportedProgram
    unfolded: ExportedProgram | None
    example: tuple[torch.Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    layout: str
    io: str
    opset: int | None
    model_layout: str = "NCHW"
    scheme: str = "fp32"
    encodings: Path | None = None

    @property
    def moves_channels(self) -> bool:
        """Whether the file takes NHWC where the PyTorch model takes NCHW."""
        return self.layout == "NHWC" and self.model_layout == "NCHW"

    @property
    def file_layout(self) -> str:
        """Of image inputs, as the file takes them."""
        return "NHWC" if self.model_layout == "NHWC" else self.layout

    @property
    def is_int8(self) -> bool:
        return self.unfolded is not None

    @property
    def is_weight_only(self) -> bool:
        """Whether the weights are stored as levels and scales, and everything is computed in float32."""
        return SCHEMES[self.scheme].weights == "levels"

    @property
    def is_half(self) -> bool:
        """Whether the weights are stored in half precision, by the runtime's own converter."""
        return SCHEMES[self.scheme].weights == "float16"

    @property
    def is_dynamic(self) -> bool:
        """Whether activations are quantized at run time (dynamic_int8): by what the graph computes, not by a name."""
        return any("choose_qparams" in str(node.target) for node in self.program.graph.nodes)


@dataclass(slots=True)
class ExportResult:
    """What was written: role → file name (`model` is the one an app ships), and what the file promises."""

    files: dict[str, str]
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Exporter(Protocol):
    """A module of `RUNTIMES`."""

    def export(self, request: ExportRequest, out: Path) -> ExportResult:
        """Write the file(s) into `out`. Raises StageFailed with the toolchain's words and what to try."""
        ...


def load_exporter(runtime: str) -> Exporter:
    """The export module of a runtime. Raises ToolMissing when its toolchain cannot be imported."""
    info = RUNTIMES[runtime]
    try:
        exporter: Any = importlib.import_module(info.module)
    except ImportError as error:
        raise ToolMissing(f"the {runtime} exporter cannot be imported: {error}", info.install) from error
    return cast(Exporter, exporter)


def output_tensors(program: ExportedProgram, names: Sequence[str]) -> list[TensorSpec]:
    """The program's outputs under `names`: shapes, batch first, and dtypes as PyTorch has them."""
    found = []
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    for name, output in zip(names, program.graph_signature.user_outputs, strict=True):
        value: Any = values.get(str(output))
        shape = tuple(int(n) for n in value.shape)
        found.append(TensorSpec(name, shape, str(value.dtype).removeprefix("torch.")))
    return found
