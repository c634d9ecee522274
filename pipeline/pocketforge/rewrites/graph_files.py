"""Traced graphs as files (`.pt2`): one way to open them."""

from __future__ import annotations

from pathlib import Path

import torch

import pocketforge.rewrites.torch_lookups  # noqa: F401  two thirds of the time in which a graph is read
from pocketforge.rewrites.shapes import shapes_of


def load(path: Path) -> torch.export.ExportedProgram:
    """The graph that torch.export.save wrote. Raises what torch.export.load does."""
    program = torch.export.load(path)
    shapes = shapes_of(program)
    if shapes is None:
        return program
    # Of sizes that vary a file keeps the expressions and not what they came from: passes over the graph fail ("expected
    # sympy.Symbol", "Could not extract specialized integer"). Traced again it is as it was before it was written.
    return torch.export.export(program.module(), program.example_inputs[0], dynamic_shapes=shapes, strict=False)
