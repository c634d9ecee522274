"""Which range calibration saw at each tensor, and the levels that were made of it: for readers of reports."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch.fx import GraphModule, Node

from pocketforge.outcomes.quantize import CalibratedRange
from pocketforge.quantization.observers import ActivationObserver, observer_of, words_of


@dataclass(frozen=True, slots=True)
class Seen:
    """An observed tensor of a graph that is not converted yet.

    Attributes:
        node: The name of the node that makes it, which it keeps when the graph is converted.
        words: What it is, for readers.
        observer: What observed it.
    """

    node: str
    words: str
    observer: ActivationObserver


def seen_by(prepared: GraphModule) -> tuple[Seen, ...]:
    """In the graph's order; a tensor that two layers read is one, and weights are none."""
    found: dict[str, Seen] = {}
    for node in prepared.graph.nodes:
        observer = observer_of(prepared, node)
        made = node.args[0] if isinstance(observer, ActivationObserver) else None
        if isinstance(made, Node) and isinstance(observer, ActivationObserver):
            found.setdefault(made.name, Seen(made.name, words_of(made), observer))
    return tuple(found.values())


def ranges_of(seen: tuple[Seen, ...], converted: GraphModule) -> tuple[CalibratedRange, ...]:
    """With the scale and the zero point that the converted graph has; a search for a range is not made twice.

    Without those for a tensor whose levels the conversion took out (another's were the same).
    """
    levels: dict[str, tuple[float, int]] = {}
    for node in converted.graph.nodes:
        if "quantize_per_tensor" not in str(node.target) or "dequantize" in str(node.target):
            continue
        made, scale, zero_point = node.args[:3]
        if isinstance(made, Node) and isinstance(scale, float | int) and isinstance(zero_point, int):
            levels.setdefault(made.name, (float(scale), zero_point))
    rows = []
    for each in seen:
        low, high = each.observer.seen()
        if math.isfinite(low) and math.isfinite(high):
            scale_of, zero_of = levels.get(each.node, (None, None))
            rows.append(CalibratedRange(each.words, low, high, scale_of, zero_of))
    return tuple(rows)
