"""What was found, in one sentence and as rows of tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pocketforge.metrics import PERFECT_SQNR_DB


def sentence(found: Mapping[str, Any]) -> str:
    """The first bad stage and layer, with the figures; or that there is none, and what costs most."""
    bad = found["first_bad_stage"]
    layer = found["first_bad_layer"]
    if not bad:
        measured = [s for s in found["stages"] if s["sqnr_db"] is not None]
        last = measured[-1]
        words = f"no bad stage: {last['name']} is at {db(last['sqnr_db_from_first'])} dB from {measured[0]['before']}"
        worst = found["layers_of"]
        if worst and layer:
            row = next(r for r in found["layers"] if r["layer"] == layer)
            words += f"; {worst} costs most, in {layer} ({row['op']}) {db(_figure(row))} dB"
        return words
    stage = next(s for s in found["stages"] if s["name"] == bad)
    words = f"first bad stage: {bad} ({'; '.join(stage['reasons'])})"
    if not layer:
        return f"{words}; layer not resolved: {found['layers_missing']}"
    index = next(i for i, r in enumerate(found["layers"]) if r["layer"] == layer)
    row = found["layers"][index]
    words += f"; first bad layer: {layer} ({row['op']}): SQNR {db(_figure(row))} dB"
    channel = row["channel_sqnr_db"]
    if _figure(row) >= found["layer_limit_db"] and channel is not None and channel < 0:
        words += f" as a whole, {db(channel)} dB in {row['channel']}"
    elif index:
        words += f", {db(_figure(found['layers'][index - 1]))} dB before it"
    return f"{words}; likely {found['likely']}"


def _figure(row: Mapping[str, Any]) -> float:
    own = row["own_sqnr_db"]
    return float(row["sqnr_db"] if own is None else own)


def db(value: float | None) -> str:
    """Decibels as shown: `exact` where there is no difference at all."""
    if value is None:
        return "–"
    return "exact" if value >= PERFECT_SQNR_DB else f"{value:.1f}"


def stage_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """Stage, SQNR from the first and from the one before, argmax agreement with it, verdict."""
    rows = []
    for stage in found["stages"]:
        if stage["missing"]:
            rows.append([stage["name"], "–", "–", "–", stage["missing"]])
            continue
        agreement = stage["argmax_agreement"]
        verdict = "–" if stage["sqnr_db"] is None else "BAD" if stage["bad"] else "ok"
        rows.append(
            [
                stage["name"],
                db(stage["sqnr_db_from_first"]),
                db(stage["sqnr_db"]),
                "–" if agreement is None else f"{agreement:.3f}",
                verdict,
            ]
        )
    return rows


def layer_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """Layer, op, SQNR as it comes, SQNR by itself, and a mark at the one that is named."""
    return [
        [
            row["layer"],
            row["op"],
            db(row["sqnr_db"]),
            db(row["own_sqnr_db"]),
            ("first bad" if found["first_bad_stage"] else "costs most")
            if row["layer"] == found["first_bad_layer"]
            else "",
        ]
        for row in found["layers"]
    ]
