"""What `adopt` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.specs.base import Spec


@dataclass(frozen=True, slots=True)
class AdoptSpec(Spec):
    """Stage `adopt`.

    Attributes:
        runtime: Which loads the file.
        name: The file's own, without its folder: its ending says of which kind it is.
        layout: Of its image inputs, NCHW or NHWC; empty for what it is.
    """

    runtime: str
    name: str
    layout: str
