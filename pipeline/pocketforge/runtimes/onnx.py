"""ONNX: the dynamo exporter, a uint8 rewrite that ONNX Runtime fuses everywhere, and an .ort file beside it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
import torch

from pocketforge.errors import StageFailed
from pocketforge.quantization.encodings import load_encodings
from pocketforge.rewrites.passes import ONNX, rewrite
from pocketforge.rewrites.shapes import shapes_of
from pocketforge.runtimes.base import ExportRequest, ExportResult, TensorSpec, float_output, output_tensors
from pocketforge.runtimes.float_activations import drop_activation_quantization
from pocketforge.runtimes.onnx_bytes import take_bytes
from pocketforge.runtimes.onnx_codebook import UINT4_OPSET, apply_codebooks
from pocketforge.runtimes.onnx_dynamic import quantize_inputs
from pocketforge.runtimes.onnx_levels import constant, to_uint8
from pocketforge.runtimes.onnx_mobile import mobile_usability
from pocketforge.runtimes.onnx_ort_bytes import put_in_one_order
from pocketforge.runtimes.onnx_projections import in_steps
from pocketforge.runtimes.onnx_recurrent import quantize_lstms
from pocketforge.runtimes.onnx_weights import INT4_OPSET, store_encodings, store_halves, write_ort
from pocketforge.runtimes.stored_weights import unmatched_warning

DEFAULT_OPSET = 20
_WORD = re.compile(r"[A-Za-z_]\w*")

# As in sessions/onnx.py: ONNX Runtime, which is imported below, is not to report a user's model to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@dataclass(frozen=True, slots=True)
class Levels:
    """What the integers of an input or output stand for, as the file's metadata has it.

    Attributes:
        scale: The real value of one level.
        zero_point: The level of a real 0.
    """

    scale: float
    zero_point: int


def export(request: ExportRequest, out: Path) -> ExportResult:
    """Write model.onnx (checked) and model.ort. Raises StageFailed."""
    # Not above: what else is here is also of use to who exports nothing, and the table takes seconds.
    from pocketforge.runtimes import onnx_functions  # noqa: F401

    opset, shapes = _opset(request), shapes_of(request.program)
    module: torch.fx.GraphModule = request.program.module()
    if request.is_dynamic:
        drop_activation_quantization(module)
    rewrite(module, ONNX)
    program = torch.onnx.export(
        in_steps(module, request.example, varying=shapes is not None),
        request.example,
        dynamo=True,
        opset_version=opset,
        input_names=list(request.input_names),
        output_names=list(request.output_names),
        dynamic_shapes=shapes,
        verbose=False,
    )
    if program is None:
        raise StageFailed("torch.onnx.export gave no program", "see the log")
    model: onnx.ModelProto = program.model_proto
    written = next((o.version for o in model.opset_import if o.domain == ""), None)
    if written != opset:
        raise StageFailed(f"asked for opset {opset}, the exporter wrote {written}", "leave opset out, or use 18 to 23")
    io_quantization: dict[str, Levels] = {}
    if request.is_dynamic:
        quantize_inputs(model.graph)
        quantize_lstms(model)
    elif request.is_int8:
        to_uint8(model.graph, weights=not request.int8_weights)
        take_bytes(model.graph)
        if request.io != "float32":
            io_quantization = _strip_float_io(model.graph)
            model.metadata_props.add(
                key="io_quantization",
                value=json.dumps({name: asdict(levels) for name, levels in io_quantization.items()}, sort_keys=True),
            )
    inputs = [
        _spec(name, shape, str(t.dtype).removeprefix("torch."), io_quantization, request.file_layout)
        for name, shape, t in zip(request.input_names, request.taken_shapes, request.example, strict=True)
    ]
    if request.about is not None:
        model.metadata_props.add(key="about", value=json.dumps(request.about.to_json(inputs), sort_keys=True))
    _drop_build_traces(model)
    _name_sizes(model.graph, request)
    path = out / "model.onnx"
    if request.is_weight_only or request.is_half:
        warnings = _write_small_weights(request, model, path)
    else:
        warnings = []
        if request.info.weights == "codebook" and request.encodings is not None:
            apply_codebooks(model, request.encodings)
        _write(model, path)
        export_ort(path, out)
    mobile = mobile_usability(path)
    return ExportResult(
        files={"model": "model.onnx", "ort": "model.ort"},
        inputs=inputs,
        outputs=[
            _spec(tensor.name, tensor.shape, tensor.dtype, io_quantization, "NCHW")
            for tensor in output_tensors(request.program, request.output_names)
        ],
        facts={
            "opset": opset,
            "mobile_usability": mobile,
            **({"onnx_weights": "int8"} if request.int8_weights else {}),
        },
        warnings=warnings,
    )


def _name_sizes(graph: onnx.GraphProto, request: ExportRequest) -> None:
    """Sizes that vary have the recipe's names; in what follows from them, `_H` is how many steps H has."""
    names: dict[str, str] = {}
    for value, ranges in zip(graph.input, request.varying, strict=False):
        dims = value.type.tensor_type.shape.dim
        names |= {dims[each.axis].dim_param: each.name for each in ranges}
        names |= {dims[each.axis].dim_param.rpartition("*")[2]: f"_{each.name}" for each in ranges if each.step > 1}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                known = names.get(dim.dim_param)
                dim.dim_param = known or _WORD.sub(lambda word: names.get(word[0], word[0]), dim.dim_param)


def _opset(request: ExportRequest) -> int:
    """The one asked for, else the first that has the types which the scheme stores. Raises StageFailed."""
    small = request.is_weight_only and request.info.bits <= 4
    least = INT4_OPSET if small else UINT4_OPSET if request.info.weights == "codebook" else DEFAULT_OPSET
    if small and (request.opset or least) < least:
        raise StageFailed(f"ONNX has 4-bit weights from opset {least} on, found opset {request.opset}", "leave it out")
    return request.opset or least


def _write(model: onnx.ModelProto, path: Path) -> None:
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _write_small_weights(request: ExportRequest, model: onnx.ModelProto, path: Path) -> list[str]:
    """Write `path` and the .ort file beside it, the weights in the scheme's form. Returns what to warn of."""
    target = path.with_suffix(".ort")
    if request.encodings is None:  # fp16
        count = store_halves(model)
        _write(model, path)
        write_ort(path, target, keep_casts=True)
        return [] if count else ["no weight fits half precision: the file holds float32"]
    encodings = load_encodings(request.encodings)
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    missing = store_encodings(model, encodings, when_run=False)
    _write(model, path)
    store_encodings(twin, encodings, when_run=True)
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as folder:
        source = Path(folder) / path.name
        _write(twin, source)
        write_ort(source, target, keep_casts=False)
    warnings = [unmatched_warning(name) for name in missing]
    if any(encoding.bits == 4 for encoding in encodings.values()):
        warnings.append("4-bit weights take a byte each in model.ort: its format has no 4-bit type")
    return warnings


def _spec(name: str, shape: tuple[int, ...], dtype: str, quantized: dict[str, Levels], image_layout: str) -> TensorSpec:
    layout = image_layout if len(shape) == 4 else ""
    levels = quantized.get(name)
    if levels:
        return TensorSpec(name, shape, "uint8", layout, levels.scale, levels.zero_point)
    return TensorSpec(name, shape, dtype, layout)


def _strip_float_io(graph: onnx.GraphProto) -> dict[str, Levels]:
    """Make inputs and outputs uint8 by taking off the outermost Quantize/DequantizeLinear. Returns their parameters."""
    parameters = {}
    for value in list(graph.input):
        if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            continue  # token ids, a mask: they stand for themselves
        users = [n for n in graph.node if value.name in n.input]
        if len(users) != 1 or users[0].op_type != "QuantizeLinear":
            raise StageFailed(
                f"input {value.name!r} is not quantized first (it goes to {', '.join(n.op_type for n in users)})",
                'leave io at "float32" for this model',
            )
        parameters[value.name] = _parameters(graph, users[0])
        _rename_uses(graph, users[0].output[0], value.name)
        graph.node.remove(users[0])
        value.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    for value in list(graph.output):
        if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            continue  # an argmax, a mask: integers already
        maker = next(n for n in graph.node if value.name in n.output)
        if maker.op_type != "DequantizeLinear":
            raise float_output(value.name, maker.op_type)
        parameters[value.name] = _parameters(graph, maker)
        inner_name = maker.input[0]
        inner = next(n for n in graph.node if inner_name in n.output)
        inner.output[list(inner.output).index(inner_name)] = value.name
        if any(value.name in n.input for n in graph.node):
            # Other operators go on from the real values (a float one takes no levels), the app has the levels.
            maker.output[0] = f"{value.name}_real"
            _rename_uses(graph, value.name, maker.output[0])
        else:
            graph.node.remove(maker)
        _rename_uses(graph, inner_name, value.name)
        value.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    return parameters


def _parameters(graph: onnx.GraphProto, node: onnx.NodeProto) -> Levels:
    scale, zero_point = constant(graph, node.input[1]), constant(graph, node.input[2])
    if scale is None or zero_point is None:
        raise StageFailed(f"{node.op_type} {node.name} has no constant scale", 'leave io at "float32" for this model')
    return Levels(float(scale), int(zero_point))


def _rename_uses(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def _drop_build_traces(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes (stack traces with paths of this machine): not for an app, not reproducible."""
    for holder in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del holder.metadata_props[:]
        holder.doc_string = ""
    for initializer in model.graph.initializer:
        del initializer.metadata_props[:]
        initializer.doc_string = ""
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]
            node.doc_string = ""
    del model.graph.metadata_props[:]
    model.graph.doc_string = ""
    model.graph.name = "main_graph"


def export_ort(path: Path, out: Path) -> None:
    """model.ort for ARM (the x86 default would bake in the slow int8 form)."""
    from onnxruntime.tools import convert_onnx_models_to_ort as convert

    with contextlib.redirect_stdout(io.StringIO()) as log:
        convert.convert_onnx_models_to_ort(
            path, out, [convert.OptimizationStyle.Fixed], target_platform="arm", allow_conversion_failures=False
        )
    print(log.getvalue())
    if not (out / "model.ort").is_file():
        raise StageFailed("ONNX Runtime wrote no .ort file", "see the log")
    put_in_one_order(out / "model.ort")
    for extra in out.glob("*.config"):
        extra.unlink()
