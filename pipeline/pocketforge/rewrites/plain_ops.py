"""Ops written out in the form that every exporter reads right: no argument left out, nothing that one of them lacks."""

from __future__ import annotations

import torch
from torch.fx import Node

from pocketforge.rewrites.graph import (
    CONVOLUTIONS,
    Editor,
    first_input,
    full_arguments,
    op_name,
    overload,
    per_axis,
    shape_of,
    up_to,
)

aten = torch.ops.aten
_POOLS = ("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d")
_PLAIN = {"conv1d": aten.conv1d.default, "conv2d": aten.conv2d.default, "conv3d": aten.conv3d.default}


def write_defaults(editor: Editor) -> None:
    """Write out the stride of a pooling that has none written: XNNPACK's partitioner looks for it by its position."""
    for node in editor.nodes():
        if op_name(node) not in _POOLS:
            continue
        args = full_arguments(node)
        if len(node.args) < 3 or not args[2]:
            args[2] = args[1]
            editor.arguments(node, args)


def without_detaching(editor: Editor) -> None:
    """A constant that `forward` makes (`torch.tensor([…])`) without the `detach_` that tracing writes behind it: traced
    again, a view stands before that, and torch refuses it.
    """
    for node in editor.nodes():
        if op_name(node) == "detach_":
            editor.replace(node, first_input(node))


def without_alpha(editor: Editor) -> None:
    """x + alpha × y as a product and a sum: litert-torch fails on alpha, and quantized additions have none."""
    for node in editor.nodes():
        alpha = node.kwargs.get("alpha", 1) if op_name(node) in ("add", "sub", "add_", "sub_") else 1
        if alpha == 1:
            continue
        first, second = node.args[:2]
        scaled = editor.call(aten.mul.Tensor, second, alpha, like=node) if isinstance(second, Node) else second * alpha  # type: ignore[operator]
        node.kwargs = {k: v for k, v in node.kwargs.items() if k != "alpha"}
        node.args = (first, scaled)
        editor.changes += 1


def integer_constants(editor: Editor) -> None:
    """The number that is added to an integer tensor, as an integer: the quantizer makes floats of numbers."""
    for node in editor.nodes():
        value = node.meta.get("val")
        if op_name(node) not in ("add", "mul") or not isinstance(value, torch.Tensor) or value.is_floating_point():
            continue
        for position, given in enumerate(node.args[:2]):
            if not isinstance(given, Node):
                number = editor.constant(f"{node.name}_number", torch.tensor(given, dtype=value.dtype), node)
                node.update_arg(position, number)


def explicit_padding(editor: Editor) -> None:
    """padding="same" or "valid" of a convolution as numbers; litert-torch fails on the words."""
    for node in editor.nodes():
        if op_name(node) not in CONVOLUTIONS or overload(node) != "padding":
            continue
        source, weight, bias, stride, padding, dilation, groups = full_arguments(node)
        axes = len(shape_of(weight)) - 2
        dilations = per_axis(dilation, axes)
        total = [d * (k - 1) for d, k in zip(dilations, shape_of(weight)[2:], strict=True)]
        before = [0] * axes if padding == "valid" else [n // 2 for n in total]
        odd = [0] * axes if padding == "valid" else [n % 2 for n in total]
        if any(odd):  # one more zero behind than before, as torch has it
            pads = [pair for axis in reversed(range(axes)) for pair in (0, odd[axis])]
            source = editor.call(aten.constant_pad_nd.default, source, pads, 0.0, like=node)
        plain = _PLAIN[op_name(node)]
        conv = editor.call(plain, source, weight, bias, per_axis(stride, axes), before, dilations, groups, like=node)
        editor.replace(node, conv)


def cut_by_slices(editor: Editor) -> None:
    """Padding by less than nothing, as slices and the padding that is left: ExecuTorch's kernel refuses to cut."""
    for node in editor.nodes():
        if op_name(node) not in ("pad", "constant_pad_nd"):
            continue
        source, pads, *how = full_arguments(node)
        # What hangs on a size that varies pads, as models do up to whole windows: whether it cuts is not known here.
        if min((pad for pad in pads if isinstance(pad, int)), default=0) >= 0 or (
            op_name(node) == "pad" and how[0] != "constant"
        ):
            continue
        cut, axes = source, len(shape_of(source))
        for number in range(len(pads) // 2):
            axis, before, after = axes - 1 - number, pads[2 * number], pads[2 * number + 1]
            if min(before, after) < 0:
                cut = editor.call(aten.slice.Tensor, cut, axis, max(0, -before), up_to(max(0, -after)), like=node)
        left, value = [max(0, pad) for pad in pads], how[-1] or 0.0
        cut = editor.call(aten.constant_pad_nd.default, cut, left, value, like=node) if any(left) else cut
        editor.replace(node, cut)


def prelu_in_four_dimensions(editor: Editor) -> None:
    """PReLU over [N, C, H, W], whatever its input's shape: XNNPACK takes no other, and its pass fails on them."""
    for node in editor.nodes():
        shape = shape_of(node.args[0]) if op_name(node) == "prelu" else ()
        if len(shape) in (0, 1, 4):
            continue
        sizes = editor.sizes(node.args[0], node)  # type: ignore[arg-type]
        # One of them may vary: it is what is left.
        wide = [*sizes[:2], *(sizes[2:3] or [1]), -1]
        source = editor.call(aten.view.default, _contiguous(editor, node.args[0], node), wide, like=node)
        prelu = editor.call(aten.prelu.default, source, node.args[1], like=node)
        editor.replace(node, editor.call(aten.view.default, prelu, sizes, like=node))


def _contiguous(editor: Editor, source: object, like: Node) -> Node:
    assert isinstance(source, Node)
    value = source.meta.get("val")
    plain = value is None or value.is_contiguous()
    return source if plain else editor.call(aten.contiguous.default, source, like=like)
