"""What `count` and `estimate` are told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.specs.base import Spec


@dataclass(frozen=True, slots=True)
class EmulatedPlace:
    """Cores on which a file runs, emulated.

    Attributes:
        via: The kind of device.
        cores: Which of the profile's clusters; its fastest when empty.
        time_limit_s: After so long an inference is given up.
        memory_limit_bytes: So much memory the program may take; 0 is no limit.
    """

    via: str
    cores: str
    time_limit_s: float
    memory_limit_bytes: int


@dataclass(frozen=True, slots=True)
class CountSpec(Spec):
    """Stage `count`.

    Attributes:
        runtime: The runtime that loads the file.
        emulator: What it runs in, in words that change when its parts do.
        device: Where.
    """

    runtime: str
    emulator: str
    device: EmulatedPlace


@dataclass(frozen=True, slots=True)
class EstimateSpec(Spec):
    """Stage `estimate`.

    Attributes:
        cores: Which of the profile's clusters; its fastest when empty.
    """

    cores: str
