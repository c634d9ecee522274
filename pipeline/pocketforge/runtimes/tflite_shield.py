"""Keeps TFLite's converter from changing weights that are to be stored as levels.

It folds a constant factor before a linear layer (of a layer norm) into the layer's weight. The product is no longer of
few levels. A weight behind quantize and dequantize ops is left as it is; once converted, `unshield` takes both away.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from ai_edge_litert import schema_py_generated as schema

from pocketforge.runtimes.tflite_edit import drop_unused_tensors
from pocketforge.runtimes.tflite_objects import Model, Operator, kind_of

# Convolutions' weights are changed by batch norms only, which are folded before.
_SHIELDED = ("linear", "addmm", "mm", "matmul")
# Nothing is ever computed with these: any parameters would do.
_PARAMETERS = (1.0, 0, -127, 127, torch.int8)


def shield(module: torch.nn.Module, weights: Collection[str]) -> None:
    """Put the ops behind `weights` (parameter names) where linear layers read them, in place."""
    graph: torch.fx.Graph = module.graph
    ops = torch.ops.quantized_decomposed
    for node in list(graph.nodes):
        if node.op != "call_function" or getattr(node.target, "__name__", "").split(".")[0] not in _SHIELDED:
            continue
        for position, source in enumerate(node.args):
            if not isinstance(source, torch.fx.Node) or source.op != "get_attr" or str(source.target) not in weights:
                continue
            with graph.inserting_before(node):
                levels = graph.call_function(ops.quantize_per_tensor.default, (source, *_PARAMETERS))
                floats = graph.call_function(ops.dequantize_per_tensor.default, (levels, *_PARAMETERS))
            node.update_arg(position, floats)
    graph.lint()
    module.recompile()  # type: ignore[operator]


def unshield(model: Model) -> None:
    """Let what reads a shielded constant read the constant itself, in place."""
    for number, graph in enumerate(model.subgraphs):
        made_by = {int(op.outputs[0]): op for op in graph.operators if _is(model, op, "QUANTIZE")}
        gone = {id(op) for op in made_by.values()}
        instead = {}
        for op in graph.operators:
            if _is(model, op, "DEQUANTIZE") and int(op.inputs[0]) in made_by:
                instead[int(op.outputs[0])] = int(made_by[int(op.inputs[0])].inputs[0])
                gone.add(id(op))
        if not gone:
            continue
        graph.operators = [op for op in graph.operators if id(op) not in gone]
        for op in graph.operators:
            op.inputs = [instead.get(int(i), int(i)) for i in op.inputs]
        drop_unused_tensors(model, number)


def _is(model: Model, op: Operator, name: str) -> bool:
    return kind_of(model, op) == int(getattr(schema.BuiltinOperator, name))
