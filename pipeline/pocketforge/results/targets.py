"""One target's record: its files, the checks that were made, and what its steps say of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from pocketforge.outcomes.elsewhere import Elsewhere
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.package import Packed
from pocketforge.outcomes.quantize import Quantized
from pocketforge.outcomes.verify import Verified
from pocketforge.plan.steps import Lane
from pocketforge.recipe.shipped_names import file_name
from pocketforge.records import UNKNOWN_SCHEME, Artifact, Calibration, TargetFacts, TargetRecord, WhyWrong
from pocketforge.registries import RUNTIMES
from pocketforge.results.concats import concat_lines
from pocketforge.results.devices import DeviceResult, about_of, in_order
from pocketforge.results.emulated import device_checks
from pocketforge.results.judged import verified_of
from pocketforge.results.kernels import judged_on
from pocketforge.results.plugin_words import structured
from pocketforge.results.scores import without_value
from pocketforge.run.walk import Outcome


@dataclasses.dataclass(frozen=True, slots=True)
class _Told:
    """What the steps of one target wrote; None of those that did not end."""

    exported: Exported | None
    packed: Packed | None
    quantized: Quantized | None
    verified: Verified | None
    made: Elsewhere | None
    on_devices: Mapping[str, DeviceResult]


def target_record(
    lane: Lane, outcome: Outcome, on_devices: Mapping[str, DeviceResult], why: WhyWrong | None = None
) -> TargetRecord:
    """Gather what a target's steps wrote. why: of a wrong one, where its numbers break."""
    quantized = outcome.result(lane.quantize, Quantized) if lane.quantize else None
    told = _Told(
        exported=outcome.result(lane.export, Exported),
        packed=outcome.result(lane.reference, Packed) if lane.traced else None,
        quantized=quantized.in_runtime(RUNTIMES[lane.target.runtime].dynamic_layers) if quantized else None,
        verified=verified_of(lane, outcome),
        made=outcome.result(lane.export, Elsewhere) if lane.target.file else None,
        on_devices=on_devices,
    )
    device_keys = [key for _, on in in_order(lane) for key in on.keys]
    checks = (*(told.verified.checks if told.verified else ()), *device_checks(lane, outcome))
    wrong = any(not check.passed for check in checks)
    complete = told.verified is not None and all(key in outcome.entries for key in device_keys)
    packing = (lane.data, lane.reference) if lane.traced else ()
    keys = [key for key in (*packing, lane.quantize, lane.export, lane.verify, *device_keys) if key]
    error, hint = ("", "") if wrong else _error(outcome, keys)
    return TargetRecord(
        name=lane.target.name,
        runtime=lane.target.runtime,
        scheme=_scheme(lane, told.made),
        status="wrong" if wrong else "built" if complete else "failed",
        artifacts=tuple(_artifacts(lane, told.exported, outcome)) if told.exported else (),
        checks=checks,
        warnings=tuple(_warnings(told, wrong=wrong)),
        facts=_facts(lane, told, why),
        error=error,
        hint=hint,
    )


def _facts(lane: Lane, told: _Told, why: WhyWrong | None) -> TargetFacts:
    """What runtimes' exporters and kinds of devices say by their own names is plain JSON: plug-ins have others."""
    facts: dict[str, object] = dict(told.exported.facts) if told.exported else {}
    for device, result in told.on_devices.items():
        if table := about_of(lane.on[device].via):
            facts[table] = {**_table(facts.get(table)), device: result.about}
    known = structured(facts, TargetFacts, f"exporters and devices of target {lane.target.name}")
    if told.quantized:
        known = dataclasses.replace(
            known,
            numerics=told.quantized.numerics,
            mixed=told.quantized.mixed,
            codebook=told.quantized.codebook,
            repairs=told.quantized.repairs,
            quantized_layers=len(told.quantized.quantized),
            float_layers=tuple(told.quantized.left_float),
            calibration=_calibration(told.quantized),
        )
    if told.verified:
        known = dataclasses.replace(
            known,
            runtimes=told.verified.runtimes,
            files=told.verified.files,
            sizes=told.verified.sizes,
            kernels=judged_on("" if told.verified.not_judged else told.verified.kernels, told.on_devices),
        )
    return dataclasses.replace(known, why=why, package=told.packed, elsewhere=told.made)


def _calibration(quantized: Quantized) -> Calibration | None:
    most = Calibration.MOST_RANGES
    ranges = quantized.ranges
    return Calibration(ranges[:most], max(0, len(ranges) - most)) if ranges else None


def _scheme(lane: Lane, made: Elsewhere | None) -> str:
    if lane.target.file:
        return made.scheme if made else UNKNOWN_SCHEME
    return lane.target.quantize.scheme


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _warnings(told: _Told, *, wrong: bool) -> Iterator[str]:
    if told.exported:
        yield from told.exported.warnings
    if told.quantized:
        yield from (f"stayed float: {layer}" for layer in told.quantized.left_float)
        yield from (line for concat in told.quantized.concats for line in concat_lines(concat))
        if wrong and told.quantized.advice:
            yield told.quantized.advice
    if told.verified:
        yield from (f"{name}: {state}" for name, state in told.verified.runtimes.items() if state != "works")
        yield from told.verified.warnings
        yield from without_value(told.verified.files["model"])
    for result in told.on_devices.values():
        yield from result.warnings


def _error(outcome: Outcome, keys: list[str]) -> tuple[str, str]:
    """Why steps have no result, and what to try: what one of them met, else what the step met that they hang on."""
    for key in keys:
        if key in outcome.errors:
            return outcome.errors[key].message, outcome.errors[key].hint
    for key in keys:
        if key in outcome.records and outcome.records[key].status == "skipped":
            cause = outcome.causes.get(key, "")
            if cause not in outcome.errors:
                return outcome.records[key].message, ""
            record, met = outcome.records[cause], outcome.errors[cause]
            return f"{record.stage}[{record.lane}] failed: {met.message}", met.hint
    return "", ""


def _artifacts(lane: Lane, exported: Exported, outcome: Outcome) -> Iterator[Artifact]:
    """The model first."""
    entry = outcome.entries[lane.export]
    for role, name in sorted(exported.files.items(), key=lambda item: item[0] != "model"):
        yield Artifact(
            key=lane.export,
            kind=role,
            path=file_name(lane.target.name, lane.target.runtime, role, lane.target.suffix),
            sha256=entry.hashes[name],
            size_bytes=(entry.files / name).stat().st_size,
            gzip_bytes=exported.gzip_bytes[role],
        )
