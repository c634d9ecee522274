"""What was found, in one sentence and as rows of tables."""

from __future__ import annotations

from pocketforge.metrics import PERFECT_SQNR_DB
from pocketforge.outcomes.why import Explained, FormFound, LayerFound


def sentence(explained: Explained) -> str:
    """The first bad stage and layer, with the figures; or that there is none, and what costs most."""
    named = explained.named_layer
    if not explained.first_bad_stage:
        measured = [form for form in explained.stages if form.sqnr_db is not None]
        last = measured[-1]
        words = f"no bad stage: {last.name} is at {db(last.sqnr_db_from_first)} dB from {measured[0].before}"
        if explained.layers_of and named:
            words += f"; {explained.layers_of} costs most, in {named.layer} ({named.op}) {db(named.judged_db)} dB"
        return words
    bad = next(form for form in explained.stages if form.name == explained.first_bad_stage)
    words = f"first bad stage: {bad.name} ({'; '.join(bad.reasons)})"
    if not named:
        return f"{words}; layer not resolved: {explained.layers_missing}"
    return f"{words}; first bad layer: {_layer_words(explained, named)}; likely {explained.likely}"


def _layer_words(explained: Explained, named: LayerFound) -> str:
    words = f"{named.layer} ({named.op}): SQNR {db(named.judged_db)} dB"
    index, channel = explained.layers.index(named), named.channel_sqnr_db
    if named.judged_db >= explained.layer_limit_db and channel is not None and channel < 0:
        return f"{words} as a whole, {db(channel)} dB in {named.channel}"
    return f"{words}, {db(explained.layers[index - 1].judged_db)} dB before it" if index else words


def db(value: float | None) -> str:
    """Decibels as shown: `exact` where there is no difference at all."""
    if value is None:
        return "–"
    return "exact" if value >= PERFECT_SQNR_DB else f"{value:.1f}"


def stage_rows(stages: tuple[FormFound, ...]) -> list[list[str]]:
    """Stage, SQNR from the first and from the one before, argmax agreement with it, verdict."""
    rows = []
    for form in stages:
        if form.missing:
            rows.append([form.name, "–", "–", "–", form.missing])
            continue
        agreement = "–" if form.argmax_agreement is None else f"{form.argmax_agreement:.3f}"
        verdict = "–" if form.sqnr_db is None else "BAD" if form.bad else "ok"
        rows.append([form.name, db(form.sqnr_db_from_first), db(form.sqnr_db), agreement, verdict])
    return rows


def layer_rows(explained: Explained) -> list[list[str]]:
    """Layer, op, SQNR as it comes, SQNR by itself, and a mark at the one that is named."""
    mark = "first bad" if explained.first_bad_stage else "costs most"
    return [
        [
            row.layer,
            row.op,
            db(row.sqnr_db),
            db(row.own_sqnr_db),
            mark if row.layer == explained.first_bad_layer else "",
        ]
        for row in explained.layers
    ]
