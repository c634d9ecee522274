"""The rules between files made elsewhere, which are judged as they are, and the rest of a recipe."""

from __future__ import annotations

from collections.abc import Sequence

from pocketforge.recipe.faults import Fault
from pocketforge.recipe.model import Model
from pocketforge.recipe.output import Output
from pocketforge.recipe.target import OutputLimits, Target, Verify


def faults_of_files(
    model: Model, targets: Sequence[Target], changes: Sequence[object], outputs: Sequence[Output]
) -> list[Fault]:
    """changes: the entries of [[compress]]."""
    made = [f"target[{index}].file" for index, target in enumerate(targets) if target.file]
    exported = [index for index, target in enumerate(targets) if not target.file]
    faults: list[Fault] = []
    if exported and not model.definition:
        faults.append(Fault("missing: a target without `file` is exported from it", "model"))
    if exported and model.is_file:
        what = (
            f"{model.definition!r} is a file for phones, which is not made into another (target[{exported[0]}] has no "
            "`file`); give the PyTorch model that it was exported from"
        )
        faults.append(Fault(what, "model.definition"))
    if made and not exported and changes:
        faults.append(
            Fault("every target is a file made elsewhere: nothing is exported that this would change", "compress")
        )
    if made and model.states:
        faults.append(
            Fault("a file made elsewhere is run sample by sample, and a model with states over sequences", made[0])
        )
    if made and model.varying:
        faults.append(Fault("sizes of [[model.input]] that vary are tried in files that are exported only", made[0]))
    if made and not exported and not model.is_pytorch:
        stays = (
            'keep = false is for files that are exported, and these have every output: role = "state" judges nothing'
        )
        faults += [Fault(stays, f"output[{place}].keep") for place, each in enumerate(outputs) if not each.keep]
    for index, target in enumerate(targets):
        faults += _faults_of_limits(target, model, f"target[{index}].verify") if target.file else []
    return faults


def _faults_of_limits(target: Target, model: Model, where: str) -> list[Fault]:
    """Limits that nothing would be held against."""
    tables: list[tuple[str, Verify | OutputLimits]] = [(where, target.verify)]
    tables += [(f"{where}.outputs[{number}]", each) for number, each in enumerate(target.verify.outputs)]
    asked = [(place, name) for place, each in tables for name in each.RANGES if getattr(each, name) is not None]
    of_graph = "there is no quantized graph of a file made elsewhere"
    faults = [Fault(of_graph, f"{place}.{name}") for place, name in asked if "graph" in name]
    if not model.definition:
        alone = "there is nothing to hold the file against: name a model or a model file in model.definition"
        faults += [Fault(alone, f"{place}.{name}") for place, name in asked if "graph" not in name]
    return faults
