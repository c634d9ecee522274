"""ReLU6 and its like as part of the layer before them, which XNNPACK's quantizer does for ReLU only.

Left to it, the layer's output is quantized over its whole range and the clamp shares that range: levels are spent on
values that the clamp throws away, and ONNX Runtime finds a Clip between two layers that it cannot fuse (MobileNetV2:
1.9 times slower than float).

It also observes integer tensors, and an attention's mask with all that is added to it: these are kept from it.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer_utils import propagate_annotation
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    QuantizationSpecBase,
    SharedQuantizationSpec,
)
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from pocketforge.quantization.operations import left_float
from pocketforge.quantization.weighted import op_name
from pocketforge.rewrites.graph import first_input, full_arguments

CLAMPS = ("hardtanh", "hardtanh_", "relu6", "relu6_")
EXTREMES = ("maximum", "minimum")
PADS = ("pad", "constant_pad_nd")
LAYERS = ("conv1d", "conv2d", "linear")
LARGE = 1e15
# What makes ordinary values of masked ones again.
BOUNDED = ("softmax", "_softmax", "sigmoid", "tanh", "clamp", "hardtanh", "relu6", "gt", "lt", "ge", "le", "eq", "ne")


class ClampingQuantizer(XNNPACKQuantizer):  # type: ignore[misc]
    """XNNPACK's quantizer, with a clamp's output quantized in place of the output of the layer before it."""

    def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
        """Annotate what nobody has annotated yet; first layers with their clamps.

        Integers, and operations that are told to stay float, are left alone.
        """
        masks = _of_masks(model)
        for node in model.graph.nodes:
            if (_is_integer(node) or node in masks or left_float(node)) and not _annotated(node):
                _annotate(node)
        config, fits = self.global_config, self.filter_fn
        for clamp in model.graph.nodes:
            layer = clamp.args[0] if op_name(clamp) in CLAMPS else None
            if not isinstance(layer, torch.fx.Node) or op_name(layer) not in LAYERS or len(layer.users) > 1:
                continue
            parts = [clamp, layer, *layer.all_input_nodes[1:]]
            if any(_annotated(node) for node in parts) or (fits and not all(fits(node) for node in parts)):
                continue
            specs = (config.input_activation, config.weight, config.bias)
            given = {node: spec for node, spec in zip(layer.args[:3], specs, strict=False) if node is not None}
            for node in parts[2:]:
                _annotate(node)
            _annotate(layer, inputs=given)
            _annotate(clamp, output=config.output_activation)
        for node in model.graph.nodes:
            if op_name(node) in EXTREMES and not _annotated(node) and (fits is None or fits(node)):
                _share_inputs(node, config.input_activation)
        annotated: torch.fx.GraphModule = super().annotate(model)
        _share_with_pads(annotated)
        return annotated


def _share_inputs(node: torch.fx.Node, spec: QuantizationSpec) -> None:
    """Both inputs and the output in the same levels: left in float, TFLite's converter takes one's levels for both."""
    first, second = node.args
    if isinstance(first, torch.fx.Node) and isinstance(second, torch.fx.Node) and first is not second:
        shared = SharedQuantizationSpec((first, node))
        _annotate(node, inputs={first: spec, second: shared}, output=shared)


def _share_with_pads(model: torch.fx.GraphModule) -> None:
    """What is padded by zeros keeps its levels, as a pooling does: they hold a zero, and XNNPACK's pad asks for it."""
    pads = [node for node in model.graph.nodes if op_name(node) in PADS and not _annotated(node) and _pads_zeros(node)]
    for _ in range(len(pads)):  # each may be what the next, or a pooling before the next, waits for
        for node in pads:
            source = first_input(node)
            if not _annotated(node) and _annotated(source) and source.meta[Q_ANNOTATION_KEY].output_qspec is not None:
                shared = SharedQuantizationSpec(source)
                _annotate(node, inputs={source: shared}, output=shared)
        propagate_annotation(model)


def _pads_zeros(node: torch.fx.Node) -> bool:
    given = full_arguments(node)
    mode, value = given[2:4] if op_name(node) == "pad" else ("constant", given[2])
    fixed = all(isinstance(pad, int) for pad in given[1])  # XNNPACK pads by no length that varies
    return mode == "constant" and not value and fixed and min(given[1], default=0) >= 0


def _is_integer(node: torch.fx.Node) -> bool:
    """Whether a node gives indices, a mask or the like: what observes it makes a float of it."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and not value.is_floating_point()


def _of_masks(model: torch.fx.GraphModule) -> set[torch.fx.Node]:
    """What is computed with a number so large that it only says "not this one" (attention's masks), up to the softmax.

    8 bits over such a range hold nothing else, and LiteRT does not survive the scale. XNNPACK's quantizer looks for
    large numbers above zero only.
    """
    masks: set[torch.fx.Node] = set()
    for node in model.graph.nodes:
        if node.op == "get_attr":
            value = operator.attrgetter(node.target)(model)
            floats = isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel() > 0
            if floats and float(value.abs().max()) > LARGE:
                masks.add(node)
        elif node.op == "call_function" and op_name(node) not in BOUNDED:
            numbers = [a for a in node.args if isinstance(a, float)]
            if any(abs(n) > LARGE for n in numbers) or any(each in masks for each in node.all_input_nodes):
                masks.add(node)
    return masks


def _annotated(node: torch.fx.Node) -> bool:
    return Q_ANNOTATION_KEY in node.meta and node.meta[Q_ANNOTATION_KEY]._annotated


def _annotate(
    node: torch.fx.Node,
    inputs: Mapping[torch.fx.Node, QuantizationSpecBase] | None = None,
    output: QuantizationSpecBase | None = None,
) -> None:
    """How a node's inputs and output are quantized; without a word of it, that they are left alone."""
    if inputs or output or Q_ANNOTATION_KEY not in node.meta:
        node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(
            input_qspec_map=dict(inputs or {}), output_qspec=output, _annotated=True
        )
    node.meta[Q_ANNOTATION_KEY]._annotated = True
