"""What a quantized graph is on disk: the folder that exporters, verify and reports read, whichever way it was made."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pocketforge.data.arrays_on_disk import load_samples
from pocketforge.errors import StageFailed, first_line
from pocketforge.model.evaluate import evaluate
from pocketforge.outcomes import files
from pocketforge.outcomes.mixed import MixedChoice
from pocketforge.outcomes.quantize import (
    CalibratedRange,
    CodebookChoice,
    Concat,
    OutputLevels,
    Quantized,
    QuantizedLayer,
    Repairs,
    TrainedFor,
)
from pocketforge.outcomes.reference import StepSequence
from pocketforge.quantization.pt2e import Graphs, describe
from pocketforge.quantization.weighted import count_weights, layers_of
from pocketforge.recipe.backends import BACKENDS
from pocketforge.recipe.quantize import Quantize
from pocketforge.rewrites.blame import layer_of

# Enough to compare a runtime's integer arithmetic with the graph's, step by step, without running the slow
# decomposed graph on every sample.
SIMULATED_SAMPLES = 200


@dataclass(frozen=True, slots=True)
class QuantizeNotes:
    """What quantize.json says beside the graph: how it was made.

    Attributes:
        mixed: Of scheme `mixed`.
        repairs: Where any was asked for.
        codebook: Of scheme `codebook`.
        qat: Of scheme `qat_int8`.
        sequence: How the model's states go; what the graph answers is said over sequences then.
        concats: Those whose parts are of unlike range.
        told_float: Operations that were kept float by their own names.
        advice: What to try where a file misses its limits; may be empty.
        ranges: Which calibration observed.
    """

    mixed: MixedChoice | None = None
    repairs: Repairs | None = None
    codebook: CodebookChoice | None = None
    qat: TrainedFor | None = None
    sequence: StepSequence | None = None
    concats: tuple[Concat, ...] = ()
    told_float: tuple[str, ...] = ()
    advice: str = ""
    ranges: tuple[CalibratedRange, ...] = ()


def write_converted(
    graphs: Graphs,
    example: tuple[torch.Tensor, ...],
    quantize: Quantize,
    data: Path,
    out: Path,
    progress: Callable[[float], None],
    notes: QuantizeNotes = QuantizeNotes(),
    shapes: object = None,
) -> Quantized:
    """Write folded.pt2, unfolded.pt2, outputs_0.npy … (the graph on the first eval samples) and quantize.json.

    example: the batch-1 inputs to trace with; data: the data stage's folder; shapes: as torch.export takes it, of what
    varies in them. Returns what quantize.json says. Raises StageFailed when no layer is quantized.
    """
    folded, unfolded = graphs
    layers, outputs = describe(unfolded)
    quantized = _quantized(quantize, layers, outputs, notes)
    if not quantized.quantized:
        raise nothing_quantized(quantized.left_float, quantize)
    for name, module in (("folded", folded), ("unfolded", unfolded)):
        torch.export.save(torch.export.export(module, example, dynamic_shapes=shapes), out / f"{name}.pt2")
    write_outputs(folded, data, out, progress, notes.sequence)
    files.write(out, quantized)
    return quantized


def write_float_form(
    graph: torch.fx.GraphModule,
    example: tuple[torch.Tensor, ...],
    quantize: Quantize,
    stored: Collection[str],
    data: Path,
    out: Path,
    progress: Callable[[float], None],
    notes: QuantizeNotes = QuantizeNotes(),
) -> Quantized:
    """As `write_converted`, for a float graph whose weights are the values that the file will hold in another form.

    stored: names of the weights that will; there is no unfolded.pt2.
    """
    layers = tuple(
        QuantizedLayer(
            name=layer.name,
            op=layer.op,
            scheme=quantize.scheme if f"{layer.name}.weight" in stored else "fp32",
            weights=count_weights(graph, layer.name),
        )
        for layer in layers_of(graph.graph)
    )
    torch.export.save(torch.export.export(graph, example), out / "folded.pt2")
    count = write_outputs(graph, data, out, progress, notes.sequence)
    quantized = _quantized(quantize, layers, (None,) * count, notes)
    files.write(out, quantized)
    return quantized


def _quantized(
    quantize: Quantize,
    layers: tuple[QuantizedLayer, ...],
    outputs: tuple[OutputLevels | None, ...],
    notes: QuantizeNotes,
) -> Quantized:
    return Quantized(
        scheme=quantize.scheme,
        numerics=numerics(quantize),
        layers=layers,
        outputs=outputs,
        mixed=notes.mixed,
        repairs=notes.repairs,
        codebook=notes.codebook,
        qat=notes.qat,
        concats=notes.concats,
        told_float=notes.told_float,
        advice=notes.advice,
        ranges=notes.ranges,
    )


def write_outputs(
    graph: torch.nn.Module,
    data: Path,
    out: Path,
    progress: Callable[[float], None],
    sequence: StepSequence | None = None,
) -> int:
    """outputs_0.npy …: what the file has to answer to the first eval samples. Returns how many outputs there are."""
    outputs = evaluate(graph, load_samples(data, "eval"), progress, SIMULATED_SAMPLES, sequence)
    for number, values in enumerate(outputs):
        np.save(out / f"outputs_{number}.npy", values)
    return len(outputs)


def numerics(quantize: Quantize) -> str:
    """What the file's numbers are, in words: static or dynamic, by channel or by tensor, on which backend's terms."""
    granularity = "per-channel" if quantize.by_channel else "per-tensor"
    bits = "" if quantize.weight_bits == 8 else f" of {quantize.weight_bits} bits"
    backend = f"{quantize.backend} ({BACKENDS[quantize.backend].about})"
    return quantize.info.numerics.format(
        granularity=granularity,
        bits=bits,
        backend=backend,
        group_size=quantize.group_size,
        entries=quantize.entries,
    )


def could_not_quantize(error: Exception, program: torch.export.ExportedProgram, scheme: str) -> StageFailed:
    """What torchao or the quantizer raised, as the user shall see it."""
    layer = layer_of(error, list(program.graph.nodes))
    return StageFailed(
        f"the model could not be quantized ({scheme}){f', at {layer}' if layer else ''}: {first_line(error)}",
        "keep the layer in float (quantize.overrides), write it with other operators, or try another scheme; "
        "the whole story is in the log",
    )


def nothing_quantized(left_float: list[str], quantize: Quantize) -> StageFailed:
    """What is said of a model none of whose layers the scheme makes int8. left_float: labels of its layers."""
    left = ", ".join(left_float)
    if quantize.info.family == "dynamic" and left:
        return StageFailed(
            f"no layer could be quantized dynamically: dynamic_int8 is for linear layers and LSTMs; float: {left}",
            'use scheme = "static_int8", which quantizes convolutions too, or "fp32"',
        )
    return StageFailed(
        f"no layer could be quantized; float: {left or 'the model has no conv or linear'}",
        'use scheme = "fp32" for this model',
    )
