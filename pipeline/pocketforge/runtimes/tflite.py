"""TFLite through litert-torch, with the names, float IO and layout that an app expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import litert_torch
import torch
from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
from litert_torch.quantize.quant_config import QuantConfig

import pocketforge.runtimes.tflite_layout  # noqa: F401  changes a pass
from pocketforge.errors import StageFailed
from pocketforge.quantization.encodings import Encoding, load_encodings
from pocketforge.rewrites.passes import TFLITE, TFLITE_FLOAT_INPUTS, rewrite
from pocketforge.runtimes.base import ExportRequest, ExportResult, TensorSpec, output_tensors, passed_through
from pocketforge.runtimes.float_activations import drop_activation_quantization
from pocketforge.runtimes.stored_weights import unmatched_warning
from pocketforge.runtimes.tflite_bytes import SCALE, ZERO_POINT, take_bytes
from pocketforge.runtimes.tflite_dynamic import fold_linear_weights, quantized_constants
from pocketforge.runtimes.tflite_edit import set_interface
from pocketforge.runtimes.tflite_metadata import add_metadata
from pocketforge.runtimes.tflite_missing import refuse_missing, sort_refused
from pocketforge.runtimes.tflite_shield import shield
from pocketforge.runtimes.tflite_transposed import store_transposed, transposed_kernels
from pocketforge.runtimes.tflite_weights import store_encodings, store_halves


def export(request: ExportRequest, out: Path) -> ExportResult:
    """Write model.tflite. Raises StageFailed."""
    program = request.unfolded if request.unfolded is not None else request.program
    module: torch.nn.Module = program.module()
    _split_outputs(module)
    if request.is_dynamic:
        drop_activation_quantization(module)
    rewrite(module, TFLITE)
    if request.io == "float32":
        rewrite(module, TFLITE_FLOAT_INPUTS)
    kernels = transposed_kernels(module)
    constants = quantized_constants(module) if request.is_dynamic else []
    encodings = load_encodings(request.encodings) if request.is_weight_only and request.encodings else {}
    if encodings:
        shield(module, encodings)
    example = request.example
    if request.moves_channels:
        images = [i for i, t in enumerate(example) if t.dim() == 4]
        if not images:
            raise StageFailed("layout NHWC needs an input of four dimensions", 'leave layout at "NCHW"')
        module = litert_torch.to_channel_last_io(module, args=images)
        example = tuple(t.permute(0, 2, 3, 1).contiguous() if t.dim() == 4 else t for t in example)
    quantized = None
    # Asked for dynamic quantization, the converter would quantize convolutions too: linear layers are made int8 below.
    if request.is_int8 and not request.is_dynamic:
        # The quantizer only tells the converter that the graph is PT2E; its scales come from the graph itself.
        quantizer = PT2EQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        quantized = QuantConfig(pt2e_quantizer=quantizer)
    path = out / "model.tflite"
    try:
        litert_torch.convert(module, example, quant_config=quantized).export(str(path))
    except Exception as error:  # the converter raises many kinds
        raise sort_refused(error, request.program.graph.nodes) or error from error
    data = path.read_bytes()
    refuse_missing(data, request.program.graph.nodes)
    if request.is_dynamic:
        data = fold_linear_weights(data, constants)
    elif request.is_int8:
        data = store_transposed(data, kernels)
    data, warnings = _store_weights(request, data, encodings)
    moved = [at for at, t in enumerate(request.example) if request.moves_channels and t.dim() == 4]
    passed = {at: source for at, source in passed_through(request.program).items() if source not in moved}
    edited, interface = set_interface(data, request.input_names, request.output_names, io=request.io, passed=passed)
    edited, levels = take_bytes(edited)
    interface |= dict.fromkeys(levels, (SCALE, ZERO_POINT))
    if request.about is not None:
        edited = add_metadata(edited, request.about.of_levels(interface.keys() - levels, request.io))
    path.write_bytes(edited)
    shapes = [tuple(t.shape) for t in example]
    dtypes = [_narrowed(str(t.dtype).removeprefix("torch.")) for t in example]
    inputs = [
        TensorSpec(
            name,
            shape,
            request.io if name in interface and name not in levels else dtype,
            request.file_layout if len(shape) == 4 else "",
            *interface.get(name, (None, None)),
        )
        for name, shape, dtype in zip(request.input_names, shapes, dtypes, strict=True)
    ]
    warnings = [*warnings, *_stay_float(inputs, request.io)]
    outputs = [
        TensorSpec(
            tensor.name,
            tensor.shape,
            request.io if tensor.name in interface else _narrowed(tensor.dtype),
            "",
            *interface.get(tensor.name, (None, None)),
        )
        for tensor in output_tensors(request.program, request.output_names)
    ]
    if request.io == "int8":
        warnings.append(
            'io = "int8": MediaPipe Tasks and LiteRT.js refuse int8 inputs and outputs; io = "uint8" holds the same '
            "values"
        )
    if request.io != "float32":
        warnings += [
            f'io = "{request.io}": output {each.name} stays float32: the graph gives it in float'
            for each in outputs
            if each.dtype == "float32"
        ]
    return ExportResult({"model": "model.tflite"}, inputs, outputs, warnings=warnings)


def _stay_float(inputs: Sequence[TensorSpec], io: str) -> list[str]:
    """What to say of inputs that are asked to be integers and are read in float before they are quantized."""
    names = [each.name for each in inputs if io != "float32" and each.dtype == "float32"]
    return [f'io = "{io}": input {name} stays float32: the graph reads it before it is quantized' for name in names]


def _narrowed(dtype: str) -> str:
    """The converter has no 64-bit integers."""
    return "int32" if dtype == "int64" else dtype


def _split_outputs(module: torch.nn.Module) -> None:
    """Give each output that something else reads a de-quantize op of its own.

    The converter moves channels behind such a value for its other readers, and gives the output without (litert-torch
    0.10, its issue 246: [1, 8, 8, 5] in place of [1, 5, 8, 8], also where equal sizes hide it).
    """
    graph = getattr(module, "graph", None)
    if not isinstance(module, torch.fx.GraphModule) or graph is None:
        return
    output = next(node for node in graph.nodes if node.op == "output")
    values = list(output.args[0])
    for position, value in enumerate(values):
        if "dequantize" not in str(value.target) or (len(value.users) == 1 and values.count(value) == 1):
            continue
        with graph.inserting_before(output):
            values[position] = graph.node_copy(value)
            values[position].meta = dict(value.meta)
    output.args = (tuple(values), *output.args[1:])
    module.recompile()


def _store_weights(request: ExportRequest, data: bytes, encodings: Mapping[str, Encoding]) -> tuple[bytes, list[str]]:
    """The file with its weights in the scheme's form, and what to warn of."""
    if request.is_half:
        data, count = store_halves(data)
        return data, [] if count else ["no weight fits half precision: the file holds float32"]
    if not encodings:
        return data, []
    data, missing, slow = store_encodings(data, encodings)
    warnings = [unmatched_warning(name) for name in missing]
    if slow:
        warnings.append(
            f"4-bit weights unpacked at each inference, and not by XNNPACK, so slower than float: {', '.join(slow)}"
        )
    return data, warnings
