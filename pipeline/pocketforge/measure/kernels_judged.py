"""On which kernels `verify_device` judged a file, and how far apart outputs are in steps of the quantized graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketforge.devices.kernels import kernels_of
from pocketforge.devices.profile_files import load_any
from pocketforge.devices.x86.device import NATIVE, player
from pocketforge.devices.x86.hosts import X86Host
from pocketforge.recipe.limits import device_limits, x86_limits

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


def limits_there(inputs: Mapping[str, Path], scheme: str) -> dict[str, float]:
    """Default limits of the outputs against the host's, by what runs there."""
    plays_x86 = "profile" in inputs and isinstance(load_any(inputs["profile"]), X86Host)
    return x86_limits(scheme) if plays_x86 else device_limits(scheme)


def steps_apart(max_abs_diff: float, quantized: Path | None) -> dict[str, float]:
    """max_steps: a difference of the output in its steps (LSB); nothing where the output has none."""
    if quantized is None:
        return {}
    scale = json.loads((quantized / "quantize.json").read_text("utf-8"))["outputs"][0].get("scale")
    # Whole numbers, but for the last bits of floats: a limit that is met exactly is met.
    return {"max_steps": round(max_abs_diff / scale, 3)} if scale else {}
