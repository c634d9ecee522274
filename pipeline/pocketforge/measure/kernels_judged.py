"""On which kernels `verify_device` judged a file, and how far apart outputs are in steps of the quantized graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from pocketforge.devices.kernels import kernels_of
from pocketforge.devices.profile_files import load_any
from pocketforge.devices.x86.device import NATIVE, player
from pocketforge.devices.x86.hosts import X86Host
from pocketforge.outcomes.verify import Measured, OutputFigures
from pocketforge.outcomes.verify_device import KernelsThere
from pocketforge.recipe.limits import DeviceLimits, Limits, device_limits, x86_limits
from pocketforge.specs.places import Place

EMULATED = "emulated"


def judged_on(inputs: Mapping[str, Path]) -> KernelsThere | None:
    """The device's kernels, and how they were played; None where no profile says it (a phone)."""
    if "profile" not in inputs:
        return None
    profile = load_any(inputs["profile"])
    if isinstance(profile, X86Host):
        return KernelsThere(profile.kernels, EMULATED if player(profile).start else NATIVE)
    return KernelsThere(kernels_of(profile.features), EMULATED)


def place_in_words(inputs: Mapping[str, Path], place: Place) -> str:
    """Where a file runs, for messages."""
    if "profile" not in inputs:
        return place.in_words()
    profile = load_any(inputs["profile"])
    if isinstance(profile, X86Host):
        return f"{profile.name} ({profile.kernels})"
    return f"{profile.name} ({profile.cluster(place.cores).name} cores)"


def limits_there(inputs: Mapping[str, Path], scheme: str, asked: DeviceLimits) -> Limits:
    """Limits of the outputs against the host's, by what runs there."""
    plays_x86 = "profile" in inputs and isinstance(load_any(inputs["profile"]), X86Host)
    return x86_limits(scheme, asked) if plays_x86 else device_limits(scheme, asked)


def with_steps(parity: Measured, scales: Mapping[str, float]) -> Measured:
    """`measure_parity`'s figures with max_steps: each output's largest difference in its steps (LSB), and the most of
    any. Nothing for outputs without a scale.
    """
    outputs = tuple(_with_steps(each, scales.get(each.name)) for each in parity.outputs)
    steps = [each.max_steps for each in outputs if each.max_steps is not None]
    return dataclasses.replace(parity, outputs=outputs, max_steps=max(steps, default=None))


def _with_steps(figures: OutputFigures, scale: float | None) -> OutputFigures:
    if scale is None or figures.max_abs_diff is None:
        return figures
    # Whole numbers, but for the last bits of floats: a limit that is met exactly is met.
    return dataclasses.replace(figures, max_steps=round(figures.max_abs_diff / scale, 3))
