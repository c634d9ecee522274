"""What `count` and `estimate` are told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.specs.base import Spec
from pocketforge.specs.places import Place


@dataclass(frozen=True, slots=True)
class EmulatedPlace(Place):
    """An emulated device, or an x86 host that is played. `cores`: its profile's fastest cluster when empty.

    Attributes:
        memory_limit_bytes: So much memory the program may take; 0 is no limit.
    """

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
