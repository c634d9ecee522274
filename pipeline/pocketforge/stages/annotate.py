"""Stage `annotate`: what the quantizer will make of a model, without calibrating it: for `check`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from pocketforge import events
from pocketforge.errors import PocketforgeError
from pocketforge.metrics import Arrays
from pocketforge.outcomes import files
from pocketforge.outcomes.annotate import Annotated, AnnotatedPart
from pocketforge.outcomes.reference import Reference
from pocketforge.quantization.annotated import annotated_parts
from pocketforge.quantization.attention import advice
from pocketforge.quantization.calibration import calibration_samples
from pocketforge.quantization.concats import KeptApart, keep_apart
from pocketforge.quantization.converted import could_not_quantize, nothing_quantized
from pocketforge.quantization.pt2e import layer_schemes, prepare, rewritten_for_quantizer
from pocketforge.quantization.recurrent import check_recurrent
from pocketforge.rewrites import graph_files
from pocketforge.specs.annotate import AnnotateSpec

# The ranges of a concat's parts differ by orders of magnitude where it matters: a few samples show it.
_SAMPLES = 4


def run(inputs: Mapping[str, Path], spec: AnnotateSpec, out: Path, emit: events.Progress) -> None:
    """inputs: "data", "reference".

    Writes annotate.json. Raises ModelError for overrides that mean nothing in the model. A model that a build refuses
    with this scheme is no error here: `check` tells of every target.
    """
    torch.set_num_threads(1)
    emit(0.0, "reading the graph")
    program = graph_files.load(inputs["reference"] / "model.pt2")
    quantize = spec.quantize
    graph = rewritten_for_quantizer(program)
    schemes = layer_schemes(graph.graph, quantize)
    apart = KeptApart({}, ())
    if quantize.is_static and files.read(inputs["reference"], Reference).sequence is None:
        emit(0.3, "looking at concats")
        apart = keep_apart(graph, _few(calibration_samples(inputs["data"], quantize)), schemes)
    emit(0.5, "annotating")
    parts: tuple[AnnotatedPart, ...] = ()
    refused, hint = "", advice(graph.graph) if quantize.is_static else ""
    try:
        check_recurrent(program, quantize.scheme)
        parts = annotated_parts(prepare(program, quantize, {**schemes, **apart.schemes}), schemes)
        if all(part.numbers == "float" for part in parts if not part.operation):
            raise nothing_quantized([f"{part.kind} ({part.name})" for part in parts if not part.operation], quantize)
    except PocketforgeError as error:
        refused, hint = error.message, error.hint
    except Exception as error:  # torchao and the quantizer raise many kinds of their own, as they do in a build
        failed = could_not_quantize(error, program, quantize.scheme)
        refused, hint = failed.message, failed.hint
    files.write(out, Annotated(parts, apart.concats, refused, hint))
    emit(1.0, f"{sum(part.numbers != 'float' for part in parts)} of {len(parts)} layers and operations in int8")


def _few(samples: Arrays) -> Arrays:
    return [array[:_SAMPLES] for array in samples]
