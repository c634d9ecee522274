"""Stage `export`: the graph of a lane → the file(s) of its runtime. What they compute is `verify`'s business."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pocketforge import events
from pocketforge.data.kept_texts import TOKENIZER
from pocketforge.errors import ModelError, PocketforgeError, StageFailed, first_line
from pocketforge.files import gzip_size_bytes
from pocketforge.outcomes import files
from pocketforge.outcomes.about import About
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.package import Packed
from pocketforge.outcomes.quantize import Quantized
from pocketforge.outcomes.recurrent import MOST_IN_FLOAT, refusal
from pocketforge.outcomes.reference import Reference
from pocketforge.recipe.input_rules import input_refusal
from pocketforge.registries import RUNTIMES
from pocketforge.rewrites import graph_files
from pocketforge.rewrites.blame import layer_of
from pocketforge.runtimes.about_file import about_file
from pocketforge.runtimes.base import ExportRequest, checked_result, load_exporter
from pocketforge.specs.export import ExportSpec


def run(inputs: Mapping[str, Path], spec: ExportSpec, out: Path, emit: events.Progress) -> None:
    """inputs: "reference", "quantize" (where a step quantized the model), "data" (where the file says what it takes).

    Writes the runtime's files and export.json (their roles, inputs, outputs, facts, warnings). Raises StageFailed
    with the toolchain's words, ToolMissing when the toolchain is not installed.
    """
    emit(0.0, f"loading {spec.runtime}'s exporter")
    exporter = load_exporter(spec.runtime)
    if "quantize" in inputs:
        check_kernels(files.read(inputs["quantize"], Quantized), spec.runtime)
    request = load_request(inputs, spec)
    check_input_types(request, spec.runtime)
    emit(0.3, "exporting")
    try:
        with RUNTIMES.calling(spec.runtime, f"{RUNTIMES[spec.runtime].module}:export", ours=(Exception,)):
            result = checked_result(exporter.export(request, out), spec.runtime)
    except (PocketforgeError, OSError):
        raise
    except Exception as error:
        raise exporters_words(error, request, spec.runtime) from error
    emit(0.9, "packing")
    exported = Exported(
        result.files,
        tuple(result.inputs),
        tuple(result.outputs),
        {role: gzip_size_bytes(out / name) for role, name in result.files.items()},
        result.facts,
        tuple(result.warnings),
    )
    files.write(out, exported)
    emit(1.0, f"{exported.model_in(out).stat().st_size} bytes")


def check_input_types(request: ExportRequest, runtime: str) -> None:
    """Raises StageFailed for an input that no file of the runtime can take: of types that the recipe does not say."""
    for name, value in zip(request.input_names, request.example, strict=True):
        refused = input_refusal(runtime, str(value.dtype).removeprefix("torch."))
        if refused:
            raise StageFailed(f"input {name!r}: {refused}")


def check_kernels(quantized: Quantized, runtime: str) -> None:
    """Raises ModelError where the runtime has no int8 kernels for most of what is quantized: a float file by name."""
    info = RUNTIMES[runtime]
    here = quantized.in_runtime(info.dynamic_layers)
    lost = [layer for layer, made in zip(quantized.layers, here.layers, strict=True) if layer.scheme != made.scheme]
    share = sum(layer.weights for layer in lost) / max(1, sum(layer.weights for layer in quantized.layers))
    if lost and (share > MOST_IN_FLOAT or not here.quantized):
        raise ModelError(*refusal(quantized.scheme, share, [layer.label for layer in lost], info.title))


def exporters_words(error: Exception, request: ExportRequest, runtime: str) -> StageFailed:
    """What an exporter raised, as the user shall see it: the innermost cause, the layer, what to try."""
    layer = layer_of(error, [*request.program.graph.nodes, *(request.unfolded.graph.nodes if request.unfolded else ())])
    others = ", ".join(name for name in RUNTIMES if name != runtime)
    buckets = "give the target sizes = [[…], […]] (files of fixed shapes), " if request.varying else ""
    return StageFailed(
        f"{runtime} could not export the model{f', at {layer}' if layer else ''}: {first_line(error)}",
        f"{buckets}write {'this layer' if layer else 'what it names'} with other operators, or try another runtime "
        f"({others}); the exporter's whole output is in the log",
    )


def load_request(inputs: Mapping[str, Path], spec: ExportSpec) -> ExportRequest:
    """What the exporter gets, from the folders of the earlier stages."""
    reference = files.read(inputs["reference"], Reference)
    if "quantize" in inputs:
        # Registers the quantized ops that a converted graph holds; loading one fails without it.
        import torchao.quantization.pt2e  # noqa: F401

        program = graph_files.load(inputs["quantize"] / "folded.pt2")
        # Weight-only schemes and codebooks have none: theirs is a float graph.
        other = inputs["quantize"] / "unfolded.pt2"
        unfolded = graph_files.load(other) if other.exists() else None
    else:
        program, unfolded = graph_files.load(inputs["reference"] / "model.pt2"), None
    return ExportRequest(
        program=program,
        unfolded=unfolded,
        example=tuple(program.example_inputs[0]),
        input_names=tuple(tensor.name for tensor in reference.inputs),
        output_names=tuple(tensor.name for tensor in reference.outputs),
        layout=spec.layout,
        io=spec.io,
        opset=spec.opset,
        model_layout=spec.model_layout,
        scheme=spec.scheme,
        encodings=inputs["quantize"] if "quantize" in inputs and unfolded is None else None,
        varying=reference.varying.inputs if reference.varying else (),
        about=_about(inputs, spec, reference),
        int8_weights=spec.int8_weights,
    )


def _about(inputs: Mapping[str, Path], spec: ExportSpec, reference: Reference) -> About | None:
    """What the file says of itself."""
    if spec.about is None:
        return None
    packed = files.read(inputs["reference"], Packed) if (inputs["reference"] / Packed.FILE).exists() else None
    tokenizer = inputs["data"] / TOKENIZER
    content = json.loads(tokenizer.read_bytes()) if tokenizer.exists() else None
    return about_file(spec.about, files.read(inputs["data"], Sampled), reference, packed, content)
