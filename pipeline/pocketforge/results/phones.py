"""What a lane's steps on phones found: facts of its target, measurements, and what to say of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from pocketforge.devices import noise_floors
from pocketforge.devices.kernels import kernels_of
from pocketforge.outcomes import files
from pocketforge.outcomes.bench_phone import HowOnPhone, PhoneBench, RoundTimes
from pocketforge.outcomes.verify_device import VerifiedThere
from pocketforge.plan.steps import Facts, OnDevice, Timed
from pocketforge.results.devices import DeviceResult, Value
from pocketforge.results.emulated import verified_facts, verified_values
from pocketforge.run.walk import Outcome
from pocketforge.stats import geometric_interval


def read(device: str, on: OnDevice, outcome: Outcome, known: Facts) -> DeviceResult:
    """about: "phone" (which it is), "verify" (against the host), "bench" (its rounds); what ended is in it."""
    assert isinstance(on, Timed)
    phone = known.phones[device]
    about: dict[str, Any] = {"phone": phone.to_json()}
    verified = outcome.result(on.verify, VerifiedThere)
    bench = outcome.result(on.bench, PhoneBench)
    if verified:
        about["verify"] = verified_facts(verified)
    if bench:
        floor = noise_floors.load(phone.serial, phone.identity, bench.how.cores)
        about["bench"] = to_json(bench, noise(bench.how.rounds, floor))
    kernels = kernels_of(tuple(phone.about.get("features") or ())) if verified else ""
    return DeviceResult(
        about,
        (*(verified_values(verified, device) if verified else ()), *(_timed(device, bench, about) if bench else ())),
        (
            *(f"{device} is not the profile's phone: {difference}" for difference in phone.differs),
            *(f"{device}: {remark}" for remark in (remarks(bench.how) if bench else ())),
        ),
        {"kernels": kernels, "how": "phone"} if kernels else {},
    )


@dataclass(frozen=True, slots=True)
class Noise:
    """How far results on a phone lie apart.

    Attributes:
        noise_floor: As a fraction of the value.
        noise_floor_from: How that is known, in words.
    """

    noise_floor: float
    noise_floor_from: str


def noise(rounds: Sequence[RoundTimes], floor: noise_floors.NoiseFloor | None) -> Noise:
    """The larger of the phone's A/A and of the 95 % interval that the medians of the rounds leave. Samples of one round
    are too much alike to say it."""
    medians = [each.p50_ms for each in rounds if not each.throttled]
    between = 0.0
    if len(medians) > 1:
        spread = geometric_interval(medians)
        between = max(spread.high / spread.value, spread.value / spread.low) - 1
    if floor is not None and floor.relative >= between:
        return Noise(floor.relative, str(floor))
    return Noise(between, f"the medians of {len(medians)} rounds")


def to_json(bench: PhoneBench, around: Noise) -> dict[str, Any]:
    """What was measured, with the noise around it, as reports have it."""
    content: dict[str, Any] = files.to_json(bench)
    return {**content, "how": {**content["how"], **dataclasses.asdict(around)}}


def _timed(device: str, bench: PhoneBench, about: Mapping[str, Any]) -> Iterator[Value]:
    if not bench.samples_ms:
        return
    how = about["bench"]["how"]
    yield Value("latency_ms", median(bench.samples_ms), device, how, bench.samples_ms, bench.sha256)
    # A runner of the user's may not tell.
    for metric, value in (("load_ms", bench.load_ms), ("peak_rss_bytes", bench.peak_rss_bytes)):
        if value is not None:
            yield Value(metric, value, device, how, sha256=bench.sha256)


def remarks(how: HowOnPhone) -> Iterator[str]:
    """What is to be said of a measurement: rounds that do not count, and why it settles nothing."""
    throttled = [each for each in how.rounds if each.throttled]
    if throttled:
        reasons = "; ".join(dict.fromkeys(reason for each in throttled for reason in each.reasons))
        yield f"{len(throttled)} of {len(how.rounds)} rounds do not count: {reasons}"
    if not how.conclusive:
        yield how.reason
