"""Which published points are counted, and which of them are held out: fixed by hashes before anything is fitted.

Counting all 6952 would take hours. A sample is drawn by family and by latency (equal shares of five bins of its
logarithm), always as pairs of one configuration at two widths, so that ratios can be judged as well as latencies.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Sequence

from pocketforge.device_calibration.published import Published

SEED = "pocketforge-calibration-1"
BINS = 5
# A row of three decimals below this is rounded by more than 2.5 %.
SMALLEST_MS = 0.02
HELD_OUT_SHARE = 0.4

# Points a family; the attention and feed-forward blocks ran operators in 2022 that XNNPACK did not have then.
SHARES = {
    "conv": 50,
    "transds": 40,
    "transffn": 16,
    "transattn": 16,
    "firstconv": 5,
    "mbpool": 8,
    "conv-bn-relu": 36,
    "dwconv-bn-relu": 30,
    "add": 8,
}


def sample(measurements: Sequence[Published], shares: dict[str, int] | None = None) -> list[Published]:
    """The chosen blocks and operators, and every whole model, in the order of the table.

    Of several devices' tables the first one that has a family chooses, and the same names are taken of the others.
    """
    shares = SHARES if shares is None else shares
    chosen = {(m.kind, m.name) for m in measurements if m.kind in ("model", "file")}
    for family, share in shares.items():
        members = [m for m in measurements if m.family == family and m.latency_ms >= SMALLEST_MS]
        members = [m for m in members if m.device == members[0].device]
        chosen |= {(m.kind, m.name) for m in _draw(members, share)}
    return [m for m in measurements if (m.kind, m.name) in chosen]


def split(chosen: Sequence[Published]) -> tuple[list[Published], list[Published]]:
    """(fitted, held out) of the blocks and operators among `chosen`.

    By cell, so that both widths of a pair, and one configuration on several devices, fall on one side; a family's cells
    are taken in the order of their hashes, and one is held out whenever less than HELD_OUT_SHARE of the family's points
    so far are.
    """
    held_out: set[str] = set()
    families: dict[str, dict[str, set[str]]] = {}
    for m in chosen:
        if m.kind in ("block", "op"):
            families.setdefault(m.family, {}).setdefault(cell(m), set()).add(m.name)
    for family, cells in families.items():
        seen = out = 0
        for name in sorted(cells, key=lambda name: _uniform("split", family, name)):
            if out <= HELD_OUT_SHARE * seen:
                held_out |= cells[name]
                out += len(cells[name])
            seen += len(cells[name])
    points = [m for m in chosen if m.kind in ("block", "op")]
    return [m for m in points if m.name not in held_out], [m for m in points if m.name in held_out]


def split_hash(chosen: Sequence[Published]) -> str:
    """SHA-256 of the names that are held out, a line each: the same number says that the same points were."""
    names = sorted({m.name for m in split(chosen)[1]})
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()


def cell(m: Published) -> str:
    """What stays equal when a layer is pruned: everything in a block's name but its widths."""
    if m.kind == "op":
        hw, _, _, kernel, stride = m.shape
        return f"{m.family}_{hw}_{kernel}_{stride}"
    words = m.name.split("_")
    if m.family == "conv" and len(words) == 10:  # conv hw cin cout expansion stride hard swish kernel se
        return "_".join([words[0], words[1], words[5], *words[8:]])
    if m.family == "transds":  # transds hw cin cout stride expansion
        return "_".join([words[0], words[1], words[4]])
    if m.family in ("transffn", "transattn", "firstconv", "mbpool"):
        return "_".join(words[:2])
    return m.name


def pairs(measurements: Sequence[Published], apart: float = 1.2) -> list[tuple[Published, Published]]:
    """(slower, faster) of one cell at least so many times apart: what pruning promises. Every pair within a cell."""
    cells: dict[tuple[str, str, str, str], list[Published]] = {}
    for m in measurements:
        if m.kind in ("block", "op"):
            cells.setdefault((m.device, m.core, m.precision, cell(m)), []).append(m)
    slow_and_fast = []
    for members in cells.values():
        for a, b in itertools.combinations(members, 2):
            slow, fast = (a, b) if a.latency_ms >= b.latency_ms else (b, a)
            if slow.latency_ms >= apart * fast.latency_ms and _wider(slow, fast):
                slow_and_fast.append((slow, fast))
    return slow_and_fast


def _wider(a: Published, b: Published) -> bool:
    """Whether every width of `a` is at least that of `b`: `b` is then what channel pruning makes of `a`."""
    return all(x >= y for x, y in zip(_widths(a), _widths(b), strict=True))


def _widths(m: Published) -> tuple[int, ...]:
    return m.shape if m.kind == "op" else tuple(int(n) for n in re.findall(r"\d+", m.name))


def _uniform(*words: str) -> float:
    digest = hashlib.sha256("/".join([SEED, *words]).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _draw(members: Sequence[Published], share: int) -> list[Published]:
    """`share` members: bins of log latency in turn; within a bin by hash, each followed by its nearest of its cell."""
    if len(members) <= share:
        return list(members)
    logs = [math.log(m.latency_ms) for m in members]
    low, high = min(logs), max(logs)
    bins: list[list[Published]] = [[] for _ in range(BINS)]
    for m, value in zip(members, logs, strict=True):
        bins[min(int((value - low) / (high - low or 1) * BINS), BINS - 1)].append(m)
    for group in bins:
        group.sort(key=lambda m: _uniform("draw", m.name))
    by_cell: dict[str, list[Published]] = {}
    for m in sorted(members, key=lambda m: _uniform("partner", m.name)):
        by_cell.setdefault(cell(m), []).append(m)
    drawn: dict[str, Published] = {}
    queues = [iter(group) for group in bins]
    while len(drawn) < share and queues:
        for queue in list(queues):
            first = next((m for m in queue if m.name not in drawn), None)
            if first is None:
                queues.remove(queue)
                continue
            drawn[first.name] = first
            partner = next((m for m in by_cell[cell(first)] if m.name not in drawn and _pruned(first, m)), None)
            if partner is not None:
                drawn[partner.name] = partner
    return list(drawn.values())[:share]


def _pruned(a: Published, b: Published) -> bool:
    return _wider(a, b) or _wider(b, a)
