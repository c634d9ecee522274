"""What a model file says of itself, in its format's own place for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AboutInput:
    """One input, as consumers of files ask for it.

    Attributes:
        name: Of the input.
        channels: Of an image; 0 of what is none.
        rate_hz: Of a waveform; 0 of what is none, or where nothing says it.
        mean: What a consumer subtracts from pixels as they are decoded, before it feeds floats: one value, or one a
            channel; empty where nothing is to be done to them.
        std: What it divides by after that.
        low: The least value that is fed, where it is known: of each channel, or one.
        high: The largest.
    """

    name: str
    channels: int = 0
    rate_hz: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class AboutOutput:
    """One output.

    Attributes:
        name: Of the output.
        role: What it is (recipe/roles.py); empty where the recipe does not say it.
        labels: Names of its classes, in their order; empty of others.
        shares: Whether its values are of 0 to 1.
    """

    name: str
    role: str = ""
    labels: tuple[str, ...] = ()
    shares: bool = False


@dataclass(frozen=True, slots=True)
class About:
    """A file.

    Attributes:
        name: The target's.
        inputs: In the file's order.
        outputs: In the file's order.
        preprocessing: What an app does to a raw sample, as sidecars have it.
        package: What the file does itself, as sidecars have it; empty for nothing.
    """

    name: str
    inputs: tuple[AboutInput, ...]
    outputs: tuple[AboutOutput, ...]
    preprocessing: Mapping[str, object]
    package: Mapping[str, object]

    def to_json(self) -> dict[str, object]:
        """What formats without a form of their own hold: plain words."""
        return {
            "name": self.name,
            "labels": {each.name: list(each.labels) for each in self.outputs if each.labels},
            "roles": {each.name: each.role for each in self.outputs if each.role},
            "preprocessing": dict(self.preprocessing),
            **({"package": dict(self.package)} if self.package else {}),
        }
