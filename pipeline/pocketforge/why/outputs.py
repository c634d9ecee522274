"""One output of one stage, held against the stage before and the first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketforge.metrics import PERFECT_SQNR_DB, Comparison, argmax_agreement, compare, equal_share
from pocketforge.recipe.limits import least_graph_sqnr_db, most_steps_from_graph
from pocketforge.why.chain import ModelOutput
from pocketforge.why.limits import Limit

Array = NDArray[Any]


def judge_output(
    output: ModelOutput,
    here: Array,
    last: Array,
    first: Array,
    limit: Limit,
    *,
    classes: bool,
    before: str,
    costs: Comparison | None,
) -> dict[str, Any]:
    """Its figures and the reasons why they are bad; none where it is as near as it has to be.

    costs: how far quantizing itself took the output, for limits that give way to it.
    """
    here = shaped(here, last)
    row: dict[str, Any] = {
        "output": output.name,
        "max_abs_diff": None,
        "argmax_agreement": None,
        "argmax_agreement_from_first": None,
    }
    if output.is_exact:
        share = equal_share(here, last)
        short = share < limit.min_integer_agreement
        said = f"{share:.3f} of the values are those of {before}, at least {limit.min_integer_agreement:g}"
        # Of integers there is no SQNR: what is equal is exact, all else is as far as can be.
        figures = {
            "sqnr_db": _exactness(share),
            "sqnr_db_from_first": _exactness(equal_share(here, shaped(first, here))),
        }
        return {**row, **figures, "reasons": [said] if short else []}
    here, last, first = (np.asarray(array, np.float32) for array in (here, last, shaped(first, here)))
    step, whole = (compare(here, other, classes=classes) for other in (last, first))
    row |= {
        "sqnr_db": _finite(step.sqnr_db),
        "sqnr_db_from_first": _finite(whole.sqnr_db),
        "max_abs_diff": _finite(step.max_abs_diff),
    }
    reasons = _reasons(step, limit, output.scale, before, costs)
    if classes:
        row["argmax_agreement"] = argmax_agreement(here, last)
        row["argmax_agreement_from_first"] = argmax_agreement(here, first)
        if row["argmax_agreement"] < limit.min_argmax_agreement:
            reasons.append(f"argmax agrees in {row['argmax_agreement']:.3f}, at least {limit.min_argmax_agreement:g}")
    return {**row, "reasons": reasons}


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
