"""A dynamically quantized graph without the ops that quantize activations: what ONNX and TFLite start from.

Their runtimes quantize a layer's input inside of one operator, so the graph that is converted must hold int8 weights
and float activations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def drop_activation_quantization(module: torch.nn.Module) -> int:
    """Take every choose_qparams → quantize → dequantize chain out of `module`, in place. Returns how many."""
    graph: torch.fx.Graph = module.graph
    dropped = 0
    for node in list(graph.nodes):
        if node.op != "call_function" or "choose_qparams" not in str(node.target):
            continue
        source = node.args[0]
        # choose_qparams gives (scale, zero_point); both go to the quantize op and to the dequantize op behind it.
        for used in {user for getter in node.users for user in getter.users}:
            if "dequantize" in str(used.target):
                used.replace_all_uses_with(source)
                dropped += 1
    graph.eliminate_dead_code()
    graph.lint()
    module.recompile()  # type: ignore[operator]
    return dropped
