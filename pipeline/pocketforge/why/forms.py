"""The forms that a target's model takes before it is a file, opened from the folders of the stages that wrote them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from pocketforge.accuracy.packed import answered, packed_place
from pocketforge.metrics import Array
from pocketforge.model.evaluate import evaluate, with_states
from pocketforge.outcomes import files
from pocketforge.outcomes.package import Packed
from pocketforge.outcomes.quantize import Quantized
from pocketforge.outcomes.reference import Reference, StepSequence
from pocketforge.pruning.subject import open_checkpoint
from pocketforge.registries import RUNTIMES
from pocketforge.rewrites import graph_files
from pocketforge.specs.why import WhySpec
from pocketforge.why.taps import Tap, pair, taps_of

Progress = Callable[[float], None]


@dataclass(slots=True)
class Form:
    """One stage of the chain.

    Attributes:
        name: One of limits.STAGES.
        about: What it is, in words.
        missing: Why it is not there, in words; empty where it is.
        outputs: Every output on the samples, samples first; None where it was not run.
        module: Of a form that PyTorch runs.
        program: Of a form that an exporter could start from.
        taps: Layer → where its output is in `graph`; layers have the traced graph's names in every form.
        kept: Positions of the module's outputs that files have; empty for all.
        finish: Makes a file's outputs of the module's, where files have post-processing inside; None: they are those.
    """

    name: str
    about: str
    missing: str = ""
    outputs: Sequence[Array] | None = None
    module: nn.Module | None = None
    program: torch.export.ExportedProgram | None = None
    taps: dict[str, Tap] = field(default_factory=dict)
    kept: tuple[int, ...] = ()
    finish: Callable[[Sequence[Array]], Sequence[Array]] | None = None

    @property
    def graph(self) -> torch.fx.GraphModule:
        """Of exported, prepared and converted."""
        assert isinstance(self.module, torch.fx.GraphModule)
        return self.module

    def run(self, samples: Sequence[Array], progress: Progress, sequence: StepSequence | None = None) -> None:
        """Fill `outputs`."""
        assert self.module is not None
        if sequence is not None and self.kept:
            sequence = sequence.before_dropping(self.kept)
        outputs = evaluate(self.module, samples, progress, sequence=sequence)
        outputs = [outputs[position] for position in self.kept] if self.kept else outputs
        self.outputs = self.finish(outputs) if self.finish else outputs


def eager(inputs: Mapping[str, Path], spec: WhySpec) -> Form:
    """The module with its trained weights, as stage reference opens it."""
    about = "the PyTorch module with the trained weights"
    if spec.model.definition.endswith(".pt2"):
        return Form("eager", about, missing="the definition is a traced graph already")
    reference = files.read(inputs["reference"], Reference)
    form = Form("eager", about, module=open_checkpoint(inputs, spec.model).module.eval(), kept=reference.kept)
    if spec.package is not None:
        form.about += ", on prepared samples"
        form.finish = _finished(spec, [tensor.name for tensor in reference.outputs])
    return form


def _finished(spec: WhySpec, names: Sequence[str]) -> Callable[[Sequence[Array]], Sequence[Array]]:
    """What files answer that have post-processing inside."""
    assert spec.package is not None
    told = spec.package
    place = packed_place(told.package, told.judged, names, told.task)
    return lambda outputs: [answered(told.package, o) if n == place else o for n, o in enumerate(outputs)]


def exported(inputs: Mapping[str, Path]) -> Form:
    """The traced graph, from which lanes start."""
    program = graph_files.load(inputs["reference"] / "model.pt2")
    module = program.module()
    packed = (inputs["reference"] / Packed.FILE).exists()
    about = "traced by torch.export" + (", and packed: on what an app feeds" if packed else "")
    form = Form("exported", about, module=module, program=program)
    form.taps = unique(taps_of(form.graph.graph))
    return form


def prepared(inputs: Mapping[str, Path], spec: WhySpec, traced: Form, progress: Progress) -> Form:
    """Fake quantization with the ranges that calibration finds; of weight-only schemes, the de-quantized weights.

    After training with fake quantization, after repairs and once it is packed, the graph cannot be made again from what
    is stored: then it is the converted one with float weights behind their quantize ops.
    """
    quantize = spec.quantize
    if quantize is None:
        return Form("prepared", "", missing=f"scheme {spec.scheme} quantizes nothing before the file is written")
    from pocketforge.quantization import pt2e
    from pocketforge.quantization.calibration import calibration_samples

    if not quantize.is_int8:
        return _stored(inputs, "folded", "prepared", "float graph with the de-quantized weights", traced)
    if quantize.info.is_trained or quantize.repairs or spec.package is not None:
        return _stored(inputs, "unfolded", "prepared", "float weights behind their quantize ops, as stored", traced)
    told = files.read(inputs["quantize"], Quantized)
    schemes = {layer.name: layer.scheme for layer in told.layers} | dict.fromkeys(told.told_float, "fp32")
    schemes[pt2e.NO_LAYER] = "static_int8" if quantize.is_static else "fp32"
    sequence = files.read(inputs["reference"], Reference).sequence
    samples = calibration_samples(inputs["data"], quantize, sequence.steps if sequence else 1)
    if sequence is not None:
        samples = with_states(traced.graph, samples, sequence, lambda _: None)

    from pocketforge.why.prepared import prepare_again

    # From the file again: preparing folds batch norm into weights that the traced graph shares.
    program = graph_files.load(inputs["reference"] / "model.pt2")
    graph = prepare_again(program, samples, quantize, schemes, progress, sequence)
    form = Form("prepared", "observers, calibrated again, as fake quantization", module=graph)
    form.taps = renamed(traced, taps_of(graph.graph))
    return form


def converted(inputs: Mapping[str, Path], spec: WhySpec, traced: Form) -> Form:
    """What the exporter starts from: int8 weights stored, or float ones behind their quantize ops."""
    if "quantize" not in inputs or not (inputs["quantize"] / "unfolded.pt2").exists():
        return Form("converted", "", missing=f"scheme {spec.scheme} converts no graph")
    how = RUNTIMES[spec.runtime].why
    name = how.graph if how is not None else "folded"
    return _stored(inputs, name, "converted", f"int8 ops, {name}.pt2", traced)


def _stored(inputs: Mapping[str, Path], file: str, name: str, about: str, traced: Form) -> Form:
    program = graph_files.load(inputs["quantize"] / f"{file}.pt2")
    form = Form(name, about, module=program.module(), program=program)
    form.taps = renamed(traced, taps_of(form.graph.graph))
    return form


def unique(taps: Sequence[Tap]) -> dict[str, Tap]:
    """Layer name → tap; a module that is called again gets a number."""
    by_name: dict[str, Tap] = {}
    for tap in taps:
        by_name[_unused(tap.layer, by_name)] = tap
    return by_name


def _unused(name: str, used: Mapping[str, object]) -> str:
    count = 1
    numbered = name
    while numbered in used:
        count += 1
        numbered = f"{name}#{count}"
    return numbered


def renamed(traced: Form, taps: Sequence[Tap]) -> dict[str, Tap]:
    """Taps of another graph under the names that the traced graph's layers have."""
    names = {id(tap): name for name, tap in traced.taps.items()}
    return {names[id(before)]: here for before, here in pair(list(traced.taps.values()), taps)}


def eager_layers(module: nn.Module, given: Sequence[torch.Tensor]) -> dict[str, Array]:
    """Outputs of the convolutions, linear layers and batch norms of a module, under their modules' names. given: its
    inputs."""
    outputs: dict[str, Array] = {}
    handles = []

    def keep(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            # A copy: an activation that works in place comes next.
            outputs[_unused(name, outputs)] = output.detach().numpy().copy()

        return hook

    for name, child in module.named_modules():
        if isinstance(child, nn.modules.conv._ConvNd | nn.Linear | nn.modules.batchnorm._BatchNorm):
            handles.append(child.register_forward_hook(keep(name)))
    try:
        with torch.no_grad():
            module(*given)
    finally:
        for handle in handles:
            handle.remove()
    return outputs
