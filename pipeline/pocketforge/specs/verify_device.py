"""What `verify_device` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.limits import DeviceLimits
from pocketforge.specs.base import Spec


@dataclass(frozen=True, slots=True)
class VerifiedPlace:
    """Where a file runs, and how its outputs are judged there.

    Attributes:
        via: The kind of device.
        cores: Which of its cores; its fastest when empty.
        eval_samples: On so many samples; 0 is all that there are.
        limits: What the device's own keys say; what they leave out, the scheme says.
        time_limit_s: After so long a run is given up.
        memory_limit_bytes: So much memory the program may take; 0 is no limit. Of emulated devices.
        name: The recipe's name of a phone, for messages; empty where a profile has one.
        serial: Which phone.
        threads: So many run the file.
    """

    via: str
    cores: str
    eval_samples: int
    limits: DeviceLimits
    time_limit_s: float
    memory_limit_bytes: int = 0
    name: str = ""
    serial: str = ""
    threads: int = 1


@dataclass(frozen=True, slots=True)
class VerifyDeviceSpec(Spec):
    """Stage `verify_device`.

    Attributes:
        runtime: The runtime that loads the file.
        scheme: Of the target.
        task: classification or regression.
        device: Where.
        emulator: What it runs in, or what built the program that runs it, in words that change when that does; empty
            for a runner of the user's.
        phone: What decides results on a phone (model, Android build, kernel); empty elsewhere.
    """

    runtime: str
    scheme: str
    task: str
    device: VerifiedPlace
    emulator: str = ""
    phone: str = ""
