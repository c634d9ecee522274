"""Ops that a runtime lacks, or computes as another op: written out in those that all have."""

from __future__ import annotations

import math
import re

import torch
from torch.fx import Node

from pocketforge.rewrites.graph import (
    Editor,
    first_input,
    full_arguments,
    has_open_sizes,
    op_name,
    overload,
    per_axis,
    refuse_open_sizes,
    shape_of,
    up_to,
)
from pocketforge.rewrites.memory import Writes

aten = torch.ops.aten
_MAX_POOLS = {1: aten.max_pool1d.default, 2: aten.max_pool2d.default}


def plain_prelus(editor: Editor) -> None:
    """PReLU as the larger of x and weight × x, where no weight is above 1; the smaller, where none is below.

    litert-torch writes relu(x) - weight × relu(-x), and TensorFlow's converter then takes -x for the layer before with
    its weights negated: a linear layer with a PReLU behind it is stored and computed twice. Of weights on both sides
    of 1 relu(x) + weight × min(x, 0): stored once.
    """
    for node in editor.nodes():
        source, weight = node.args[:2] if op_name(node) == "prelu" else (None, None)
        if not isinstance(source, Node) or not isinstance(weight, Node):
            continue
        slopes = editor.value(weight) if weight.op == "get_attr" else torch.tensor([0.0, 2.0])
        axes = len(shape_of(source))
        if axes > 2:  # of channels, which stand behind the batch
            weight = editor.call(aten.view.default, weight, [-1, *([1] * (axes - 2))], like=node)
        if bool((slopes <= 1).all()) or bool((slopes >= 1).all()):
            pick = aten.maximum.default if bool((slopes <= 1).all()) else aten.minimum.default
            sloped = editor.call(aten.mul.Tensor, source, weight, like=node)
            editor.replace(node, editor.call(pick, source, sloped, like=node))
            continue
        below = editor.call(aten.clamp.default, source, None, 0.0, like=node)
        above = editor.call(aten.relu.default, source, like=node)
        sloped = editor.call(aten.mul.Tensor, below, weight, like=node)
        editor.replace(node, editor.call(aten.add.Tensor, above, sloped, like=node))


def plain_max_pools(editor: Editor) -> None:
    """Adaptive max pooling as a plain one where its windows are of one size, else as the largest of slices.

    Neither ExecuTorch nor litert-torch has it.
    """
    for node in editor.nodes():
        if op_name(node) not in ("adaptive_max_pool1d", "adaptive_max_pool2d"):
            continue
        axes = int(op_name(node)[-2])
        readers = [reader for reader in node.users if reader.users]  # tracing notes the places, whoever reads them
        if any(reader.args[1] != 0 for reader in readers):  # the places of the largest are asked for
            continue
        source = node.args[0]
        before = shape_of(source)[-axes:]
        after = [b if n is None else int(n) for n, b in zip(node.args[1], before, strict=True)]  # type: ignore[arg-type]
        if max(after) == 1 and has_open_sizes(source):
            pooled = editor.call(aten.amax.default, source, list(range(-axes, 0)), True, like=node)
        elif has_open_sizes(source):
            pooled = _by_axes(editor, node, axes, before)
        elif all(b % a == 0 for b, a in zip(before, after, strict=True)):
            kernel = [b // a for b, a in zip(before, after, strict=True)]
            rest = ([0] * axes, [1] * axes, False)
            pooled = editor.call(_MAX_POOLS[axes], source, kernel, kernel, *rest, like=node)
        else:
            pooled = source
            for axis, (b, a) in enumerate(zip(before, after, strict=True)):
                pooled = _largest_of_windows(editor, pooled, axis - axes, b, a, node)
        for reader in readers:
            editor.replace(reader, pooled)


def _by_axes(editor: Editor, node: Node, axes: int, before: tuple[int, ...]) -> Node:
    """Where sizes vary: an axis stays, has one largest, or has a length that does not vary."""
    pooled = source = first_input(node)
    for axis, after in zip(range(-axes, 0), node.args[1], strict=True):  # type: ignore[arg-type]
        if after is None:
            continue
        if after == 1:
            pooled = editor.call(aten.amax.default, pooled, [axis], True, like=node)
        elif isinstance(source.meta["val"].shape[axis], torch.SymInt):
            refuse_open_sizes(node, f"its windows are as long as {after} of them make them")
        else:
            pooled = _largest_of_windows(editor, pooled, axis, before[axis], int(after), node)
    return pooled


def _largest_of_windows(editor: Editor, source: object, axis: int, before: int, after: int, like: Node) -> Node:
    """Of each of `after` windows along an axis, which overlap where its length is no multiple."""
    parts = []
    for number in range(after):
        start, stop = number * before // after, -(-(number + 1) * before // after)
        part = editor.call(aten.slice.Tensor, source, axis, start, stop, like=like)
        parts.append(editor.call(aten.amax.default, part, [axis], True, like=like))
    return parts[0] if after == 1 else editor.call(aten.cat.default, parts, axis, like=like)


def with_a_batch(editor: Editor) -> None:
    """Convolutions and pools of one map without a batch's axis with one: XNNPACK's layout pass fails on a pool of three
    dimensions, and the quantizer leaves such a convolution's levels where no runtime reads them.
    """
    for node in editor.nodes():
        kind = re.fullmatch(r"(?:conv|conv_transpose|avg_pool|max_pool)([12])d", op_name(node))
        source = node.args[0] if kind else None
        if kind is None or not isinstance(source, Node) or len(shape_of(source)) != int(kind[1]) + 1:
            continue
        batch = editor.call(aten.unsqueeze.default, source, 0, like=node)
        made = editor.call(node.target, batch, *full_arguments(node)[1:], like=node)  # type: ignore[arg-type]
        editor.replace(node, editor.call(aten.squeeze.dim, made, 0, like=node))


def attention_with_heads(editor: Editor) -> None:
    """An attention over [batch, tokens, channels] as one of one head: torch's exporter for ONNX takes four axes."""
    for node in editor.nodes():
        if op_name(node) != "scaled_dot_product_attention" or {len(shape_of(each)) for each in node.args[:3]} != {3}:
            continue
        # A mask for each sample has no axis of heads either; one for all fits as it is.
        given = [
            editor.call(aten.unsqueeze.default, each, 1, like=node) if len(shape_of(each)) == 3 else each
            for each in node.args
        ]
        node.args = tuple(given)
        editor.retype(node)
        whole = editor.after(node, aten.squeeze.dim, node, 1, like=node)
        for user in list(node.users):
            if user is not whole:
                user.replace_input_with(node, whole)


def averages_of_slices(editor: Editor) -> None:
    """A three-dimensional average along one axis (local response norm) as slices: ExecuTorch has no such kernel."""
    for node in editor.nodes():
        if op_name(node) != "avg_pool3d":
            continue
        source, kernel, stride, padding, ceil_mode, *_, divisor = full_arguments(node)
        kernels, before = per_axis(kernel, 3), shape_of(source)
        wide = [axis for axis, size in enumerate(kernels) if size > 1]
        strides = per_axis(stride, 3) if stride else kernels
        if len(wide) != 1 or max(strides) > 1 or any(per_axis(padding, 3)) or ceil_mode or divisor:
            continue
        axis, size = len(before) - 3 + wide[0], kernels[wide[0]]
        total = editor.call(aten.slice.Tensor, source, axis, 0, up_to(size - 1), like=node)
        for start in range(1, size):
            part = editor.call(aten.slice.Tensor, source, axis, start, up_to(size - 1 - start), like=node)
            total = editor.call(aten.add.Tensor, total, part, like=node)
        editor.replace(node, editor.call(aten.mul.Tensor, total, 1 / size, like=node))


def spreads_and_means(editor: Editor) -> None:
    """A variance or standard deviation that comes with its mean (`torch.var_mean`) as the two of them: ExecuTorch takes
    neither pair.
    """
    for node in editor.nodes():
        if op_name(node) not in ("var_mean", "std_mean"):
            continue
        source, axes, *rest = full_arguments(node)
        correction, keeps = rest
        if overload(node) == "dim":
            correction = int(bool(correction))
        elif correction is None:
            correction = 1
        every = axes or list(range(len(shape_of(source))))
        spread = aten.var.correction if op_name(node) == "var_mean" else aten.std.correction
        for reader in list(node.users):
            if reader.args[1] == 1:
                made = editor.call(aten.mean.dim, source, every, keeps, like=node)
            else:
                made = editor.call(spread, source, every, like=node)
                made.kwargs = {"correction": correction, "keepdim": keeps}
                editor.retype(made)
            editor.replace(reader, made)


def gelu_by_tanh(editor: Editor) -> None:
    """GELU's tanh form written out: XNNPACK's partitioner takes it for the exact one, which is 80 dB from it."""
    for node in editor.nodes():
        if op_name(node) != "gelu" or full_arguments(node)[1] != "tanh":
            continue
        x = node.args[0]
        cube = editor.call(aten.mul.Tensor, editor.call(aten.mul.Tensor, x, x, like=node), x, like=node)
        inner = editor.call(aten.add.Tensor, x, editor.call(aten.mul.Tensor, cube, 0.044715, like=node), like=node)
        inner = editor.call(
            aten.tanh.default, editor.call(aten.mul.Tensor, inner, math.sqrt(2 / math.pi), like=node), like=node
        )
        half = editor.call(aten.mul.Tensor, x, 0.5, like=node)
        editor.replace(
            node, editor.call(aten.mul.Tensor, half, editor.call(aten.add.Tensor, inner, 1.0, like=node), like=node)
        )


def plain_subtractions(editor: Editor) -> None:
    """`1 - x` as -x + 1: litert-torch writes x - 1 for it."""
    for node in editor.nodes():
        if op_name(node) != "rsub":
            continue
        x, other, alpha = full_arguments(node)[:3]
        negated = editor.call(aten.mul.Tensor, x, -alpha, like=node)
        editor.replace(node, editor.call(aten.add.Tensor, negated, other, like=node))


def powers_as_products(editor: Editor) -> None:
    """x ** 2, 3 and 4 as products: litert's converter fails on its own power op."""
    for node in editor.nodes():
        if op_name(node) != "pow" or not isinstance(node.args[1], int | float) or node.args[1] not in (2, 3, 4):
            continue
        base = node.args[0]
        product = base
        for _ in range(int(node.args[1]) - 1):
            product = editor.call(aten.mul.Tensor, product, base, like=node)
        assert isinstance(product, Node)
        editor.replace(node, product)


def plain_pixel_shuffles(editor: Editor) -> None:
    """Pixel shuffle as a change of shapes and axes: behind a map that XNNPACK gives with its axes exchanged (a linear
    layer over channels), the copy that torch makes of it is refused when the file runs.
    """
    for node in editor.nodes():
        if op_name(node) != "pixel_shuffle" or len(shape_of(node)) != 4 or has_open_sizes(node):
            continue
        batch, channels, height, width = shape_of(node)
        factor = int(node.args[1])  # type: ignore[arg-type]
        split = [batch, channels, factor, factor, height // factor, width // factor]
        blocks = editor.call(aten.reshape.default, node.args[0], split, like=node)
        mixed = editor.call(aten.permute.default, blocks, [0, 1, 4, 2, 5, 3], like=node)
        editor.replace(node, editor.call(aten.reshape.default, mixed, [batch, channels, height, width], like=node))


def expansions_of_fewer_axes(editor: Editor) -> None:
    """A map that is expanded along an axis as one between two shapes, of fewer axes: TFLite's converter takes the
    exchange of axes before a layer into the expansion, and not into what is expanded (a dead file).
    """
    for node in editor.nodes():
        before, after = shape_of(node.args[0]) if op_name(node) == "expand" else (), shape_of(node)
        if len(after) != 4 or len(before) != 4 or before == after or has_open_sizes(node):
            continue
        narrow, wide = [1], [1]
        grown: bool | None = None
        for length, wanted in zip(before, after, strict=True):
            if wanted == 1:
                continue
            if grown is (length != wanted):
                narrow[-1], wide[-1] = narrow[-1] * length, wide[-1] * wanted
            else:
                narrow.append(length)
                wide.append(wanted)
            grown = length != wanted
        value = editor.call(aten.reshape.default, node.args[0], narrow[1:], like=node)
        value = editor.call(aten.expand.default, value, wide[1:], like=node)
        editor.replace(node, editor.call(aten.reshape.default, value, list(after), like=node))


def plain_repeats(editor: Editor) -> None:
    """What is repeated along axes as an expansion between two shapes: litert-torch moves a map's channels to the end
    and not the numbers of repetitions, which are then those of other axes.
    """
    for node in editor.nodes():
        if op_name(node) not in ("repeat", "tile") or has_open_sizes(node) or node.kwargs:
            continue
        source, counts = node.args
        axes = max(len(shape_of(source)), len(counts))  # type: ignore[arg-type]
        lengths = [1] * (axes - len(shape_of(source))) + list(shape_of(source))
        times = [1] * (axes - len(counts)) + [int(n) for n in counts]  # type: ignore[arg-type,union-attr]
        # An axis of one before each axis that is repeated.
        apart = [each for n, length in zip(times, lengths, strict=True) for each in ([1] * (n != 1) + [length])]
        wide = [each for n, length in zip(times, lengths, strict=True) for each in ([n] * (n != 1) + [length])]
        value = editor.call(aten.reshape.default, source, apart, like=node)
        value = editor.call(aten.expand.default, value, wide, like=node)
        editor.replace(node, editor.call(aten.reshape.default, value, list(shape_of(node)), like=node))


def unfolds_as_look_ups(editor: Editor) -> None:
    """Windows along an axis (`x.unfold(2, 4, 2)`) as one look-up: litert-torch pads in more axes than TFLite has.

    Not of windows that are written into, or whose origin is: they are a view of it, and a look-up is a copy.
    """
    writes = Writes(editor.nodes())
    for node in editor.nodes():
        source = node.args[0] if op_name(node) == "unfold" else None
        before = shape_of(source)
        if not isinstance(source, Node) or not before or has_open_sizes(source) or writes.meet(node, after=node):
            continue
        axis, size, step = (int(each) for each in full_arguments(node)[1:])  # type: ignore[arg-type]
        axis %= len(before)
        windows = shape_of(node)[axis]
        places = (step * torch.arange(windows)[:, None] + torch.arange(size)).flatten()
        table = editor.constant(f"{node.name}_places", places, node)
        value = editor.call(aten.index_select.default, source, axis, table, like=node)
        value = editor.call(
            aten.reshape.default, value, [*before[:axis], windows, size, *before[axis + 1 :]], like=node
        )
        order = [each for each in range(len(before) + 1) if each != axis + 1]
        editor.replace(node, editor.call(aten.permute.default, value, [*order, axis + 1], like=node))


def gathers_in_three_dimensions(editor: Editor) -> None:
    """`torch.gather` from a map as one in three dimensions: litert-torch moves a map's channels to the end, and not
    those of the places that are read (-2 dB, or no file).
    """
    for node in editor.nodes():
        source, axis, index = node.args[:3] if op_name(node) == "gather" else (None, 0, None)
        before, places = shape_of(source), shape_of(index)
        if len(before) != 4 or has_open_sizes(source) or has_open_sizes(index):
            continue
        along = int(axis) % 4  # type: ignore[arg-type]
        for other in range(4):
            if other != along and places[other] != before[other]:
                source = editor.call(aten.slice.Tensor, source, other, 0, places[other], like=node)
        outer, inner = math.prod(places[:along]), math.prod(places[along + 1 :])
        source = editor.call(aten.reshape.default, source, [outer, before[along], inner], like=node)
        index = editor.call(aten.reshape.default, index, [outer, places[along], inner], like=node)
        value = editor.call(aten.gather.default, source, 1, index, like=node)
        editor.replace(node, editor.call(aten.reshape.default, value, list(places), like=node))


def one_flip_after_another(editor: Editor) -> None:
    """TFLite reverses axes that lie side by side alone, and of a map channels and rows do not: the file is dead."""
    for node in editor.nodes():
        if op_name(node) != "flip" or len(node.args[1]) < 2:  # type: ignore[arg-type]
            continue
        value = node.args[0]
        for axis in node.args[1]:  # type: ignore[union-attr]
            value = editor.call(aten.flip.default, value, [axis], like=node)
        assert isinstance(value, Node)
        editor.replace(node, value)
