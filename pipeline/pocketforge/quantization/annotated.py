"""What a prepared graph says of each layer and operation: whether it will be int8."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from pocketforge.outcomes.annotate import AnnotatedPart, Numbers
from pocketforge.quantization.operations import MOVING, is_layer, operations_of
from pocketforge.quantization.recurrent import RECURRENT, name_of, weights_of
from pocketforge.quantization.weighted import LOOKED_UP, count_weights, name_of_table, op_name, owner, table_of
from pocketforge.rewrites.float_inputs import is_normalized

ADAPTIVE = "adaptive_avg_pool2d"
# What gives some of its values: levels asked for behind it can be asked for before it.
PASSING = frozenset({"upsample_nearest2d", "max_pool2d"})


def annotated_parts(prepared: GraphModule, schemes: Mapping[str, str] | None = None) -> tuple[AnnotatedPart, ...]:
    """Layers and operations of a graph with observers, in its order; a layer once, however often it is called.

    schemes: of recurrent layers, which have no observers.
    """
    operations = operations_of(prepared.graph)
    found: dict[str, AnnotatedPart] = {}
    for node in prepared.graph.nodes:
        if is_layer(node):
            name, kind = owner(node), op_name(node)
            part = AnnotatedPart(name, kind, _of_layer(prepared, node), count_weights(prepared, name), operation=False)
        elif op_name(node) in RECURRENT:
            # A layer to who asks what share of the weights is int8, although torchao's quantizer does not know it.
            name, kind = name_of(node), op_name(node)
            made: Numbers = "dynamic_int8" if (schemes or {}).get(name) == "dynamic_int8" else "float"
            part = AnnotatedPart(name, kind, made, weights_of(node, prepared), operation=False)
        elif op_name(node) in LOOKED_UP and table_of(node) is not None:
            # So is an embedding, which may be most of a model.
            part = AnnotatedPart(
                name_of_table(node), op_name(node), "float", weights_of(node, prepared), operation=False
            )
        elif node in operations:
            operation = operations[node]
            maker = operations.get(_maker(node)) if operation.kind in PASSING else None
            numbers, form, made_by = _of_operation(node, made=maker is not None), _form(node), ""
            if numbers == "through" and maker is not None:
                made_by = maker.name
            part = AnnotatedPart(operation.name, operation.kind, numbers, 0, operation=True, form=form, made_by=made_by)
        else:
            continue
        # Of a layer that is called twice, the call that stays float is what has to be known.
        if part.name not in found or part.numbers == "float":
            found[part.name] = part
    return tuple(found.values())


def _of_layer(prepared: GraphModule, node: Node) -> Numbers:
    source = node.args[0]
    if not (isinstance(source, Node) and _is_observer(source)):
        return "float"
    return "dynamic_int8" if getattr(prepared.get_submodule(str(source.target)), "is_dynamic", False) else "int8"


def _of_operation(node: Node, *, made: bool) -> Numbers:
    """made: it passes on what another operation made without levels."""
    annotation = node.meta.get(Q_ANNOTATION_KEY)
    if annotation is not None and (annotation.input_qspec_map or annotation.output_qspec):
        return "int8"
    read = [each for each in node.all_input_nodes if _is_float(each)]
    reads_levels = bool(read) and all(map(_has_levels, read))
    if reads_levels and _readers_have_levels(node, MOVING):
        return "between"
    if (reads_levels or made) and _readers_have_levels(node, MOVING | PASSING):
        return "through"
    # An average that a norm reads is rounded to no levels before it.
    return "behind" if reads_levels and not is_normalized(node) else "float"


def _maker(node: Node) -> Node:
    """What made the value that a node reads, before it was moved; the observer where it has levels."""
    source = node.all_input_nodes[0]
    while op_name(source) in MOVING and source.all_input_nodes:
        source = source.all_input_nodes[0]
    return source


def _form(node: Node) -> str:
    """Pooling to one place, in equal windows or in others are kernels of their own."""
    if op_name(node) != ADAPTIVE:
        return ""
    source = node.all_input_nodes[0]
    while _is_observer(source):
        source = source.all_input_nodes[0]
    before, after = (tuple(each.meta["val"].shape[-2:]) for each in (source, node))
    if after == (1, 1):
        return "to 1"
    return "in equal windows" if not any(b % a for b, a in zip(before, after, strict=True)) else "in others"


def _is_observer(node: Node) -> bool:
    return node.op == "call_module" and str(node.target).startswith("activation_post_process")


def _is_float(node: Node) -> bool:
    value = node.meta.get("val")
    return _is_observer(node) or not isinstance(value, torch.Tensor) or value.is_floating_point()


def _has_levels(node: Node) -> bool:
    """Whether a value is observed, or is one that was and has only been moved since."""
    while op_name(node) in MOVING and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return _is_observer(node)


def _readers_have_levels(node: Node, passing: frozenset[str]) -> bool:
    return bool(node.users) and all(
        _is_observer(user) or (op_name(user) in passing and _readers_have_levels(user, passing)) for user in node.users
    )
