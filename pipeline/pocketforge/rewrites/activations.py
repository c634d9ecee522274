"""Activations in a row, which a runtime takes for one."""

from __future__ import annotations

import math

import torch
from torch.fx import Node

from pocketforge.rewrites.graph import Editor, first_input, full_arguments, op_name

aten = torch.ops.aten
_ENDS = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}


def one_after_another(editor: Editor) -> None:
    """A relu, relu6 or hardtanh of another, that nothing else reads, as one: XNNPACK gives a layer the ends of the last
    (a relu6 behind a layer, then a hardtanh from -1.5 to 2: 12 dB).
    """
    for node in editor.nodes():
        after = _ends(node)
        before = _ends(first_input(node)) if after else None
        if not before or not after or len(first_input(node).users) > 1:
            continue
        lowest, highest = (min(max(end, after[0]), after[1]) for end in before)
        source = first_input(first_input(node))
        if highest == math.inf:
            editor.replace(node, editor.call(aten.relu.default, source, like=node))
        else:
            editor.replace(node, editor.call(aten.hardtanh.default, source, lowest, highest, like=node))


def _ends(node: Node) -> tuple[float, float] | None:
    """The lowest and highest value that an activation gives; None of what is none."""
    if op_name(node) == "hardtanh":
        _, lowest, highest = full_arguments(node)
        return float(lowest), float(highest)  # type: ignore[arg-type]
    return _ENDS.get(op_name(node))
