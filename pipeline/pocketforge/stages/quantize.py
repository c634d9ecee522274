"""Stage `quantize`: give the model its target's numbers, once for all runtimes of the same numerics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Protocol

import torch
from torch.export import ExportedProgram

from pocketforge import events
from pocketforge.errors import PocketforgeError
from pocketforge.measure.sized_samples import parts_at_sizes, write_graph_at_sizes
from pocketforge.model.evaluate import with_states
from pocketforge.outcomes import files
from pocketforge.outcomes.layers import LayerStudy
from pocketforge.outcomes.quantize import CodebookChoice, Quantized, Repairs
from pocketforge.outcomes.reference import Reference, StepSequence
from pocketforge.outcomes.train import Epoch
from pocketforge.quantization.attention import advice
from pocketforge.quantization.bias_correction import copy_biases, correct_biases
from pocketforge.quantization.calibration import calibration_samples
from pocketforge.quantization.codebook_files import Codebook
from pocketforge.quantization.concats import KeptApart, keep_apart
from pocketforge.quantization.converted import QuantizeNotes, could_not_quantize, write_converted, write_float_form
from pocketforge.quantization.equalization import equalize
from pocketforge.quantization.fold import fold_batch_norm
from pocketforge.quantization.layer_study import Scorer
from pocketforge.quantization.mixed import choose
from pocketforge.quantization.operations import float_operations
from pocketforge.quantization.pt2e import calibrated_graphs, layer_schemes, rewritten_for_quantizer
from pocketforge.quantization.recurrent import check_recurrent
from pocketforge.recipe.compress import Finetune
from pocketforge.recipe.quantize import Quantize
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.rewrites import graph_files
from pocketforge.rewrites.shapes import shapes_of
from pocketforge.specs.quantize import QuantizeSpec
from pocketforge.specs.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Run:
    """What one run has to do with.

    Attributes:
        program: The traced graph, as stage reference left it.
        spec: What the stage is told.
        inputs: Role → folder or file.
        out: The folder to write into.
        emit: Takes progress, 0 to 1, and what is being done.
    """

    program: ExportedProgram
    spec: QuantizeSpec
    inputs: Mapping[str, Path]
    out: Path
    emit: events.Progress

    @property
    def quantize(self) -> Quantize:
        return self.spec.quantize

    @property
    def sequence(self) -> StepSequence | None:
        """How a model with states goes over sequences."""
        return files.read(self.inputs["reference"], Reference).sequence

    @property
    def sampling(self) -> Sampling:
        assert self.spec.sampling is not None, "the plan gives samples to those that judge or train"
        return self.spec.sampling

    def evaluating(self, fraction: float) -> None:
        """Progress of the last part."""
        self.emit(0.8 + 0.2 * fraction, "running the quantized graph")


class Make(Protocol):
    """A function that a row of SCHEMES names: it gives the model the scheme's numbers."""

    def __call__(self, run: Run, /) -> Quantized:
        """Write the graph and what `converted.py` writes with it into run.out."""
        ...


def run(inputs: Mapping[str, Path], spec: QuantizeSpec, out: Path, emit: events.Progress) -> None:
    """inputs: "data", "reference"; mixed also "layers" (the study's folder); mixed and a codebook with finetune
    "data_root" and perhaps "labels"; the latter "partial", "logs".

    Writes what `write_converted` does, mixed also mixed.json. Weight-only schemes and codebooks write folded.pt2 (a
    float graph with the values that weights will have), weights.safetensors and weights.json (the form they are stored
    in), outputs_0.npy and quantize.json. Where sizes of inputs vary, also what `write_graph_at_sizes` does. Raises
    StageFailed when nothing could be quantized or the quantizer fails, ModelError for samples or overrides that do not
    fit.
    """
    torch.set_num_threads(1)
    program = graph_files.load(inputs["reference"] / "model.pt2")
    scheme = spec.quantize.scheme
    place = spec.quantize.info.make
    try:
        with SCHEMES.calling(scheme, place, ours=(Exception,)):
            make: Make = resolve_name(place)
            quantized = make(Run(program, spec, inputs, out, emit))
            # Read again: what exporters get is what is stored.
            write_graph_at_sizes(lambda: graph_files.load(out / "folded.pt2").module(), inputs["reference"], out)
    except (PocketforgeError, OSError, MemoryError):
        raise
    except Exception as error:  # torchao and the quantizer raise many kinds of their own
        raise could_not_quantize(error, program, scheme) from error
    emit(1.0, f"{len(quantized.quantized)} layers quantized, {len(quantized.left_float)} in float")


def make_int8(run: Run) -> Quantized:
    """Integers in layers that an int8 kernel takes: by the scheme and its overrides, or by measurement (mixed)."""
    program, quantize, emit = run.program, run.quantize, run.emit
    check_recurrent(program, quantize.scheme)
    shapes = shapes_of(program)
    sequence = run.sequence
    samples = calibration_samples(run.inputs["data"], quantize, sequence.steps if sequence else 1)
    if sequence is not None:
        emit(0.1, "running sequences for their states")
        samples = with_states(program.module(), samples, sequence, lambda f: emit(0.1 + 0.3 * f, "running sequences"))
    graph = rewritten_for_quantizer(program)
    schemes = layer_schemes(graph.graph, quantize)
    apart = KeptApart({}, ())
    if quantize.is_static:
        apart = keep_apart(graph, samples, schemes, sequence)
        schemes |= apart.schemes
    chosen = None
    if quantize.info.studies_layers:
        study = files.read(run.inputs["layers"], LayerStudy)
        scorer = Scorer(program, samples, quantize, run.inputs, run.sampling)
        chosen = choose(study, scorer, quantize, lambda f, text: emit(0.5 * f, text), apart.schemes)
        schemes = chosen.schemes
        files.write(run.out, chosen.summary)
    equalized = corrected = None
    if "equalize" in quantize.repairs:
        emit(0.5, "equalizing layers")
        merged = fold_batch_norm(program)
        equalized = equalize(merged, samples)
        program = torch.export.export(merged, program.example_inputs[0])  # of fixed sizes: recipe/size_rules.py
    graphs, ranges = calibrated_graphs(
        program,
        samples,
        quantize,
        schemes=schemes,
        progress=lambda f: emit(0.5 + 0.1 * f, "calibrating"),
        sequence=sequence,
        at_sizes=parts_at_sizes(run.inputs["reference"], samples),
    )
    if "bias_correction" in quantize.repairs:
        emit(0.6, "correcting biases")
        folded, unfolded = graphs
        graph = rewritten_for_quantizer(program)  # the nodes that the converted graph has
        corrected = correct_biases(graph, folded, samples)
        copy_biases(folded, unfolded)
    notes = QuantizeNotes(
        mixed=chosen.summary if chosen else None,
        repairs=Repairs(equalized, corrected) if equalized or corrected else None,
        sequence=sequence,
        concats=apart.concats,
        told_float=float_operations(schemes),
        advice=advice(graph.graph) if quantize.is_static else "",
        ranges=ranges,
    )
    emit(0.7, "converting")
    example = program.example_inputs[0]
    return write_converted(graphs, example, quantize, run.inputs["data"], run.out, run.evaluating, notes, shapes)


def make_weight_only(run: Run) -> Quantized:
    """Weights as levels and scales, in as many bits as the scheme says; everything is computed in float32."""
    from pocketforge.quantization.encodings import save_encodings
    from pocketforge.quantization.weight_only import quantize_weights

    run.emit(0.0, "rounding weights")
    graph, encodings = quantize_weights(run.program, run.quantize)
    save_encodings(encodings, run.out)
    example = run.program.example_inputs[0]
    notes = QuantizeNotes(sequence=run.sequence)
    return write_float_form(graph, example, run.quantize, encodings, run.inputs["data"], run.out, run.evaluating, notes)


def make_codebook(run: Run) -> Quantized:
    """Each weight one of a few values of its layer."""
    from pocketforge.quantization.codebook import cluster, describe, with_codebooks
    from pocketforge.quantization.codebook_files import save_codebooks

    quantize, emit = run.quantize, run.emit
    graph = fold_batch_norm(run.program)
    codebooks = cluster(graph, quantize.entries, lambda f, text: emit(0.3 * f, text))
    clustered = with_codebooks(graph, codebooks)
    history: tuple[Epoch, ...] = ()
    if quantize.finetune is not None:
        clustered, codebooks, history = _finetuned(run, clustered, codebooks, quantize.finetune)
    state = clustered.state_dict()
    rest = {name: tensor.numpy() for name, tensor in state.items() if name not in codebooks}
    sizes = save_codebooks(codebooks, rest, run.out)
    notes = QuantizeNotes(codebook=CodebookChoice(sizes, describe(graph, codebooks), history), sequence=run.sequence)
    example, data = run.program.example_inputs[0], run.inputs["data"]
    return write_float_form(clustered, example, quantize, codebooks, data, run.out, run.evaluating, notes)


def _finetuned(
    run: Run, clustered: torch.fx.GraphModule, codebooks: Mapping[str, Codebook], settings: Finetune
) -> tuple[torch.fx.GraphModule, dict[str, Codebook], tuple[Epoch, ...]]:
    from pocketforge.data.dataset import open_dataset
    from pocketforge.files import resolver
    from pocketforge.quantization.codebook import finetune_centroids
    from pocketforge.training.options import FitOptions
    from pocketforge.training.roles_of import trained_by

    inputs = run.inputs
    resolve = resolver(inputs.get("data_root"))
    data = open_dataset(run.sampling.data, resolve, inputs.get("labels"))
    # The graph has the outputs that files have.
    names = [output.name for output in files.read(inputs["reference"], Reference).outputs]
    with trained_by(run.sampling, data, names, resolve, settings) as (loss, roles):
        return finetune_centroids(
            clustered,
            codebooks,
            data.train,
            settings,
            FitOptions(
                seed=run.sampling.seed,
                task=run.sampling.task,
                loss=loss,
                roles=roles,
                partial=inputs.get("partial"),
                logs=inputs.get("logs"),
                emit=lambda f, text: run.emit(0.3 + 0.5 * f, text),
            ),
        )
