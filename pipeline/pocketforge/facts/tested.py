"""Toolchains as a range: the oldest and the newest version of each that `nox -s compat` has built and run files with.

The newest is the one that pyproject.toml pins, and that everything else is tested with; the others are known by a small
model alone: its six files built and verified, and run by the other end of the range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pocketforge.facts.pins import standing


@dataclass(frozen=True, slots=True)
class Range:
    """Versions of one distribution that were tested.

    Attributes:
        oldest: The first.
        newest: The last: the recommended one.
    """

    oldest: str
    newest: str

    def standing(self, version: str) -> str:
        """`recommended`, `tested` (in the range), or what is not known of it: `older`, `newer`, `another`."""
        if not standing(version, f"=={self.newest}"):
            return "recommended"
        return standing(version, f">={self.oldest},<={self.newest}") or "tested"


TESTED: Mapping[str, Range] = {
    "torch": Range("2.13.0", "2.13.0"),
    "torchao": Range("0.18.0", "0.18.0"),
    "executorch": Range("1.5.0", "1.5.1"),
    "litert-torch": Range("0.10.0", "0.10.0"),
    "ai-edge-litert": Range("2.2.0", "2.3.0"),
    "onnx": Range("1.22.0", "1.23.2"),
    "onnxscript": Range("0.7.1", "0.7.2"),  # 0.7.0 has no dequantize_per_channel: no int8 file
    "onnxruntime": Range("1.31.0", "1.32.0"),
}
