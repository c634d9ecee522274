"""What `verify_device` is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pocketforge.recipe.limits import DeviceLimits
from pocketforge.recipe.output import Output
from pocketforge.recipe.target import Verify
from pocketforge.specs.base import Spec
from pocketforge.specs.places import Place


@dataclass(frozen=True, slots=True)
class VerifyDeviceSpec(Spec):
    """Stage `verify_device`.

    Attributes:
        runtime: The runtime that loads the file.
        scheme: Of the target; empty of a file made elsewhere, which says it itself.
        task: classification, regression or outputs.
        device: Where.
        eval_samples: On so many samples; 0 is all that there are.
        limits: What the device's own keys say of the outputs; what they leave out, the scheme says.
        emulator: What it runs in, or what built the program that runs it, in words that change when that does; empty
            for a runner of the user's.
        phone: What decides results on a phone (model, Android build, kernel); empty elsewhere.
        judged: As `VerifySpec.judged`.
        verify: The target's own `verify` table where this device judges the file as `verify` does others; None where
            the host has judged it.
        trained: As `VerifySpec.trained`, where this device judges the file.
    """

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"verify", "trained"})

    runtime: str
    scheme: str
    task: str
    device: Place
    eval_samples: int
    limits: DeviceLimits
    emulator: str = ""
    phone: str = ""
    judged: tuple[Output, ...] = ()
    verify: Verify | None = None
    trained: bool = False
