"""What a logarithm, a root or a division reads stays float: these tell small values apart, which 8 bits do not.

Levels lie evenly over a range, the smallest values share one or two of them, and `log` makes of these the larger part
of its own range: log(x² + 0.01) with x² up to 2.3, as a front end for sound has it, had 6 dB (a keyword spotter).
"""

from __future__ import annotations

from torch.fx import Graph, Node
from torch.fx.node import Argument

from pocketforge.quantization.operations import MOVING, operations_of
from pocketforge.rewrites.graph import is_guard, op_name
from pocketforge.rewrites.weights import constant_value, is_of_constants

# What is steepest near zero, by its first input.
STEEP = frozenset({"log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal"})
# What gives its output levels of their own.
_WITH_LEVELS = frozenset({"add", "mul", "cat", "maximum", "minimum"})
# What makes small values of small ones. Not exp, sigmoid and their like: their small values come of ordinary ones.
_CARRYING = frozenset({
    *_WITH_LEVELS, *MOVING, *("stack", "square", "pow", "abs", "neg", "sub", "sum", "mean", "div", "sqrt", "amax"),
    *("amin", "clamp", "clamp_min", "clamp_max", "relu", "relu6", "hardtanh", "adaptive_avg_pool1d"),
    *("adaptive_avg_pool2d", "avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d"),
})  # fmt: skip


def made_for_steep_ones(graph: Graph) -> tuple[str, ...]:
    """Names of sums, products, concats and the like whose value goes to logarithms, roots and divisors alone.

    Back to layers, whose own levels stay, and to what others read as well.
    """
    operations = operations_of(graph)
    read_small: set[Node] = set()
    for node in reversed(graph.nodes):
        readers = [user for user in node.users if not is_guard(user)]
        if readers and all(
            _is_steep(reader, node) or (reader in read_small and _kind(reader) in _CARRYING) for reader in readers
        ):
            read_small.add(node)
    return tuple(each.name for node, each in operations.items() if node in read_small and each.kind in _WITH_LEVELS)


def made_of_constants(graph: Graph) -> tuple[str, ...]:
    """Names of sums, products and the like that are computed from constants alone, as a table of positions' angles:
    of angles up to 128 radians 8 bits leave every second one, and their sines are noise."""
    known: dict[Node, bool] = {}
    return tuple(
        each.name
        for node, each in operations_of(graph).items()
        if each.kind in _WITH_LEVELS and is_of_constants(node, known)
    )


def _is_steep(reader: Node, value: Node) -> bool:
    """Whether it tells small ones of this input apart: of a division the divisor, of powers those below one."""
    kind = _kind(reader)
    if kind == "div":
        return reader.args[1] is value
    if kind == "pow":
        return reader.args[0] is value and _smallest(reader.args[1]) < 1
    return kind in STEEP


def _smallest(exponent: Argument) -> float:
    """Of an exponent, which may be learnt, one for each channel; 2 where it is not known before the model runs."""
    if not isinstance(exponent, Node):
        return float(exponent) if isinstance(exponent, int | float) else 2.0
    value = constant_value(exponent)
    return 2.0 if value is None else float(value.min())


def _kind(node: Node) -> str:
    return op_name(node).rstrip("_")
