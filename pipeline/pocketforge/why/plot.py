"""The picture of a chain: each stage's SQNR, and each layer's in the stage that was looked into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocketforge.figures import new_figure, save_figure
from pocketforge.outcomes.why import Explained

_TOP_DB = 100.0  # what is nearer than this is drawn here: there is nothing to see between 100 dB and no difference
_SEEN, _OWN, _BAD, _LIMIT = "#0072B2", "#E69F00", "#D55E00", "#999999"


@dataclass(frozen=True, slots=True)
class _Place:
    name: str
    seen_db: float
    own_db: float | None


def layers_plot(explained: Explained, path: Path) -> Path:
    """SQNR by layer: with the inputs that come, and with those of the stage before. Raises ToolMissing, StoreError.

    Where layers could not be told apart, SQNR by stage.
    """
    rows = [_Place(each.layer, each.sqnr_db, each.own_sqnr_db) for each in explained.layers]
    rows = rows or [_Place(form.name, form.sqnr_db, None) for form in explained.stages if form.sqnr_db is not None]
    marked = explained.first_bad_layer if explained.layers else explained.first_bad_stage
    figure, axes = new_figure(3 + 0.28 * len(rows), 4.4)
    places = range(len(rows))
    axes.plot(places, [_shown(r.seen_db) for r in rows], color=_SEEN, marker="o", label="with the inputs that come")
    own = [(i, _shown(r.own_db)) for i, r in enumerate(rows) if r.own_db is not None]
    if own:
        axes.plot(*zip(*own, strict=True), color=_OWN, marker="s", linestyle=":", label="with the inputs of before")
    stage = explained.first_bad_stage
    if stage:
        limit = explained.layer_limit_db
        axes.axhline(limit, color=_LIMIT, linestyle="--", linewidth=1, label=f"limit {limit:g} dB")
    for i, row in enumerate(rows):
        if row.name == marked:
            axes.axvline(i, color=_BAD, alpha=0.35, linewidth=6)
    axes.set_xticks(list(places), [r.name for r in rows], rotation=90, fontsize=7)
    axes.set_ylabel(f"SQNR in dB (above {_TOP_DB:g}: {_TOP_DB:g})")
    what = f"first bad stage: {stage}" if stage else f"no bad stage; most is lost in {explained.layers_of}"
    axes.set_title(f"{explained.target} ({explained.runtime}, {explained.scheme}): {what}", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return save_figure(figure, path)


def _shown(value: float) -> float:
    return max(-20.0, min(float(value), _TOP_DB))
