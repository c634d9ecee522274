"""Traced graphs as files (`.pt2`): one way to open them."""

from __future__ import annotations

from pathlib import Path

import torch

import pocketforge.rewrites.torch_lookups  # noqa: F401  two thirds of the time in which a graph is read


def load(path: Path) -> torch.export.ExportedProgram:
    """The graph that torch.export.save wrote. Raises what torch.export.load does."""
    return torch.export.load(path)
