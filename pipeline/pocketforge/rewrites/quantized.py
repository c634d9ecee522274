"""What exporters want of a quantized graph: ops with a fixed scale have it, each value one reader, maps as rows."""

from __future__ import annotations

import operator

import torch
from torch.fx import Node

from pocketforge.rewrites.float_inputs import keep_float
from pocketforge.rewrites.graph import Editor, first_input, is_constant, op_name, shape_of

aten = torch.ops.aten

# The format's own: (scale, zero point) of LOGISTIC, SOFTMAX and TANH. With others a file loads only where XNNPACK
# takes the op, and not in tflite-runtime 2.14 or on delegates.
FIXED = {
    "sigmoid": (1 / 256, -128),
    "softmax": (1 / 256, -128),
    "_softmax": (1 / 256, -128),
    "tanh": (1 / 128, 0),
}


# What gives its output the scale of its input, so that a scale asked for behind it reaches the op before it.
SAME_SCALE = (
    *("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool2d", "cat", "stack", "getitem"),
    *("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "t", "contiguous"),
    *("slice", "select", "split", "split_with_sizes", "chunk", "index_select", "expand", "repeat", "clone", "alias"),
    *("constant_pad_nd", "pad", "upsample_nearest2d", "upsample_bilinear2d", "maximum", "minimum", "dropout"),
)
# Of these, what gives each of its input's values, or some.
_MOVED = (
    *("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "t", "contiguous"),
    *("slice", "select", "expand", "clone", "alias", "getitem"),
)
_OF_TWO = frozenset({"add", "sub", "mul", "div", "maximum", "minimum"})
_OTHER_AXES = frozenset({"unsqueeze", "squeeze", "view", "_unsafe_view", "reshape", "flatten", "unflatten"})
_SQUARES = {"square": aten.mul.Tensor, "mul": aten.mul.Tensor, "add": aten.add.Tensor}


def one_reader_each(editor: Editor) -> None:
    """De-quantize a value anew for each of its readers: the layout passes of litert-torch and XNNPACK mark the op, not
    the edge.

    Where one reader takes a map as NHWC and another (an output, a float op) as NCHW, they fail, or give one the
    other's.
    """
    for node in editor.nodes():
        if op_name(node) != "dequantize_per_tensor" or node.kwargs or len(node.users) < 2:
            continue
        if is_constant(node.args[0]) or isinstance(node.args[1], Node):  # a weight; a range that is found at run time
            continue
        for user in list(node.users)[1:]:
            user.replace_input_with(node, editor.after(node, node.target, *node.args, like=node))  # type: ignore[arg-type]


def two_values_for_squares(editor: Editor) -> None:
    """A value with levels that is multiplied by itself, or added to itself, for other levels: the second time as the
    larger of it and the lowest of its levels, which is itself.

    litert's converter gives the levels of what is made to what moves such a value, and then refuses it as an unlike
    scale: the reshape behind a one-dimensional convolution, before `x.square()`.
    """
    for node in editor.nodes():
        source = _read_twice(node)
        levels = _levels_moved(source)
        # What is moved in the file: the graph's own moves, and a map of one dimension, which its layers reshape.
        is_moved = levels is not source or (levels is not None and len(shape_of(levels)) == 3)
        if levels is None or not is_moved or all(_other_scale(user, levels.args[1:3]) is None for user in node.users):  # type: ignore[arg-type]
            continue
        assert isinstance(source, Node)
        quantize, scale = first_input(levels), levels.args[1:3]
        step, zero_point, lowest = levels.args[1:4]
        floor = editor.constant(f"{node.name}_lowest", torch.tensor((lowest - zero_point) * step), node)  # type: ignore[operator]
        floor = _rounded(editor, floor, floor, scale, quantize, levels)  # type: ignore[arg-type]
        again = editor.call(aten.maximum.default, source, floor, like=node)
        again = _rounded(editor, again, again, scale, quantize, levels)  # type: ignore[arg-type]
        whole = _SQUARES[op_name(node)]
        editor.replace(node, editor.call(whole, source, again, like=node))


def _read_twice(node: Node) -> object:
    """The one value that a product or sum is of."""
    if op_name(node) == "square" or (op_name(node) in _SQUARES and node.args[0] is node.args[1] and not node.kwargs):
        return node.args[0]
    return None


def _levels_moved(value: object) -> Node | None:
    """What de-quantizes a value, at once or before it was moved."""
    while isinstance(value, Node) and op_name(value) in _MOVED:
        value = value.args[0]
    fits = isinstance(value, Node) and op_name(value) == "dequantize_per_tensor" and not isinstance(value.args[1], Node)
    return value if isinstance(value, Node) and fits else None


def linear_layers_of_rows(editor: Editor) -> None:
    """A dynamic linear layer over a map's last axis as one over rows: XNNPACK's layout pass would turn the map round
    between its levels and the layer, which the runtime refuses when it loads the file.
    """
    for node in editor.nodes():
        levels = _measured_levels(node)
        if levels is None:
            continue
        choose, quantize, dequantize = levels
        source, shape = quantize.args[0], shape_of(node)
        rows = editor.call(aten.reshape.default, source, [-1, shape_of(source)[-1]], like=node)
        found = editor.call(choose.target, rows, *choose.args[1:], like=node)  # type: ignore[arg-type]
        range_ = [editor.call(operator.getitem, found, number, like=node) for number in (0, 1)]
        levelled = editor.call(quantize.target, rows, *range_, *quantize.args[3:], like=node)  # type: ignore[arg-type]
        floats = editor.call(dequantize.target, levelled, *range_, *dequantize.args[3:], like=node)  # type: ignore[arg-type]
        layer = editor.call(aten.linear.default, floats, *node.args[1:], like=node)
        editor.replace(node, editor.call(aten.reshape.default, layer, list(shape), like=node))


def shared_weights_without_factors(editor: Editor) -> None:
    """What linear layers of equal weights and float inputs read, as the larger of it and the lowest number.

    litert's converter takes a factor before a layer (`head(8 * x)`) into the weight that it quantizes, and so into that
    of every other layer with the same weight (-13 dB).
    """
    readers: dict[tuple[object, ...], list[Node]] = {}
    for node in editor.nodes():
        weight = _quantized_constant(node.args[1]) if op_name(node) == "linear" else None
        if weight is not None and op_name(node.args[0]) not in ("dequantize_per_tensor", "maximum"):
            values = editor.value(weight).detach()
            readers.setdefault((tuple(values.shape), values.numpy().tobytes()), []).append(node)
    for nodes in readers.values():
        for node in nodes if len(nodes) > 1 else ():
            source = first_input(node)
            lowest = torch.tensor(torch.finfo(torch.float32).min)
            floor = editor.constant(f"{node.name}_lowest", lowest, node)
            node.replace_input_with(source, editor.call(aten.maximum.default, source, floor, like=node))


def _quantized_constant(value: object) -> Node | None:
    """The constant that is quantized and de-quantized to a value."""
    for kind in ("dequantize_per_", "quantize_per_"):
        if not op_name(value).startswith(kind):
            return None
        value = value.args[0]  # type: ignore[attr-defined]
    return value if isinstance(value, Node) and is_constant(value) else None


def _measured_levels(node: Node) -> tuple[Node, Node, Node] | None:
    """Of a linear layer over maps whose input's range is found at run time: what finds it, quantizes, de-quantizes."""
    dequantize = node.args[0] if op_name(node) == "linear" and len(shape_of(node)) > 3 else None
    if op_name(dequantize) != "dequantize_per_tensor" or not isinstance(first_input(dequantize).args[1], Node):  # type: ignore[arg-type]
        return None
    assert isinstance(dequantize, Node)
    quantize = first_input(dequantize)
    scale = quantize.args[1]
    assert isinstance(scale, Node)
    return first_input(scale), quantize, dequantize


def keep_fixed_scales(editor: Editor) -> None:
    """Quantize the output of such an op by its own scale first, then by that which its readers share.

    Where theirs has less than half the steps, as the shares of many in a softmax, the op is made of floats instead: its
    input is kept float.
    """
    for node in editor.nodes():
        source = _levels_before(node) if op_name(node) in FIXED else None
        if source is None:
            continue
        fixed = FIXED[op_name(node)]
        others = {user: scale for user in node.users if (scale := _other_scale(user, fixed)) is not None}
        if not others:
            continue
        quantize = next(iter(others.values()))
        if quantize.args[1] < fixed[0] / 2:  # type: ignore[operator]
            keep_float(editor, first_input(node), node)
            continue
        own = _rounded(editor, node, node, fixed, quantize, source)
        one = editor.constant(f"{node.name}_one", torch.ones(()), node.next)
        one = _rounded(editor, one, one, (1 / int(quantize.args[4]), 0), quantize, source)  # type: ignore[arg-type]
        # A product with one changes the scale: of two quantizations in a row, the converter drops one.
        product = editor.after(max(own, one), aten.mul.Tensor, own, one, like=node)
        for user in others:
            user.replace_input_with(node, product)


def levels_before_other_axes(editor: Editor) -> None:
    """Levels are changed before a value gets other axes, not behind that: XNNPACK takes such a move for one of levels
    that stay, and the file does not load.

    A value has levels of before where what made it keeps its input's (a relu of what is read elsewhere too).
    """
    for node in editor.nodes():
        source = node.args[0] if op_name(node) in _OTHER_AXES else None
        while op_name(source) in ("contiguous", "clone"):
            source = first_input(source)  # type: ignore[arg-type]
        if op_name(source) != "dequantize_per_tensor" or isinstance(source.args[1], Node):  # type: ignore[arg-type, union-attr]
            continue
        assert isinstance(source, Node)
        for user in list(node.users):
            if op_name(user) == "quantize_per_tensor" and user.args[1:3] != source.args[1:3]:
                levelled = _rounded(editor, source, source, user.args[1:3], user, source)  # type: ignore[arg-type]
                # Of a view that was one of contiguous values.
                target = aten.reshape.default if "view" in op_name(node) else node.target
                moved = editor.after(levelled, target, levelled, *node.args[1:], like=node)  # type: ignore[arg-type]
                user.replace_input_with(node, moved)


def one_value_as_a_map(editor: Editor) -> None:
    """One value without axes (a mean of all) has as many as the map that it is added to or multiplied with: XNNPACK's
    layout pass fails on levels of no axis.
    """
    for node in editor.nodes():
        for source in node.all_input_nodes if op_name(node) in _OF_TWO else ():
            if op_name(source) != "dequantize_per_tensor" or shape_of(source) or not shape_of(node):
                continue
            quantize = source.args[0]
            if op_name(quantize) != "quantize_per_tensor":
                continue
            assert isinstance(quantize, Node)
            value = editor.call(aten.reshape.default, quantize.args[0], [1] * len(shape_of(node)), like=node)
            levelled = editor.call(quantize.target, value, *quantize.args[1:], like=node)  # type: ignore[arg-type]
            floats = editor.call(source.target, levelled, *source.args[1:], like=node)  # type: ignore[arg-type]
            node.replace_input_with(source, floats)


def _levels_before(node: Node) -> Node | None:
    """What de-quantizes an op's input, at once or behind ops that keep a scale."""
    source = node.args[0]
    while op_name(source) in SAME_SCALE:
        assert isinstance(source, Node)
        source = source.args[0]
    return source if isinstance(source, Node) and op_name(source) == "dequantize_per_tensor" else None


def _rounded(
    editor: Editor, value: Node, place: Node, scale: tuple[float, int], quantize: Node, dequantize: Node
) -> Node:
    """`value` quantized and de-quantized, with the levels and type of two ops of the graph, behind `place`."""
    levels = quantize.args[3:]
    levelled = editor.after(place, quantize.target, value, *scale, *levels, like=value)  # type: ignore[arg-type]
    return editor.after(levelled, dequantize.target, levelled, *scale, *levels, like=value)  # type: ignore[arg-type]


def _other_scale(node: Node, wanted: tuple[float, int]) -> Node | None:
    """The op that quantizes with another scale, here or behind ops that keep a scale."""
    if op_name(node) == "quantize_per_tensor":
        return None if node.args[1:3] == wanted else node
    if op_name(node) not in SAME_SCALE:
        return None
    return next((scale for user in node.users if (scale := _other_scale(user, wanted)) is not None), None)
