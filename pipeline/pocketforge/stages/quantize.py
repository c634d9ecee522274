"""Stage `quantize`: give the model its target's numbers, once for all runtimes of the same numerics."""

from __future__ import annotations

import contextlib
import json
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from pocketforge.errors import ModelError, PocketforgeError, StageFailed, first_line
from pocketforge.outcomes.files import to_json
from pocketforge.outcomes.train import Epoch
from pocketforge.quantization.bias_correction import copy_biases, correct_biases
from pocketforge.quantization.calibration import calibration_samples
from pocketforge.quantization.converted import write_converted, write_float_form
from pocketforge.quantization.equalization import equalize
from pocketforge.quantization.fold import fold_batch_norm
from pocketforge.quantization.layer_study import Scorer
from pocketforge.quantization.mixed import choose
from pocketforge.quantization.pt2e import quantize_graph
from pocketforge.recipe.quantize import Quantize, quantize_entry
from pocketforge.rewrites.blame import layer_of
from pocketforge.rewrites.graph import op_name, where
from pocketforge.rewrites.passes import QUANTIZER, rewrite

Emit = Callable[[float, str], None]
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
MOST_IN_FLOAT = 0.5  # of the weights: more, and the file is a float file by another name


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """inputs: "data", "reference"; mixed also "layers" (the study's folder); mixed and a codebook with finetune
    "data_root" and perhaps "labels"; the latter "partial", "logs". spec: `Quantize.spec()`, for these two schemes also
    data, seed, task.

    Writes what `write_converted` does, mixed also mixed.json. Weight-only schemes and codebooks write folded.pt2 (a
    float graph with the values that weights will have), weights.safetensors and weights.json (the form they are stored
    in), outputs_0.npy and quantize.json. Raises StageFailed when nothing could be quantized or the quantizer fails,
    ModelError for samples or overrides that do not fit.
    """
    torch.set_num_threads(1)
    quantize = quantize_entry(spec)
    program = torch.export.load(inputs["reference"] / "model.pt2")
    make = {"weight_only_int8": _weight_only, "weight_only_int4": _weight_only, "codebook": _codebook}
    try:
        summary = make.get(quantize.scheme, _int8)(program, quantize, inputs, spec, out, emit)
    except (PocketforgeError, OSError, MemoryError):
        raise
    except Exception as error:  # torchao and the quantizer raise many kinds of their own
        layer = layer_of(error, list(program.graph.nodes))
        raise StageFailed(
            f"the model could not be quantized ({quantize.scheme}){f', at {layer}' if layer else ''}: "
            f"{first_line(error)}",
            "keep the layer in float (quantize.overrides), write it with other operators, or try another scheme; "
            "the whole story is in the log",
        ) from error
    emit(1.0, f"{len(summary['quantized'])} layers quantized, {len(summary['float'])} in float")


def _int8(
    program: ExportedProgram,
    quantize: Quantize,
    inputs: Mapping[str, Path],
    spec: Mapping[str, Any],
    out: Path,
    emit: Emit,
) -> dict[str, Any]:
    check_recurrent(program, quantize.scheme)
    samples = calibration_samples(inputs["data"], quantize)
    schemes, more = None, {}
    if quantize.scheme == "mixed":
        study = json.loads((inputs["layers"] / "layers.json").read_text("utf-8"))
        scorer = Scorer(program, samples, quantize, inputs, spec)
        chosen = choose(study, scorer, quantize, lambda f, text: emit(0.5 * f, text))
        schemes, more = chosen.schemes, {"mixed": chosen.summary}
        (out / "mixed.json").write_text(json.dumps(chosen.summary, indent=1, sort_keys=True), "utf-8")
    repairs: dict[str, Any] = {}
    if "equalize" in quantize.repairs:
        emit(0.5, "equalizing layers")
        merged = fold_batch_norm(program)
        repairs["equalize"] = equalize(merged, samples)
        program = torch.export.export(merged, program.example_inputs[0])
    graphs = quantize_graph(
        program, samples, quantize, schemes=schemes, progress=lambda f: emit(0.5 + 0.1 * f, "calibrating")
    )
    if "bias_correction" in quantize.repairs:
        emit(0.6, "correcting biases")
        folded, unfolded = graphs
        graph: Any = program.module()
        rewrite(graph, QUANTIZER)  # the nodes that the converted graph has
        repairs["bias_correction"] = correct_biases(graph, folded, samples)
        copy_biases(folded, unfolded)
    more |= {"repairs": repairs} if repairs else {}
    emit(0.7, "converting")
    return write_converted(graphs, program.example_inputs[0], quantize, inputs["data"], out, _evaluating(emit), more)


def check_recurrent(program: ExportedProgram, scheme: str) -> None:
    """Raises ModelError where most weights are in recurrent layers, which no quantizer here makes int8.

    Where they are the smaller part, they stay in float as other layers may.
    """
    module: Any = program.module()
    sizes: dict[torch.fx.Node, int] = {}
    for node in module.graph.nodes:
        if op_name(node) in RECURRENT:
            read = [given for given in node.all_input_nodes if given.op == "get_attr"]
            sizes[node] = sum(operator.attrgetter(str(given.target))(module).numel() for given in read)
    everything = sum(parameter.numel() for parameter in module.parameters())
    if sum(sizes.values()) > MOST_IN_FLOAT * everything:
        layers = ", ".join(where(node) for node in sizes)
        raise ModelError(
            f"{scheme} would leave {sum(sizes.values()) / everything:.0%} of the weights in float: {layers}; recurrent "
            "layers have no int8 form here",
            'scheme = "fp32", or "fp16" (half the bytes; onnx and tflite)',
        )


def _weight_only(
    program: ExportedProgram,
    quantize: Quantize,
    inputs: Mapping[str, Path],
    spec: Mapping[str, Any],
    out: Path,
    emit: Emit,
) -> dict[str, Any]:
    from pocketforge.quantization.encodings import save_encodings
    from pocketforge.quantization.weight_only import quantize_weights

    emit(0.0, "rounding weights")
    graph, encodings = quantize_weights(program, quantize)
    save_encodings(encodings, out)
    example = program.example_inputs[0]
    return write_float_form(graph, example, quantize, encodings, inputs["data"], out, _evaluating(emit))


def _codebook(
    program: ExportedProgram,
    quantize: Quantize,
    inputs: Mapping[str, Path],
    spec: Mapping[str, Any],
    out: Path,
    emit: Emit,
) -> dict[str, Any]:
    from pocketforge.data.dataset import open_dataset
    from pocketforge.files import resolver
    from pocketforge.quantization.codebook import cluster, describe, finetune_centroids, with_codebooks
    from pocketforge.quantization.codebook_files import save_codebooks
    from pocketforge.training.losses import user_loss
    from pocketforge.training.options import FitOptions

    graph = fold_batch_norm(program)
    codebooks = cluster(graph, quantize.entries, lambda f, text: emit(0.3 * f, text))
    clustered = with_codebooks(graph, codebooks)
    history: tuple[Epoch, ...] = ()
    if quantize.finetune is not None:
        resolve = resolver(inputs.get("data_root"))
        data = open_dataset(spec["data"], resolve, inputs.get("labels"))
        with contextlib.ExitStack() as around:
            given = quantize.finetune.loss
            clustered, codebooks, history = finetune_centroids(
                clustered,
                codebooks,
                data.train,
                quantize.finetune,
                FitOptions(
                    seed=spec["seed"],
                    task=spec["task"],
                    loss=around.enter_context(user_loss(given, resolve)) if given else None,
                    partial=inputs.get("partial"),
                    logs=inputs.get("logs"),
                    emit=lambda f, text: emit(0.3 + 0.5 * f, text),
                ),
            )
    state = clustered.state_dict()
    rest = {name: tensor.numpy() for name, tensor in state.items() if name not in codebooks}
    sizes = save_codebooks(codebooks, rest, out)
    layers = describe(graph, codebooks)
    more = {"codebook": {"sizes": sizes, "weights": layers, "history": to_json(history)}}
    example = program.example_inputs[0]
    return write_float_form(clustered, example, quantize, codebooks, inputs["data"], out, _evaluating(emit), more)


def _evaluating(emit: Emit) -> Callable[[float], None]:
    return lambda fraction: emit(0.8 + 0.2 * fraction, "running the quantized graph")
