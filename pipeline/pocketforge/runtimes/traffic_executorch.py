"""What the operators of a .pte file move: those inside of XNNPACK delegates, and the portable kernels between them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pocketforge.runtimes import describe_executorch as pte
from pocketforge.runtimes.executorch_tables import Value, XnnTensor
from pocketforge.runtimes.traffic import Moved, size_of, window

_SPATIAL = frozenset({"Conv2d", "ConvTranspose2d"})
# XNNPACK makes a clamp part of these, where nothing else reads what they give (subgraph.c, xnn_subgraph_fusion).
_CLAMPED = _SPATIAL | {"DepthwiseConv2d", "FullyConnected", "Add"}


def read(path: Path) -> Iterator[Moved]:
    """Operators in the order of the first method's instructions. Raises ValueError for another delegate."""
    program = pte.load_program(path.read_bytes())
    plan = next(p for p in program.tables.execution_plan if p.instructions)
    for instruction in plan.instructions:
        call = instruction.instr_args
        if instruction.instr_args_type == "DelegateCall":
            delegate = plan.delegates[call.delegate_index]
            if delegate.id != "XnnpackBackend":
                raise ValueError(f"delegate {delegate.id} is opaque")
            yield from _delegated(pte.delegate_blob(delegate, program))
        elif instruction.instr_args_type == "KernelCall":
            yield _kernel(plan.operators[call.op_index].name, [plan.values[i] for i in call.args])


def _kernel(name: str, values: Sequence[Value]) -> Moved:
    tensors = [(value, tensor) for value in values if (tensor := value.tensor) is not None]
    sizes = [size_of(tensor.sizes, pte.dtype_of(tensor.scalar_type), name) for _, tensor in tensors]
    # An out-variant's results are its last argument, which its return value repeats.
    repeated = len(tensors) > 1 and tensors[-1][0] is tensors[-2][0]
    inputs = list(zip(tensors, sizes, strict=True))[: -2 if repeated else -1]
    stored = sum(size for (_, tensor), size in inputs if tensor.data_buffer_idx)
    return Moved(name, stored, sum(size for _, size in inputs) - stored, sum(sizes[-1:]))


def _delegated(blob: bytes) -> Iterator[Moved]:
    graph = pte.xnnpack_graph(blob)
    if graph is None:
        raise ValueError("its XNNPACK delegate is of another schema")
    tensors = [value.parts[0] for value in graph.xvalues]
    values = {tensor.id_out: tensor for tensor in tensors}
    nodes = [(node.kind, node.ids, node.xnode_union) for node in graph.xnodes]
    makers = {ids["output_id"]: kind for kind, ids, _ in nodes if "output_id" in ids}
    readers = Counter(i for _, ids, _ in nodes for field, i in ids.items() if field.startswith("input"))
    for kind, ids, table in nodes:
        given = ids.get("input_id", -1)
        if kind == "Clamp" and makers.get(given) in _CLAMPED and readers[given] == 1:
            continue
        named = {field: values[i] for field, i in ids.items() if i in values}
        outputs = [value for field, value in named.items() if field.startswith("output")]
        inputs = [value for field, value in named.items() if not field.startswith("output")]
        stored = sum(_size(value, kind) for value in inputs if value.constant_buffer_idx)
        rows = 0
        if outputs and (kind in _SPATIAL or (kind == "FullyConnected" and stored)):
            rows = math.prod(outputs[0].dims[:-1])
        moved = sum(_size(value, kind) for value in inputs) - stored
        again = _window(table, moved, inputs[0].dims) if kind == "DepthwiseConv2d" else (0, 0, 0)
        yield Moved(kind, stored, moved, sum(_size(value, kind) for value in outputs), rows, *again)


def _window(table: Mapping[str, object], input_bytes: int, dims: Sequence[int]) -> tuple[int, int, int]:
    """Of a depthwise convolution of an NHWC input."""
    kernel, width, stride = (table.get(field) for field in ("kernel_height", "kernel_width", "subsampling_height"))
    if not (isinstance(kernel, int) and isinstance(width, int) and isinstance(stride, int) and len(dims) == 4):
        raise ValueError("a depthwise convolution's window is not told")
    return *window(input_bytes, dims[1], kernel, stride), kernel * width


def _size(value: XnnTensor, kind: str) -> int:
    return size_of(value.dims, pte.xnnpack_dtype(value.datatype), kind)
