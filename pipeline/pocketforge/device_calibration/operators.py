"""The operators of a calibration model: what each moves (the memory term's input), and its multiply-accumulates."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from ai_edge_litert import schema_py_generated as schema

from pocketforge.estimation.traffic import Operator
from pocketforge.runtimes.traffic_tflite import operators as moved_by


@dataclass(frozen=True, slots=True)
class Counted:
    """One operator.

    Attributes:
        moved: Its bytes and rows.
        macs: Its multiply-accumulates.
    """

    moved: Operator
    macs: int


def operators(data: bytes) -> list[Counted]:
    """The operators of a .tflite file, in execution order."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    counted = []
    for operator, moved in moved_by(model):
        inputs = [int(i) for i in operator.inputs if i >= 0]
        shape = [int(n) for n in graph.tensors[int(operator.outputs[0])].shape]
        counted.append(Counted(Operator(**dataclasses.asdict(moved)), _macs(moved.kind, graph, inputs, shape)))
    return counted


def _macs(kind: str, graph: schema.SubGraphT, inputs: list[int], shape: list[int]) -> int:
    """Multiply-accumulates of one operator."""
    outputs = math.prod(shape)
    if kind == "CONV_2D" or kind == "FULLY_CONNECTED":
        weights = [int(n) for n in graph.tensors[inputs[1]].shape]
        return outputs * math.prod(weights[1:])
    if kind == "DEPTHWISE_CONV_2D":
        weights = [int(n) for n in graph.tensors[inputs[1]].shape]
        return outputs * weights[1] * weights[2]
    if kind == "BATCH_MATMUL":
        return outputs * int(graph.tensors[inputs[0]].shape[-1])
    return 0
