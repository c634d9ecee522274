"""Stage `reference`: the trained PyTorch model, traced once, and what it answers on the eval samples.

Every lane starts from the traced graph and is compared with these outputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pocketforge import events
from pocketforge.accuracy.fits import check_answers, check_targets
from pocketforge.accuracy.judging import make_judge
from pocketforge.accuracy.score import in_words, score
from pocketforge.data.arrays_on_disk import load_samples
from pocketforge.data.sequences import stored_shape
from pocketforge.errors import ModelError
from pocketforge.files import Resolve, resolver
from pocketforge.measure.sized_samples import varying_sizes, write_model_at_sizes
from pocketforge.metrics import Array
from pocketforge.model import load
from pocketforge.model.evaluate import evaluate, one_sample
from pocketforge.model.kept import only_outputs
from pocketforge.model.lazy import settle
from pocketforge.model.programs import by_place
from pocketforge.model.sizes import for_call, open_axes, shapes_told, traced_for_sizes
from pocketforge.model.structure import OutputPath, leaves
from pocketforge.model.tensor_names import input_names, output_names
from pocketforge.model.weights import check_finite
from pocketforge.outcomes import files
from pocketforge.outcomes.accuracy import OutputScore, by_metric
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.reference import ModelTensor, Reference, SharesOf, StateFed, StepSequence, WeightsRead
from pocketforge.pruning.equality import telling_inputs
from pocketforge.pruning.subject import open_checkpoint
from pocketforge.recipe.budget import output_and_name
from pocketforge.recipe.model import InputSpec
from pocketforge.specs.reference import ReferenceSpec
from pocketforge.training.shares import outputs_of_shares, while_training


def run(inputs: Mapping[str, Path], spec: ReferenceSpec, out: Path, emit: events.Progress) -> None:
    """Build, load, trace and evaluate the model.

    inputs: "data" (stage data's folder), "data_root", "weights" or "checkpoint" (stage finetune's folder). Writes
    model.pt2 (batch 1), outputs_0.npy … (one an output, eval samples first), reference.json. Raises ModelError where
    model, weights, data and labels do not fit together.
    """
    torch.set_num_threads(1)
    data = files.read(inputs["data"], Sampled)
    emit(0.0, "building the model")
    traced = load_traced(inputs, spec, data)
    example = tuple(traced.program.example_inputs[0])
    own = any(each.name or each.argument for each in spec.inputs)
    taken = input_names(spec.inputs, ("",) * len(example) if own else traced.arguments or ("",) * len(example))
    traced, names, kept = _without_dropped(traced, output_names(spec.outputs, traced.outputs, taken), spec)
    sequence = sequence_of(spec.inputs, names, data.steps)
    check_states(traced.program, sequence, names)
    torch.export.save(traced.program, out / "model.pt2")
    varying = varying_sizes([each.varying for each in spec.inputs], open_axes(traced.program))
    write_model_at_sizes(varying, traced.program.module(), load_samples(inputs["data"], "eval"), out)
    emit(0.2, "running the eval samples")
    outputs = evaluate(
        traced.program.module(),
        load_samples(inputs["data"], "eval"),
        lambda f: emit(0.2 + 0.8 * f, "eval"),
        sequence=sequence,
    )
    for number, array in enumerate(outputs):
        np.save(out / f"outputs_{number}.npy", array)
    check_answers(names, outputs)
    judge = make_judge(spec.judged, names, spec.task, inputs["data"], data, resolver(inputs.get("data_root")))
    answers = dict(zip(names, outputs, strict=True))
    check_targets(spec.task, answers, judge, data)
    scored = score(judge, answers, "the model", check=True)
    scores = tuple(in_words(each, judge) for each in scored)
    reference = Reference(
        parameters=traced.parameters,
        macs=traced.macs,
        accuracy=by_metric(scores),
        eval_samples=judge.targets.count,
        inputs=tuple(
            ModelTensor(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            for name, tensor in zip(taken, example, strict=True)
        ),
        outputs=tuple(
            ModelTensor(name, _shape_of(array, number, sequence), str(array.dtype))
            for number, (name, array) in enumerate(zip(names, outputs, strict=True))
        ),
        weights=traced.weights,
        sequence=sequence,
        scores=scores,
        kept=kept,
        varying=varying,
        shares=_named(traced.shares, names, kept),
    )
    files.write(out, reference)
    emit(1.0, _summary(spec.metric, scores))


def _named(shares: Mapping[int, SharesOf], names: Sequence[str], kept: Sequence[int]) -> tuple[SharesOf, ...]:
    """With the names of the outputs. kept: positions of those that files have; empty for all."""
    position_of = kept or range(len(names))
    return tuple(
        dataclasses.replace(shares[position], output=name)
        for name, position in zip(names, position_of, strict=True)
        if position in shares
    )


def _summary(metric: str, scores: Sequence[OutputScore]) -> str:
    """What the recipe's `metric` comes to."""
    output, name = output_and_name(metric)
    for each in scores:
        if name in each.metrics and output in ("", each.output):
            return f"{metric} {each.metrics[name]:.4f}"
    return "traced; no output is held against targets"


def _shape_of(array: Array, number: int, sequence: StepSequence | None) -> tuple[int, ...]:
    """An output's shape in the model. array: rows of it."""
    whole = sequence is not None and any(each.output == number and each.whole for each in sequence.states)
    return tuple(array.shape[1:]) if whole else (1, *array.shape[1:])


def sequence_of(inputs: Sequence[InputSpec], outputs: Sequence[str], steps: int) -> StepSequence | None:
    """What is fed back at each step; None where the recipe names no state. Raises ModelError for an unknown output."""
    unknown = [each.state for each in inputs if each.state and each.state not in outputs]
    if unknown:
        raise ModelError(
            f"model.input: state {unknown[0]!r} is no output of the model", f"its outputs: {', '.join(outputs)}"
        )
    states = tuple(
        StateFed(number, outputs.index(each.state), each.shape[0] != 1)
        for number, each in enumerate(inputs)
        if each.state
    )
    return StepSequence(steps, states) if states else None


def check_states(program: torch.export.ExportedProgram, sequence: StepSequence | None, names: Sequence[str]) -> None:
    """Raises ModelError for an output that cannot be the next step's state: of another shape or type."""
    example = program.example_inputs[0]
    with torch.no_grad():
        outputs = [leaf.value for leaf in leaves(program.module()(*example))] if sequence else []
    for each in sequence.states if sequence else ():
        state, given = example[each.input], outputs[each.output]
        if (state.shape, state.dtype) != (given.shape, given.dtype):
            raise ModelError(
                f"input {each.input} is the state {names[each.output]!r} of the step before: it takes "
                f"{list(state.shape)} {state.dtype}, the output is {list(given.shape)} {given.dtype}",
                "write the output's shape and dtype in [[model.input]]",
            )


@dataclass(frozen=True, slots=True)
class Traced:
    """The model with its trained weights, as a graph.

    Attributes:
        program: Traced at batch 1.
        parameters: How many values the model has to learn.
        macs: Multiply-accumulates of one inference.
        outputs: The way to each output in what forward() answers.
        arguments: Of forward(), which inputs go to by name; none where all go by position.
        weights: How its weights were read; None where they came with it.
        shares: Output, by its position in forward()'s answer → the layer that makes shares of it.
    """

    program: torch.export.ExportedProgram
    parameters: int
    macs: int
    outputs: tuple[OutputPath, ...]
    arguments: tuple[str, ...] = ()
    weights: WeightsRead | None = None
    shares: Mapping[int, SharesOf] = field(default_factory=dict)


def _without_dropped(
    traced: Traced, names: list[str], spec: ReferenceSpec
) -> tuple[Traced, list[str], tuple[int, ...]]:
    """The model as files shall have it, the names of its outputs, and their positions where some are left out.

    names: of all its outputs. Raises ModelError for `keep = false` of an output that the model does not have.
    """
    unknown = [name for name in spec.dropped if name not in names]
    if unknown:
        raise ModelError(f"keep = false of {', '.join(unknown)}: the model has outputs {', '.join(names)}")
    if not spec.dropped:
        return traced, names, ()
    example = tuple(traced.program.example_inputs[0])
    kept = [position for position, name in enumerate(names) if name not in spec.dropped]
    shapes = for_call(traced.program.module(), shapes_told([each.varying for each in spec.inputs]))
    program = only_outputs(traced.program, kept, shapes)
    graph = program.module()
    smaller_model = dataclasses.replace(
        traced,
        program=program,
        parameters=load.count_parameters(graph),
        macs=load.count_macs(graph, example),
        outputs=tuple(traced.outputs[position] for position in kept),
    )
    return smaller_model, [names[position] for position in kept], tuple(kept)


def load_traced(inputs: Mapping[str, Path], spec: ReferenceSpec, data: Sampled) -> Traced:
    """The traced batch-1 graph with the trained weights."""
    resolve = resolver(inputs.get("data_root"))
    definition = spec.model.definition
    if definition.endswith(".pt2"):
        return _load_program(spec, resolve, data)
    checkpoint = open_checkpoint(inputs, spec.model)
    module = checkpoint.module
    given = load.example(definition, resolve)
    example = example_for(spec.inputs, given.tensors if given else None, data)
    check_samples(example, data)
    # Rewrites are compared on it: zeros, which a recipe's shapes and many definitions give, would tell nothing.
    example = telling_inputs(example, _samples(inputs["data"]))
    settle(module, example, spec.model.seed)
    check_finite(module.state_dict(), definition)
    graph = traced_for_sizes(module, example, spec.inputs)
    weights = checkpoint.weights and WeightsRead(**{**checkpoint.weights, "done": tuple(checkpoint.weights["done"])})
    return Traced(
        program=graph.program,
        parameters=load.count_parameters(module),
        macs=load.count_macs(module, example),
        outputs=graph.outputs,
        arguments=given.arguments if given else (),
        weights=weights or None,
        shares=while_training(module, example, outputs_of_shares(graph.program)),
    )


def _load_program(spec: ReferenceSpec, resolve: Resolve, data: Sampled) -> Traced:
    """A definition that is a traced graph already."""
    definition = spec.model.definition
    program = load.load_exported(resolve(definition))
    check_finite({**program.state_dict}, definition)
    found = load.example(definition, resolve)
    if found is None or any(tensor.shape[:1] != (1,) for tensor in found.tensors):
        shapes = "none" if found is None else ", ".join(str(list(t.shape)) for t in found.tensors)
        raise ModelError(
            f"{definition} must be traced with tensors of batch 1, found example inputs {shapes}",
            "torch.export.save(torch.export.export(model, (x[:1],)), FILE)",
        )
    check_samples(found.tensors, data)
    called = by_place(program)
    parameters, macs = load.count_parameters(called.module), load.count_macs(called.module, found.tensors)
    if called.changed:
        program = load.trace(called.module, found.tensors)
    return Traced(program, parameters, macs, called.outputs, found.arguments)


def example_for(
    given: Sequence[InputSpec], from_definition: tuple[Tensor, ...] | None, data: Sampled
) -> tuple[Tensor, ...]:
    """Batch-1 inputs as the model takes: the recipe's model.input, else example_inputs(), else the samples' shape."""
    if given:
        return tuple(_zeros(each.shape, each.dtype) for each in given)
    if from_definition is not None:
        return tuple(tensor[:1] for tensor in from_definition)
    return tuple(_zeros((1, *each.shape), each.dtype) for each in data.inputs)


def _samples(data: Path) -> Iterator[tuple[Tensor, ...]]:
    """The eval samples, one at a time."""
    arrays = load_samples(data, "eval")
    for index in range(len(arrays[0])):
        yield tuple(one_sample(arrays, index))


def _zeros(shape: tuple[int, ...], dtype: str) -> Tensor:
    return torch.zeros(shape, dtype=getattr(torch, dtype))


def check_samples(example: tuple[Tensor, ...], data: Sampled) -> None:
    """Raises ModelError unless the preprocessed samples are what the model takes."""
    taken = [(list(stored_shape(t.shape)), str(t.dtype).removeprefix("torch.")) for t in example]
    sampled = [(list(each.shape), each.dtype) for each in data.inputs]
    if taken != sampled:
        takes, are = (" and ".join(f"{shape} {dtype}" for shape, dtype in side) for side in (taken, sampled))
        raise ModelError(
            f"the model takes {takes}, the preprocessed samples are {are}",
            "set data.preprocess (resize, color, layout), or the model's input shape ([[model.input]] shape = …)",
        )
