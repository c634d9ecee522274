"""What a lane's steps on emulated devices found, as facts of its target and as measurements.

What verify_device found is the same on phones (phones.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pocketforge.plan.steps import Emulated, Facts, Lane, OnDevice
from pocketforge.results.devices import DeviceResult, Value, in_order
from pocketforge.run.walk import Outcome

# Functions under this share of an inference are summed up in reports; count's own result has them all.
LEAST_SHARE = 0.002


_KEPT = ("instructions", "windows", "conclusive", "doubts", "by_class", "libraries", "qemu", "cpu")


def read(device: str, on: OnDevice, outcome: Outcome, _known: Facts) -> DeviceResult:
    """about: "verify" (against the host), "counts" (by class and by function), "estimate"; what ended is in it."""
    about: dict[str, Any] = {} if isinstance(on, Emulated) else {"architecture": "x86_64"}
    verified = outcome.read(on.verify, "verify.json")
    counts = outcome.read(on.count, "counts.json") if isinstance(on, Emulated) else None
    estimate = outcome.read(on.estimate, "estimate.json") if isinstance(on, Emulated) else None
    if verified:
        about["verify"] = {name: verified[name] for name in ("host", "device", "runtime", "kernels")}
    if counts:
        about["counts"] = {
            **{name: counts[name] for name in _KEPT},
            "by_function": _largest(counts["by_function"], counts["instructions"]),
        }
    if estimate:
        about["estimate"] = {name: value for name, value in estimate.items() if name != "top"}
    refused = estimate.get("refused") if estimate else None
    return DeviceResult(
        about,
        tuple(_values(device, about)),
        (f"no estimate on {device}: {refused}",) if refused else (),
        verified["kernels"] if verified else {},
    )


def device_checks(lane: Lane, outcome: Outcome) -> Iterator[dict[str, Any]]:
    """Each check that verify_device made, named with its device."""
    for device, on in in_order(lane):
        verified = outcome.read(on.verify, "verify.json")
        for check in verified["checks"] if verified else ():
            yield {**check, "name": f"{check['name']} on {device}, against the host"}


def _values(device: str, about: Mapping[str, Any]) -> Iterator[Value]:
    verified, counts, estimate = (about.get(name) for name in ("verify", "counts", "estimate"))
    if verified:
        yield from verified_values(verified, device)
    if counts:
        how = {"conclusive": counts["conclusive"], "reason": "" if counts["conclusive"] else doubt(counts)}
        how |= {name: counts[name] for name in ("by_class", "windows", "qemu", "cpu")}
        yield Value("instructions", counts["instructions"], device, how)
    if counts and estimate and "refused" not in estimate:
        about_model = {name: estimate[name] for name in ("status", "model_version", "core", "coverage")}
        interval = [estimate["low_ms"], estimate["high_ms"]]
        cycles = [ms * estimate["clock_ghz"] * 1e6 for ms in interval]
        yield Value("estimated_cycles", estimate["cycles"], device, {**about_model, "interval": cycles})
        yield Value("estimated_latency_ms", estimate["latency_ms"], device, {**about_model, "interval": interval})


def verified_values(verified: Mapping[str, Any], device: str) -> Iterator[Value]:
    """What verify_device measured on the outputs."""
    how = {"samples": verified["device"]["samples"], "runtime": verified["runtime"]}
    measured = verified["device"]
    for metric, value in measured.get("accuracy", {}).items():
        yield Value(metric, value, device, how)
    if "accuracy_drop" in measured:
        yield Value("accuracy_drop", measured["accuracy_drop"], device, how)
    if "sqnr_db" in measured:
        several = {"output": measured["worst_output"]} if len(measured.get("outputs", ())) > 1 else {}
        yield Value("parity_sqnr_db", measured["sqnr_db"], device, {**how, **several})


def doubt(counts: Mapping[str, Any]) -> str:
    """Why counts are not conclusive."""
    differ = f"windows of one inference differ: {', '.join(f'{w:,}' for w in counts['windows'])}"
    return "; ".join(counts["doubts"]) or differ


def _largest(by_function: dict[str, int], total: int) -> dict[str, int]:
    kept = {name: count for name, count in by_function.items() if count >= LEAST_SHARE * total}
    rest = total - sum(kept.values())
    return {**dict(sorted(kept.items(), key=lambda item: -item[1])), "(rest)": rest}
