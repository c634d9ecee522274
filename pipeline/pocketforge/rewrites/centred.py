"""ExecuTorch's layer and group norms work in one pass: the variance is the mean of squares less the squared mean.

In float32 that leaves 98 dB at a mean of ten times the spread, 56 at a hundred, NaN at a thousand. Centred before,
which a norm does not see, they have 130 and more. That costs a pass more (a sixth to a half of the norm's own time), so
it is done where the model's example, a real sample, comes near such means.

TFLite's are a product less the mean's: of a mean of n times the spread, that many times float32's last bit is lost.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.fx import Interpreter, Node

from pocketforge.rewrites.graph import Editor, first_input, full_arguments, op_name, shape_of

aten = torch.ops.aten
NORMS = ("layer_norm", "group_norm")
# The mean over the spread beyond which a norm is centred: what is lost goes with its square, and 100 dB are left at 6.
MOST_MEAN = 2.0
# Of so few numbers the mean is beside the spread what chance makes it, in one sample or another.
FEW = 32
# The same for TFLite: what is lost goes with the mean itself.
MOST_MEAN_TFLITE, FEW_TFLITE = 30.0, 8


def centre_large_means(editor: Editor) -> None:
    """The mean is taken off before a norm in which it is large beside the spread; without an example, before each."""
    _centre_beyond(editor, MOST_MEAN, FEW)


def centre_larger_means(editor: Editor) -> None:
    """The same of float values, where the mean is larger still."""
    _centre_beyond(editor, MOST_MEAN_TFLITE, FEW_TFLITE)


def _centre_beyond(editor: Editor, most_mean: float, few: int) -> None:
    norms = [node for node in editor.nodes() if op_name(node) in NORMS and not _is_centred(first_input(node))]
    if not norms:
        return
    seen = None if editor.example is None else _Means(editor)
    if seen is not None:
        with torch.no_grad():
            seen.run(*editor.example)  # type: ignore[misc]
    for node in norms:
        if seen is None or _group_size(node) < few or not seen.largest.get(node, math.inf) <= most_mean:
            _centre(editor, node)


class _Means(Interpreter):  # type: ignore[misc]
    """largest: of each norm, its input's largest mean over its spread, on the example."""

    def __init__(self, editor: Editor) -> None:
        super().__init__(editor.module)
        self.largest: dict[Node, float] = {}

    def run_node(self, n: Node) -> object:
        if op_name(n) in NORMS:
            groups = _groups(self.env[first_input(n)].float(), n)
            spread = torch.sqrt(groups.var(-1, correction=0) + float(full_arguments(n)[4]))  # type: ignore[arg-type]
            self.largest[n] = float((groups.mean(-1).abs() / spread).max())
        return super().run_node(n)


def _groups(value: Tensor, norm: Node) -> Tensor:
    """What a norm takes the mean of, along the last axis."""
    if op_name(norm) == "group_norm":
        return value.reshape(value.shape[0], norm.args[1], -1)  # type: ignore[call-overload,no-any-return]
    return value.flatten(-len(norm.args[1]))  # type: ignore[arg-type]


def _group_size(norm: Node) -> int:
    shape = shape_of(first_input(norm))
    if op_name(norm) == "group_norm":
        return math.prod(shape[1:]) // int(norm.args[1])  # type: ignore[arg-type]
    return math.prod(norm.args[1])  # type: ignore[arg-type]


def _is_centred(source: Node) -> bool:
    """Whether a norm's input was centred by this rewrite before."""
    while op_name(source) == "reshape":
        source = first_input(source)
    mean = source.args[1] if op_name(source) == "sub" else None
    return op_name(mean) == "mean" and mean.args[0] is source.args[0]  # type: ignore[union-attr]


def _centre(editor: Editor, norm: Node) -> None:
    source = first_input(norm)
    shape = shape_of(source)
    if op_name(norm) == "group_norm":
        groups = editor.call(aten.reshape.default, source, [shape[0], norm.args[1], -1], like=norm)
        axes = [-1]
    else:
        groups, axes = source, list(range(-len(norm.args[1]), 0))  # type: ignore[arg-type]
    mean = editor.call(aten.mean.dim, groups, axes, True, like=norm)
    centred = editor.call(aten.sub.Tensor, groups, mean, like=norm)
    if op_name(norm) == "group_norm":
        centred = editor.call(aten.reshape.default, centred, editor.sizes(source, norm), like=norm)
    editor.arguments(norm, [centred, *full_arguments(norm)[1:]])
