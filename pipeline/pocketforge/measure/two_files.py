"""Two model files on the same samples: what `compare-files` says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pocketforge.measure.turns import InTurns
from pocketforge.outcomes.verify import OutputFigures


@dataclass(frozen=True, slots=True)
class ComparedFile:
    """One of the two.

    Attributes:
        file: Its name.
        runtime: Which loads it.
        scheme: A name of SCHEMES, by what it holds.
        sha256: Of its bytes.
        size_bytes: Of the file.
        gzip_bytes: The same, packed by gzip -9.
        parameters: Elements of all weights.
        accuracy: Every metric by its name.
        instructions: Emulated device → those of one inference; nothing of a device where its outputs were wrong.
        latency_ms: Median of the rounds, on this host; None where nothing was timed.
    """

    file: str
    runtime: str
    scheme: str
    sha256: str
    size_bytes: int
    gzip_bytes: int
    parameters: int
    accuracy: Mapping[str, float]
    instructions: Mapping[str, int]
    latency_ms: float | None


@dataclass(frozen=True, slots=True)
class ComparedFiles:
    """Two files on the same samples.

    Attributes:
        first: What the other is held against.
        second: The other.
        samples: How many.
        outputs: Every output of the second against the first's.
        argmax_agreement: Share of samples with the same largest score, of a classification.
        apart: What of it would fail `verify`, if the first were its reference, in words.
        operators: Operator → how often it is in the first and in the second, of those that differ.
        in_turns: Their times on this host; None where nothing was timed.
    """

    first: ComparedFile
    second: ComparedFile
    samples: int
    outputs: tuple[OutputFigures, ...]
    argmax_agreement: float | None
    apart: tuple[str, ...]
    operators: Mapping[str, tuple[int, int]]
    in_turns: InTurns | None
