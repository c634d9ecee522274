"""The model itself: as traced, after each step of [[compress]], and its files of one quantization held together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pocketforge.outcomes.agreement import Agreement, OutputAgreement
from pocketforge.outcomes.gains import Flag, State
from pocketforge.outcomes.prune import PruneOutcome
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.train import TrainOutcome
from pocketforge.records.words import Count, Name, Sha256

__all__ = ["Agreement", "Compression", "CompressionStep", "OutputAgreement", "Reference"]


@dataclass(frozen=True, slots=True)
class CompressionStep:
    """One step of [[compress]], and what it says of itself.

    Attributes:
        label: What it is called.
        entry: Its place in [[compress]], from 0.
        key: Of the step.
        prune: What was taken away; absent of a fine-tuning.
        train: How it was trained; absent where it was not.
        trained_on: The GPUs that trained it, in words; absent where none did.
    """

    OMIT_UNSET: ClassVar[bool] = True

    label: Name
    entry: Count
    key: Sha256
    prune: PruneOutcome | None = None
    train: TrainOutcome | None = None
    trained_on: str = ""


@dataclass(frozen=True, slots=True)
class Compression:
    """What [[compress]] did and bought.

    Attributes:
        steps: What each step says of itself.
        states: The model as given and after each step, measured.
        flags: Steps that lowered MACs and not time.
    """

    steps: tuple[CompressionStep, ...]
    states: tuple[State, ...]
    flags: tuple[Flag, ...]
