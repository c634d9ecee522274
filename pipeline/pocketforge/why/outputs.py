"""One output of one stage, held against the stage before and the first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pocketforge.metrics import PERFECT_SQNR_DB, Array, Comparison, argmax_agreement, compare, equal_share
from pocketforge.recipe.limits import least_graph_sqnr_db, most_steps_from_graph
from pocketforge.why.chain import ModelOutput
from pocketforge.why.limits import Limit


@dataclass(frozen=True, slots=True)
class Against:
    """What an output is held against.

    Attributes:
        before: Name of the form before, for what is said.
        limit: What it may be away from that.
        classes: Whether the output is a classifier's scores.
        costs: How far quantizing itself took the output, for limits that give way to it; None where it took it nowhere.
    """

    before: str
    limit: Limit
    classes: bool
    costs: Comparison | None


@dataclass(frozen=True, slots=True)
class OutputJudged:
    """One output's figures; as of outcomes.why.FormFound.

    Attributes:
        output: Its name.
        sqnr_db: To the form before.
        sqnr_db_from_first: To the first form.
        reasons: Why it is bad, in words; none where it is as near as it has to be.
        max_abs_diff: To the form before; None of integers.
        argmax_agreement: With the form before; None where it is no classifier's.
        argmax_agreement_from_first: With the first form.
    """

    output: str
    sqnr_db: float
    sqnr_db_from_first: float
    reasons: tuple[str, ...]
    max_abs_diff: float | None = None
    argmax_agreement: float | None = None
    argmax_agreement_from_first: float | None = None


def judge_output(output: ModelOutput, here: Array, last: Array, first: Array, against: Against) -> OutputJudged:
    """One output of a form. last, first: the same output of the form before and of the first."""
    here = shaped(here, last)
    before, limit = against.before, against.limit
    if output.is_exact:
        share = equal_share(here, last)
        short = f"{share:.3f} of the values are those of {before}, at least {limit.min_integer_agreement:g}"
        # Of integers there is no SQNR: what is equal is exact, all else is as far as can be.
        return OutputJudged(
            output.name,
            _exactness(share),
            _exactness(equal_share(here, shaped(first, here))),
            (short,) if share < limit.min_integer_agreement else (),
        )
    here, last, first = (np.asarray(array, np.float32) for array in (here, last, shaped(first, here)))
    step, whole = (compare(here, other, classes=against.classes) for other in (last, first))
    reasons = _reasons(step, limit, output.scale, before, against.costs)
    agreement = argmax_agreement(here, last) if against.classes else None
    if agreement is not None and agreement < limit.min_argmax_agreement:
        reasons.append(f"argmax agrees in {agreement:.3f}, at least {limit.min_argmax_agreement:g}")
    return OutputJudged(
        output.name,
        _finite(step.sqnr_db),
        _finite(whole.sqnr_db),
        tuple(reasons),
        _finite(step.max_abs_diff),
        agreement,
        argmax_agreement(here, first) if against.classes else None,
    )


def _reasons(step: Comparison, limit: Limit, scale: float | None, before: str, costs: Comparison | None) -> list[str]:
    least, steps = limit.min_sqnr_db, limit.max_steps
    if limit.relative and costs is not None:
        least = least_graph_sqnr_db(least, costs.sqnr_db)
        if steps is not None and scale:
            steps = most_steps_from_graph(steps, step.sqnr_db, costs.sqnr_db, costs.max_abs_diff / scale)
    reasons = []
    if step.sqnr_db < least:
        reasons.append(f"SQNR {_finite(step.sqnr_db):.1f} dB to {before}, at least {least:g}")
    if step.dead_count:
        reasons.append(f"{step.dead} never change where those of {before} do")
    elif step.channel is not None and step.channel.sqnr_db < limit.min_channel_sqnr_db:
        part = step.channel
        reasons.append(f"SQNR {part.sqnr_db:.1f} dB in {part.where}, at least {limit.min_channel_sqnr_db:g}")
    if limit.max_diff_ratio is not None and step.max_diff_ratio > limit.max_diff_ratio and not reasons:
        reasons.append(f"off by {step.max_diff_ratio:.2g} of the range of {before}, at most {limit.max_diff_ratio:g}")
    if steps is not None and scale and step.max_abs_diff / scale > steps:
        reasons.append(f"{step.max_abs_diff / scale:.1f} steps of the output from {before}, at most {steps:g}")
    return reasons


def shaped(array: Array, like: Array) -> Array:
    """The same values in another form's shape, where they are as many."""
    return array.reshape(like.shape)


def _exactness(share: float) -> float:
    return PERFECT_SQNR_DB if share == 1 else float(-10 * np.log10(1 - share))


def _finite(value: float) -> float:
    """JSON has no infinity."""
    return float(max(-1e308, min(value, 1e308)))
