"""Int8 through PT2E with XNNPACK's quantizer: one graph per numerics serves all three runtimes.

Method: Jacob et al. 2018 (affine quantization); torchao's PT2E flow and ExecuTorch's XNNPACKQuantizer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import ComposableQuantizer, Quantizer

import pocketforge.quantization.patterns  # noqa: F401  torchao traces its patterns once, not for every graph
from pocketforge.errors import ModelError
from pocketforge.metrics import Arrays
from pocketforge.model.evaluate import one_sample
from pocketforge.outcomes.quantize import CalibratedRange, OutputLevels, QuantizedLayer
from pocketforge.outcomes.reference import StepSequence
from pocketforge.quantization.attention import sums_for_norms
from pocketforge.quantization.clamps import ClampingQuantizer
from pocketforge.quantization.dynamic import dynamic_config
from pocketforge.quantization.fake_quantize import training_config
from pocketforge.quantization.numerics import static_config
from pocketforge.quantization.observers import name_observers
from pocketforge.quantization.operations import mark_float, overridden
from pocketforge.quantization.recurrent import (
    RECURRENT,
    is_rounded,
    matrices_of,
    name_of,
    recurrent_layers,
    round_weights,
    weights_of,
)
from pocketforge.quantization.seen_ranges import ranges_of, seen_by
from pocketforge.quantization.small_values import made_for_steep_ones, made_of_constants
from pocketforge.quantization.weighted import (
    LOOKED_UP,
    WEIGHTED,
    count_weights,
    layers_of,
    matching,
    name_of_table,
    op_name,
    owner,
    table_of,
)
from pocketforge.recipe.quantize import Quantize
from pocketforge.rewrites.passes import QUANTIZER, check_same, rewrite

Graphs = tuple[torch.fx.GraphModule, torch.fx.GraphModule]
Calibrated = tuple[Graphs, tuple[CalibratedRange, ...]]
DYNAMIC_OPS = ("linear", "addmm", "lstm")
NO_LAYER = ""  # in schemes: what is of no layer (an addition, a pooling)


def layer_schemes(graph: torch.fx.Graph, quantize: Quantize) -> dict[str, str]:
    """Layer → fp32, static_int8 or dynamic_int8: by the scheme, then by overrides (of several, the last counts).

    The entry of `NO_LAYER` says whether ops between layers are int8: they are where the whole model is static, but for
    sums that norms alone read, for what logarithms, roots and divisors read, and for those that an override names,
    which have an entry by their own name.
    Raises ModelError for an override that means no layer, or wants what the op cannot be.
    """
    static = quantize.is_static
    layers = layers_of(graph) + ([] if static else recurrent_layers(graph))
    schemes = {
        layer.name: "static_int8" if static else "dynamic_int8" if layer.op in DYNAMIC_OPS else "fp32"
        for layer in layers
    }
    of_layers = [override for override in quantize.overrides if override.modules]
    meant = matching([override.modules for override in of_layers], layers, "quantize.overrides")
    for override in of_layers:
        schemes |= dict.fromkeys(meant[override.modules], override.scheme)
    for layer in layers:
        if schemes[layer.name] == "dynamic_int8" and layer.op not in DYNAMIC_OPS:
            raise ModelError(
                f"quantize.overrides: {layer.name} is a {layer.op}; dynamic_int8 is for linear layers and LSTMs",
                'use scheme = "static_int8" or "fp32" for it',
            )
    if schemes and set(schemes.values()) == {"fp32"} and of_layers:
        raise ModelError(
            f"quantize.overrides leave no layer in int8: {', '.join(schemes)}",
            'use scheme = "fp32", or fewer overrides',
        )
    kept = (*sums_for_norms(graph), *made_for_steep_ones(graph), *made_of_constants(graph)) if static else ()
    of_operations = dict.fromkeys(kept, "fp32")
    of_operations |= overridden(quantize.overrides, graph)
    return {**schemes, **of_operations, NO_LAYER: "static_int8" if static else "fp32"}


def make_quantizer(
    graph: torch.fx.Graph, quantize: Quantize, schemes: Mapping[str, str], *, qat: bool = False
) -> Quantizer:
    """A quantizer of `graph` that treats each layer by its scheme, and all else by that of `NO_LAYER`.

    What stays float by its own name is noted in the graph, as only a whole graph says which operation has which name.
    """
    mark_float(graph, schemes)

    def only(scheme: str) -> Callable[[torch.fx.Node], bool]:
        return lambda node: schemes.get(owner(node), schemes[NO_LAYER]) == scheme

    parts: list[Quantizer] = []
    asked = set(schemes.values())
    if "dynamic_int8" in asked:
        dynamic = dynamic_config(per_channel=quantize.by_channel, weight_bits=quantize.weight_bits)
        parts.append(XNNPACKQuantizer().set_global(dynamic).set_filter_function(only("dynamic_int8")))
    if "static_int8" in asked:
        static = training_config(quantize) if qat else static_config(quantize)
        parts.append(ClampingQuantizer().set_global(static).set_filter_function(only("static_int8")))
    return parts[0] if len(parts) == 1 else ComposableQuantizer(parts)


def rewritten_for_quantizer(program: torch.export.ExportedProgram) -> torch.fx.GraphModule:
    """The traced graph as quantizers take it: overrides name what is in this one. It shares weights with `program`."""
    module = program.module()
    rewrite(module, QUANTIZER)
    return module


def prepare(
    program: torch.export.ExportedProgram, quantize: Quantize, schemes: Mapping[str, str] | None = None
) -> torch.fx.GraphModule:
    """The traced graph, rewritten for the quantizer, with observers. It shares weights with `program`."""
    module = rewritten_for_quantizer(program)
    return _with_observers(module, quantize, layer_schemes(module.graph, quantize) if schemes is None else schemes)


def _with_observers(
    rewritten: torch.fx.GraphModule, quantize: Quantize, schemes: Mapping[str, str]
) -> torch.fx.GraphModule:
    """Takes the graph: it is another afterwards."""
    prepared: torch.fx.GraphModule = prepare_pt2e(rewritten, make_quantizer(rewritten.graph, quantize, schemes))
    name_observers(prepared)
    return prepared


def calibrate(
    prepared: torch.fx.GraphModule,
    samples: Arrays,
    progress: Callable[[float], None] = lambda _: None,
    sequence: StepSequence | None = None,
) -> None:
    """Run `samples` (one array an input, samples first) through the graph, one at a time, for its observers.

    sequence: of a model with states; each row has its own.
    """
    count = len(samples[0])
    with torch.no_grad():
        for index in range(count):
            prepared(*one_sample(samples, index, sequence))
            if index % max(1, count // 20) == 0:
                progress(index / count)


def quantize_graph(
    program: torch.export.ExportedProgram,
    samples: Arrays,
    quantize: Quantize,
    *,
    schemes: Mapping[str, str] | None = None,
    progress: Callable[[float], None] = lambda _: None,
    sequence: StepSequence | None = None,
    at_sizes: Sequence[Arrays] = (),
) -> Graphs:
    """Prepare, calibrate on `samples` where anything is static, and convert. at_sizes: further samples, of other sizes.

    Returns (folded, unfolded): int8 weights stored, for ExecuTorch and ONNX; float weights behind their quantize
    ops, for TFLite's converter. Both compute the same. Raises ModelError as `layer_schemes` and the observers do.
    """
    return calibrated_graphs(
        program, samples, quantize, schemes=schemes, progress=progress, sequence=sequence, at_sizes=at_sizes
    )[0]


def calibrated_graphs(
    program: torch.export.ExportedProgram,
    samples: Arrays,
    quantize: Quantize,
    *,
    schemes: Mapping[str, str] | None = None,
    progress: Callable[[float], None] = lambda _: None,
    sequence: StepSequence | None = None,
    at_sizes: Sequence[Arrays] = (),
) -> Calibrated:
    """As `quantize_graph`, and the ranges that calibration saw."""
    rewritten = rewritten_for_quantizer(program)
    # What comes out is compared with PyTorch as int8 is, by whose measure a wrong graph can pass.
    check_same(program.module(), rewritten, tuple(program.example_inputs[0]))
    schemes = layer_schemes(rewritten.graph, quantize) if schemes is None else schemes
    # Weights are observed when the graph runs: once is enough where no activation is.
    if "static_int8" not in schemes.values():
        samples = [array[:1] for array in samples]

    def calibrated(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
        prepared = _with_observers(graph, quantize, schemes)
        calibrate(prepared, samples, progress, sequence)
        for further in at_sizes:
            calibrate(prepared, further)
        return prepared

    prepared = calibrated(rewritten)
    # Converting a copy of a dynamic graph fails, as its annotations point to the nodes of the original.
    dynamic = "dynamic_int8" in schemes.values()
    again = calibrated(rewritten_for_quantizer(program)) if dynamic else copy.deepcopy(prepared)
    seen = seen_by(prepared)
    graphs = convert(prepared, fold=True), convert(again, fold=False)
    for graph in graphs:
        round_weights(graph, schemes, quantize)
    return graphs, ranges_of(seen, graphs[0])


def convert(prepared: torch.fx.GraphModule, *, fold: bool) -> torch.fx.GraphModule:
    """Convert a calibrated graph, in place. fold: int8 weights stored, not computed from float ones at each run."""
    converted: torch.fx.GraphModule = convert_pt2e(prepared, fold_quantize=fold)
    return converted


def describe(unfolded: torch.fx.GraphModule) -> tuple[tuple[QuantizedLayer, ...], tuple[OutputLevels | None, ...]]:
    """Which layers compute in int8 and how, and the outputs' levels.

    Not of a folded graph: folding loses the weights' names, by which layers are named.
    """
    layers = []
    for node in unfolded.graph.nodes:
        if op_name(node) in RECURRENT:
            count, rounded = matrices_of(node, unfolded), is_rounded(node)
            layers.append(QuantizedLayer(name_of(node), op_name(node), "dynamic_int8" if rounded else "fp32", count))
        elif op_name(node) in LOOKED_UP and table_of(node) is not None:
            layers.append(QuantizedLayer(name_of_table(node), op_name(node), "fp32", weights_of(node, unfolded)))
        if op_name(node) not in WEIGHTED:
            continue
        sources = [a for a in node.args[:2] if isinstance(a, torch.fx.Node)]
        scheme = "fp32"
        if sources and all("dequantize" in str(a.target) for a in sources):
            scheme = "dynamic_int8" if _measured(sources[0]) else "static_int8"
        name = owner(node)
        layers.append(QuantizedLayer(name, op_name(node), scheme, count_weights(unfolded, name)))
    outputs = unfolded.graph.output_node().args[0]
    assert isinstance(outputs, tuple | list)
    return tuple(layers), tuple(map(_levels, outputs))


def _levels(output: object) -> OutputLevels | None:
    if not isinstance(output, torch.fx.Node) or "dequantize_per_tensor" not in str(output.target):
        return None
    _, scale, zero_point = output.args[:3]
    assert isinstance(scale, float | int) and isinstance(zero_point, int)
    return OutputLevels(float(scale), zero_point)


def _measured(dequantize: torch.fx.Node) -> bool:
    """Whether a range is found at run time: its scale is then a node, not a number."""
    return isinstance(dequantize.args[1], torch.fx.Node)
