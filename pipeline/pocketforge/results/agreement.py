"""Whether the files of one quantization tell the same truth: each pair's outputs on the same real samples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from pocketforge.outcomes.agreement import Agreement, OutputAgreement
from pocketforge.outcomes.files import finite
from pocketforge.outcomes.quantize import Quantized
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.verify import Verified
from pocketforge.plan.steps import Lane, Plan
from pocketforge.run.walk import Outcome
from pocketforge.specs.verify import VerifySpec

if TYPE_CHECKING:
    from pocketforge.devices.outputs import Output


def compare_files(plan: Plan, outcome: Outcome) -> list[Agreement]:
    """Each two targets of one scheme and the same weights.

    What verify wrote down is compared; nothing runs. A target whose verify did not end is left out, and one whose
    outputs here say nothing.
    """
    pairs = [
        (one, other)
        for one, other in combinations(plan.lanes, 2)
        if _comparable(one, other) and all(_is_judged(lane, outcome) for lane in (one, other))
    ]
    compared = [_compare(plan, outcome, one, other) for one, other in pairs]
    return [each for each in compared if each is not None]


def _compare(plan: Plan, outcome: Outcome, one: Lane, other: Lane) -> Agreement | None:
    """None where the two have no output that could be compared."""
    from pocketforge.devices.outputs import paired

    reference = outcome.result(one.reference, Reference)
    assert reference is not None, "asked of lanes whose verify ended"
    names = [tensor.name for tensor in reference.outputs]
    spec = plan.spec(one.verify, VerifySpec)
    scales = _scales(one, outcome, names)
    first = _answers(one, outcome)
    rows = tuple(
        _row(
            second,
            held,
            scales.get(held.name),
            judged=reference.eval_samples if spec.scores_classes(held.name, names.index(held.name)) else 0,
        )
        for second, held in paired(_answers(other, outcome), first)
    )
    if not rows:
        return None
    worst = min(rows, key=lambda row: (row.sqnr_db is None, row.sqnr_db or 0.0))
    shares = [row.integer_agreement for row in rows if row.integer_agreement is not None]
    return Agreement(
        targets=(one.target.name, other.target.name),
        scheme=one.target.quantize.scheme,
        samples=reference.eval_samples,
        output=worst.output,
        sqnr_db=worst.sqnr_db,
        max_abs_diff=worst.max_abs_diff,
        max_steps=worst.max_steps,
        argmax_agreement=rows[0].argmax_agreement,
        integer_agreement=min(shares, default=None),
        outputs=rows,
    )


def _answers(lane: Lane, outcome: Outcome) -> tuple[Output, ...]:
    from pocketforge.devices.outputs import stored_outputs

    verified = outcome.result(lane.verify, Verified)
    assert verified is not None, "asked of lanes whose verify ended"
    return stored_outputs(outcome.entries[lane.verify].files / "model", verified.outputs)


def _row(output: Output, reference: Output, scale: float | None, *, judged: int) -> OutputAgreement:
    """judged: so many samples have a class here, that of their last row; 0 for an output that scores none."""
    from pocketforge.metrics import argmax_agreement, compare, equal_share, last_of_each

    if reference.is_exact:
        return OutputAgreement(reference.name, integer_agreement=equal_share(output.values, reference.values))
    near = compare(output.values, reference.values, classes=judged > 0)
    last = [last_of_each(each.values, judged) for each in (output, reference)]
    # Files that answer NaN are infinitely far from any other.
    return OutputAgreement(
        reference.name,
        argmax_agreement=argmax_agreement(*last) if judged else None,
        sqnr_db=finite(near.sqnr_db),
        max_abs_diff=finite(near.max_abs_diff),
        max_steps=finite(near.max_abs_diff / scale) if scale else None,
    )


def _comparable(one: Lane, other: Lane) -> bool:
    if one.target.file or other.target.file:
        return False  # whether they have the same weights, nobody says
    if one.target.quantize.scheme != other.target.quantize.scheme or one.reference != other.reference:
        return False  # of other buckets: their samples have other sizes
    return one.quantize == other.quantize  # one step for both, or none for either


def _is_judged(lane: Lane, outcome: Outcome) -> bool:
    verified = outcome.result(lane.verify, Verified)
    return verified is not None and not verified.not_judged


def _scales(lane: Lane, outcome: Outcome, names: Sequence[str]) -> dict[str, float]:
    """Output → the real value of one level, of those that have a scale."""
    quantized = outcome.result(lane.quantize, Quantized)
    levels = quantized.outputs if quantized else ()
    return {name: each.scale for name, each in zip(names, levels, strict=False) if each}
