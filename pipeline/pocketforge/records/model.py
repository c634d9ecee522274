"""The model itself: as traced, after each step of [[compress]], and its files of one quantization held together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pocketforge.outcomes.gains import Flag, State
from pocketforge.outcomes.prune import PruneOutcome
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.train import TrainOutcome
from pocketforge.records.words import Count, Name, NotNegative, Sha256, Share

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
    """

    OMIT_UNSET: ClassVar[bool] = True

    label: Name
    entry: Count
    key: Sha256
    prune: PruneOutcome | None = None
    train: TrainOutcome | None = None


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


@dataclass(frozen=True, slots=True)
class OutputAgreement:
    """One output of two files, compared on the eval samples. Null is what an output does not have.

    Attributes:
        output: Its name.
        integer_agreement: Share of equal values, of integers and booleans.
        argmax_agreement: Share of samples with the same class, of class scores.
        sqnr_db: Signal over difference.
        max_abs_diff: The largest difference.
        max_steps: The largest difference in steps of the output's scale.
    """

    output: Name
    integer_agreement: Share | None
    argmax_agreement: Share | None
    sqnr_db: float | None
    max_abs_diff: NotNegative | None
    max_steps: NotNegative | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two files of one quantization. Figures are of the worst output.

    Attributes:
        targets: The two.
        scheme: Of both.
        samples: On how many eval samples.
        output: The worst, whose figures these are.
        integer_agreement: The least share of equal values; null without such outputs.
        argmax_agreement: Of class scores; null for a regression.
        sqnr_db: As of the output.
        max_abs_diff: As of the output.
        max_steps: As of the output.
        outputs: Each output's figures.
    """

    targets: tuple[Name, Name]
    scheme: Name
    samples: Count
    output: Name
    integer_agreement: Share | None
    argmax_agreement: Share | None
    sqnr_db: float | None
    max_abs_diff: NotNegative | None
    max_steps: NotNegative | None
    outputs: tuple[OutputAgreement, ...]
