"""Weights of an ONNX file stored in few bits, computed in float32: weight-only int8 and int4, and fp16.

Two forms of the same numbers:

    expanded when loaded (.onnx)      levels ─ Cast ─ Mul (scales)         ─ [Reshape ─ Transpose] ─ layer
    expanded when run (.ort)          levels ─ DequantizeLinear (scales)   ─ [Reshape ─ Transpose] ─ layer

ONNX Runtime folds the first form to float32 once, when it loads a file, and then is as fast as with a float file
(DequantizeLinear is never folded: 1.5 to 9 times slower on the digits models). An .ort file is written after folding,
so the first form would be float32 in it; there, the second one stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pocketforge.quantization.encodings import Encoding, in_nibbles
from pocketforge.runtimes.onnx_ort_bytes import put_in_one_order
from pocketforge.runtimes.stored_weights import Matcher, Placed, in_half

# The first version whose Cast and Reshape take 4-bit integers.
INT4_OPSET = 21
# Of ONNX Runtime's optimizers: a layout for x86 only, and the fusion of quantized forms.
_NEVER = ("NchwcTransformer", "QDQSelectorActionTransformer")


def store_encodings(model: onnx.ModelProto, encodings: Mapping[str, Encoding], *, when_run: bool) -> list[str]:
    """Replace the weights by their encodings, in place. Returns the names of those that the file does not hold.

    when_run: the form for .ort files, whose format has no 4-bit type: levels take a byte each.
    """
    graph = model.graph
    matcher = Matcher(encodings)
    nodes: list[onnx.NodeProto] = []
    for constant in [i for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT]:
        placed = matcher.find(np.asarray(numpy_helper.to_array(constant)))
        if placed is None:
            continue
        name = constant.name
        graph.initializer.remove(constant)
        lookups = [n for n in graph.node if name in n.input]
        if lookups and not placed.encoding.group_size and all(_is_row_lookup(n, name) for n in lookups):
            _store_table(graph, placed, name, lookups)
        elif placed.encoding.group_size:
            nodes += _groups(graph, placed, name, when_run=when_run)
        else:
            nodes += _channels(graph, placed, name, when_run=when_run)
    _put_first(graph, nodes)
    return matcher.missing


def store_halves(model: onnx.ModelProto) -> int:
    """Store float32 weights in half precision, in place; they are cast back, once when loaded. Returns how many."""
    graph = model.graph
    casts = []
    for constant in list(graph.initializer):
        half = in_half(np.asarray(numpy_helper.to_array(constant)))
        if half is None:
            continue
        name = constant.name
        graph.initializer.remove(constant)
        graph.initializer.append(numpy_helper.from_array(half, f"{name}/half"))
        casts.append(helper.make_node("Cast", [f"{name}/half"], [name], to=onnx.TensorProto.FLOAT))
    _put_first(graph, casts)
    return len(casts)


def write_ort(source: Path, target: Path, *, keep_casts: bool) -> None:
    """Optimize `source` for ARM and write it in the .ort format, as onnxruntime's converter does.

    keep_casts: do not fold constants, so that a weight in half precision stays so. Quantized forms are not fused
    either: a dequantized weight and a MatMul would become an operator that quantizes its input too (8-bit MatMulNBits
    of accuracy level 4: 42 dB instead of 130 on a small DistilBERT). The converter itself has neither option.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    folding = ["ConstantFolding", "FuseFp16InitializerToFp32NodeTransformer"] if keep_casts else []
    ort.InferenceSession(
        str(source), options, providers=["CPUExecutionProvider"], disabled_optimizers=[*_NEVER, *folding]
    )
    put_in_one_order(target)


def _channels(graph: onnx.GraphProto, placed: Placed, name: str, *, when_run: bool) -> list[onnx.NodeProto]:
    """One scale, or one for each output channel: the levels lie as the weight did."""
    levels = _store_levels(graph, placed.levels, name, byte_each=when_run or placed.encoding.bits > 4)
    scales, axis = placed.encoding.scales, placed.axis
    if when_run:
        scales = scales.reshape(()) if axis is None else scales
    else:
        scales = scales.reshape([-1 if i == axis else 1 for i in range(len(placed.shape))])
    return _times_scales(graph, levels, scales, name, axis or 0, when_run=when_run)


def _groups(graph: onnx.GraphProto, placed: Placed, name: str, *, when_run: bool) -> list[onnx.NodeProto]:
    """A scale for each group of inputs: a row for each group, reshaped to the weight behind its scales."""
    levels = _store_levels(graph, placed.encoding.rows(), name, byte_each=when_run or placed.encoding.bits > 4)
    scales = placed.encoding.scales.reshape(-1)
    nodes = _times_scales(graph, levels, scales if when_run else scales[:, None], f"{name}/rows", 0, when_run=when_run)
    value = f"{name}/rows"
    moves = placed.rows_permutation != tuple(range(len(placed.order)))
    if moves:
        _store(graph, np.array(placed.rows_shape, np.int64), f"{name}/rows_shape")
        nodes.append(helper.make_node("Reshape", [value, f"{name}/rows_shape"], [f"{name}/axes"]))
        nodes.append(helper.make_node("Transpose", [f"{name}/axes"], [f"{name}/moved"], perm=placed.rows_permutation))
        value = f"{name}/moved"
    _store(graph, np.array(placed.shape, np.int64), f"{name}/shape")
    return [*nodes, helper.make_node("Reshape", [value, f"{name}/shape"], [name])]


def _times_scales(
    graph: onnx.GraphProto, levels: str, scales: NDArray[np.float32], out: str, axis: int, *, when_run: bool
) -> list[onnx.NodeProto]:
    _store(graph, scales, f"{out}/scales")
    if when_run:
        return [helper.make_node("DequantizeLinear", [levels, f"{out}/scales"], [out], axis=axis)]
    return [
        helper.make_node("Cast", [levels], [f"{out}/float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [f"{out}/float", f"{out}/scales"], [out]),
    ]


def _is_row_lookup(node: onnx.NodeProto, table: str) -> bool:
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    return node.op_type == "Gather" and axis == 0 and node.input[0] == table and node.input[1] != table


def _store_table(graph: onnx.GraphProto, placed: Placed, name: str, lookups: list[onnx.NodeProto]) -> None:
    """An embedding: rows are looked up as they are stored and scaled then, so that the table is never expanded."""
    _store(graph, placed.levels, f"{name}/levels")
    # A scale for each row is looked up as the row is; one for each column, or for all, fits every row.
    by_row = placed.axis == 0
    width = [1] * (len(placed.shape) - 1)
    scales = placed.encoding.scales.reshape([-1, *width] if by_row else [-1] if placed.axis is not None else [])
    _store(graph, scales, f"{name}/scales")
    for lookup in lookups:
        out, ids = lookup.output[0], lookup.input[1]
        nodes = [helper.make_node("Gather", [f"{name}/levels", ids], [f"{out}/levels"], axis=0)]
        scale = f"{name}/scales"
        if by_row:
            scale = f"{out}/scales"
            nodes.append(helper.make_node("Gather", [f"{name}/scales", ids], [scale], axis=0))
        nodes.append(helper.make_node("Cast", [f"{out}/levels"], [f"{out}/float"], to=onnx.TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{out}/float", scale], [out]))
        at = list(graph.node).index(lookup)
        graph.node.remove(lookup)
        for offset, node in enumerate(nodes):
            graph.node.insert(at + offset, node)


def _store_levels(graph: onnx.GraphProto, levels: NDArray[np.int8], name: str, *, byte_each: bool) -> str:
    stored = f"{name}/levels"
    if byte_each:
        _store(graph, levels, stored)
    else:
        packed = in_nibbles(levels).tobytes()
        graph.initializer.append(helper.make_tensor(stored, onnx.TensorProto.INT4, levels.shape, packed, raw=True))
    return stored


def _store(graph: onnx.GraphProto, array: NDArray[np.generic], name: str) -> None:
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))


def _put_first(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *old])
    # The exporter's types of values in between know nothing of the new ones; the checker infers them again.
    del graph.value_info[:]
