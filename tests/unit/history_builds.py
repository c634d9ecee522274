"""Builds for tests of histories, and a program that keeps adding some until it is killed."""

from __future__ import annotations

import dataclasses

from report_pages import EVIL, report_of

from pocketforge.facts.checkout import Checkout
from pocketforge.history.entry import Build, Entry, Value

# Adds builds FIRST, FIRST+1, … COUNT of them or for ever, and says each when it is in.
WRITER = """
import sys
from history_builds import entry
from pocketforge.history.opening import open_history
from pocketforge.history.places import place_of
place, first, count = place_of(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, first + count):
    build, new = open_history(place, create=True).add(entry(number))
    print(number, build, new, flush=True)
"""


def entry(number: int, commit: str = "", branch: str = "main", *, dirty: bool = False) -> Entry:
    """A build of the report as it was written, with a wall time of its own, of a commit of that number's time."""
    report = dataclasses.replace(report_of("quantized"), wall_s=float(number))
    checkout = Checkout(commit or f"{number:040x}", 1_790_000_000 + number, branch, dirty)
    return Entry(report, checkout, 1_790_000_100 + number, "0.1.0")


def trend_values() -> list[tuple[Build, Value]]:
    """A latency of 30 builds that becomes slower, on two kinds of host, one of them of a name that means harm."""
    found = []
    for at in range(30):
        ms = (1.0 if at < 16 else 1.07) * (1 + 0.003 * (at * 7 % 5 - 2))
        where = f"{EVIL[0]}, threads 1" if at % 5 == 0 else "x86_64 AMD EPYC x2, threads 1"
        commit_s = 1_790_000_000 + 7200 * at
        made = Build(
            at + 1, f"net {EVIL[1]}", "a" * 64, "PASS", f"{at:02x}" * 20, f"topic/{EVIL[2]}", commit_s, at == 4,
            commit_s + 60, "ci x86_64", "0.1.0", "b" * 64,
        )  # fmt: skip
        value = Value(
            "latency_ms", "net_int8", "host", "host", where, ms, "ms", ms * 0.98, None if at == 7 else ms * 1.02, 200,
            f"{at:064x}", "lower", True, f"{at}",
        )  # fmt: skip
        found.append((made, value))
    return found
