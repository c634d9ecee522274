"""LSTMs with int8 weights → ONNX Runtime's own operator, com.microsoft.DynamicQuantizeLSTM.

It quantizes what the layer reads, and its state at each step, by their ranges at that step. The graph that is exported
holds weights that are rounded to levels already (quantization/recurrent.py): here levels and scales are found again,
exactly, as each row reaches the last level. An LSTM whose weights are on no levels stays as it is.

Weights become uint8 (value + 128, zero point 128), as those of linear layers do (onnx_dynamic.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from pocketforge.metrics import Array
from pocketforge.runtimes.onnx_dynamic import ZERO_POINT

DOMAIN = "com.microsoft"
# Last levels of 8 to 2 bits, those of more bits first: 4-bit levels are no 8-bit ones.
_LIMITS = tuple(2 ** (bits - 1) - 1 for bits in range(8, 1, -1))
# Of a level: what float32 loses of level × scale, and float weights do not come near to in all of a matrix.
_OFF_LEVEL = 1e-3
_WEIGHTS = (1, 2)  # inputs of ONNX's LSTM: of what it reads, of its state
_FIRST_OF_SCALES = 8
_TAKEN = ("activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget")


@dataclass(frozen=True, slots=True)
class _Levels:
    """Of a weight, directions × gates × inputs: int8 values, and a scale for each direction or for each of its rows."""

    values: NDArray[np.int16]
    scales: NDArray[np.float32]


def quantize_lstms(model: onnx.ModelProto) -> int:
    """Rewrite each LSTM whose weights are on levels, in place. Returns how many."""
    graph = model.graph
    nodes = list(graph.node)
    count = 0
    for index, node in enumerate(nodes):
        levels = _levels_of(graph, node) if node.op_type == "LSTM" else []
        if levels:
            nodes[index] = _quantized(graph, node, levels)
            count += 1
    if not count:
        return 0
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_dead(graph)
    del graph.value_info[:]
    if not any(each.domain == DOMAIN for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return count


def _levels_of(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[_Levels]:
    """Of both weights; empty where one is computed from inputs, or is on no levels."""
    found = []
    for name in (node.input[i] for i in _WEIGHTS):
        value = _computed(graph, name)
        levels = None if value is None else _on_levels(value)
        if levels is None:
            return []
        found.append(levels)
    return found


def _on_levels(weight: Array) -> _Levels | None:
    for limit in _LIMITS:
        for axes in ((2,), (1, 2)):
            largest = np.abs(weight).max(axes, keepdims=True)
            scales = np.where(largest > 0, largest / np.float32(limit), np.float32(1)).astype(np.float32)
            exact = weight.astype(np.float64) / scales
            values = np.rint(exact)
            if np.abs(exact - values).max() < _OFF_LEVEL:
                return _Levels(
                    values.astype(np.int16), scales.reshape(len(weight), -1).squeeze(-1 if 1 in axes else ())
                )
    return None


def _quantized(graph: onnx.GraphProto, node: onnx.NodeProto, levels: list[_Levels]) -> onnx.NodeProto:
    inputs = [*node.input, *[""] * (_FIRST_OF_SCALES - len(node.input))]
    for position, each in zip(_WEIGHTS, levels, strict=True):
        name = f"{node.output[0] or node.output[1]}/{'of_input' if position == 1 else 'of_state'}"
        # The operator multiplies from the right: directions × inputs × gates.
        stored = np.ascontiguousarray((each.values + ZERO_POINT).astype(np.uint8).transpose(0, 2, 1))
        parts = {
            f"{name}/uint8": stored,
            f"{name}/scale": each.scales,
            f"{name}/zero_point": np.full(each.scales.shape, ZERO_POINT, np.uint8),
        }
        graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in parts.items())
        inputs[position], *scales = parts
        inputs += scales
    bias = _computed(graph, node.input[3]) if len(node.input) > 3 and node.input[3] else None
    if bias is not None:
        inputs[3] = f"{inputs[1]}/bias"
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(bias), inputs[3]))
    made = helper.make_node("DynamicQuantizeLSTM", inputs, list(node.output), node.name, domain=DOMAIN)
    made.attribute.extend(each for each in node.attribute if each.name in _TAKEN)
    return made


def _computed(graph: onnx.GraphProto, name: str) -> Array | None:
    """The value of what is made from constants alone; None of what inputs decide."""
    constants = {each.name: each for each in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    given = {each.name for each in graph.input} - constants.keys()
    needed: set[str] = set()  # first outputs, which name nodes
    used: set[str] = set()
    waiting = [name]
    while waiting:
        value = waiting.pop()
        if not value or value in used:
            continue
        used.add(value)
        if value in given:
            return None
        if value in makers:
            needed.add(makers[value].output[0])
            waiting += makers[value].input
    if name in constants:
        return np.asarray(numpy_helper.to_array(constants[name]))
    nodes = [node for node in graph.node if node.output[0] in needed]
    asked = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    part = helper.make_graph(
        nodes, "constants", [], [asked], [constants[each] for each in sorted(used) if each in constants]
    )
    (value,) = ReferenceEvaluator(helper.make_model(part, opset_imports=[helper.make_opsetid("", 20)])).run(None, {})
    return np.asarray(value)


def _drop_dead(graph: onnx.GraphProto) -> None:
    """Remove what made the float weights."""
    outputs = {value.name for value in graph.output}
    while True:
        used = {name for node in graph.node for name in node.input} | outputs
        dead = [node for node in graph.node if not used & set(node.output)]
        if not dead:
            break
        for node in dead:
            graph.node.remove(node)
    for initializer in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(initializer)
