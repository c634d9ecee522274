"""Whether the files of one quantization tell the same truth: each pair's outputs on the same real samples."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

from pocketforge.plan.steps import Lane, Plan
from pocketforge.run.walk import Outcome


def compare_files(plan: Plan, outcome: Outcome) -> list[dict[str, Any]]:
    """One entry for each two targets of one scheme and the same weights: {targets, scheme, samples, argmax_agreement
    (None for a regression), sqnr_db, max_abs_diff, max_steps (of the output's scale, LSB; None where it has none)}.

    What verify wrote down is compared; nothing runs. A target whose verify did not end is left out.
    """
    import numpy as np

    from pocketforge.metrics import parity, real_values

    def answers(lane: Lane) -> Any:
        folder = outcome.entries[lane.verify].files
        about = json.loads((folder / "verify.json").read_text("utf-8"))["outputs"][0]
        return real_values(np.load(folder / "model" / "outputs_0.npy"), about.get("scale"), about.get("zero_point"))

    found = []
    for one, other in combinations(plan.lanes, 2):
        if not _comparable(one, other) or any(lane.verify not in outcome.entries for lane in (one, other)):
            continue
        outputs = [answers(lane) for lane in (one, other)]
        if outputs[0].shape != outputs[1].shape:
            continue
        near = parity(outputs[1], outputs[0])
        task = plan.step(one.verify).spec["task"]
        scale = _scale(one, outcome)
        found.append(
            {
                "targets": [one.target.name, other.target.name],
                "scheme": one.target.quantize.scheme,
                "samples": len(outputs[0]),
                "argmax_agreement": near["argmax_agreement"] if task == "classification" else None,
                "sqnr_db": near["sqnr_db"],
                "max_abs_diff": near["max_abs_diff"],
                "max_steps": near["max_abs_diff"] / scale if scale else None,
            }
        )
    return found


def _comparable(one: Lane, other: Lane) -> bool:
    if one.target.quantize.scheme != other.target.quantize.scheme:
        return False
    return one.quantize == other.quantize  # one step for both, or none for either


def _scale(lane: Lane, outcome: Outcome) -> float | None:
    entry = outcome.entries.get(lane.quantize)
    if entry is None:
        return None
    value = json.loads((entry.files / "quantize.json").read_text("utf-8"))["outputs"][0].get("scale")
    return float(value) if value else None
