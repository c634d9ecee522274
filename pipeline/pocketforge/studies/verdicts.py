"""What a pruning study says about the field's claim, computed from its figures. Standard library only.

The claim: at an equal removed share, removing layers makes inference faster than removing channels, and costs more
accuracy. Blocks are coarse, so shares are never quite equal: each layers row is paired with the channels row whose
share, as it really is, lies nearest, if that is within NEAR.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pocketforge.studies.intervals import Mean, geometric_interval, mean_interval

NEAR = 0.05
CLAIM = "at an equal removed share, removing layers is faster than removing channels and costs more accuracy"
Verdict = Literal["agrees", "disagrees", "not settled"]
Row = Mapping[str, Any]


def pairs(rows: Sequence[Row], basis: str) -> list[tuple[Row, Row]]:
    """(layers row, channels row) of comparable removed shares of the basis; each pair of structures once."""
    found: dict[tuple[str, str], tuple[Row, Row]] = {}
    good = [row for row in rows if row["basis"] == basis and row["seeds"]]
    channels = [row for row in good if row["method"] == "channels"]
    for layers in (row for row in good if row["method"] == "layers"):
        near = min(channels, key=lambda row: _gap(layers, row, basis), default=None)
        if near is not None and _gap(layers, near, basis) <= NEAR:
            found.setdefault((layers["structure"], near["structure"]), (layers, near))
    return list(found.values())


def _gap(a: Row, b: Row, basis: str) -> float:
    return abs(float(a["removed"][basis]) - float(b["removed"][basis]))


def judge(
    cells: Sequence[Row], rows: Sequence[Row], sittings: Sequence[Mapping[str, Any]], runtimes: Sequence[str]
) -> list[dict[str, Any]]:
    """One verdict for each basis and runtime (one without a runtime where none was timed), with its evidence.

    latency: layers ÷ channels, the geometric mean over pairs. accuracy: top-1 of channels - top-1 of layers, averaged
    over pairs within each seed, with an interval over seeds. A part agrees or disagrees only with its whole interval.
    """
    found = []
    for basis in dict.fromkeys(row["basis"] for row in rows if row["basis"]):
        compared = pairs(rows, basis)
        costs = {when: _costs(cells, compared, f"accuracy_{when}") for when in ("before", "after")}
        for runtime in runtimes or ("",):
            evidence = [_pair(a, b, basis, sittings, runtime) for a, b in compared]
            speed = _speed(evidence)
            latency = _verdict(speed, 1.0, below=True) if runtime else None
            accuracy = _verdict(costs["after"], 0.0, below=False)
            parts = [part for part in (latency, accuracy) if part is not None]
            found.append(
                {
                    "claim": CLAIM,
                    "basis": basis,
                    "runtime": runtime,
                    "verdict": _together(parts),
                    "latency": {"layers_over_channels": speed, "verdict": latency},
                    "accuracy": {
                        "channels_minus_layers_before": costs["before"],
                        "channels_minus_layers_after": costs["after"],
                        "verdict": accuracy,
                    },
                    "pairs": evidence,
                    "why": "" if compared else f"no layers and channels rows have removed shares within {NEAR}",
                }
            )
    return found


def _pair(
    layers: Row, channels: Row, basis: str, sittings: Sequence[Mapping[str, Any]], runtime: str
) -> dict[str, Any]:
    return {
        "layers": {"ratio": layers["ratio"], "removed": layers["removed"][basis]},
        "channels": {"ratio": channels["ratio"], "removed": channels["removed"][basis]},
        "layers_over_channels": _timed(layers["structure"], channels["structure"], sittings, runtime),
    }


def _timed(a: str, b: str, sittings: Sequence[Mapping[str, Any]], runtime: str) -> Mean | None:
    """a ÷ b over the rounds of a sitting that both were in."""
    for sitting in sittings:
        names = sitting["structures"]
        if sitting["runtime"] == runtime and not sitting["error"] and a in names and b in names:
            ours, theirs = (sitting["rounds_ms"][names.index(name)] for name in (a, b))
            return geometric_interval([x / y for x, y in zip(ours, theirs, strict=True)])
    return None


def _speed(evidence: Sequence[Mapping[str, Any]]) -> Mean | None:
    """Over pairs; of a single pair, over its rounds."""
    timed = [pair["layers_over_channels"] for pair in evidence if pair["layers_over_channels"] is not None]
    if len(timed) < 2:
        return timed[0] if timed else None
    return geometric_interval([pair["mean"] for pair in timed])


def _costs(cells: Sequence[Row], compared: Sequence[tuple[Row, Row]], metric: str) -> Mean | None:
    """How much more accuracy layers cost: one figure a seed, the mean over the pairs that have this seed."""
    known = {
        (cell["method"], cell["basis"], cell["ratio"], cell["seed"]): cell[metric]
        for cell in cells
        if not cell["error"]
    }
    by_seed = []
    for seed in sorted({cell["seed"] for cell in cells}):
        differences = []
        for layers, channels in compared:
            ours, theirs = (known.get((r["method"], r["basis"], r["ratio"], seed)) for r in (layers, channels))
            if ours is not None and theirs is not None:
                differences.append(theirs - ours)
        if differences and len(differences) == len(compared):
            by_seed.append(math.fsum(differences) / len(differences))
    return mean_interval(by_seed) if by_seed else None


def _verdict(found: Mean | None, edge: float, *, below: bool) -> Verdict:
    """Whether the whole interval lies on the claim's side of `edge`."""
    if found is None or found["low"] is None or found["high"] is None:
        return "not settled"
    if found["high"] < edge:
        return "agrees" if below else "disagrees"
    if found["low"] > edge:
        return "disagrees" if below else "agrees"
    return "not settled"


def _together(parts: Sequence[Verdict]) -> Verdict:
    if "disagrees" in parts:
        return "disagrees"
    return "agrees" if parts and all(part == "agrees" for part in parts) else "not settled"
