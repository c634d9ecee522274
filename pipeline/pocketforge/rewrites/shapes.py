"""Sizes of a program's inputs that vary, as torch.export wants to be told of them again after a graph was changed."""

from __future__ import annotations

import torch
from torch.export import Dim, ExportedProgram


def shapes_of(program: ExportedProgram) -> tuple[dict[int, object] | None, ...] | None:
    """Of each input axis → what its length may be, None where all is fixed; None where all inputs are."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    dims: dict[str, object] = {}
    found: list[dict[int, object] | None] = []
    for name in program.graph_signature.user_inputs:
        lengths = tuple(getattr(values[str(name)], "shape", ()))
        axes = {
            axis: _dim(length, program, dims) for axis, length in enumerate(lengths) if isinstance(length, torch.SymInt)
        }
        found.append(axes or None)
    return tuple(found) if any(found) else None


def _dim(length: torch.SymInt, program: ExportedProgram, dims: dict[str, object]) -> object:
    """A step times a Dim, which all lengths of one symbol share."""
    expression = length.node.expr
    if len(expression.free_symbols) != 1:
        raise ValueError(f"a size that varies has become {expression} in the graph: an operator fixes it")
    (symbol,) = expression.free_symbols
    step = int(expression.coeff(symbol))
    within = program.range_constraints.get(expression) or program.range_constraints[symbol]
    scale = step if expression in program.range_constraints and step > 1 else 1
    known = dims.setdefault(
        str(symbol), Dim(f"_{symbol}", min=int(within.lower) // scale, max=int(within.upper) // scale)
    )
    return step * known if step > 1 else known  # type: ignore[operator]
