"""A float32 graph computed in half precision behind float32 inputs and outputs: fp16 as ExecuTorch's XNNPACK has it.

XNNPACK's delegate keeps the weights of convolutions in float32 (its serializer sets `fp32_static_weights` for them):
only linear layers get smaller. A model whose weights are mostly convolutions is refused, as the file would be as large
as before, less exact, and slower.
"""

from __future__ import annotations

import copy

import torch
from torch.utils import _pytree  # noqa: PLC2701 - upstream gives it no public name

from pocketforge.errors import StageFailed, first_line
from pocketforge.rewrites.blame import layer_of
from pocketforge.rewrites.centred import NORMS
from pocketforge.rewrites.graph import op_name

_TO = torch.ops.aten.to.dtype
LEAST_HALVED = 0.5
# What ExecuTorch's own kernels add up in half: of 768 values a layer norm has nothing right, of 1024 a variance 9 dB.
_SUMMED_WIDE = (*NORMS, "var", "std")
_KEPT_WIDE = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "convolution")


class _InHalf(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> object:
        outputs = self.module(*[x.half() if x.is_floating_point() else x for x in inputs])
        return _pytree.tree_map(lambda y: y.float() if y.dtype == torch.float16 else y, outputs)


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
    module.half()
    _sums_in_float(module)
    try:
        return torch.export.export(_InHalf(module), example)
    except Exception as error:
        layer = layer_of(error, list(program.graph.nodes))
        raise StageFailed(
            f"the model cannot be computed in half precision{f', at {layer}' if layer else ''}: {first_line(error)}",
            'its graph asks for float32 itself; use scheme = "fp32" or "dynamic_int8"',
        ) from error


def _sums_in_float(module: torch.fx.GraphModule) -> None:
    """Norms and variances between casts."""
    graph = module.graph
    for node in list(graph.nodes):
        if op_name(node) not in _SUMMED_WIDE:
            continue
        with graph.inserting_before(node):
            wide = {each: graph.call_function(_TO, (each, torch.float32)) for each in node.all_input_nodes}
        node.args = torch.fx.node.map_arg(node.args, lambda each, wide=wide: wide[each])
        with graph.inserting_after(node):
            narrow = graph.call_function(_TO, (node, torch.float16))
        node.replace_all_uses_with(narrow, delete_user_cb=lambda user, narrow=narrow: user is not narrow)
    module.recompile()


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
