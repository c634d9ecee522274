"""What a quantized graph computes in float, or in other levels, before it quantizes stays so in TFLite.

litert's converter gives the levels of a quantize op to all before it that it takes to keep a scale: poolings, resizing,
choices between values, whatever moves them. An average's range is smaller than that of what it averages, which is then
cut off (8 to 31 dB against the graph); and a value that others read too is cut off for them as well.
"""

from __future__ import annotations

import math

import torch
from torch.fx import Node

from pocketforge.rewrites.graph import Editor, full_arguments, is_constant, is_guard, op_name

aten = torch.ops.aten
# What makes new values of several, and is taken to keep a scale.
AVERAGES = (
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "mean"),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d"),
)
# What is written as a choice of two values, and made new ones of the others: `where(x > 0, x, exp(x) - 1)`.
CHOICES = (
    *("elu", "celu", "selu", "softplus", "threshold", "hardshrink", "softshrink", "nan_to_num"),
    *("logaddexp", "logaddexp2", "heaviside", "xlogy", "special_xlogy", "sinc", "special_sinc"),
)
# Of these, what litert writes as a choice between an int8 input and a float value, and gives the input's levels.
GIVEN_ITS_INPUT_S_LEVELS = ("softplus", "threshold", "logaddexp", "logaddexp2")
# The same, of values that are within the input's range: only its steps may be too large.
GIVEN_ITS_INPUT_S_STEPS = ("elu", "celu", "selu")
# What gives some of its values, in other places or cut off at a number: quantized before or after is the same.
MOVES = (
    *("max_pool1d", "max_pool2d", "amax", "amin", "maximum", "minimum", "relu", "relu6", "clamp", "hardtanh"),
    *("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous", "clone", "alias", "where"),
    *("permute", "transpose", "t", "slice", "select", "split", "split_with_sizes", "chunk", "getitem", "narrow"),
    *("index_select", "index", "expand", "repeat", "cat", "stack", "flip", "roll", "pixel_shuffle", "pixel_unshuffle"),
    *("constant_pad_nd", "pad", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d"),
    *("upsample_nearest1d", "upsample_nearest2d", "dropout", "channel_shuffle", "detach", "tril", "triu"),
    *(
        "view_as",
        "reshape_as",
        "expand_as",
        "broadcast_to",
        "ravel",
        "tile",
        "repeat_interleave",
        "rot90",
        "fliplr",
        "flipud",
        "diagonal",
    ),
    *("movedim", "moveaxis", "swapaxes", "swapdims", "mT", "mH", "adjoint", "numpy_T", "unbind", "tensor_split"),
    *("hsplit", "vsplit", "dsplit", "unsafe_split", "unsafe_chunk", "gather", "take_along_dim", "unfold", "im2col"),
    *("concat", "concatenate", "hstack", "vstack", "dstack", "column_stack", "row_stack", "block_diag"),
    *("masked_fill", "index_fill", "slice_scatter", "select_scatter", "diagonal_scatter", "max", "min"),
)
# Of these, what the converter computes in 8 bits with other levels than its input's, and without a change of levels.
NO_SCALE = ("flip", "rot90", "fliplr", "flipud")
# Of these, what gives a part alone: the converter changes the part's levels, not those of the whole.
PARTS = ("slice", "narrow", "split", "split_with_sizes", "chunk", "tensor_split", "getitem")
# Of these, what puts values of several tensors, or a number and a tensor's, into one.
JOINS = (
    *("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack", "row_stack", "block_diag"),
    *("where", "masked_fill", "index_fill", "slice_scatter", "select_scatter", "diagonal_scatter", "copy_"),
    *("pad", "constant_pad_nd", "maximum", "minimum"),
)
SAME_SCALE = (*AVERAGES, *CHOICES, *MOVES)
NORMS = ("layer_norm", "group_norm", "instance_norm", "rms_norm")
DEQUANTIZE = ("dequantize_per_tensor", "dequantize_per_channel")


def keep_floats_float(editor: Editor) -> None:
    """Each quantize op behind an average or a choice of floats or of other levels, or behind what others read in
    another way, has a product before it, which ends the converter's search for more.

    Two products, by powers of two that make one: a product with one would be left out. What only moves values for one
    set of levels is left to the converter: quantized before it is the same, and computed in 8 bits.
    """
    for node in editor.nodes():
        source = node.args[0] if op_name(node) == "quantize_per_tensor" else None
        if isinstance(source, Node) and op_name(source) in SAME_SCALE and not isinstance(node.args[1], Node):
            before, own = _same_scale(source), _quantized_levels(node)
            is_unlike = any(_is_float(each) or _levels_of(each) not in (own, None) for each in before)
            if is_unlike and not _is_moved_alone(before) and not _has_a_kernel(source):
                keep_float(editor, source, node)


def keep_fine_averages_float(editor: Editor) -> None:
    """Two products before an average of levels that has far finer ones, or that a norm reads, so that it is made of
    floats.

    The converter rounds it to the levels of what is averaged, whose steps are large beside an average's range, and then
    to its own; a norm makes them larger still (9 dB further from the model).
    """
    for node in editor.nodes():
        if op_name(node) in AVERAGES and (is_normalized(node) or _has_finer_levels(node)):
            for source in dict.fromkeys(node.all_input_nodes):
                if _levels_behind(source):
                    keep_float(editor, source, node)


def _has_finer_levels(node: Node) -> bool:
    """Whether what quantizes an average has less than half the steps of what is averaged: rounded to these first, it
    is more than a step off. An average of all is not rounded between.
    """
    if op_name(node) in ("mean", "adaptive_avg_pool2d"):
        return False
    averages = [each for each in _behind(node) if op_name(each) in AVERAGES]
    return min(map(_steps_after, averages)) < _steps_before(node) / 2


def _steps_before(node: Node) -> float:
    """The largest step of the levels that a node's values are made of; 0 where they are made of none."""
    before = {levels for source in node.all_input_nodes for levels in _levels_behind(source)}
    return max((float(str(levels[0])) for levels in before if levels), default=0.0)


def _steps_after(node: Node) -> float:
    """The least step of all that quantizes a node's values, moved or not; infinite where nothing does."""
    return min((float(str(levels[0])) for levels in _levels(node) if levels), default=math.inf)


def _behind(value: Node) -> list[Node]:
    """The value, and what is moved and averaged of it."""
    found = [value]
    for node in found:
        found += [user for user in node.users if op_name(user) in (*MOVES, *AVERAGES) and user not in found]
    return found


def is_normalized(value: Node) -> bool:
    """Whether a norm reads a value, moved or not."""
    return any(op_name(user) in NORMS or (op_name(user) in MOVES and is_normalized(user)) for user in value.users)


def keep_values_float(editor: Editor) -> None:
    """The same of what a float op gives, that is quantized and that something reads in float as well (`1 - x`, output
    of the model and input of a convolution: clipped to the convolution's levels in both, 30 dB)."""
    for node in editor.nodes():
        if node.op == "call_function" and _is_float(node):
            _keep_both(editor, node)


def keep_inputs_float(editor: Editor) -> None:
    """The same of an input of the model that is quantized and that a float op reads as well.

    The converter makes such an input int8, and the float op gets what the levels left of it. Not where the app is to
    give levels.
    """
    for node in editor.nodes():
        if node.op == "placeholder":
            _keep_both(editor, node)


def _keep_both(editor: Editor, value: Node) -> None:
    """Two products before whatever quantizes a value that is read in float, or in other levels, as well."""
    levels = _levels(value)
    for user in list(value.users) if len(levels) > 1 and None in levels else ():
        if _quantized_levels(user):
            keep_float(editor, value, user)


def keep_choices_float(editor: Editor) -> None:
    """Two products before a choice that reads levels and is made of floats in the graph: the converter would cut it off
    at its input's range (a mixture density net's softplus for its spreads: -15 dB against the graph), or round it to
    its input's steps, where its own are finer (41 dB)."""
    for node in editor.nodes():
        by_steps = op_name(node) in GIVEN_ITS_INPUT_S_STEPS and _steps_after(node) < _steps_before(node)
        if op_name(node) in GIVEN_ITS_INPUT_S_LEVELS or by_steps:
            for source in dict.fromkeys(node.all_input_nodes):
                if _levels_behind(source):
                    keep_float(editor, source, node)


def keep_joins_float(editor: Editor) -> None:
    """Each part of a concat, stack, choice or padding that comes from levels is behind two products, where not all that
    is joined and all that reads it has the same levels.

    The converter gives the levels of one part to the whole: the others are cut off or rounded away, also a number that
    is filled in (1 dB against the graph).
    """
    for node in editor.nodes():
        if op_name(node) not in JOINS or _pads_by_zero(node):
            continue
        parts = {part: _levels_behind(part) for part in dict.fromkeys(node.all_input_nodes)}
        in_place = op_name(node) == "copy_"  # its readers are those of what it is written to
        if not in_place and len(set[object]().union(_levels(node), *parts.values())) < 2:
            continue
        for part, levels in parts.items():
            if in_place and part is node.args[0]:
                _keep_what_is_written_to_float(editor, part)
            elif levels:
                keep_float(editor, part, node)


def _keep_what_is_written_to_float(editor: Editor, place: Node) -> None:
    """The same for a tensor that another is copied into: what is written to has to stay that tensor itself."""
    for node in _same_scale(place):
        for source in node.all_input_nodes:
            if op_name(node) in SAME_SCALE and op_name(source) in DEQUANTIZE:
                keep_float(editor, source, node)


def keep_float(editor: Editor, source: Node, reader: Node) -> None:
    """Two products before a reader of a value, by powers of two that make one: the converter moves no levels past."""
    doubled = editor.call(aten.mul.Tensor, source, 2.0, like=reader)
    reader.replace_input_with(source, editor.call(aten.mul.Tensor, doubled, 0.5, like=reader))


def _same_scale(value: Node) -> list[Node]:
    """The value, and all before it that the converter takes to have its scale."""
    found, waiting = [], [value]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.append(node)
            waiting += node.all_input_nodes if op_name(node) in SAME_SCALE else []
    return found


def _levels_behind(value: Node) -> set[tuple[object, ...] | None]:
    """Scale and zero point of all that a value is moved from or averaged of."""
    return {_levels_of(each) for each in _same_scale(value) if op_name(each) in DEQUANTIZE}


def _levels_of(node: Node) -> tuple[object, ...] | None:
    return tuple(node.args[1:3]) if op_name(node) in DEQUANTIZE else None


def _has_a_kernel(node: Node) -> bool:
    """Whether a value is averaged of levels by an op that the converter computes in these, and quantizes then."""
    plain = op_name(node) in ("adaptive_avg_pool2d", "mean") or (
        op_name(node) == "avg_pool2d" and not any(full_arguments(node)[3])
    )
    return plain and op_name(node.args[0]) in DEQUANTIZE and len(node.users) == 1


def _pads_by_zero(node: Node) -> bool:
    """Zero is among all levels."""
    return op_name(node) in ("pad", "constant_pad_nd") and not full_arguments(node)[-1]


def _is_float(node: Node) -> bool:
    """Whether a value was never quantized: neither levels, nor moved or averaged, nor a constant, nor an index."""
    value = node.meta.get("val")
    numbers = not isinstance(value, torch.Tensor) or value.is_floating_point()
    return numbers and not is_constant(node) and op_name(node) not in (*SAME_SCALE, *DEQUANTIZE)


def _is_moved_alone(values: list[Node]) -> bool:
    """Whether nothing is averaged or chosen, and all that reads one of the values quantizes it to the same levels."""
    names = {op_name(each) for each in values if not is_constant(each)}
    if names & {*AVERAGES, *CHOICES, *NO_SCALE}:
        return False
    if names <= {*PARTS, *DEQUANTIZE}:
        return True
    # Other readers of the same levels count: what the converter makes of them before both is made once.
    made = [each.args[0] if op_name(each) in DEQUANTIZE else each for each in values if not is_constant(each)]
    read = [_levels(each) for each in made if isinstance(each, Node)]
    return len(set[object]().union(*read)) == 1


def _levels(value: Node) -> set[tuple[object, ...] | None]:
    """Scale and zero point of all that quantizes a value, moved or not; None among them for what reads it as float."""
    found: set[tuple[object, ...] | None] = set()
    seen, waiting = {value}, [value]
    while waiting:
        for user in waiting.pop().users:
            if is_guard(user):  # no reader in float: each file of float inputs would begin with two products
                continue
            if op_name(user) not in (*MOVES, *DEQUANTIZE):
                found.add(_quantized_levels(user))
            elif user not in seen:
                seen.add(user)
                waiting.append(user)
    return found


def _quantized_levels(node: Node) -> tuple[object, ...] | None:
    return tuple(node.args[1:3]) if op_name(node) == "quantize_per_tensor" else None
