"""A pooling's windows, axis by axis: where litert's converter and torch's for ONNX place them otherwise than torch."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of a pooling along one axis.

    Attributes:
        size: Of the map.
        kernel: Values of a window.
        stride: From one window to the next.
        padding: Places before the map, and as many behind it.
        dilation: From one value of a window to the next.
        count: How many windows torch takes.
    """

    size: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    count: int

    @property
    def span(self) -> int:
        """From a window's first value to its last."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def whole(self) -> int:
        """How many windows lie within the map and its padding: all but those that ceil_mode adds."""
        return (self.size + 2 * self.padding - self.span) // self.stride + 1

    @property
    def is_dropped(self) -> bool:
        """Whether ceil_mode would add a window, but for its beginning behind the map."""
        return self.count == self.whole and (self.size + 2 * self.padding - self.span) % self.stride > 0

    @property
    def may_be_dropped(self) -> bool:
        """Whether at some size of the map ceil_mode would add a window that begins behind it."""
        return self.padding + self.stride > self.span

    @property
    def is_padded(self) -> bool:
        """Whether a window reaches over the map, or could."""
        return self.padding > 0 or self.count > self.whole

    @property
    def has_no_gap(self) -> bool:
        """Whether TFLite's SAME would add nothing."""
        return (-(-self.size // self.stride) - 1) * self.stride + self.span <= self.size


def windows_of(node: Node) -> tuple[Windows, ...]:
    """Of both axes of a two-dimensional pooling of a batch of maps; empty for another op."""
    kind, source = op_name(node), shape_of(node.args[0]) if node.args else ()
    if kind not in ("max_pool2d", "avg_pool2d") or len(source) != 4:
        return ()
    _, kernel, stride, padding, dilation, *_ = full_arguments(node)
    kernels = per_axis(kernel, 2)
    strides = per_axis(stride, 2) if stride else kernels
    dilations = per_axis(dilation, 2) if kind == "max_pool2d" else [1, 1]
    figures = zip(source[2:], kernels, strides, per_axis(padding, 2), dilations, shape_of(node)[2:], strict=True)
    return tuple(Windows(*each) for each in figures)


def one_axis_after_another(editor: Editor) -> None:
    """A pooling as one of rows and one of columns, where the converter has no word for both axes at once.

    It writes SAME for a pooling of which one axis is padded as SAME has it and the other not at all, and the map gets
    rows or columns that torch has not. Nor can ceil_mode be left out along the one axis where it adds no window.
    """
    for node in editor.nodes():
        both = windows_of(node)
        if not both:
            continue
        unlike = any(a.is_padded and not (b.is_padded or b.has_no_gap) for a, b in (both, both[::-1]))
        half = _ceil_mode(node) and any(each.is_dropped for each in both) and any(w.count > w.whole for w in both)
        if unlike or half:
            _split(editor, node, both)


def without_idle_ceil_mode(editor: Editor) -> None:
    """No ceil_mode where it adds nothing: converters count a window that begins behind the map, which torch drops.

    In TFLite an average then has other divisors, or a padding by less than nothing, which the runtime does not load;
    ONNX's checker finds a map larger than it was told.
    """
    for node in editor.nodes():
        both = windows_of(node)
        if both and _ceil_mode(node) and has_open_sizes(node.args[0]):
            if any(each.may_be_dropped for each in both):
                refuse_open_sizes(node, "whether ceil_mode adds a window depends on the size")
            continue  # at some sizes it adds one
        if both and _ceil_mode(node) and all(each.count == each.whole for each in both):
            args = full_arguments(node)
            args[_CEIL_MODE[op_name(node)]] = False
            editor.arguments(node, args)


_CEIL_MODE = {"max_pool2d": 5, "avg_pool2d": 4}


def _ceil_mode(node: Node) -> bool:
    return bool(full_arguments(node)[_CEIL_MODE[op_name(node)]])


def _split(editor: Editor, node: Node, both: tuple[Windows, ...]) -> None:
    """Both poolings are separable: a window's largest, and its sum and what it is divided by, are those of its rows."""
    pooled, args = node.args[0], full_arguments(node)
    for axis, each in enumerate(both):
        alone = [[given if a == axis else none for a in (0, 1)] for given, none in _of_one_axis(each)]
        kernel, stride, padding, dilation = alone
        if op_name(node) == "max_pool2d":
            rest = [padding, dilation, args[5]]
        else:
            # All that both are to be divided by, in the second.
            divisor = args[6] if axis or args[6] is None else 1
            rest = [padding, args[4], args[5], divisor]
        pooled = editor.call(node.target, pooled, kernel, stride, *rest, like=node)  # type: ignore[arg-type]
    assert isinstance(pooled, Node)
    editor.replace(node, pooled)


def _of_one_axis(windows: Windows) -> list[tuple[int, int]]:
    """Kernel, stride, padding and dilation: along the axis, and along the other."""
    return [(windows.kernel, 1), (windows.stride, 1), (windows.padding, 0), (windows.dilation, 1)]
