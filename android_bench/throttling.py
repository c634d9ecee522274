"""Which rounds of a measurement the phone was slowed down in. Pure: from what was read before and after each.

A slow round is not a throttled one: only the phone's own words count (clocks, caps, thermal status, cores that went
away), never the times that were measured, or every verdict would be made of the fastest rounds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from android_bench.pinning import as_list
from android_bench.readings import THERMAL_STATUS, Clocks, Heat, mean_clock_ghz
from android_bench.texts import plain


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one job. index: its place in the session; block: rounds of one block belong together (A B B A).

    samples_ms: every timed inference. clock_ghz: the mean during the round, over the fastest of the CPUs that it might
    run on, idle moments included; None when the phone does not tell. peak_rss_bytes, loaded_rss_bytes: of the runner's
    process. gone: CPUs that were switched off, or taken from the process, in mid-round. throttled: for `reasons`.
    """

    label: str
    index: int
    block: int
    samples_ms: tuple[float, ...]
    load_ms: float | None
    peak_rss_bytes: int | None
    loaded_rss_bytes: int | None
    clock_ghz: float | None
    clocks_before: Clocks
    clocks_after: Clocks
    heat_before: Heat
    heat_after: Heat
    gone: tuple[int, ...] = ()
    throttled: bool = False
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What JSON has of it; unknown is null."""
        found: dict[str, Any] = plain(self)
        return found


def mean_clock(before: Clocks, after: Clocks, cpus: Sequence[int]) -> float | None:
    """Mean clock in GHz between two readings, over the fastest of these CPUs.

    Where all CPUs may be used, the slow ones idle most of the time: their clock tells of load, not of heat.
    """
    tops = {cpu: after.top_ghz.get(cpu, 0.0) for cpu in cpus}
    fastest = [cpu for cpu in cpus if tops[cpu] == max(tops.values())]
    means = [mean for cpu in fastest if (mean := mean_clock_ghz(before, after, cpu)) is not None]
    return sum(means) / len(means) if means else None


def judge(rounds: Sequence[Round], clock_drop: float) -> tuple[Round, ...]:
    """The same rounds, marked. clock_drop: how far a mean clock may lie below the best of its label, 0.05 for 5 %.

    To be asked again with every further round: it may be the best.
    """
    best: dict[str, float] = {}
    caps: dict[int, float] = {}
    for each in rounds:
        if each.clock_ghz is not None:
            best[each.label] = max(best.get(each.label, 0.0), each.clock_ghz)
        for clocks in (each.clocks_before, each.clocks_after):
            for cpu, cap in clocks.cap_ghz.items():
                caps[cpu] = max(caps.get(cpu, 0.0), cap)
    judged = []
    for each in rounds:
        reasons = (*_slower(each, best.get(each.label), clock_drop), *_capped(each, caps), *_heated(each), *_gone(each))
        judged.append(dataclasses.replace(each, throttled=bool(reasons), reasons=reasons))
    return tuple(judged)


def throttled_blocks(rounds: Sequence[Round]) -> frozenset[int]:
    """Blocks with a throttled round in them: a pair with one slowed half says nothing."""
    return frozenset(each.block for each in rounds if each.throttled)


def _slower(each: Round, best_ghz: float | None, clock_drop: float) -> list[str]:
    if each.clock_ghz is None or best_ghz is None or each.clock_ghz >= (1 - clock_drop) * best_ghz:
        return []
    drop = 1 - each.clock_ghz / best_ghz
    return [f"its mean clock was {each.clock_ghz:.3f} GHz, {drop:.0%} below the {best_ghz:.3f} GHz of the best round"]


def _capped(each: Round, caps: dict[int, float]) -> list[str]:
    capped: dict[tuple[float, float], list[int]] = {}
    for cpu, highest in caps.items():
        found = [c for clocks in (each.clocks_before, each.clocks_after) if (c := clocks.cap_ghz.get(cpu)) is not None]
        if found and min(found) < highest:
            capped.setdefault((min(found), highest), []).append(cpu)
    return [
        f"CPU {as_list(cpus)} could go no higher than {cap:.3f} GHz, and {highest:.3f} GHz at other times"
        for (cap, highest), cpus in capped.items()
    ]


def _heated(each: Round) -> list[str]:
    before, after = each.heat_before.thermal_status, each.heat_after.thermal_status
    if before is None or after is None or after <= before:
        return []
    return [f"the thermal status rose from {THERMAL_STATUS[before]} to {THERMAL_STATUS[after]}"]


def _gone(each: Round) -> list[str]:
    return [f"CPU {as_list(each.gone)} was switched off or taken away"] if each.gone else []
