"""Whether the files of one quantization tell the same truth: each pair's outputs on the same real samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from pocketforge.outcomes.quantize import Quantized
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.verify import Verified
from pocketforge.plan.steps import Lane, Plan
from pocketforge.recipe.budget import Task
from pocketforge.records import Agreement, OutputAgreement
from pocketforge.run.walk import Outcome

if TYPE_CHECKING:
    from pocketforge.devices.outputs import Output


def compare_files(plan: Plan, outcome: Outcome, task: Task) -> Iterator[Agreement]:
    """One entry for each two targets of one scheme and the same weights.

    What verify wrote down is compared; nothing runs. A target whose verify did not end is left out.
    """
    reference = outcome.result(plan.reference, Reference)
    names = [output.name for output in reference.outputs] if reference else []
    for one, other in combinations(plan.lanes, 2):
        if not _comparable(one, other):
            continue
        mine, others = _answers(one, outcome), _answers(other, outcome)
        if not mine or not others:
            continue
        scores = names[0] if task == "classification" else ""
        outputs = _compared(others, mine, _scales(one, outcome, names), scores)
        if outputs:
            yield _agreement(one, other, len(mine[0].values), outputs)


def _answers(lane: Lane, outcome: Outcome) -> tuple[Output, ...]:
    from pocketforge.devices.outputs import stored_outputs

    verified = outcome.result(lane.verify, Verified)
    return stored_outputs(outcome.entries[lane.verify].files / "model", verified.outputs) if verified else ()


def _compared(
    here: Sequence[Output], wanted: Sequence[Output], scales: Mapping[str, float], scores: str
) -> tuple[OutputAgreement, ...]:
    """scores: the output that holds scores of classes; empty where none does."""
    from pocketforge.devices.outputs import paired

    return tuple(
        _output(ours, theirs, scales.get(theirs.name), classes=theirs.name == scores)
        for ours, theirs in paired(here, wanted)
    )


def _output(here: Output, wanted: Output, scale: float | None, *, classes: bool) -> OutputAgreement:
    from pocketforge.metrics import argmax_agreement, compare, equal_share

    if wanted.is_exact:
        return OutputAgreement(wanted.name, equal_share(here.values, wanted.values), None, None, None, None)
    near = compare(here.values, wanted.values, classes=classes)
    return OutputAgreement(
        output=wanted.name,
        integer_agreement=None,
        argmax_agreement=argmax_agreement(here.values, wanted.values) if classes else None,
        sqnr_db=near.sqnr_db,
        max_abs_diff=near.max_abs_diff,
        max_steps=near.max_abs_diff / scale if scale else None,
    )


def _agreement(one: Lane, other: Lane, samples: int, outputs: tuple[OutputAgreement, ...]) -> Agreement:
    worst = min(outputs, key=lambda each: (each.sqnr_db is None, each.sqnr_db or 0.0))
    return Agreement(
        targets=(one.target.name, other.target.name),
        scheme=one.target.quantize.scheme,
        samples=samples,
        output=worst.output,
        integer_agreement=min((o.integer_agreement for o in outputs if o.integer_agreement is not None), default=None),
        argmax_agreement=outputs[0].argmax_agreement,
        sqnr_db=worst.sqnr_db,
        max_abs_diff=worst.max_abs_diff,
        max_steps=worst.max_steps,
        outputs=outputs,
    )


def _comparable(one: Lane, other: Lane) -> bool:
    if one.target.quantize.scheme != other.target.quantize.scheme:
        return False
    return one.quantize == other.quantize  # one step for both, or none for either


def _scales(lane: Lane, outcome: Outcome, names: Sequence[str]) -> dict[str, float]:
    """Output → its scale, of those that have one."""
    quantized = outcome.result(lane.quantize, Quantized) if lane.quantize else None
    outputs = quantized.outputs if quantized else ()
    return {name: levels.scale for name, levels in zip(names, outputs, strict=False) if levels}
