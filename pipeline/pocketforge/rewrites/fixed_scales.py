"""Ops whose 8-bit output has one scale and no other in TFLite, whoever shares an observer with them."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from pocketforge.rewrites.graph import Editor, op_name

# The format's own: (scale, zero point) of LOGISTIC, SOFTMAX and TANH. With others a file loads only where XNNPACK
# takes the op, and not in tflite-runtime 2.14 or on delegates.
FIXED = {
    "sigmoid": (1 / 256, -128),
    "softmax": (1 / 256, -128),
    "_softmax": (1 / 256, -128),
    "tanh": (1 / 128, 0),
}


def keep_fixed_scales(editor: Editor) -> None:
    """Quantize the output of such an op by its own scale first, then by that which its readers share."""
    for node in editor.nodes():
        source = node.args[0] if op_name(node) in FIXED else None
        if op_name(source) != "dequantize_per_tensor":
            continue
        wanted = FIXED[op_name(node)]
        others = [user for user in node.users if op_name(user) == "quantize_per_tensor" and user.args[1:3] != wanted]
        if not others:
            continue
        levels, first = others[0].args[3:], others[0]
        assert isinstance(source, Node)

        def rounded(value: Node, scale: float, zero: int, to: Any = first, back: Any = source) -> Node:
            quantized = editor.call(to.target, value, scale, zero, *to.args[3:], like=to)
            return editor.call(back.target, quantized, scale, zero, *to.args[3:], like=to)

        # A product with one changes the scale: of two quantizations in a row, the converter drops one.
        one = editor.constant(f"{node.name}_one", torch.ones(()), first)
        product = editor.call(
            torch.ops.aten.mul.Tensor, rounded(node, *wanted), rounded(one, 1 / int(levels[1]), 0), like=first
        )
        for user in others:
            user.replace_input_with(node, product)
