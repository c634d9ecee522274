"""The rules between `[fit]` and the rest of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from pocketforge.recipe.data import Data
from pocketforge.recipe.faults import Fault
from pocketforge.recipe.fit import Fit, Objective, Space
from pocketforge.recipe.names import suggest
from pocketforge.recipe.preprocess import Preprocess
from pocketforge.recipe.target import Target


def faults_of_fit(fit: Fit, data: Data, targets: Sequence[Target]) -> list[Fault]:
    """Those of the space."""
    space = fit.space
    if space is None:
        return []
    names = [target.name for target in targets]
    faults = [
        Fault(f"no target is named {name!r}{suggest(name, names)}", f"space.target_names[{index}]")
        for index, name in enumerate(space.target_names)
        if name not in names
    ]
    chosen = space.target_names or names
    if space.is_empty and len(chosen) < 2:
        faults.append(
            Fault("it leaves nothing to choose: give a key two values or more, or leave out [fit.space]", "space")
        )
    faults += [
        Fault(f"target {target.name!r} is a file made elsewhere, which no trial changes", "space")
        for target in targets
        if target.file and target.name in chosen
    ]
    faults += [
        Fault(f"target {target.name!r} has onnx_weights int8: trials are judged on this machine, it by ARM's", "space")
        for target in targets
        if target.has_int8_weights and target.name in chosen
    ]
    return [*faults, *_faults_of_resize(space, data)]


def _faults_of_resize(space: Space, data: Data) -> list[Fault]:
    if space.resize and not (isinstance(data.preprocess, Preprocess) and data.preprocess.resize):
        return [Fault("it is in the place of data.preprocess.resize, which the recipe has not", "space.resize")]
    return []


def faults_of_objectives(
    objectives: Sequence[Objective],
    devices: Collection[str],
    fault_of_metric: Callable[[str], str],
    given_by: Callable[[Objective], Sequence[str]],
) -> list[Fault]:
    """devices: names. given_by: the devices that give an objective's metric, [""] where it is of none."""
    faults = []
    for index, each in enumerate(objectives):
        where = f"objective[{index}]"
        if unknown := fault_of_metric(each.metric):
            faults.append(Fault(unknown, f"{where}.metric"))
        elif each.device and each.device not in devices:
            faults.append(
                Fault(f"no device is named {each.device!r}{suggest(each.device, devices)}", f"{where}.device")
            )
        elif not (found := given_by(each)):
            of = f"device {each.device!r}" if each.device else "no [[device]] of the recipe"
            faults.append(Fault(f"{of} {'does not measure' if each.device else 'measures'} {each.metric}", where))
        elif len(found) > 1:
            faults.append(Fault(f"{each.metric} is of several devices: say device, one of {', '.join(found)}", where))
    return faults
