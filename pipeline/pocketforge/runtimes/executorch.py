"""ExecuTorch: lowered to XNNPACK, with what was not delegated named."""

from __future__ import annotations

import collections
import json
from collections.abc import Sequence
from pathlib import Path

from executorch.backends.xnnpack._passes.channels_last_tagged_reshape_pass import (  # noqa: PLC2701 - no public name
    ChannelsLastTaggedReshapePass,
)
from executorch.devtools.backend_debug import get_delegation_info
from executorch.exir import EdgeProgramManager, to_edge_transform_and_lower
from executorch.exir.dialects._ops import ops as edge_ops  # noqa: PLC2701 - no public name
from executorch.exir.lowered_backend_module import LoweredBackendModule
from executorch.exir.passes.quantize_io_pass import quantize_input, quantize_output
from torch.export import ExportedProgram

import pocketforge.runtimes.executorch_patterns  # noqa: F401  leaves passes out
from pocketforge.errors import StageFailed
from pocketforge.outcomes import files
from pocketforge.outcomes.nodes import LoweredNode, LoweredNodes
from pocketforge.rewrites.graph import op_name, where
from pocketforge.rewrites.passes import EXECUTORCH, EXECUTORCH_INT8, rewritten
from pocketforge.runtimes.base import ExportRequest, ExportResult, TensorSpec, float_output, output_tensors
from pocketforge.runtimes.executorch_edge import plain
from pocketforge.runtimes.executorch_half import in_half
from pocketforge.runtimes.executorch_missing import refuse_missing, refuse_volumes
from pocketforge.runtimes.executorch_partitions import PartitionerWithoutCycles

# Left to the portable kernels these run orders of magnitude slower than in XNNPACK.
HEAVY_OPS = ("convolution", "conv1d", "conv2d", "linear", "addmm", "mm", "bmm", "matmul")

# XNNPACK's softmax runs over the last axis in memory. Behind a convolution that is the channels, unless the pass which
# lays maps out as NHWC is told that this op wants them as torch has them.
ChannelsLastTaggedReshapePass.memory_sensitive_ops_nchw.add(edge_ops.edge.aten._softmax.default)


def export(request: ExportRequest, out: Path) -> ExportResult:
    """Write model.pte. Raises StageFailed."""
    if request.is_weight_only:
        raise StageFailed(
            "XNNPACK takes no float inputs with int8 or int4 weights from ExecuTorch: the weights would be unpacked by "
            "portable kernels in each inference, and the layers computed by them too",
            'use scheme = "static_int8", or "dynamic_int8" for linear layers',
        )
    program = rewritten(request.program, EXECUTORCH_INT8 if request.is_int8 else EXECUTORCH)
    program = in_half(program) if request.is_half else program
    inputs = [
        TensorSpec(name, shape, str(t.dtype).removeprefix("torch."), request.file_layout if t.dim() == 4 else "")
        for name, shape, t in zip(request.input_names, request.taken_shapes, request.example, strict=True)
    ]
    outputs = output_tensors(program, request.output_names)
    if request.io == "int8":
        inputs, outputs = _quantize_io(program, inputs, outputs)
    edge = to_edge_transform_and_lower(
        program,
        transform_passes=[plain],
        partitioner=[PartitionerWithoutCycles()],
        constant_methods={
            "get_io": json.dumps({"inputs": _io(inputs), "outputs": _io(outputs)}, sort_keys=True),
            **({"get_about": json.dumps(request.about.to_json(inputs), sort_keys=True)} if request.about else {}),
        },
    )
    refuse_volumes(edge)
    _check_taken(edge)
    # Before to_executorch(), which changes the program it is called on.
    delegation, warnings = _delegation(edge)
    nodes = _nodes(edge)
    files.write(out, nodes)
    written = edge.to_executorch()
    refuse_missing(written, nodes)
    (out / "model.pte").write_bytes(written.buffer)
    return ExportResult({"model": "model.pte"}, inputs, outputs, {"delegation": delegation}, warnings)


def _quantize_io(
    program: ExportedProgram, inputs: list[TensorSpec], outputs: list[TensorSpec]
) -> tuple[list[TensorSpec], list[TensorSpec]]:
    def parameters(spec: TensorSpec, levels: Sequence[float]) -> TensorSpec:
        return TensorSpec(spec.name, spec.shape, "int8", spec.layout, float(levels[0]), int(levels[1]))

    for spec, made_by in zip(outputs, program.graph.output_node().args[0], strict=True):  # type: ignore[arg-type]
        if spec.dtype == "float32" and op_name(made_by) != "dequantize_per_tensor":
            raise float_output(spec.name, op_name(made_by))
    try:
        # What is an integer already stands for itself.
        new_inputs = [
            parameters(spec, quantize_input(program, i)) if spec.dtype == "float32" else spec
            for i, spec in enumerate(inputs)
        ]
        new_outputs = [
            parameters(spec, quantize_output(program, i)) if spec.dtype == "float32" else spec
            for i, spec in enumerate(outputs)
        ]
    except (ValueError, AssertionError) as error:
        raise StageFailed(f"cannot take int8 inputs and outputs: {error}", 'leave io at "float32"') from None
    program.graph_module.recompile()
    return new_inputs, new_outputs


def _check_taken(edge: EdgeProgramManager) -> None:
    """Raises StageFailed for a layer whose int8 weights XNNPACK has not taken: there is no other kernel for them."""
    for node in edge.exported_program().graph.nodes:
        if op_name(node) == "dequantize_per_channel":
            raise StageFailed(
                f"XNNPACK does not take {where(next(iter(node.users)))} in int8, and nothing else in ExecuTorch does",
                "keep the layer in float (quantize.overrides), write it with other operators, or try another runtime",
            )


def _io(specs: list[TensorSpec]) -> list[dict[str, object]]:
    return [
        {"name": s.name, **_open(s), **({"scale": s.scale, "zero_point": s.zero_point} if s.scale is not None else {})}
        for s in specs
    ]


def _open(spec: TensorSpec) -> dict[str, object]:
    """Axes that vary: the format knows the largest lengths, and not that there are others."""
    axes = [axis for axis, length in enumerate(spec.shape) if length == -1]
    return {"open": axes} if axes else {}


def _nodes(edge: EdgeProgramManager) -> LoweredNodes:
    """What the runtime's errors call by a number or by its operator, and the layer that it is of."""
    program = edge.exported_program().graph_module
    lowered = [part for part in program.children() if isinstance(part, LoweredBackendModule)]
    return LoweredNodes(
        tuple(
            LoweredNode(op_name(node), node.meta.get("debug_handle"), where(node))
            for graph in (program.graph, *(part.original_module.graph for part in lowered))
            for node in graph.nodes
            if node.op == "call_function" and op_name(node) not in ("executorch_call_delegate", "getitem")
        )
    )


def _delegation(edge: EdgeProgramManager) -> tuple[dict[str, object], list[str]]:
    program = edge.exported_program()
    info = get_delegation_info(program.graph_module)
    left: collections.Counter[str] = collections.Counter()
    heavy = []
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        name = getattr(node.target, "__name__", str(node.target))
        if "delegate" in name or "getitem" in name:
            continue
        left[name] += 1
        if any(part in HEAVY_OPS for part in name.replace(".", " ").split()):
            layers = [where for where, _ in (node.meta.get("nn_module_stack") or {}).values()]
            heavy.append(f"{name} ({layers[-1] if layers else node.name})")
    done, undone = info.num_delegated_nodes, info.num_non_delegated_nodes
    warnings = [f"not delegated to XNNPACK, so slow: {op}" for op in heavy]
    return {
        "subgraphs": info.num_delegated_subgraphs,
        "delegated_ops": done,
        "other_ops": undone,
        "delegated_share": done / max(done + undone, 1),
        "left": dict(sorted(left.items())),
    }, warnings
