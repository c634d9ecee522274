"""What the quantized graph of a target answered, and by which scales: from the folder of the step that made it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocketforge.devices.outputs import named_outputs
from pocketforge.measure.file_checks import Graph
from pocketforge.outcomes import files
from pocketforge.outcomes.quantize import Quantized


def read_graph(quantized: Path, names: Sequence[str]) -> Graph:
    """Its answers to the first samples. names: of the model's outputs, in order."""
    return Graph(named_outputs(quantized, names), output_scales(quantized, names))


def output_scales(quantized: Path, names: Sequence[str]) -> dict[str, float]:
    """Output → the real value of one level, of those that the graph quantizes."""
    levels = files.read(quantized, Quantized).outputs
    return {name: each.scale for name, each in zip(names, levels, strict=True) if each and each.scale}
