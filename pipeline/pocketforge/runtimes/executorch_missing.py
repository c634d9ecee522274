"""What ExecuTorch writes into a file although its runtime cannot compute it: refused by the layer's name."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from executorch.exir import EdgeProgramManager, ExecutorchProgramManager

from pocketforge.errors import StageFailed
from pocketforge.outcomes.nodes import LoweredNodes
from pocketforge.rewrites.graph import op_name, shape_of, where

_HINT = "write this layer with other operators, or try another runtime (onnx, tflite)"


def refuse_volumes(edge: EdgeProgramManager) -> None:
    """Raises StageFailed for a convolution in three dimensions: XNNPACK takes none, and the kernel that is there for it
    fails in each inference."""
    layers = [
        where(node)
        for node in edge.exported_program().graph.nodes
        if op_name(node) == "convolution" and len(shape_of(node)) > 4
    ]
    if layers:
        raise StageFailed(
            f"executorch has no convolution in three dimensions: {_listed(layers)}",
            "write it as a sum of two-dimensional ones over slices, or try another runtime (onnx, tflite)",
        )


def refuse_missing(program: ExecutorchProgramManager, nodes: LoweredNodes) -> None:
    """Raises StageFailed for operators of the file that the runtime has no kernel for: it would not load the file.

    nodes: of the program before it was written.
    """
    kernels = _kernels()
    used = {each.name + (f".{each.overload}" if each.overload else "")
            for plan in program.executorch_program.execution_plan for each in plan.operators}  # fmt: skip
    for name in sorted(used - kernels):
        kind = name.partition("::")[2].partition(".")[0]
        layers = [node.layer for node in nodes.nodes if node.op == kind] or [kind]
        raise StageFailed(f"executorch has no kernel for {kind} ({name}): {_listed(layers)}", _HINT)


def _kernels() -> set[str]:
    """Names of the operators that the runtime of this package has kernels for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its Python binding says that it is experimental
        from executorch.runtime import Runtime

        return set(Runtime.get().operator_registry.operator_names)


def _listed(layers: Iterable[str]) -> str:
    """The first three."""
    each = list(dict.fromkeys(layers))
    return ", ".join(each[:3]) + (f" and {len(each) - 3} more" if len(each) > 3 else "")
