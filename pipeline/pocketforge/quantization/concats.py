"""Concats whose parts are of unlike range: boxes in pixels beside scores from 0 to 1, as YOLO's heads answer.

A concat in int8 has one scale, in every runtime's kernel, and all that makes its parts is asked for that scale: scores
beside boxes up to 640 become 0 or 2.5. Where the concat is, or becomes, an output of the model, it stays float instead:
each part keeps the scale of what makes it. Where a layer reads it, that layer has one scale for its input anyhow, and
what the part loses there is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from pocketforge.metrics import Arrays
from pocketforge.model.evaluate import one_sample
from pocketforge.outcomes.quantize import Concat, ConcatPart
from pocketforge.outcomes.reference import StepSequence
from pocketforge.quantization.clamps import LARGE
from pocketforge.quantization.operations import CONCAT, Operation, is_layer, operations_of, parts_of
from pocketforge.quantization.weighted import owner
from pocketforge.rewrites.graph import is_guard, op_name

# Of the 256 levels that all parts share: with fewer over its own range, a part is kept apart. 32 are 5 bits, some 30 dB
# for values spread evenly; 3 bits less than it would have by itself.
LEAST_LEVELS = 32
_LEVELS = 255
# What one scale, or another, costs the parts is measured on so many of the samples.
_MEASURED_SAMPLES = 32


@dataclass(frozen=True, slots=True)
class KeptApart:
    """What is to stay float so that parts keep their own scales.

    Attributes:
        schemes: Operation → "fp32", to be added to those of layers.
        concats: Each concat with a part that one scale for all would harm.
    """

    schemes: Mapping[str, str]
    concats: tuple[Concat, ...]


def keep_apart(
    module: GraphModule, samples: Arrays, told: Mapping[str, str], sequence: StepSequence | None = None
) -> KeptApart:
    """Decide for each concat by the ranges of its parts over `samples` (one array an input, samples first).

    module: the float graph, rewritten for the quantizer; it is not changed. told: schemes by an operation's own name,
    of which a concat's own counts.
    """
    operations = operations_of(module.graph)
    concats = [each for each in operations.values() if each.kind == CONCAT and each.name not in told]
    concats = [each for each in concats if len(parts_of(each.node)) > 1]
    if not concats:
        return KeptApart({}, ())
    probe = _Parts(module, [part for each in concats for part in parts_of(each.node)])
    ranges = probe.ranges(samples, sequence)
    starved = [each for each in concats if _least_levels([ranges[part] for part in parts_of(each.node)]) < LEAST_LEVELS]
    if not starved:
        return KeptApart({}, ())
    to_outputs = _with_a_way_to_outputs(module.graph)
    spans = [(part, span) for each in starved for part in parts_of(each.node) for span in (_shared(each, ranges),)]
    noise = _Parts(module, [part for part, _ in spans]).noise(samples, sequence, spans, ranges)
    found: list[Concat] = []
    schemes: dict[str, str] = {}
    for each in starved:
        float_ones = [operations[node] for node in _on_the_way(each.node, to_outputs) if node in operations]
        schemes |= {other.name: "fp32" for other in float_ones if other.name not in told}
        found.append(
            Concat(
                name=each.name,
                kept_apart=bool(float_ones),
                parts=_described(each, operations, ranges, noise),
                float_operations=tuple(other.name for other in float_ones),
            )
        )
    return KeptApart(schemes, tuple(found))


Span = tuple[float, float]


class _Parts:
    """A graph that answers some of its inner values."""

    def __init__(self, module: GraphModule, nodes: Iterable[Node]) -> None:
        self.nodes = list(dict.fromkeys(nodes))
        graph = Graph()
        copies: dict[Node, Node] = {}
        graph.graph_copy(module.graph, copies)
        graph.output(tuple(copies[node] for node in self.nodes))
        self.module = GraphModule(module, graph)
        for node in list(graph.nodes):  # what insists on sizes, which is as it was
            if is_guard(node):
                graph.erase_node(node)
        graph.eliminate_dead_code()
        self.module.recompile()

    def values(self, samples: Arrays, sequence: StepSequence | None, count: int) -> Iterable[Sequence[Tensor]]:
        with torch.no_grad():
            for index in range(count):
                yield self.module(*one_sample(samples, index, sequence))

    def ranges(self, samples: Arrays, sequence: StepSequence | None) -> dict[Node, Span]:
        """Of each value, with 0 in it, as every scale has it."""
        spans = dict.fromkeys(self.nodes, (0.0, 0.0))
        for values in self.values(samples, sequence, len(samples[0])):
            for node, value in zip(self.nodes, values, strict=True):
                if value.numel():
                    low, high = (float(end) for end in value.aminmax())
                    spans[node] = _least(spans[node][0], low), -_least(-spans[node][1], -high)
        return spans

    def noise(
        self,
        samples: Arrays,
        sequence: StepSequence | None,
        shared: Sequence[tuple[Node, Span]],
        own: Mapping[Node, Span],
    ) -> dict[tuple[Node, Span], tuple[float, float]]:
        """SQNR (dB) of each value in a range that it shares, of which it may have several, and in its own."""
        sums = {pair: [0.0, 0.0, 0.0] for pair in shared}
        for values in self.values(samples, sequence, min(len(samples[0]), _MEASURED_SAMPLES)):
            of_node = dict(zip(self.nodes, values, strict=True))
            for (node, span), total in sums.items():
                value = of_node[node]
                errors = (value - _rounded(value, span), value - _rounded(value, own[node]))
                for place, each in enumerate((value, *errors)):
                    total[place] += float(each.double().square().sum())
        return {pair: (_db(signal, lost), _db(signal, lost_alone)) for pair, (signal, lost, lost_alone) in sums.items()}


def _least(one: float, other: float) -> float:
    """NaN stays NaN."""
    return other if other < one or math.isnan(other) else one


def _rounded(value: Tensor, span: Span) -> Tensor:
    scale = max((span[1] - span[0]) / _LEVELS, torch.finfo(torch.float32).tiny)
    zero = round(-span[0] / scale)
    return torch.fake_quantize_per_tensor_affine(value, scale, zero, 0, _LEVELS)


def _db(signal: float, noise: float) -> float:
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else math.inf


def _shared(concat: Operation, ranges: Mapping[Node, Span]) -> Span:
    """The range that all parts of a concat have together."""
    return _together([ranges[part] for part in parts_of(concat.node)])


def _together(ranges: Sequence[Span]) -> Span:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _levels(own: Span, shared: Span) -> float:
    width = shared[1] - shared[0]
    return _LEVELS * (own[1] - own[0]) / width if width > 0 else math.inf


def _least_levels(ranges: Sequence[Span]) -> float:
    """Of the part that gets fewest of those that all share.

    A part of zeros alone needs none. Masks, and what no scale can hold (NaN), are none of this module's affair.
    """
    if not all(abs(end) < LARGE for own in ranges for end in own):
        return math.inf
    shared = _together(ranges)
    return min((_levels(own, shared) for own in ranges if own[1] > own[0]), default=math.inf)


def _described(
    concat: Operation,
    operations: Mapping[Node, Operation],
    ranges: Mapping[Node, Span],
    noise: Mapping[tuple[Node, Span], tuple[float, float]],
) -> tuple[ConcatPart, ...]:
    parts = parts_of(concat.node)
    shared = _shared(concat, ranges)
    return tuple(
        ConcatPart(
            made_by=_maker(part, operations),
            low=ranges[part][0],
            high=ranges[part][1],
            levels=min(_levels(ranges[part], shared), _LEVELS),
            shared_db=noise[part, shared][0] if math.isfinite(noise[part, shared][0]) else None,
            own_db=noise[part, shared][1] if math.isfinite(noise[part, shared][1]) else None,
        )
        for part in parts
    )


def _maker(part: Node, operations: Mapping[Node, Operation]) -> str:
    """The operation, layer or input that a part is of, before it was moved."""
    node = part
    while node not in operations and not is_layer(node) and node.all_input_nodes:
        node = node.all_input_nodes[0]
    if node in operations:
        return operations[node].name
    return owner(node) if is_layer(node) else str(node.target)


def _with_a_way_to_outputs(graph: Graph) -> set[Node]:
    """Nodes whose values come to an output of the model without a layer between."""
    reached: set[Node] = set()
    waiting = list(graph.output_node().all_input_nodes)
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += [] if is_layer(node) else node.all_input_nodes
    return reached


def _on_the_way(concat: Node, to_outputs: set[Node]) -> list[Node]:
    """The concat and what lies between it and the outputs, in the graph's order; nothing where layers alone read it."""
    seen: set[Node] = set()
    waiting = [concat]
    while waiting:
        node = waiting.pop()
        if node in to_outputs and node not in seen and op_name(node) != "output" and not (is_layer(node) and seen):
            seen.add(node)
            waiting += node.users
    return sorted(seen)
