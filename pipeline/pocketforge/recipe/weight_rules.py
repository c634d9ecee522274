"""The rules between int8 weights in ONNX files and the rest of a recipe: such a file is judged by ARM kernels."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pocketforge.recipe.faults import Fault
from pocketforge.recipe.model import Model
from pocketforge.recipe.target import Target


def faults_of_weights(
    model: Model, targets: Sequence[Target], cores: Collection[str], x86_hosts: Collection[str]
) -> list[Fault]:
    """cores: names of devices that are ARM's. x86_hosts: of those that play x86 hosts."""
    found = []
    for index, target in enumerate(targets):
        if target.has_int8_weights and (why := _fault(model, cores, x86_hosts)):
            found.append(Fault(why, f"target[{index}].onnx_weights"))
    return found


def _fault(model: Model, cores: Collection[str], x86_hosts: Collection[str]) -> str:
    """Why nothing could judge such a file, or would judge it wrongly; empty where ARM kernels do."""
    if not cores:
        return (
            "int8 weights are for apps on ARM, and no [[device]] of the recipe has ARM kernels to judge the file: add "
            'one with via = "emulator" (profile = "pixel4"), or leave onnx_weights out'
        )
    if x86_hosts:
        return (
            f"int8 weights are for apps on ARM alone, and device {min(x86_hosts)!r} is an x86 host: leave it out, or "
            "onnx_weights"
        )
    if model.states:
        return (
            "a device is fed the states that the file gave on this machine, whose kernels may saturate: leave "
            "onnx_weights out for a model with states"
        )
    return ""
