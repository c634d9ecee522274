"""Batch norms that cannot be folded into the layer before them, in a form that nothing folds wrongly."""

from __future__ import annotations

import collections

import torch
from torch import Tensor
from torch.fx import Node

from pocketforge.rewrites.graph import CONVOLUTIONS, TRANSPOSED, Editor, full_arguments, is_constant, op_name, shape_of

aten = torch.ops.aten
_DEPTHWISE = {3: aten.conv1d.default, 4: aten.conv2d.default, 5: aten.conv3d.default}


def without_statistics(editor: Editor) -> None:
    """A batch norm without running statistics takes the sample's own: at batch 1, group norm with a group a channel."""
    for node in editor.nodes():
        if op_name(node) not in ("batch_norm", "instance_norm"):
            continue
        source, weight, bias, mean, _, own, _, eps, *_ = full_arguments(node)
        shape = shape_of(source)
        if (mean is not None and not own) or len(shape) < 3 or shape[0] != 1:
            continue
        editor.replace(node, editor.call(aten.group_norm.default, source, shape[1], weight, bias, eps, like=node))


def behind_shared_outputs(editor: Editor) -> None:
    """A batch norm behind a layer whose output others read too, in a form of its own.

    torchao and others fold it into the layer, and change what the others read. Behind a convolution it becomes
    a depthwise 1 × 1 convolution, which int8 computes with a scale for each channel; behind a linear layer, a copy of
    that layer with the norm folded in.
    """
    for node in editor.nodes():
        if op_name(node) != "batch_norm" or not is_constant(node.args[3]):
            continue
        # Norms in a row are folded one after the other: then the last stands behind the layer itself.
        chain = [node.args[0]]
        while isinstance(chain[-1], Node) and op_name(chain[-1]) == "batch_norm" and is_constant(chain[-1].args[3]):
            chain.append(chain[-1].args[0])
        *between, layer = chain
        if not isinstance(layer, Node) or all(len(each.users) == 1 for each in chain):
            continue
        kind = op_name(layer)
        if kind in (*CONVOLUTIONS, *TRANSPOSED) and len(shape_of(layer)) in _DEPTHWISE:
            _as_depthwise(editor, node, chain[0])
        elif kind == "linear" and len(shape_of(layer)) == 2:
            _as_linear(editor, node, layer, between)


def of_levels(editor: Editor) -> None:
    """A batch norm in three dimensions as a product and a sum: XNNPACK makes a convolution of it and misses its levels,
    of its input (no file) or of its output (a dead one).
    """
    for node in _in_three_dimensions(editor):
        _as_product(editor, node)


def of_several_lines(editor: Editor) -> None:
    """The same of one that is called several times: XNNPACK's pass for one-dimensional convolutions changes its weight,
    once for each call, and there is no file.
    """
    norms = _in_three_dimensions(editor)
    calls = collections.Counter(_module_name(node) for node in norms)
    for node in norms:
        if calls[_module_name(node)] > 1:
            _as_product(editor, node)


def _in_three_dimensions(editor: Editor) -> list[Node]:
    """Batch norms with statistics, of [N, C, L]."""
    norms = [node for node in editor.nodes() if op_name(node) == "batch_norm" and is_constant(node.args[3])]
    return [node for node in norms if len(shape_of(node.args[0])) == 3]


def _as_product(editor: Editor, node: Node) -> None:
    dtype, name = editor.value(node.args[3]).dtype, _module_name(node)
    scale, shift = (value.to(dtype).reshape(-1, 1) for value in scale_and_shift(editor, node))
    product = editor.call(aten.mul.Tensor, node.args[0], editor.constant(f"{name}.scale", scale, node), like=node)
    moved = editor.constant(f"{name}.shift", shift, node)
    editor.replace(node, editor.call(aten.add.Tensor, product, moved, like=node))


def scale_and_shift(editor: Editor, node: Node) -> tuple[Tensor, Tensor]:
    """What a batch norm in eval form multiplies each channel by, and what it adds; in double precision."""
    _, weight, bias, mean, variance, _, _, eps, *_ = full_arguments(node)
    scale = torch.rsqrt(editor.value(variance).double() + eps)
    if weight is not None:
        scale = scale * editor.value(weight).double()
    shift = -editor.value(mean).double() * scale
    return scale, shift if bias is None else shift + editor.value(bias).double()


def _module_name(node: Node) -> str:
    """The batch norm's own name: that of its statistics."""
    return str(node.args[3].target).removesuffix(".running_mean")  # type: ignore[union-attr]


def _as_depthwise(editor: Editor, node: Node, source: Node) -> None:
    scale, shift = scale_and_shift(editor, node)
    axes, dtype = len(shape_of(source)) - 2, editor.value(node.args[3]).dtype
    name = f"{_module_name(node)}.depthwise"
    weight = editor.constant(f"{name}.weight", scale.to(dtype).reshape(-1, 1, *[1] * axes), node)
    bias = editor.constant(f"{name}.bias", shift.to(dtype), node)
    one, zero = [1] * axes, [0] * axes
    conv = editor.call(_DEPTHWISE[axes + 2], source, weight, bias, one, zero, one, len(scale), like=node)
    editor.replace(node, conv)


def _as_linear(editor: Editor, node: Node, layer: Node, between: list[Node]) -> None:
    """between: norms on the way from the layer, the nearest to `node` first."""
    given, weight, bias = full_arguments(layer)
    if not is_constant(weight) or not (bias is None or is_constant(bias)):
        return
    old = editor.value(weight)
    values = old.double()
    moved = values.new_zeros(len(values)) if bias is None else editor.value(bias).double()
    for norm in (*reversed(between), node):
        scale, shift = scale_and_shift(editor, norm)
        values, moved = values * scale[:, None], moved * scale + shift
    name = f"{_module_name(node)}.folded"
    folded = editor.constant(f"{name}.weight", values.to(old.dtype), node)
    shifted = editor.constant(f"{name}.bias", moved.to(old.dtype), node)
    editor.replace(node, editor.call(aten.linear.default, given, folded, shifted, like=node))
