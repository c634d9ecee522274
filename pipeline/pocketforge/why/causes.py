"""What a layer's difference looks like, in words: each guess has the figure that speaks for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pocketforge.metrics import Array, Part
from pocketforge.outcomes.data import Counts
from pocketforge.outcomes.quantize import CalibratedRange
from pocketforge.why.layer_outputs import Difference, LayerDifference

_BETTER_DB = 10.0  # a repair that wins less than this explains nothing
_CUT_SHARE = 0.05  # of the range, some 13 steps of 256: rounding alone moves no end so far

_USUAL = {
    "exported": "the traced graph computes something else than the module: other weights, a mode (train/eval), or a "
    "branch that tracing fixed",
    "prepared": "rounding to 8 bits itself: a range that a few large values widen, or a layer that is sensitive",
    "converted": "its scales, zero points or stored weights are not the prepared graph's",
    "lowered": "its weights in the file, or the converter's op for it, are not the graph's",
    "runtime": "the runtime's optimized kernel or fusion: the same file is right in reference kernels",
}


def likely(row: LayerDifference, stage: str, weights: str = "", limit_db: float = -math.inf, unseen: str = "") -> str:
    """The most telling of: other weights, height and width swapped, offset, clipping, factor; else what is usual.

    weights: what is known of the layer's weights, said first. limit_db: a layer above it is bad in a channel only.
    unseen: what to do where calibration did not see the values that are cut off (`calibrate_further`).
    """
    if weights:
        return weights
    d = row.judged
    if not d.finite:
        return "NaN or infinity comes out of it"
    part = d.worst_channel
    if d.sqnr_db >= limit_db and part is not None and part.sqnr_db < 0:
        return _small_channel(row, part)
    if d.low[1] == d.high[1] and d.low[0] < d.high[0] and stage in ("prepared", "converted"):
        return (
            f"a scale too wide for it: its output is {d.high[1]:.4g} throughout; it shares the scale of what it "
            "is joined to (a concatenation, an addition): return it as an output of its own, or scale both alike"
        )
    if d.turned_db > d.sqnr_db + _BETTER_DB:
        return f"a swapped layout: with height and width exchanged its output agrees to {d.turned_db:.0f} dB"
    if d.offset_share > 0.8:
        return f"a wrong zero point or bias: its output is off by {d.offset:+.4g} throughout"
    if _is_clipped(d):
        advice = f"; {unseen}" if unseen and stage == "prepared" else ""
        return (
            f"a clipped range: its output ends at {d.low[1]:.4g} and {d.high[1]:.4g} where {d.low[0]:.4g} to "
            f"{d.high[0]:.4g} came before{advice}"
        )
    if d.correlation > 0.95 and abs(d.gain - 1) > 0.1:
        return f"a wrong scale: its output is {d.gain:.3g} times what it was"
    return _USUAL[stage]


def calibrate_further(counts: Counts, most: int | None) -> str:
    """The line to write so that ranges are taken from more samples, as far as the data has them.

    counts: Of the data. most: What the target takes of those that are set apart; None: all.
    """
    if most is not None and most < counts.calibration:
        return (
            f"calibration saw {most} of the {counts.calibration} samples that are set apart for it: leave "
            "quantize.calibration_samples out, or raise it"
        )
    # Four times as many, and half of what is trained on stays: stages that train are not left without.
    wanted = min(4 * counts.calibration, counts.calibration + counts.train // 2)
    seen = f"calibration saw {counts.calibration} samples, which had no such values"
    if wanted == counts.calibration:
        return f"{seen}, and the data has no more to calibrate with: add some"
    return f"{seen}: write calibration_samples = {wanted} under [data]"


def cut_by_observer(row: LayerDifference, ranges: Sequence[CalibratedRange], calibration: str) -> str:
    """What to write where calibration did see a layer's values, and its way of finding a range left some out; empty
    where it did not see them.

    ranges: what it saw. calibration: the way, as the recipe names it.
    """
    seen = next((each for each in ranges if each.tensor.startswith(f"{row.layer} (")), None)
    low, high = row.judged.low[0], row.judged.high[0]
    slack = _CUT_SHARE * (high - low)
    if seen is None or calibration == "minmax" or seen.low > low + slack or seen.high < high - slack:
        return ""
    return (
        f'calibration saw {seen.low:.4g} to {seen.high:.4g} there, and calibration "{calibration}" leaves out what is '
        'rare: write calibration = "minmax" in the target\'s quantize'
    )


def _is_clipped(d: Difference) -> bool:
    """Whether much of the range is missing; or less, but the values beyond its ends are those that differ most."""
    span = [d.high[i] - d.low[i] for i in (0, 1)]
    if span[0] <= 0 or d.correlation <= 0.3:
        return False
    cut = max(d.low[1] - d.low[0], d.high[0] - d.high[1])
    told_by_ends = cut > _CUT_SHARE * span[0] and cut > 0.9 * d.largest
    return span[1] < 0.8 * span[0] or told_by_ends


def _small_channel(row: LayerDifference, part: Part) -> str:
    """A channel that the layer's one scale is too wide for."""
    d = row.judged
    words = f"a channel that varies by less than a step of the layer's one scale ({part.where}: {part.sqnr_db:.1f} dB)"
    mean, varies = d.x / max(d.count, 1), max(d.xx / max(d.count, 1) - (d.x / max(d.count, 1)) ** 2, 0.0) ** 0.5
    if abs(mean) > 20 * varies:
        return f"{words}: an offset of {mean:.4g} takes up its range; add it behind the file, not in the model"
    if row.op == "cat":
        return f"{words}: it joins parts of other sizes; return them as outputs of their own, or scale them alike"
    return f"{words}: scale its channels alike, or return them as outputs of their own"


def compare_weights(before: Array | None, here: Array | None, share: float) -> str:
    """Words on a weight that differs by more than `share` of its largest value; empty where it does not."""
    if before is None or here is None:
        return ""
    if before.shape != here.shape:
        return f"its weight has shape {list(here.shape)}, it was {list(before.shape)}"
    largest = float(np.abs(before).max()) or 1.0
    worst = float(np.abs(before.astype(np.float64) - here).max()) / largest
    if worst <= share:
        return ""
    square = before.ndim >= 2 and before.shape[-1] == before.shape[-2]
    if square and np.abs(before - here.swapaxes(-1, -2)).max() <= share * largest:
        return "a swapped layout: its weight is there with the last two axes exchanged"
    return f"another weight: it differs by up to {worst:.0%} of its largest value"
