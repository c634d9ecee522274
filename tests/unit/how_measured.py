"""How values of a report came about, with what a test does not care about filled in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pocketforge.outcomes.bench import ProcessTimes
from pocketforge.outcomes.bench_phone import RoundTimes
from pocketforge.records import HowCounted, HowEstimated, HowHere, HowOnThePhone

ROUND = RoundTimes(0, 0, 1.0, 20, None, False, (), (None, None), (None, None), (None, None))
ON_PHONE = HowOnThePhone(
    "LiteRT", "0" * 64, "big", (), 1, 10, 0.0, (), (), True, "", (), noise_floor=0.0, noise_floor_from="none"
)
COUNTED = HowCounted(True, "", {}, (), "7.2", "cortex-a76")
ESTIMATED = HowEstimated("calibrated", "1", "cortex-a76", 0.9, (0.0, 0.0))


def in_processes(sizes: Sequence[int], loads_ms: Sequence[float] = (), others: float = 0.0) -> HowHere:
    """On this host. sizes: samples of each process."""
    loads = loads_ms or [1.0] * len(sizes)
    processes = tuple(ProcessTimes(size, 1.0, load_ms, 1) for size, load_ms in zip(sizes, loads, strict=True))
    return HowHere(1, (), 5, "ONNX Runtime", others, processes)


def on_phone(**changes: Any) -> HowOnThePhone:
    return dataclasses.replace(ON_PHONE, **changes)


def one_round(**changes: Any) -> RoundTimes:
    return dataclasses.replace(ROUND, **changes)


def counted(**changes: Any) -> HowCounted:
    return dataclasses.replace(COUNTED, **changes)


def estimated(**changes: Any) -> HowEstimated:
    return dataclasses.replace(ESTIMATED, **changes)
