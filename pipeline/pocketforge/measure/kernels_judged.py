"""On which kernels `verify_device` judged a file, and how far apart outputs are in steps of the quantized graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pocketforge.devices.kernels import kernels_of
from pocketforge.devices.profile_files import load_any
from pocketforge.devices.x86.device import NATIVE, player
from pocketforge.devices.x86.hosts import X86Host
from pocketforge.outcomes import files
from pocketforge.outcomes.quantize import Quantized
from pocketforge.recipe.limits import Limits, device_limits, x86_limits

EMULATED = "emulated"


def judged_on(inputs: Mapping[str, Path]) -> dict[str, str] | None:
    """kernels: the word for the device's, and how it was played; None where no profile says it (a phone)."""
    if "profile" not in inputs:
        return None
    profile = load_any(inputs["profile"])
    if isinstance(profile, X86Host):
        return {"kernels": profile.kernels, "how": EMULATED if player(profile).start else NATIVE}
    return {"kernels": kernels_of(profile.features), "how": EMULATED}


def place_in_words(inputs: Mapping[str, Path], device: Mapping[str, Any]) -> str:
    """Where a file runs, for messages."""
    if "profile" not in inputs:
        return f"{device['name']} ({device['cores']} cores)"
    profile = load_any(inputs["profile"])
    if isinstance(profile, X86Host):
        return f"{profile.name} ({profile.kernels})"
    return f"{profile.name} ({profile.cluster(device['cores']).name} cores)"


def limits_there(inputs: Mapping[str, Path], scheme: str, asked: Mapping[str, float | None]) -> Limits:
    """Limits of the outputs against the host's, by what runs there; asked: the device's own keys."""
    plays_x86 = "profile" in inputs and isinstance(load_any(inputs["profile"]), X86Host)
    return x86_limits(scheme, asked) if plays_x86 else device_limits(scheme, asked)


def with_steps(
    parity: Mapping[str, Any], tensors: Sequence[Mapping[str, Any]], quantized: Path | None
) -> dict[str, Any]:
    """`measure_parity`'s figures with max_steps: each output's largest difference in its steps (LSB), and the most of
    any. Nothing for outputs without a scale. tensors: the reference's outputs, for their names.
    """
    if quantized is None:
        return dict(parity)
    levels = files.read(quantized, Quantized).outputs
    scales = {t["name"]: each.scale for t, each in zip(tensors, levels, strict=True) if each and each.scale}
    # Whole numbers, but for the last bits of floats: a limit that is met exactly is met.
    outputs = [
        {**each, "max_steps": round(each["max_abs_diff"] / scales[each["name"]], 3)}
        if each["name"] in scales and "max_abs_diff" in each
        else each
        for each in parity["outputs"]
    ]
    steps = [each["max_steps"] for each in outputs if "max_steps" in each]
    return {**parity, "outputs": outputs, **({"max_steps": max(steps)} if steps else {})}
