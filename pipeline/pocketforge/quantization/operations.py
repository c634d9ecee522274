"""What a graph computes between its layers, each operation by a name that an override can say: `cat@head`.

Layers are what has weights (weighted.py). An operation is named by its kind, as ATen calls it, and by the module in
whose `forward` it stands; the second of a kind in one module is `cat@head#2`, the model's own are `cat@.`, and
`cat@head:1` is the second part of a concat.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch.fx import Graph, Node

from pocketforge.errors import ModelError
from pocketforge.quantization.weighted import WEIGHTED, constant_before, nearest
from pocketforge.recipe.quantize import Override
from pocketforge.rewrites.graph import op_name

CONCAT = "cat"
THE_MODEL = "."
# Values as they were, in another place or shape: they are as their input is, and no override names them.
MOVING = frozenset({
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "t", "contiguous"),
    *("clone", "alias", "detach", "slice", "select", "split", "split_with_sizes", "chunk", "unbind", "getitem"),
    *("narrow", "expand", "expand_as", "repeat", "index_select", "to", "_to_copy", "dropout", "feature_dropout"),
    *("lift_fresh_copy", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "flip", "roll", "movedim", "swapaxes"),
})  # fmt: skip
# What has an int8 form here: those that the quantizer knows, and those that keep the levels of their input.
CAN_BE_INT8 = frozenset({
    *("add", "mul", "cat", "maximum", "minimum", "adaptive_avg_pool2d", "relu", "hardtanh", "relu6", "max_pool2d"),
    *("mean", "pad", "constant_pad_nd"),
})  # fmt: skip
_LEFT_FLOAT = "pocketforge_left_float"  # in a node's meta


@dataclass(frozen=True, slots=True)
class Operation:
    """What is computed between layers.

    Attributes:
        name: As an override names it.
        kind: ATen's word: `cat`, `add`, `softmax`.
        module: In whose `forward` it stands; "." for the model's own.
        node: The graph's node.
    """

    name: str
    kind: str
    module: str
    node: Node


def operations_of(graph: Graph) -> dict[Node, Operation]:
    """Every operation on floats that is no layer and no mere move, in the graph's order."""
    found: dict[Node, Operation] = {}
    counts: dict[str, int] = {}
    for node in graph.nodes:
        if not _computes(node):
            continue
        kind, module = op_name(node).rstrip("_"), _module_of(node)
        name = f"{kind}@{module}"
        counts[name] = counts.get(name, 0) + 1
        found[node] = Operation(name if counts[name] == 1 else f"{name}#{counts[name]}", kind, module, node)
    return found


def is_layer(node: Node) -> bool:
    """Whether it computes with weights; a product of two activations is an operation."""
    return op_name(node) in WEIGHTED and len(node.args) > 1 and constant_before(node.args[1]) is not None


def _computes(node: Node) -> bool:
    value = node.meta.get("val")
    if node.op != "call_function" or not isinstance(value, torch.Tensor | tuple | list):
        return False
    tensors = [value] if isinstance(value, torch.Tensor) else [v for v in value if isinstance(v, torch.Tensor)]
    kind = op_name(node).rstrip("_")
    return bool(
        tensors
        and tensors[0].is_floating_point()
        and kind not in MOVING
        and "quantize_per" not in kind
        and node.all_input_nodes  # zeros, arange and their like
        and not is_layer(node)
    )


def _module_of(node: Node) -> str:
    names = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values()]
    return re.sub(r"^L\['self'\]\.?", "", str(names[-1]) if names else "") or THE_MODEL


def overridden(overrides: Iterable[Override], graph: Graph) -> dict[str, str]:
    """Operation, or part of a concat (`cat@head:1`) → the scheme that the last override gives it.

    Raises ModelError for a pattern that means nothing, or that wants what the operation cannot be.
    """
    operations = list(operations_of(graph).values())
    by_name = {name: operation for operation in operations for name in _names(operation)}
    schemes: dict[str, str] = {}
    for override in overrides:
        for pattern in override.ops:
            meant = [name for name in by_name if _fits(name, pattern)]
            if not meant:
                known = [name for name in by_name if ":" not in name or ":" in pattern]
                raise ModelError(f"quantize.overrides: no operation is named {pattern!r}", nearest(pattern, known))
            for name in meant:
                operation = by_name[name]
                if override.scheme != "fp32" and ":" in name:
                    raise ModelError(
                        f"quantize.overrides: {name} is a part of a concat, which can be kept float only",
                        f"leave it out, or name the concat, {name.partition(':')[0]}",
                    )
                if override.scheme != "fp32" and operation.kind not in CAN_BE_INT8:
                    raise ModelError(
                        f"quantize.overrides: {name} has no int8 form: {operation.kind} is computed in float",
                        "leave it out; `pocketforge check RECIPE --verbose` lists what can be int8",
                    )
            if override.scheme != "fp32":  # of a whole concat: what was said of a part of it before no longer counts
                schemes = {name: scheme for name, scheme in schemes.items() if name.partition(":")[0] not in meant}
            schemes |= dict.fromkeys(meant, override.scheme)
    return schemes


def _names(operation: Operation) -> Iterator[str]:
    yield operation.name
    if operation.kind == CONCAT:
        yield from (f"{operation.name}:{number}" for number in range(len(parts_of(operation.node))))


def _fits(name: str, pattern: str) -> bool:
    """A pattern that does not count means all of a kind in a module, one without a part no part by itself."""
    name, _, part = name.partition(":")
    pattern, _, wanted = pattern.partition(":")
    if not fnmatch.fnmatchcase(part, wanted):
        return False
    all_of_kind = "#" not in pattern and fnmatch.fnmatchcase(name.split("#")[0], pattern)
    return all_of_kind or fnmatch.fnmatchcase(name, pattern)


def parts_of(concat: Node) -> list[Node]:
    """What a concat puts together."""
    given = concat.args[0]
    assert isinstance(given, tuple | list)
    return [part for part in given if isinstance(part, Node)]


def mark_float(graph: Graph, schemes: Mapping[str, str]) -> None:
    """Note at each node of the graph whether it is an operation that stays float by `schemes`.

    A part of a concat that is float makes the concat float, and what makes the part, back to its last layers.
    """
    operations = operations_of(graph)
    for node, operation in operations.items():
        for name in _names(operation):
            if schemes.get(name) == "fp32":
                node.meta[_LEFT_FLOAT] = True
                if ":" in name:
                    for each in _before(parts_of(node)[int(name.rpartition(":")[2])]):
                        each.meta[_LEFT_FLOAT] = True


def float_operations(schemes: Mapping[str, str]) -> tuple[str, ...]:
    """Those that `schemes` keep float by their own names."""
    return tuple(name for name, scheme in schemes.items() if "@" in name and scheme == "fp32")


def left_float(node: Node) -> bool:
    """Whether `mark_float` noted that it stays float."""
    return bool(node.meta.get(_LEFT_FLOAT))


def _before(part: Node) -> Iterator[Node]:
    """What a value is made by, back to layers and inputs."""
    seen: set[Node] = set()
    waiting = [part]
    while waiting:
        node = waiting.pop()
        if node in seen or node.op != "call_function" or is_layer(node):
            continue
        seen.add(node)
        yield node
        waiting += node.all_input_nodes
