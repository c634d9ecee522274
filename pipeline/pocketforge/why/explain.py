"""What stage `why` finds: every form against the one before it, then the layers of the first that is bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pocketforge.metrics import parity
from pocketforge.why.causes import likely
from pocketforge.why.chain import LAYER_SAMPLES, Array, Chain, Emit
from pocketforge.why.forms import Form
from pocketforge.why.inside import layers_of_stage
from pocketforge.why.layers import LayerDifference, first_bad
from pocketforge.why.limits import Limit, limit_for
from pocketforge.why.words import sentence


def explain(inputs: Mapping[str, Path], spec: Mapping[str, Any], scratch: Path, emit: Emit) -> dict[str, Any]:
    """What stage `why` finds, as plain JSON values (see docs/why.md). Raises ToolFailed when the file does not run."""
    chain = Chain(inputs, spec, scratch, emit)
    chain.walk()
    stages = judge(chain.forms, spec)
    bad = next((s["name"] for s in stages if s["bad"]), "")
    # Without a bad stage: where most is lost, to see the scheme's own price by layer.
    measured = [s for s in stages if s["sqnr_db"] is not None]
    inside = bad or min(measured, key=lambda s: float(s["sqnr_db"]))["name"]
    emit(0.8, f"looking at the layers of {inside}")
    rows, missing, weights = layers_of_stage(chain, inside, bad=bool(bad))
    limit = limit_of(chain.forms, inside, spec)
    worst = first_bad(rows, limit.layer_db) if bad else min(rows, key=lambda r: r.judged.sqnr_db, default=None)
    found: dict[str, Any] = {
        "target": spec["target"],
        "runtime": chain.runtime,
        "scheme": spec["scheme"],
        "samples": len(chain.samples[0]),
        "layer_samples": min(LAYER_SAMPLES, len(chain.samples[0])),
        "stages": stages,
        "first_bad_stage": bad,
        "layers_of": inside,
        "layers": [_row(row) for row in rows],
        "layers_missing": missing,
        "layer_limit_db": limit.layer_db,
        "first_bad_layer": worst.layer if worst else "",
        "likely": likely(worst, inside, weights(worst.layer)) if worst and bad else "",
    }
    found["sentence"] = sentence(found)
    return found


def limit_of(chain: Sequence[Form], name: str, spec: Mapping[str, Any]) -> Limit:
    """The limit of a stage against the nearest before it that is there."""
    return limit_for(name, before(chain, name), spec)


def before(chain: Sequence[Form], name: str) -> str:
    """The nearest stage before `name` that has outputs; empty for the first."""
    there = [form.name for form in chain if form.outputs is not None]
    return there[there.index(name) - 1] if there.index(name) else ""


def judge(chain: Sequence[Form], spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every stage against the first and against the one before it, with its limit and what is wrong."""
    rows = []
    first: Array | None = None
    last: Array | None = None
    for form in chain:
        row: dict[str, Any] = {
            "name": form.name,
            "about": form.about,
            "missing": form.missing,
            "before": "",
            "sqnr_db_from_first": None,
            "sqnr_db": None,
            "max_abs_diff": None,
            "argmax_agreement": None,
            "argmax_agreement_from_first": None,
            "bad": False,
            "reasons": [],
        }
        rows.append(row)
        if form.outputs is None:
            continue
        outputs = np.asarray(form.outputs, np.float32)
        if first is None or last is None:
            first = last = outputs
            continue
        row["before"] = before(chain, form.name)
        limit = limit_of(chain, form.name, spec)
        outputs = outputs.reshape(last.shape)
        step, whole = parity(outputs, last), parity(outputs, first)
        row["sqnr_db"], row["sqnr_db_from_first"] = _finite(step["sqnr_db"]), _finite(whole["sqnr_db"])
        row["max_abs_diff"] = _finite(step["max_abs_diff"])
        if row["sqnr_db"] < limit.min_sqnr_db:
            row["reasons"].append(f"SQNR {row['sqnr_db']:.1f} dB to {row['before']}, at least {limit.min_sqnr_db:g}")
        if spec["task"] == "classification":
            row["argmax_agreement"] = step["argmax_agreement"]
            row["argmax_agreement_from_first"] = whole["argmax_agreement"]
            if step["argmax_agreement"] < limit.min_argmax_agreement:
                row["reasons"].append(
                    f"argmax agrees in {step['argmax_agreement']:.3f}, at least {limit.min_argmax_agreement:g}"
                )
        row["bad"] = bool(row["reasons"])
        last = outputs
    return rows


def _row(row: LayerDifference) -> dict[str, Any]:
    d = row.judged
    return {
        "layer": row.layer,
        "op": row.op,
        "sqnr_db": row.seen.sqnr_db,
        "own_sqnr_db": row.own.sqnr_db if row.own else None,
        "range_before": [d.low[0], d.high[0]] if d.count else None,
        "range": [d.low[1], d.high[1]] if d.count else None,
    }


def _finite(value: float) -> float:
    """JSON has no infinity."""
    return float(max(-1e308, min(value, 1e308)))
