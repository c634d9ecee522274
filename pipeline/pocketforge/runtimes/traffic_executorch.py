"""What the operators of a .pte file move: those inside of XNNPACK delegates, and the portable kernels between them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pocketforge.runtimes import describe_executorch as pte
from pocketforge.runtimes.traffic import Moved, size_of

_SPATIAL = frozenset({"Conv2d", "ConvTranspose2d"})
# XNNPACK makes a clamp part of these, where nothing else reads what they give (subgraph.c, xnn_subgraph_fusion).
_CLAMPED = _SPATIAL | {"DepthwiseConv2d", "FullyConnected", "Add"}


def read(path: Path) -> Iterator[Moved]:
    """Operators in the order of the first method's instructions. Raises ValueError for another delegate."""
    program = pte.load_program(path.read_bytes())
    plan = next(p for p in program.tables["execution_plan"] if pte.instructions(p))
    for instruction in pte.instructions(plan):
        arguments = instruction["instr_args"]
        if instruction["instr_args_type"] == "DelegateCall":
            delegate = plan["delegates"][arguments["delegate_index"]]
            if delegate["id"] != "XnnpackBackend":
                raise ValueError(f"delegate {delegate['id']} is opaque")
            yield from _delegated(pte.delegate_blob(delegate, program))
        elif instruction["instr_args_type"] == "KernelCall":
            name = plan["operators"][arguments["op_index"]]["name"]
            yield _kernel(name, [plan["values"][i] for i in arguments["args"]])


def _kernel(name: str, values: list[Any]) -> Moved:
    tensors = [v["val"] for v in values if v["val_type"] == "Tensor"]
    sizes = [size_of(t["sizes"], pte.dtype_of(t["scalar_type"]), name) for t in tensors]
    # An out-variant's results are its last argument, which its return value repeats.
    outputs = sizes[-1:]
    inputs = list(zip(tensors, sizes, strict=True))[: -2 if len(tensors) > 1 and tensors[-1] is tensors[-2] else -1]
    stored = sum(size for tensor, size in inputs if tensor["data_buffer_idx"])
    return Moved(name, stored, sum(size for _, size in inputs) - stored, sum(outputs))


def _delegated(blob: bytes) -> Iterator[Moved]:
    graph = pte.xnnpack_graph(blob)
    if graph is None:
        raise ValueError("its XNNPACK delegate is of another schema")
    values = {}
    for value in graph["xvalues"]:
        tensor = value["xvalue_union"]
        base = tensor["tensor_value"] if value["xvalue_union_type"] == "XNNQuantizedTensorValue" else tensor
        values[base["id_out"]] = base
    nodes = [(n["xnode_union_type"].removeprefix("XNN"), n["xnode_union"]) for n in graph["xnodes"]]
    makers = {fields["output_id"]: kind for kind, fields in nodes if "output_id" in fields}
    readers = Counter(i for _, fields in nodes for field, i in fields.items() if field.startswith("input"))
    for kind, fields in nodes:
        given = fields.get("input_id")
        if kind == "Clamp" and makers.get(given) in _CLAMPED and readers[given] == 1:
            continue
        named = {field: values[i] for field, i in fields.items() if field.endswith("_id") and i in values}
        outputs = [v for field, v in named.items() if field.startswith("output")]
        inputs = [v for field, v in named.items() if not field.startswith("output")]
        stored = sum(_size(v, kind) for v in inputs if v["constant_buffer_idx"])
        rows = 0
        if outputs and (kind in _SPATIAL or (kind == "FullyConnected" and stored)):
            rows = math.prod(outputs[0]["dims"][:-1])
        moved = sum(_size(v, kind) for v in inputs) - stored
        yield Moved(kind, stored, moved, sum(_size(v, kind) for v in outputs), rows)


def _size(value: Any, kind: str) -> int:
    return size_of(value["dims"], pte.xnnpack_dtype(value["datatype"]), kind)
