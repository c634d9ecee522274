"""Poolings and interpolations that a runtime computes otherwise than torch, as ops that it computes right."""

from __future__ import annotations

import math

import torch
from torch.fx import Node

from pocketforge.rewrites.graph import (
    Editor,
    full_arguments,
    has_open_sizes,
    op_name,
    per_axis,
    refuse_open_sizes,
    shape_of,
)

aten = torch.ops.aten


def plain_average_pools(editor: Editor) -> None:
    """An average pool with ceil_mode, padding or a divisor as padding, a plain average, and a factor for each place.

    ONNX Runtime's 8-bit average pool divides by the wrong number of values where windows reach over the edge: it is
    up to 40 steps off in the last row and column. The plain form cannot go wrong so. torch's exporter leaves out a
    divisor_override, silently.
    """
    for node in editor.nodes():
        if op_name(node) != "avg_pool2d":
            continue
        source, kernel, stride, padding, ceil_mode, _, divisor = full_arguments(node)
        kernels = per_axis(kernel, 2)
        strides = per_axis(stride, 2) if stride else kernels
        paddings = per_axis(padding, 2)
        before, after = shape_of(source), shape_of(node)
        if len(before) != 4 or not (ceil_mode or any(paddings) or divisor):
            continue
        if ceil_mode:
            refuse_open_sizes(node, "where ceil_mode adds a window depends on the size")
        more = [max(0, (after[a + 2] - 1) * strides[a] + kernels[a] - before[a + 2] - 2 * paddings[a]) for a in (0, 1)]
        pads = [paddings[1], paddings[1] + more[1], paddings[0], paddings[0] + more[0]]
        pooled = editor.call(aten.constant_pad_nd.default, source, pads, 0.0, like=node) if any(pads) else source
        pooled = editor.call(aten.avg_pool2d.default, pooled, kernels, strides, [0, 0], False, True, None, like=node)
        if has_open_sizes(source):
            editor.replace(node, _divided(editor, node, pooled, pads, kernels))
            continue
        # Ones say what torch divides by, whatever its settings; each window holds one of them at least.
        ones = torch.ones(1, 1, *before[2:], dtype=torch.float64)
        plain = aten.avg_pool2d.default(torch.nn.functional.pad(ones, pads), kernels, strides)
        factor = aten.avg_pool2d.default(ones, *full_arguments(node)[1:]) / plain
        if not torch.allclose(factor, torch.ones_like(factor)):
            shares = factor.to(node.meta["val"].dtype)
            scale = editor.constant(f"{node.name}_share", shares, node)
            pooled = editor.call(aten.mul.Tensor, pooled, scale, like=node)
        editor.replace(node, pooled)


def no_adaptive_windows(editor: Editor) -> None:
    """Raises StageFailed for an adaptive average pool of a map whose size varies, but to one value: the exporter for
    ONNX writes the windows of the traced size, silently.
    """
    for node in editor.nodes():
        if op_name(node).startswith("adaptive_avg_pool") and any(n != 1 for n in node.args[1]):  # type: ignore[union-attr]
            refuse_open_sizes(node, f"its windows are as long as {node.args[1]} of them make them")


def _divided(editor: Editor, node: Node, pooled: Node, pads: list[int], kernels: list[int]) -> Node:
    """A plain average by torch's own divisor, which the file has to find by the size that it meets."""
    source, _, strides, _, _, with_padding, divisor = full_arguments(node)
    if divisor:
        return editor.call(aten.mul.Tensor, pooled, math.prod(kernels) / divisor, like=node)  # type: ignore[operator]
    if with_padding or not any(pads):
        return pooled
    ones = editor.call(aten.ones_like.default, editor.call(aten.slice.Tensor, source, 1, 0, 1, like=node), like=node)
    padded = editor.call(aten.constant_pad_nd.default, ones, pads, 0.0, like=node)
    rest = (kernels, per_axis(strides, 2) if strides else kernels, [0, 0], False, True, None)
    share = editor.call(aten.avg_pool2d.default, padded, *rest, like=node)
    return editor.call(aten.div.Tensor, pooled, share, like=node)


def nearest_by_index(editor: Editor) -> None:
    """Nearest interpolation to a size that is no whole multiple, as two look-ups of rows and columns.

    litert-torch takes the nearest of half-pixel centres; torch rounds down.
    """
    for node in editor.nodes():
        kind = op_name(node)
        if kind not in ("upsample_nearest1d", "upsample_nearest2d"):
            continue
        source, before, after = node.args[0], shape_of(node.args[0]), shape_of(node)
        if all(b and a % b == 0 for b, a in zip(before[2:], after[2:], strict=True)):
            continue
        value = source
        for axis in range(2, len(before)):
            if before[axis] != after[axis]:
                table = editor.constant(f"{node.name}_axis_{axis}", _chosen(node, before, axis), node)
                value = editor.call(aten.index_select.default, value, axis, table, like=node)
        assert isinstance(value, Node)
        editor.replace(node, value)


def _chosen(node: Node, shape: tuple[int, ...], axis: int) -> torch.Tensor:
    """Which places of an axis torch takes: what it makes of their numbers."""
    numbers = torch.arange(shape[axis], dtype=torch.float32).reshape(
        [-1 if a == axis else 1 for a in range(len(shape))]
    )
    pooled: torch.Tensor = node.target(numbers.expand(1, 1, *shape[2:]).contiguous(), *node.args[1:], **node.kwargs)  # type: ignore[operator]
    return pooled.movedim(axis, 0).flatten(1)[:, 0].long().contiguous()
