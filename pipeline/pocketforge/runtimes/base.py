"""What every runtime's exporter takes and gives."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from pocketforge.errors import PluginFailed, PocketforgeError, StageFailed, ToolMissing
from pocketforge.outcomes.about import About
from pocketforge.outcomes.tensors import TensorSpec as TensorSpec
from pocketforge.recipe.schemes import SCHEMES, SchemeInfo
from pocketforge.recipe.sizes import SizeRange
from pocketforge.registries import RUNTIMES

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """A traced batch-1 program to write for a runtime.

    Attributes:
        program: Float, or PT2E-converted with folded weights.
        unfolded: The same with weights still float behind their quantize ops (TFLite's converter wants that); None
            when not quantized.
        example: One sample for each input, batch 1 first, as PyTorch takes it.
        input_names: By which an app feeds them.
        output_names: By which an app finds them.
        layout: Asked of the file, for images: NCHW or NHWC.
        io: float32, int8 or uint8: what quantized files take and give.
        opset: Of ONNX; None for the exporter's choice.
        model_layout: What PyTorch's model takes.
        scheme: Of the target.
        encodings: The quantize step's folder where the program's weights are to be stored in another form than
            float32 (weight-only schemes, codebook); else None.
        about: What the file says of itself; None for nothing.
        int8_weights: Whether an ONNX file's weights are int8, not uint8.
        varying: Of each input the sizes that vary; () where none does. `example` is of one of them.
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
    varying: tuple[tuple[SizeRange, ...], ...] = ()
    about: About | None = None
    int8_weights: bool = False

    @property
    def taken_shapes(self) -> list[tuple[int, ...]]:
        """Of each input as PyTorch takes it, -1 for a size that varies."""
        opened = [{each.axis for each in ranges} for ranges in self.varying or [()] * len(self.example)]
        return [
            tuple(-1 if axis in axes else int(length) for axis, length in enumerate(tensor.shape))
            for tensor, axes in zip(self.example, opened, strict=True)
        ]

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
    def info(self) -> SchemeInfo:
        """What is known of the target's scheme."""
        return SCHEMES[self.scheme]

    @property
    def is_weight_only(self) -> bool:
        """Whether the weights are stored as levels and scales, and everything is computed in float32."""
        return self.info.weights == "levels"

    @property
    def is_half(self) -> bool:
        """Whether the weights are stored in half precision, by the runtime's own converter."""
        return self.info.weights == "float16"

    @property
    def is_dynamic(self) -> bool:
        """Whether activations are quantized at run time (dynamic_int8): by what the graph computes, not by a name."""
        # An LSTM has no such node: its exporter finds its weights on levels.
        return self.info.family == "dynamic" or any(
            "choose_qparams" in str(node.target) for node in self.program.graph.nodes
        )


@dataclass(slots=True)
class ExportResult:
    """What was written, and what the file promises.

    Attributes:
        files: Role → file name; `model` is the one that an app ships.
        inputs: In the order in which the file takes them.
        outputs: In the order in which the file gives them.
        facts: What reports tell of the export, as plain JSON values: the runtime's own words.
        warnings: What a user should know of the file, in words.
    """

    files: dict[str, str]
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    facts: dict[str, object] = field(default_factory=dict)
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
        with RUNTIMES.calling(runtime, f"import of {info.module}", ours=(ImportError, PocketforgeError)):
            exporter = importlib.import_module(info.module)
    except ImportError as error:
        raise ToolMissing(f"the {runtime} exporter cannot be imported: {error}", info.install) from error
    return cast(Exporter, exporter)


def checked_result(result: object, runtime: str) -> ExportResult:
    """What `export` gave. Raises PluginFailed for what is no ExportResult with a model's file."""
    if isinstance(result, ExportResult) and "model" in result.files:
        return result
    found = f"one without a model: {result.files}" if isinstance(result, ExportResult) else f"a {type(result).__name__}"
    plugin = RUNTIMES.brought_by(runtime)
    whose, hint = (plugin.words, plugin.hint) if plugin else (f"runtime {runtime}", "")
    raise PluginFailed(f"{whose}: {RUNTIMES[runtime].module}:export must give an ExportResult, found {found}", hint)


def float_output(name: str, made_by: str) -> StageFailed:
    """What is said of an output that `io` wants as integers, and that the graph gives in float."""
    return StageFailed(
        f"output {name!r} is not quantized last (it comes from {made_by})",
        'leave io at "float32"; where it is a concat that is kept float (pocketforge check tells), overrides = '
        '[{ ops = ["cat@…"], scheme = "static_int8" }] gives it one scale',
    )


def output_tensors(program: ExportedProgram, names: Sequence[str]) -> list[TensorSpec]:
    """The program's outputs under `names`: shapes, batch first and -1 for a size that varies, and dtypes as PyTorch
    has them."""
    specs = []
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    for name, output in zip(names, program.graph_signature.user_outputs, strict=True):
        value: torch.Tensor = values.get(str(output))
        shape = tuple(n if isinstance(n, int) else -1 for n in value.shape)
        specs.append(TensorSpec(name, shape, str(value.dtype).removeprefix("torch.")))
    return specs


def passed_through(program: ExportedProgram) -> dict[int, int]:
    """Place of an output that is an input, as it came in → that input's place."""
    signature = program.graph_signature
    inputs = list(signature.user_inputs)
    return {at: inputs.index(name) for at, name in enumerate(signature.user_outputs) if name in inputs}
