"""What a lane's steps on emulated devices found, as facts of its target and as measurements.

What verify_device found is the same on phones (phones.py).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping

from pocketforge.devices.emulator.counts import Counts
from pocketforge.estimation.estimate import Estimate
from pocketforge.estimation.outcome import Estimated
from pocketforge.outcomes import files
from pocketforge.outcomes.verify_device import VerifiedThere
from pocketforge.plan.steps import Emulated, Facts, Lane, OnDevice
from pocketforge.records import Check
from pocketforge.results.devices import DeviceResult, Value, in_order
from pocketforge.results.scores import values_of
from pocketforge.run.walk import Outcome

# Functions under this share of an inference are summed up in reports; count's own result has them all.
LEAST_SHARE = 0.002


_KEPT = ("instructions", "windows", "conclusive", "doubts", "by_class", "libraries", "qemu", "cpu")


def read(device: str, on: OnDevice, outcome: Outcome, _known: Facts) -> DeviceResult:
    """about: "verify" (against the host), "counts" (by class and by function), "estimate"; what ended is in it."""
    about: dict[str, object] = {} if isinstance(on, Emulated) else {"architecture": "x86_64"}
    verified = outcome.result(on.verify, VerifiedThere)
    counts = counts_of(on, outcome)
    estimated = outcome.result(on.estimate, Estimated) if isinstance(on, Emulated) else None
    if verified:
        about["verify"] = verified_facts(verified, "kernels")
    if counts:
        content = counts.without_blocks()
        about["counts"] = {
            **{name: content[name] for name in _KEPT},
            "by_function": _largest(counts.by_function, counts.instructions),
        }
    if estimated:
        about["estimate"] = estimated.to_json(blocks=False)
    return DeviceResult(
        about,
        (
            *(verified_values(verified, device) if verified else ()),
            *(_counted(device, counts) if counts else ()),
            *(_estimated(device, estimated.estimate) if estimated and estimated.estimate else ()),
        ),
        (f"no estimate on {device}: {estimated.refused}",) if estimated and estimated.refused else (),
        dataclasses.asdict(verified.kernels) if verified and verified.kernels else {},
    )


def device_checks(lane: Lane, outcome: Outcome) -> Iterator[Check]:
    """Each check that verify_device made, named with its device."""
    for device, on in in_order(lane):
        verified = outcome.result(on.verify, VerifiedThere) if on.verify else None
        for check in verified.checks if verified else ():
            yield Check(f"{check.name} on {device}, against the host", check.wanted, check.found, check.passed)
        for check in verified.own_checks if verified else ():
            yield Check(f"{check.name} on {device}", check.wanted, check.found, check.passed)


def counts_of(on: OnDevice, outcome: Outcome) -> Counts | None:
    """What was counted on an emulated device; None where nothing was."""
    entry = outcome.entries.get(on.count) if isinstance(on, Emulated) else None
    return Counts.from_json(json.loads((entry.files / "counts.json").read_text("utf-8"))) if entry else None


def _counted(device: str, counts: Counts) -> Iterator[Value]:
    how = {
        "conclusive": counts.conclusive,
        "reason": "" if counts.conclusive else doubt(counts),
        "by_class": dict(counts.by_class),
        "windows": list(counts.windows),
        "qemu": counts.qemu,
        "cpu": counts.cpu,
    }
    yield Value("instructions", counts.instructions, device, how)


def _estimated(device: str, estimate: Estimate) -> Iterator[Value]:
    core_model = {
        "status": estimate.status,
        "model_version": estimate.model_version,
        "core": estimate.core,
        "coverage": estimate.coverage,
    }
    interval_ms = [estimate.low_ms, estimate.high_ms]
    cycles = [ms * estimate.clock_ghz * 1e6 for ms in interval_ms]
    yield Value("estimated_cycles", estimate.cycles, device, {**core_model, "interval": cycles})
    yield Value("estimated_latency_ms", estimate.latency_ms, device, {**core_model, "interval": interval_ms})


def verified_facts(verified: VerifiedThere, *also: str) -> dict[str, object]:
    """What verify_device found, as reports have it. also: further fields of it."""
    content: dict[str, object] = files.to_json(verified)
    return {name: content[name] for name in ("host", "device", "runtime", *also)}


def verified_values(verified: VerifiedThere, device: str) -> Iterator[Value]:
    """What verify_device measured on the outputs."""
    measured = verified.device
    how: dict[str, object] = {"samples": measured.samples, "runtime": verified.runtime}
    for each in values_of(measured):
        more = {"output": each.output or None, "better": each.better, "samples": each.samples}
        told = {name: said for name, said in more.items() if said}
        worst = {} if each.worst is None else {"worst": each.worst}  # a value of a slice may be an empty text
        yield Value(each.metric, each.value, device, {**how, **told, **worst})


def doubt(counts: Counts) -> str:
    """Why counts are not conclusive."""
    differ = f"windows of one inference differ: {', '.join(f'{window:,}' for window in counts.windows)}"
    return "; ".join(counts.doubts) or differ


def _largest(by_function: Mapping[str, int], total: int) -> dict[str, int]:
    large = {name: count for name, count in by_function.items() if count >= LEAST_SHARE * total}
    rest = total - sum(large.values())
    return {**dict(sorted(large.items(), key=lambda item: -item[1])), "(rest)": rest}
