"""Stage `export`: the graph of a lane → the file(s) of its runtime. What they compute is `verify`'s business."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from pocketforge.errors import PocketforgeError, StageFailed, first_line
from pocketforge.registries import RUNTIMES
from pocketforge.rewrites.blame import layer_of
from pocketforge.runtimes.base import ExportRequest, load_exporter

Emit = Callable[[float, str], None]


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """inputs: "reference", "quantize" (but for fp32 and fp16); spec: runtime, scheme, layout, model_layout, io, opset.

    Writes the runtime's files and export.json (their roles, inputs, outputs, facts, warnings). Raises StageFailed
    with the toolchain's words, ToolMissing when the toolchain is not installed.
    """
    emit(0.0, f"loading {spec['runtime']}'s exporter")
    exporter = load_exporter(spec["runtime"])
    request = load_request(inputs, spec)
    emit(0.3, "exporting")
    try:
        result = exporter.export(request, out)
    except (PocketforgeError, OSError):
        raise
    except Exception as error:
        raise exporters_words(error, request, spec["runtime"]) from error
    (out / "export.json").write_text(json.dumps(dataclasses.asdict(result), indent=1, sort_keys=True), "utf-8")
    emit(1.0, f"{(out / result.files['model']).stat().st_size} bytes")


def exporters_words(error: Exception, request: ExportRequest, runtime: str) -> StageFailed:
    """What an exporter raised, as the user shall see it: the innermost cause, the layer, what to try."""
    layer = layer_of(error, [*request.program.graph.nodes, *(request.unfolded.graph.nodes if request.unfolded else ())])
    others = ", ".join(name for name in RUNTIMES if name != runtime)
    return StageFailed(
        f"{runtime} could not export the model{f', at {layer}' if layer else ''}: {first_line(error)}",
        f"write {'this layer' if layer else 'what it names'} with other operators, or try another runtime ({others}); "
        "the exporter's whole output is in the log",
    )


def load_request(inputs: Mapping[str, Path], spec: Mapping[str, Any]) -> ExportRequest:
    """What the exporter gets, from the folders of the earlier stages."""
    summary = json.loads((inputs["reference"] / "reference.json").read_text("utf-8"))
    if "quantize" in inputs:
        # Registers the quantized ops that a converted graph holds; loading one fails without it.
        import torchao.quantization.pt2e  # noqa: F401

        program = torch.export.load(inputs["quantize"] / "folded.pt2")
        # Weight-only schemes and codebooks have none: theirs is a float graph.
        other = inputs["quantize"] / "unfolded.pt2"
        unfolded = torch.export.load(other) if other.exists() else None
    else:
        program, unfolded = torch.export.load(inputs["reference"] / "model.pt2"), None
    return ExportRequest(
        program=program,
        unfolded=unfolded,
        example=tuple(program.example_inputs[0]),
        input_names=tuple(i["name"] for i in summary["inputs"]),
        output_names=tuple(o["name"] for o in summary["outputs"]),
        layout=spec["layout"],
        io=spec["io"],
        opset=spec["opset"],
        model_layout=spec["model_layout"],
        scheme=spec["scheme"],
        encodings=inputs["quantize"] if "quantize" in inputs and unfolded is None else None,
    )
