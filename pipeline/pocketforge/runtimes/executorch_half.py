"""A float32 graph computed in half precision behind float32 inputs and outputs: fp16 as ExecuTorch's XNNPACK has it.

XNNPACK's delegate keeps the weights of convolutions in float32 (its serializer sets `fp32_static_weights` for them):
only linear layers get smaller. A model whose weights are mostly convolutions is refused, as the file would be as large
as before, less exact, and slower.
"""

from __future__ import annotations

import copy

import torch
from torch.fx import Node

from pocketforge.errors import StageFailed, first_line
from pocketforge.rewrites.blame import layer_of
from pocketforge.rewrites.centred import NORMS
from pocketforge.rewrites.graph import is_guard, op_name
from pocketforge.rewrites.shapes import shapes_of

_TO = torch.ops.aten.to.dtype
LEAST_HALVED = 0.5
# What ExecuTorch's and XNNPACK's kernels add up in half: of 768 values a layer norm has nothing right, of 1024 a
# variance 9 dB, of 4096 a running sum 25; of 2048 a softmax 58 and of 1024 an average pool too, where torch's half has
# 70 and 73.
_SUMMED_WIDE = (*NORMS, "var", "std", "cumsum", "softmax", "avg_pool1d", "avg_pool2d", "avg_pool3d")
_KEPT_WIDE = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "convolution")


def in_half(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program in half precision. Raises StageFailed when its file would not be smaller, or it does not trace."""
    module: torch.fx.GraphModule = copy.deepcopy(program).module()
    wide, total = _bytes_kept_wide(module)
    if total and wide > (1 - LEAST_HALVED) * total:
        raise StageFailed(
            f"fp16 would not make the .pte smaller: XNNPACK keeps convolutions' weights in float32, {wide / total:.0%} "
            "of this model's",
            'use scheme = "static_int8", or runtime "tflite" or "onnx" for fp16',
        )
    example = tuple(program.example_inputs[0])
    shapes = shapes_of(program)
    module.half()
    _integers_in_half(module)
    _sums_in_float(module)
    _half_between(module)
    try:
        return torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        layer = layer_of(error, list(program.graph.nodes))
        raise StageFailed(
            f"the model cannot be computed in half precision{f', at {layer}' if layer else ''}: {first_line(error)}",
            'its graph asks for float32 itself; use scheme = "fp32" or "dynamic_int8"',
        ) from error


def _integers_in_half(module: torch.fx.GraphModule) -> None:
    """What a graph makes floats of (pixels as bytes, counts) becomes half: no layer in half takes float32."""
    for node in module.graph.nodes:
        if op_name(node) == "to" and node.args[1:2] == (torch.float32,) and not _is_float(node.args[0]):
            node.update_arg(1, torch.float16)
    module.recompile()


def _sums_in_float(module: torch.fx.GraphModule) -> None:
    """Norms, variances, running sums and the like between casts."""
    for node in list(module.graph.nodes):
        if op_name(node) in _SUMMED_WIDE:
            wide = {each: _cast(each, node, torch.float32) for each in node.all_input_nodes}
            node.args = torch.fx.node.map_arg(node.args, lambda each, wide=wide: wide[each])
            narrow = _cast(node, node.next, torch.float16)
            node.replace_all_uses_with(narrow, delete_user_cb=lambda user, narrow=narrow: user is not narrow)
    module.recompile()


def _half_between(module: torch.fx.GraphModule) -> None:
    """Inputs come and outputs go as floats. In the graph itself: of a module around it, no node is of a layer."""
    nodes = list(module.graph.nodes)
    body = next(node for node in reversed(nodes) if node.op == "placeholder").next
    for node in nodes:
        if node.op == "placeholder" and _is_float(node):
            narrow = _cast(node, body, torch.float16)
            node.replace_all_uses_with(
                narrow, delete_user_cb=lambda user, narrow=narrow: user is not narrow and not is_guard(user)
            )
        if node.op == "output":
            wide = {each: _cast(each, node, torch.float32) for each in node.all_input_nodes if _is_float(each)}
            node.args = torch.fx.node.map_arg(node.args, lambda each, wide=wide: wide.get(each, each))
    module.recompile()


def _cast(node: Node, before: Node, dtype: torch.dtype) -> Node:
    with node.graph.inserting_before(before):
        cast: Node = node.graph.call_function(_TO, (node, dtype))
    cast.meta.update({key: node.meta[key] for key in ("nn_module_stack", "stack_trace", "val") if key in node.meta})
    return cast


def _is_float(node: Node) -> bool:
    """By what tracing noted, before the weights were halved."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _bytes_kept_wide(module: torch.fx.GraphModule) -> tuple[int, int]:
    """Bytes of the weights of convolutions, and of all parameters."""
    state = dict(module.named_parameters())
    names = {
        str(node.args[1].target)
        for node in module.graph.nodes
        if node.op == "call_function"
        and getattr(node.target, "__name__", "").split(".")[0] in _KEPT_WIDE
        and isinstance(node.args[1], torch.fx.Node)
    }
    return sum(p.nbytes for n, p in state.items() if n in names), sum(p.nbytes for p in state.values())
