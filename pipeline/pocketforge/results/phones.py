"""What a lane's steps on phones found: facts of its target, measurements, and what to say of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from pocketforge.devices import noise_floors
from pocketforge.devices.kernels import kernels_of
from pocketforge.plan.steps import Facts, OnDevice, Timed
from pocketforge.results.devices import DeviceResult, Value
from pocketforge.results.emulated import verified_values
from pocketforge.run.walk import Outcome
from pocketforge.stats import geometric_interval


def read(device: str, on: OnDevice, outcome: Outcome, known: Facts) -> DeviceResult:
    """about: "phone" (which it is), "verify" (against the host), "bench" (its rounds); what ended is in it."""
    assert isinstance(on, Timed)
    phone = known.phones[device]
    about: dict[str, Any] = {"phone": phone.to_json()}
    verified = outcome.read(on.verify, "verify.json")
    bench = outcome.read(on.bench, "bench.json")
    if verified:
        about["verify"] = {name: verified[name] for name in ("host", "device", "runtime")}
    if bench:
        floor = noise_floors.load(phone.serial, phone.identity, bench["how"]["cores"])
        about["bench"] = {**bench, "how": {**bench["how"], **noise(bench["how"]["rounds"], floor)}}
    kernels = kernels_of(tuple(phone.about.get("features") or ())) if verified else ""
    return DeviceResult(
        about,
        tuple(_values(device, about)),
        tuple(_warnings(device, about)),
        {"kernels": kernels, "how": "phone"} if kernels else {},
    )


def noise(rounds: Sequence[Mapping[str, Any]], floor: noise_floors.NoiseFloor | None) -> dict[str, Any]:
    """How far results on this phone lie apart, as a fraction, and how that is known: the larger of the phone's A/A and
    of the 95 % interval that the medians of the rounds leave. Samples of one round are too much alike to say it."""
    medians = [r["p50_ms"] for r in rounds if not r["throttled"]]
    if len(medians) > 1:
        spread = geometric_interval(medians)
        between = max(spread.high / spread.value, spread.value / spread.low) - 1
    else:
        between = 0.0
    if floor is not None and floor.relative >= between:
        return {"noise_floor": floor.relative, "noise_floor_from": str(floor)}
    return {"noise_floor": between, "noise_floor_from": f"the medians of {len(medians)} rounds"}


def _values(device: str, about: Mapping[str, Any]) -> Iterator[Value]:
    if "verify" in about:
        yield from verified_values(about["verify"], device)
    if "bench" not in about:
        return
    bench = about["bench"]
    samples, how, sha256 = tuple(bench["samples_ms"]), bench["how"], bench["sha256"]
    if samples:
        yield Value("latency_ms", median(samples), device, how, samples, sha256)
        # A runner of the user's may not tell.
        for metric in ("load_ms", "peak_rss_bytes"):
            if bench[metric] is not None:
                yield Value(metric, bench[metric], device, how, sha256=sha256)


def _warnings(device: str, about: Mapping[str, Any]) -> Iterator[str]:
    """What differs from the profile, rounds that were throttled, and what the session said."""
    for difference in about["phone"]["differs"]:
        yield f"{device} is not the profile's phone: {difference}"
    if "bench" in about:
        for remark in remarks(about["bench"]["how"]):
            yield f"{device}: {remark}"


def remarks(how: Mapping[str, Any]) -> Iterator[str]:
    """What is to be said of a measurement: rounds that do not count, and why it settles nothing."""
    throttled = [r for r in how["rounds"] if r["throttled"]]
    if throttled:
        reasons = "; ".join(dict.fromkeys(reason for r in throttled for reason in r["reasons"]))
        yield f"{len(throttled)} of {len(how['rounds'])} rounds do not count: {reasons}"
    if not how["conclusive"]:
        yield how["reason"]
