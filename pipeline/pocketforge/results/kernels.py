"""On which kernels a target's file was judged: this machine's, and those of each device that it ran on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from pocketforge.devices.kernels import UNKNOWN, kernels_of
from pocketforge.plan.steps import Facts, Lane
from pocketforge.run.walk import Outcome

HERE = "this machine"


def judged_on(lane: Lane, outcome: Outcome, facts: Facts) -> list[dict[str, str]]:
    """device, kernels and how ("this machine", "emulated", "phone") of everything whose outputs were compared."""
    verified = outcome.read(lane.verify, "verify.json")
    if not verified:
        return []
    found = [{"device": "host", "kernels": verified["kernels"], "how": HERE}]
    for device, keys in lane.emulated.items():
        if there := outcome.read(keys.verify, "verify.json"):
            found.append({"device": device, **there["kernels"]})
    for device, on_phone in lane.phones.items():
        if outcome.read(on_phone.verify, "verify.json"):
            features: Iterable[str] = facts.phones[device].about.get("features") or ()
            found.append({"device": device, "kernels": kernels_of(tuple(features)), "how": "phone"})
    return found


def in_words(judged: Iterable[Mapping[str, str]]) -> str:
    """`AVX-512 VNNI (this machine), AVX2 and SSE4 (emulated)`."""
    return ", ".join(f"{_and(dict.fromkeys(kernels))} ({how})" for how, kernels in _by_how(judged))


def _by_how(judged: Iterable[Mapping[str, str]]) -> Iterator[tuple[str, list[str]]]:
    rows = list(judged)
    order = list(dict.fromkeys(row["how"] for row in rows))
    rows.sort(key=lambda row: order.index(row["how"]))
    for how, same in groupby(rows, key=lambda row: row["how"]):
        yield how, [f"{row['kernels']} kernels" if row["kernels"] == UNKNOWN else row["kernels"] for row in same]


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
