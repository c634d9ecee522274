"""What `prune` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.compress import DropLayers, PruneChannels, PruneUnstructured
from pocketforge.specs.compress import CompressSpec
from pocketforge.specs.count import EmulatedPlace

Pruning = PruneUnstructured | PruneChannels | DropLayers


@dataclass(frozen=True, slots=True)
class Trials:
    """How candidates are measured for a goal on an exported file.

    Attributes:
        runtime: What each candidate is exported to.
        model_layout: Of the PyTorch model's images, `NCHW` or `NHWC`.
        host: The processor that candidates are timed on; empty where none is.
        emulator: What emulated candidates run in, in words that change when its parts do; empty where none runs there.
        device: The emulated cores; None where candidates are timed on the host.
    """

    runtime: str
    model_layout: str
    host: str = ""
    emulator: str = ""
    device: EmulatedPlace | None = None


@dataclass(frozen=True, slots=True)
class PruneSpec(CompressSpec):
    """Stage `prune`.

    Attributes:
        pruning: The entry of [[compress]], without the fine-tuning between its parts: that is a step of its own.
        part: Which part of the entry this step is, 1 to `parts`.
        parts: In how many steps the entry prunes.
        trials: For a goal on an exported file; else None.
    """

    pruning: Pruning
    part: int = 1
    parts: int = 1
    trials: Trials | None = None
