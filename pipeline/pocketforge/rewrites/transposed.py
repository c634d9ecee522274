"""Transposed convolutions in the forms that TFLite has, of the same function.

litert-torch writes one-dimensional ones and most padded ones wrongly, and fails on output_padding and on groups.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import Node

from pocketforge.rewrites.graph import (
    TRANSPOSED,
    Editor,
    full_arguments,
    is_constant,
    op_name,
    per_axis,
    shape_of,
    up_to,
)
from pocketforge.rewrites.norms import scale_and_shift

aten = torch.ops.aten
# Up to this many groups are computed one by one; more, as one convolution over a map with zeros between its values.
MOST_SPLIT = 8
_CONVOLUTION = {1: aten.conv1d.default, 2: aten.conv2d.default}


def fold_norms(editor: Editor) -> None:
    """Batch norm behind a grouped transposed convolution, folded: others mistake the axes of its weight.

    Behind a one-dimensional one too, which becomes two-dimensional, with a reshape between it and the norm.
    """
    for node in editor.nodes():
        layer = node.args[0] if op_name(node) == "batch_norm" else None
        if not isinstance(layer, Node) or op_name(layer) not in TRANSPOSED or not is_constant(node.args[3]):
            continue
        args = full_arguments(layer)
        weight, bias, groups = args[1], args[2], args[6]
        if (groups == 1 and op_name(layer) != "conv_transpose1d") or len(layer.users) > 1 or not is_constant(weight):
            continue
        scale, shift = scale_and_shift(editor, node)
        old = editor.value(weight)
        wide = scale.reshape(groups, 1, -1, *[1] * (old.dim() - 2))
        values = (old.double().reshape(groups, -1, *old.shape[1:]) * wide).reshape(old.shape)
        moved = shift if bias is None else shift + editor.value(bias).double() * scale
        name = str(weight.target).removesuffix(".weight")
        args[1] = editor.constant(f"{name}.weight", values.to(old.dtype), layer)
        args[2] = editor.constant(f"{name}.bias", moved.to(old.dtype), layer)
        editor.arguments(layer, args)
        editor.replace(node, layer)


def in_two_dimensions(editor: Editor) -> None:
    """A one-dimensional transposed convolution as a two-dimensional one over a map of height 1."""
    for node in editor.nodes():
        if op_name(node) != "conv_transpose1d" or not is_constant(node.args[1]):
            continue
        source, weight, bias, stride, padding, outer, groups, dilation = full_arguments(node)
        shape, values = shape_of(source), editor.value(weight)
        if len(shape) != 3:
            continue
        flat = editor.constant(str(weight.target), values.detach().unsqueeze(2).clone(), node)
        given = editor.call(aten.reshape.default, source, [shape[0], shape[1], 1, -1], like=node)
        one = [(fill, per_axis(v, 1)[0]) for fill, v in ((1, stride), (0, padding), (0, outer), (1, dilation))]
        args = (*(list(pair) for pair in one[:3]), groups, list(one[3]))
        flat_conv = editor.call(aten.conv_transpose2d.input, given, flat, bias, *args, like=node)
        editor.replace(node, editor.call(aten.reshape.default, flat_conv, [*shape_of(node)[:2], -1], like=node))


def without_padding(editor: Editor) -> None:
    """Padding, output_padding and dilation as a whole output of which the edges are cut off.

    litert-torch gets by itself right only what TFLite calls VALID, and SAME where the map grows by the stride; of the
    rest, some fail and some are wrong.
    """
    for node in editor.nodes():
        if op_name(node) != "conv_transpose2d" or not is_constant(node.args[1]):
            continue
        source, weight, bias, stride, padding, outer, groups, dilation = full_arguments(node)
        strides, paddings, outers, dilations = (per_axis(v, 2) for v in (stride, padding, outer, dilation))
        before, after = shape_of(source)[2:], shape_of(node)[2:]
        grows = all(b * s == a for b, s, a in zip(before, strides, after, strict=True))
        if max(*dilations, 1) == 1 and not any(outers) and (grows or not any(paddings)):
            continue
        # Behind the last row, output_padding takes rows that the kernel may not reach.
        lack = [max(0, o - p) for o, p in zip(outers, paddings, strict=True)]
        values = _spread(editor.value(weight).detach(), dilations, lack)
        kernel = weight if values is None else editor.constant(str(weight.target), values, node)
        plain = (source, kernel, bias, strides, [0, 0], [0, 0], groups, [1, 1])
        whole = editor.call(aten.conv_transpose2d.input, *plain, like=node)
        for axis, (start, size) in enumerate(zip(paddings, after, strict=True), 2):
            if cut := shape_of(whole)[axis] - size:
                whole = editor.call(aten.slice.Tensor, whole, axis, start, up_to(cut - start), like=node)
        editor.replace(node, whole)


def _spread(weight: Tensor, dilations: list[int], lack: list[int]) -> Tensor | None:
    """A kernel with the zeros that dilation means written out, and `lack` more behind; None where it is as before."""
    sizes = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    if not any(lack) and tuple(sizes) == tuple(weight.shape[2:]):
        return None
    wide = weight.new_zeros(*weight.shape[:2], *(n + more for n, more in zip(sizes, lack, strict=True)))
    wide[:, :, : sizes[0] : dilations[0], : sizes[1] : dilations[1]] = weight
    return wide


def without_groups(editor: Editor) -> None:
    """Grouped transposed convolutions: few groups one by one, many (depthwise) as an ordinary grouped convolution."""
    for node in editor.nodes():
        if op_name(node) != "conv_transpose2d" or not is_constant(node.args[1]):
            continue
        groups = full_arguments(node)[6]
        if 1 < groups <= MOST_SPLIT:
            _split(editor, node, groups)
        elif groups > MOST_SPLIT:
            _over_zeros(editor, node)


def _split(editor: Editor, node: Node, groups: int) -> None:
    source, weight, bias, stride, padding, outer, _, dilation = full_arguments(node)
    values = editor.value(weight).detach().chunk(groups)
    biases = [None] * groups if bias is None else editor.value(bias).detach().chunk(groups)
    name, width = str(weight.target).removesuffix(".weight"), shape_of(source)[1] // groups
    parts = []
    for number, (w, b) in enumerate(zip(values, biases, strict=True)):
        part = editor.call(aten.slice.Tensor, source, 1, number * width, (number + 1) * width, like=node)
        w_node = editor.constant(f"{name}.group_{number}.weight", w.clone(), node)
        b_node = None if b is None else editor.constant(f"{name}.group_{number}.bias", b.clone(), node)
        args = (part, w_node, b_node, stride, padding, outer, 1, dilation)
        parts.append(editor.call(aten.conv_transpose2d.input, *args, like=node))
    editor.replace(node, editor.call(aten.cat.default, parts, 1, like=node))


def _over_zeros(editor: Editor, node: Node) -> None:
    """Zeros between the values of the map, then an ordinary convolution with the kernel turned round."""
    source, weight, bias, stride, padding, outer, groups, dilation = full_arguments(node)
    strides, paddings, outers, dilations = (per_axis(v, 2) for v in (stride, padding, outer, dilation))
    n, c, h, w = shape_of(source)
    value = source
    if strides[1] > 1:
        value = editor.call(aten.reshape.default, value, [n * c, h, w, 1], like=node)
        value = editor.call(aten.constant_pad_nd.default, value, [0, strides[1] - 1], 0.0, like=node)
    if strides[0] > 1:
        value = editor.call(aten.reshape.default, value, [n * c, h, 1, w * strides[1]], like=node)
        value = editor.call(aten.constant_pad_nd.default, value, [0, 0, 0, strides[0] - 1], 0.0, like=node)
    value = editor.call(aten.reshape.default, value, [n, c, h * strides[0], w * strides[1]], like=node)
    turned = _turned(editor.value(weight).detach(), groups)
    name = str(weight.target)
    kernel = editor.constant(name, turned, node)
    before = [d * (k - 1) - p for d, k, p in zip(dilations, turned.shape[2:], paddings, strict=True)]
    after = [b + o - (s - 1) for b, o, s in zip(before, outers, strides, strict=True)]
    pads = [before[1], after[1], before[0], after[0]]
    if any(pad > 0 for pad in pads):
        value = editor.call(aten.constant_pad_nd.default, value, [max(0, p) for p in pads], 0.0, like=node)
    for axis, (first, last) in ((3, pads[:2]), (2, pads[2:])):
        if min(first, last) < 0:
            length = shape_of(value)[axis]
            start, stop = max(0, -first), length - max(0, -last)
            value = editor.call(aten.slice.Tensor, value, axis, start, stop, like=node)
    value = editor.call(_CONVOLUTION[2], value, kernel, bias, [1, 1], [0, 0], dilations, groups, like=node)
    editor.replace(node, value)


def _turned(weight: Tensor, groups: int) -> Tensor:
    """(inputs, outputs a group, …) of a transposed convolution → (outputs, inputs a group, …) of an ordinary one."""
    by_group = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2)
    return by_group.reshape(-1, *by_group.shape[2:]).flip((2, 3)).contiguous()
