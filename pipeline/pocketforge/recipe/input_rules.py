"""The rules between a model's inputs and the rest of a recipe: what runtimes take, what states need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pocketforge.recipe.faults import Fault
from pocketforge.recipe.model import Model
from pocketforge.recipe.target import Target
from pocketforge.registries import RUNTIMES


def input_refusal(runtime: str, dtype: str) -> str:
    """Why no file of a runtime can take inputs of a type, and what to do; empty where one can."""
    why = RUNTIMES[runtime].refused_inputs.get(dtype)
    return f"runtime {runtime} takes no {dtype} inputs: {why}" if why else ""


def faults_of_inputs(model: Model, targets: Sequence[Target], one_step: Iterable[tuple[str, str]]) -> list[Fault]:
    """one_step: what learns or searches, by place, in words."""
    faults: list[Fault] = []
    runtimes = dict.fromkeys(target.runtime for target in targets)
    for index, each in enumerate(model.inputs):
        where = f"model.input[{index}].dtype"
        faults += [Fault(refused, where) for name in runtimes if (refused := input_refusal(name, each.dtype))]
    if model.states:
        faults += _faults_of_states(model, targets, one_step)
    return faults


def _faults_of_states(model: Model, targets: Sequence[Target], one_step: Iterable[tuple[str, str]]) -> list[Fault]:
    faults: list[Fault] = []
    if len(model.states) == len(model.inputs):
        faults.append(Fault("every input is a state: a step of a sequence needs an input of its own", "model.input"))
    fed = [each.state for each in model.states]
    faults += [
        Fault(f"output {name!r} is the next step's input {fed.count(name)} times", "model.input")
        for name in sorted({name for name in fed if fed.count(name) > 1})
    ]
    faults += [
        Fault(f"{what} sees single steps, and a model with states is one of sequences: train it before", where)
        for where, what in one_step
    ]
    for index, target in enumerate(targets):
        if target.quantize.repairs:
            alone = "repairs are made on single steps, and a model with states is one of sequences: leave them out"
            faults.append(Fault(alone, f"target[{index}].quantize.repairs"))
    return faults
