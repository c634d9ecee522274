"""The train and the eval form of an exported graph.

A graph has no mode: dropout and batch norm hold theirs as literals. torchao's move_exported_model_to_train and _eval
rewrite these ops by pattern and lose their numbers (dropout's p becomes 0.5, batch norm's eps 1e-5, its momentum 0.1);
here only the flag is set. Ops that know no flag (rrelu, code that branches on self.training) have no eval form: whoever
exports a training graph has to compare it with the module in eval mode.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.fx import GraphModule, Node

_DROPOUTS = {
    "dropout.default", "dropout_.default", "feature_dropout.default", "feature_dropout_.default",
    "alpha_dropout.default", "alpha_dropout_.default", "feature_alpha_dropout.default",
    "feature_alpha_dropout_.default",
}  # fmt: skip
_ATTENTION = "scaled_dot_product_attention.default"
_BATCH_NORM = "batch_norm.default"


@dataclass(frozen=True, slots=True)
class Dropout:
    """One place of dropout.

    Attributes:
        place: Its number in the graph's order and the module it is in.
        p: The share of values that are dropped.
        training: Whether they are.
    """

    place: str
    p: float
    training: bool


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """One batch norm with running statistics.

    Attributes:
        name: Of its module.
        eps: Added to the variance.
        momentum: The share of a batch in the running statistics.
        training: Whether it takes the batch's statistics.
        scaled_with_eps: Of the running variance that scales the weights of the convolution before it, where PT2E has
            fused the two for training; else None.
    """

    name: str
    eps: float
    momentum: float
    training: bool
    scaled_with_eps: float | None = None


def dropouts(graph: GraphModule) -> list[Dropout]:
    """Dropout ops and attention's dropout, in the graph's order."""
    places: list[Dropout] = []
    for node in graph.graph.nodes:
        kind = _kind(node)
        if kind in _DROPOUTS:
            places.append(Dropout(f"{len(places)} ({_module_of(node)})", float(node.args[1]), bool(node.args[2])))
        elif kind == _ATTENTION and node.meta.get("dropout_p", _attention_p(node)):
            p = _attention_p(node)
            places.append(Dropout(f"{len(places)} ({_module_of(node)})", p or node.meta["dropout_p"], bool(p)))
    return places


def batch_norms(graph: GraphModule) -> list[BatchNorm]:
    """In the graph's order; one without running statistics is the same in both forms and left out."""
    scaled = _scaling_eps(graph)
    norms = []
    for node in _batch_norm_nodes(graph):
        name = _tensor_name(node.args[3]).removesuffix(".running_mean")
        eps = scaled.get(_tensor_name(node.args[4]))
        norms.append(BatchNorm(name, node.args[7], node.args[6], bool(node.args[5]), eps and eps.args[1]))  # type: ignore[arg-type]
    return norms


def set_form(graph: GraphModule, *, dropout: bool, batch_norm: bool) -> None:
    """Whether dropout drops, and whether batch norm takes the batch's statistics (and updates the running ones)."""
    changed = False
    for node in graph.graph.nodes:
        kind = _kind(node)
        if kind in _DROPOUTS:
            changed |= _put(node, 2, dropout)
        elif kind == _ATTENTION:
            node.meta.setdefault("dropout_p", _attention_p(node))
            changed |= _put_attention_p(node, node.meta["dropout_p"] if dropout else 0.0)
    for node in _batch_norm_nodes(graph):
        changed |= _put(node, 5, batch_norm)
    if changed:
        graph.recompile()


def set_batch_norms(graph: GraphModule, numbers: dict[str, tuple[float, float]]) -> None:
    """Give each batch norm, and the scaling fused from it, its (eps, momentum) back."""
    scaled = _scaling_eps(graph)
    for node in _batch_norm_nodes(graph):
        eps, momentum = numbers[_tensor_name(node.args[3]).removesuffix(".running_mean")]
        _put(node, 7, eps)
        _put(node, 6, momentum)
        scaling = scaled.get(_tensor_name(node.args[4]))
        if scaling is not None:
            _put(scaling, 1, eps)
    graph.recompile()


def tensor(graph: GraphModule, name: str) -> torch.Tensor:
    """The parameter or buffer of that name."""
    owner, _, last = name.rpartition(".")
    value: torch.Tensor = getattr(graph.get_submodule(owner), last)
    return value


def _kind(node: Node) -> str:
    return getattr(node.target, "__name__", "") if node.op == "call_function" else ""


def _batch_norm_nodes(graph: GraphModule) -> list[Node]:
    return [n for n in graph.graph.nodes if _kind(n) == _BATCH_NORM and isinstance(n.args[3], Node)]


def _scaling_eps(graph: GraphModule) -> dict[str, Node]:
    """running_var's name → the node that adds eps to it, outside of batch norm."""
    return {
        _tensor_name(n.args[0]): n
        for n in graph.graph.nodes
        if _kind(n) == "add.Tensor" and _tensor_name(n.args[0]).endswith("running_var")
    }


def _tensor_name(argument: object) -> str:
    return str(argument.target) if isinstance(argument, Node) and argument.op == "get_attr" else ""


def _module_of(node: Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).removeprefix("L['self'].") if stack else str(node.name)


def _put(node: Node, position: int, value: float | bool) -> bool:
    if node.args[position] == value:
        return False
    node.args = (*node.args[:position], value, *node.args[position + 1 :])
    return True


def _attention_p(node: Node) -> float:
    p = node.args[4] if len(node.args) > 4 else node.kwargs.get("dropout_p", 0.0)
    return float(p)  # type: ignore[arg-type]


def _put_attention_p(node: Node, p: float) -> bool:
    if _attention_p(node) == p:
        return False
    if len(node.args) > 4:
        node.args = (*node.args[:4], p, *node.args[5:])
    else:
        node.kwargs = {**node.kwargs, "dropout_p": p}
    return True
