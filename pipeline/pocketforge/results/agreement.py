"""Whether the files of one quantization tell the same truth: each pair's outputs on the same real samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from pocketforge.outcomes import files
from pocketforge.outcomes.quantize import Quantized
from pocketforge.plan.steps import Lane, Plan
from pocketforge.run.walk import Outcome

if TYPE_CHECKING:
    from pocketforge.devices.outputs import Output


def compare_files(plan: Plan, outcome: Outcome) -> list[dict[str, Any]]:
    """One entry for each two targets of one scheme and the same weights: {targets, scheme, samples, output, sqnr_db,
    argmax_agreement (of class scores; None for a regression), max_abs_diff, max_steps (of the output's scale, LSB; None
    where it has none), integer_agreement (None without such outputs), outputs (the same of each)}.

    output: the worst, whose figures the entry has. What verify wrote down is compared; nothing runs. A target whose
    verify did not end is left out.
    """
    from pocketforge.devices.outputs import paired, stored_outputs

    def answers(lane: Lane) -> Any:
        folder = outcome.entries[lane.verify].files
        return stored_outputs(folder / "model", json.loads((folder / "verify.json").read_text("utf-8"))["outputs"])

    names = [
        output["name"] for output in (outcome.read(plan.reference, "reference.json") or {"outputs": ()})["outputs"]
    ]
    found = []
    for one, other in combinations(plan.lanes, 2):
        if not _comparable(one, other) or any(lane.verify not in outcome.entries for lane in (one, other)):
            continue
        classes = plan.step(one.verify).spec["task"] == "classification"
        scales = _scales(one, outcome, names)
        rows = [
            _row(here, wanted, scales.get(wanted.name), classes=classes and wanted.name == names[0])
            for here, wanted in paired(answers(other), answers(one))
        ]
        if not rows:
            continue
        worst = min(rows, key=lambda row: (row["sqnr_db"] is None, row["sqnr_db"] or 0.0))
        shares = [row["integer_agreement"] for row in rows if row["integer_agreement"] is not None]
        found.append(
            {
                "targets": [one.target.name, other.target.name],
                "scheme": one.target.quantize.scheme,
                "samples": len(answers(one)[0].values),
                **worst,
                "argmax_agreement": rows[0]["argmax_agreement"],
                "integer_agreement": min(shares, default=None),
                "outputs": rows,
            }
        )
    return found


def _row(here: Output, wanted: Output, scale: float | None, *, classes: bool) -> dict[str, Any]:
    from pocketforge.metrics import equal_share, parity

    if wanted.is_exact:
        share = equal_share(here.values, wanted.values)
        nothing = dict.fromkeys(("argmax_agreement", "sqnr_db", "max_abs_diff", "max_steps"))
        return {"output": wanted.name, "integer_agreement": share, **nothing}
    near = parity(here.values, wanted.values, classes=classes)
    return {
        "output": wanted.name,
        "integer_agreement": None,
        "argmax_agreement": near["argmax_agreement"] if classes else None,
        "sqnr_db": near["sqnr_db"],
        "max_abs_diff": near["max_abs_diff"],
        "max_steps": near["max_abs_diff"] / scale if scale else None,
    }


def _comparable(one: Lane, other: Lane) -> bool:
    if one.target.quantize.scheme != other.target.quantize.scheme:
        return False
    return one.quantize == other.quantize  # one step for both, or none for either


def _scales(lane: Lane, outcome: Outcome, names: Sequence[str]) -> dict[str, float]:
    """Output → its scale, of those that have one."""
    if lane.quantize not in outcome.entries:
        return {}
    levels = files.read(outcome.entries[lane.quantize].files, Quantized).outputs
    return {name: each.scale for name, each in zip(names, levels, strict=False) if each}
