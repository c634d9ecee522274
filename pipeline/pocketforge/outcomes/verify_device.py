"""verify.json of a device: what a file's outputs are worth there, and how near they are to the host's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pocketforge.outcomes.verify import FileCheck, Measured
from pocketforge.recipe.limits import Limits


@dataclass(frozen=True, slots=True)
class KernelsThere:
    """On which kernels a file was judged.

    Attributes:
        kernels: The device's (devices/kernels.py).
        how: `emulated`, or what says that they are this machine's own.
    """

    kernels: str
    how: str


@dataclass(frozen=True, slots=True)
class VerifiedThere:
    """What stage `verify_device` found.

    Attributes:
        device: What the outputs are worth against the model's.
        host: How near they are to the same file's on the host.
        limits: What the second was held to.
        checks: Every comparison that was made.
        runtime: The runtime there, with its version.
        kernels: Those that it ran on; None where no profile says it (a phone).
        judged: Role of a file → what its outputs are worth, where this device judges the target's files, not the host
            (int8 weights of ONNX); each is held against the model and its own quantized graph.
        own_limits: What these were held to.
        own_checks: Every comparison that was made of them.
    """

    FILE: ClassVar[str] = "verify.json"
    OMIT_UNSET: ClassVar[bool] = True

    device: Measured
    host: Measured
    limits: Limits
    checks: tuple[FileCheck, ...]
    runtime: str
    kernels: KernelsThere | None = None
    judged: Mapping[str, Measured] | None = None
    own_limits: Limits | None = None
    own_checks: tuple[FileCheck, ...] = ()
