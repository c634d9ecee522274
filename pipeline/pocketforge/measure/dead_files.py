"""Which layer a runtime means in its own words, where a file does not load or run: by what the exporter noted of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pocketforge.errors import ToolFailed
from pocketforge.runtimes.base import NODES

# As ExecuTorch's XNNPACK says which node it could not make or run, and its own loop which operator.
_HANDLE = re.compile(r"Failed to \w+ (?:\w+ )?node (\d+)")
_OPERATOR = re.compile(r"(?:in operator|Missing operator: \[\d+\]) aten::(\w+)")


def with_layer(error: ToolFailed, folder: Path) -> ToolFailed:
    """The error with the layer in its first line, and what to try; the same where the words tell none."""
    layer = layer_meant(error.stderr_tail, folder / NODES)
    if not layer:
        return error
    return ToolFailed(
        [f"{error.argv[0]}, at {layer},", *error.argv[1:]],
        error.returncode,
        error.stderr_tail,
        hint="write this layer with other operators, keep it in float (quantize.overrides), or try another runtime",
    )


def layer_meant(words: str, nodes: Path) -> str:
    """The layer, with its line of code; all that it may be, where an operator of several is named. Empty if unknown."""
    if not nodes.exists():
        return ""
    known = json.loads(nodes.read_text("utf-8"))
    handles = {int(handle) for handle in _HANDLE.findall(words)}
    # What quantizes a layer's values has the layer's own number.
    known.sort(key=lambda node: node["op"] == "quantized_decomposed")
    found = list({n["handle"]: n["layer"] for n in reversed(known) if n["handle"] in handles}.values())
    if not found:
        operators = set(_OPERATOR.findall(words))
        found = [node["layer"] for node in known if node["op"] in operators]
    return " or ".join(dict.fromkeys(found))
