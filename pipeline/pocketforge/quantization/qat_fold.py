"""Batch norm of a training graph, folded: before the training where its form cannot be trained, after it elsewhere.

torchao's own folding after the training matches patterns that it exports anew each time (100 of them, a minute), and
takes eps for 1e-5, whatever the model's is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.utils import fold_bn_weights_into_conv_node, fold_bn_weights_into_linear_node

from pocketforge.errors import ModelError
from pocketforge.quantization.graph_modes import tensor
from pocketforge.quantization.weighted import op_name, owner


def fold_where_not_trained(graph: GraphModule, schemes: Mapping[str, str]) -> list[str]:
    """Fold batch norm for good behind linear layers, and behind convolutions that stay float; returns their names.

    Of both, torchao's training form would leave batch norm, or its own multiplications, as float ops in the file.
    """
    folded: list[str] = []
    gone: list[str] = []
    for node in list(graph.graph.nodes):
        source = node.args[0] if op_name(node) == "batch_norm" else None
        if not isinstance(source, Node) or len(source.users) > 1 or not isinstance(node.args[3], Node):
            continue
        kind, name = op_name(source), owner(source)
        linear = kind == "linear" and node.meta["val"].ndim == 2
        if not linear and not (kind.startswith("conv") and schemes.get(name) == "fp32"):
            continue
        gone.append(str(node.args[3].target).removesuffix(".running_mean"))
        weight, bias = source.args[1], source.args[2] if len(source.args) > 2 else None
        fold: Callable[..., None] = fold_bn_weights_into_linear_node if linear else fold_bn_weights_into_conv_node
        fold(source, weight, bias, node, graph)
        folded.append(name)
    graph.graph.eliminate_dead_code()
    used = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    for name in gone:  # nothing is to train what computes nothing
        if not any(target.startswith(f"{name}.") for target in used):
            graph.delete_submodule(name)
    graph.recompile()
    return folded


@torch.no_grad()
def fold_trained(graph: GraphModule) -> None:
    """Replace each training form, in eval form, by one convolution of the same values, in place:

        batch_norm(conv(x, rounded(w × s)) / s + b)  =  conv(x, rounded(w × s)) + (b - mean) × s + shift

    with s = scale / √(variance + eps). Raises ModelError for a convolution that two batch norms share.
    """
    seen: set[str] = set()
    for norm in [n for n in graph.graph.nodes if op_name(n) == "batch_norm"]:
        form = _training_form(norm)
        if form is None:
            continue
        conv, product, bias = form
        weight = product.args[0]
        assert isinstance(weight, Node)
        if str(weight.target) in seen:
            raise ModelError(
                f"scheme qat_int8 cannot train a convolution that is used twice with batch norm ({owner(weight)})",
                'use scheme = "static_int8", or give each use a convolution of its own',
            )
        seen.add(str(weight.target))
        scale, shift, mean, variance = (tensor(graph, str(n.target)) for n in norm.args[1:5])
        s = scale / torch.sqrt(variance + norm.args[7])
        values = tensor(graph, str(weight.target))
        old = tensor(graph, str(bias.target)) if bias is not None else torch.zeros_like(mean)
        shape = product.args[1].args[1]
        values.copy_(values * s.reshape(shape))
        product.replace_all_uses_with(weight)
        conv.args = (*conv.args[:2], _bias(graph, conv, weight, bias, (old - mean) * s + shift), *conv.args[3:])
        norm.replace_all_uses_with(conv)
        # Batch norm changes its statistics, so no clean-up dares to remove it.
        graph.graph.erase_node(norm)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _training_form(norm: Node) -> tuple[Node, Node, Node | None] | None:
    """(the convolution, the product of weight and scale, the bias) before a batch norm; None where nothing is fused."""
    before, bias = norm.args[0], None
    if isinstance(before, Node) and op_name(before) == "add":
        before, reshaped = before.args
        if not isinstance(reshaped, Node) or op_name(reshaped) != "reshape":
            return None
        bias = reshaped.args[0]
    if not isinstance(before, Node) or op_name(before) != "div":
        return None
    conv = before.args[0]
    if not isinstance(conv, Node) or not op_name(conv).startswith("conv"):
        return None
    rounded = conv.args[1]
    product = rounded.args[0] if isinstance(rounded, Node) and rounded.op == "call_module" else rounded
    if not isinstance(product, Node) or op_name(product) != "mul":
        return None
    return conv, product, bias


def _bias(graph: GraphModule, conv: Node, weight: Node, bias: Node | None, values: Tensor) -> Node:
    """The bias that the convolution gets, written over its old one where it has one."""
    if bias is not None:
        tensor(graph, str(bias.target)).copy_(values)
        return bias
    layer = str(weight.target).rpartition(".")[0]
    graph.get_submodule(layer).register_parameter("bias", nn.Parameter(values))
    with graph.graph.inserting_before(conv):
        return graph.graph.get_attr(f"{layer}.bias".lstrip("."))
