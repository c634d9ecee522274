"""How near the files of one quantization are to each other, as a report has it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OutputAgreement:
    """One output of two files, compared. Figures are None where the output has none of that kind.

    Attributes:
        output: Its name.
        integer_agreement: Share of equal values, of integers and booleans.
        argmax_agreement: Share of samples with the same largest score, of a classifier's scores.
        sqnr_db: Signal to noise ratio of the second file's values against the first's.
        max_abs_diff: The largest absolute difference.
        max_steps: That in steps of the output's scale (LSB).
    """

    output: str
    integer_agreement: float | None = None
    argmax_agreement: float | None = None
    sqnr_db: float | None = None
    max_abs_diff: float | None = None
    max_steps: float | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two files of one scheme and the same weights, compared.

    Attributes:
        targets: Their names; the second is held against the first.
        scheme: Theirs.
        samples: On how many samples.
        output: The output with the lowest SQNR, whose figures the next three are.
        sqnr_db: As `OutputAgreement`.
        max_abs_diff: As `OutputAgreement`.
        max_steps: As `OutputAgreement`.
        argmax_agreement: Of the first output.
        integer_agreement: The lowest of any output.
        outputs: Every output that both files have.
    """

    targets: tuple[str, str]
    scheme: str
    samples: int
    output: str
    sqnr_db: float | None
    max_abs_diff: float | None
    max_steps: float | None
    argmax_agreement: float | None
    integer_agreement: float | None
    outputs: tuple[OutputAgreement, ...]
