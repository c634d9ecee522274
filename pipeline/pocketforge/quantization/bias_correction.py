"""Bias correction: what quantization shifts each layer's output by, on average, is taken off its bias.

Method: Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction", section 4.2 and
appendix D: the empirical one, with calibration samples, layer after layer, each seeing the layers before it corrected.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

import numpy as np
import torch

from pocketforge.errors import ModelError
from pocketforge.metrics import Arrays
from pocketforge.outcomes.quantize import BiasCorrection, CorrectedLayer
from pocketforge.quantization.weighted import op_name, owner

CORRECTED = ("conv1d", "conv2d", "conv3d", "linear")
MOST_SAMPLES = 64  # a mean settles soon, and the values of all samples at one place of the graph are held at once


def correct_biases(
    float_graph: torch.fx.GraphModule, converted: torch.fx.GraphModule, samples: Arrays
) -> BiasCorrection:
    """Correct the biases of `converted`'s quantized layers, in place.

    float_graph: the same eval graph before it was prepared, batch norm folded or not; its layers' nodes have the same
    names. samples: one array a model input, samples first; the first MOST_SAMPLES are used. Raises ModelError without
    samples.
    """
    used = min(len(samples[0]), MOST_SAMPLES)
    if not used:
        raise ModelError("bias_correction: there are no calibration samples", "set data.calibration_samples")
    quantized = {n.name: n for n in converted.graph.nodes if op_name(n) in CORRECTED and _is_quantized(n)}
    means = _means(float_graph, samples, used, set(quantized))
    corrected, without = [], []
    with torch.no_grad():
        for node, values in lockstep(converted, samples, used):
            if node.name not in means:
                continue
            mean, deviation, layer = means[node.name]
            shift = torch.stack([_by_channel(v, node).mean(1) for v in values]).mean(0) - mean
            bias = _bias(converted, node)
            if bias is None:
                without.append(layer)
                continue
            _set_bias(converted, node, bias - shift)
            for value in values:  # what follows sees the corrected layer
                value.sub_(shift.view(-1, *[1] * (value.dim() - 2)) if op_name(node) != "linear" else shift)
            share = float((shift.abs() / deviation.clamp(min=1e-12)).mean())
            corrected.append(CorrectedLayer(layer, node.name, share))
    return BiasCorrection(used, tuple(corrected), tuple(without))


def copy_biases(source: torch.fx.GraphModule, target: torch.fx.GraphModule) -> None:
    """Give `target` the biases of `source`: the same graph prepared, or converted with weights folded or not."""
    layers = {n.name: n for n in source.graph.nodes if op_name(n) in CORRECTED}
    with torch.no_grad():
        for node in target.graph.nodes:
            if node.name not in layers or op_name(node) not in CORRECTED:
                continue
            given = _bias(source, layers[node.name])
            if given is not None and _bias(target, node) is not None:
                _set_bias(target, node, given.clone())


def lockstep(
    graph: torch.fx.GraphModule, samples: Arrays, count: int
) -> Iterator[tuple[torch.fx.Node, list[torch.Tensor]]]:
    """Run the first `count` samples through `graph` side by side: after each node that computes, its values, one each.

    What is done to the values (in place) is what the next nodes see. Values are dropped after their last use.
    """
    inputs = iter(samples)
    last_use = {given: node for node in graph.graph.nodes for given in node.all_input_nodes}
    env: dict[torch.fx.Node, list[torch.Tensor]] = {}
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            array = next(inputs)
            env[node] = [torch.from_numpy(np.array(array[i : i + 1])) for i in range(count)]
        elif node.op == "get_attr":
            env[node] = [operator.attrgetter(node.target)(graph)] * count
        elif node.op in ("call_function", "call_module"):
            call = node.target if node.op == "call_function" else graph.get_submodule(node.target)
            env[node] = []
            for index in range(count):
                args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda n, i=index: env[n][i])
                env[node].append(call(*args, **kwargs))
            yield node, env[node]
        for given in node.all_input_nodes:
            if last_use[given] is node:
                del env[given]


def _means(
    graph: torch.fx.GraphModule, samples: Arrays, count: int, names: set[str]
) -> dict[str, tuple[torch.Tensor, torch.Tensor, str]]:
    """Mean and standard deviation of each channel of the named nodes' outputs, and each one's layer."""
    means = {}
    with torch.no_grad():
        # A batch norm that is not folded yet is part of what a layer gives, once it is: the node after counts.
        for node, values in lockstep(graph, samples, count):
            named = node if node.name in names else _layer_before_norm(node, names)
            if named is not None:
                flat = torch.cat([_by_channel(v, named) for v in values], 1)
                means[named.name] = (flat.mean(1), flat.std(1, correction=0), owner(named))
    return means


def _layer_before_norm(node: torch.fx.Node, names: set[str]) -> torch.fx.Node | None:
    if "batch_norm" not in op_name(node):
        return None
    before = node.args[0]
    return before if isinstance(before, torch.fx.Node) and before.name in names else None


def _by_channel(value: torch.Tensor, node: torch.fx.Node) -> torch.Tensor:
    return value.movedim(-1 if op_name(node) == "linear" else 1, 0).flatten(1)


def _is_quantized(node: torch.fx.Node) -> bool:
    return all("dequantize" in str(a.target) for a in node.args[:2] if isinstance(a, torch.fx.Node))


def _bias(graph: torch.fx.GraphModule, node: torch.fx.Node) -> torch.Tensor | None:
    given = node.args[2] if len(node.args) > 2 else None
    if not isinstance(given, torch.fx.Node) or given.op != "get_attr" or len(given.users) > 1:
        return None
    bias: torch.Tensor = operator.attrgetter(str(given.target))(graph)
    return bias


def _set_bias(graph: torch.fx.GraphModule, node: torch.fx.Node, value: torch.Tensor) -> None:
    """A new parameter: the old one's storage is also the float model's, which stays as it was."""
    place, _, name = str(node.args[2].target).rpartition(".")  # type: ignore[union-attr]
    setattr(graph.get_submodule(place), name, torch.nn.Parameter(value, requires_grad=False))
