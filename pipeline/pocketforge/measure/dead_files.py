"""Which layer a runtime means in its own words, where a file does not load or run: by what the exporter noted of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pocketforge.errors import ToolFailed
from pocketforge.outcomes import files
from pocketforge.outcomes.nodes import LoweredNode, LoweredNodes

# As ExecuTorch's XNNPACK says which node it could not make or run, and its own loop which operator.
_HANDLE = re.compile(r"Failed to \w+ (?:\w+ )?node (\d+)")
_OPERATOR = re.compile(r"(?:in operator|Missing operator: \[\d+\]) aten::(\w+)")


def with_layer(error: ToolFailed, folder: Path) -> ToolFailed:
    """The error with the layer in its first line, and what to try; the same where the words tell none."""
    if not (folder / LoweredNodes.FILE).exists():
        return error
    layer = layer_meant(error.stderr_tail, files.read(folder, LoweredNodes).nodes)
    if not layer:
        return error
    return ToolFailed(
        [f"{error.argv[0]}, at {layer},", *error.argv[1:]],
        error.returncode,
        error.stderr_tail,
        hint="write this layer with other operators, keep it in float (quantize.overrides), or try another runtime",
    )


def layer_meant(words: str, nodes: Iterable[LoweredNode]) -> str:
    """The layer, with its line of code; all that it may be, where an operator of several is named. Empty if unknown."""
    handles = {int(handle) for handle in _HANDLE.findall(words)}
    # What quantizes a layer's values has the layer's own number.
    ordered = sorted(nodes, key=lambda node: node.op == "quantized_decomposed")
    layers = list({node.handle: node.layer for node in reversed(ordered) if node.handle in handles}.values())
    if not layers:
        operators = set(_OPERATOR.findall(words))
        layers = [node.layer for node in ordered if node.op in operators]
    return " or ".join(dict.fromkeys(layers))
