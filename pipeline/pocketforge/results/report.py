"""What the steps wrote, gathered into one report, and judged."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pocketforge.outcomes import files
from pocketforge.outcomes.quantize import Quantized
from pocketforge.plan.steps import Facts, Lane, Plan
from pocketforge.recipe import METRICS, Recipe
from pocketforge.recipe.shipped_names import file_name
from pocketforge.records import Artifact, Check, Measurement, Report, StepRecord, TargetRecord, Via
from pocketforge.registries import DEVICES
from pocketforge.results.agreement import compare_files
from pocketforge.results.devices import DeviceResult, in_order, results_of
from pocketforge.results.emulated import device_checks
from pocketforge.results.file_metrics import file_values
from pocketforge.results.gate import judge
from pocketforge.results.kernels import judged_on
from pocketforge.run.walk import Outcome
from pocketforge.stats import percentile_interval


def make_report(
    recipe: Recipe,
    facts: Facts,
    plan: Plan,
    outcome: Outcome,
    *,
    wall_s: float,
    why: Mapping[str, dict[str, str]] | None = None,
) -> Report:
    """Gather what the steps wrote into one report, and judge it. why: of wrong targets, where their numbers break."""
    measurements: list[Measurement] = []
    targets = []
    reference = outcome.read(plan.reference, "reference.json") or {}
    for lane in plan.lanes:
        on_devices = results_of(lane, outcome, facts)
        record = _target_record(lane, outcome, on_devices, (why or {}).get(lane.target.name))
        targets.append(record)
        measurements += _measure(lane, record, reference, outcome, on_devices)
    gates = judge(recipe, measurements)
    verdict: Literal["PASS", "FAIL", "ERROR"]
    if outcome.errors:
        verdict = "ERROR"
    elif any(g.blocks for g in gates) or any(t.status != "built" for t in targets):
        verdict = "FAIL"
    else:
        verdict = "PASS"
    compression = _compression(plan, outcome)
    warnings = [f"{t.name}: {w}" for t in targets for w in t.warnings]
    warnings += worse_than_float(recipe, targets, measurements)
    warnings += [describe_flag(flag) for flag in compression.get("flags", ())]
    warnings += [
        f"{step['label']}: {said}"
        for step in compression.get("steps", ())
        for said in step.get("prune", {}).get("warnings", ())
    ]
    return Report(
        recipe=recipe.name,
        recipe_sha256=recipe_digest(recipe),
        verdict=verdict,
        targets=tuple(targets),
        steps=tuple(_step_record(s.key, s.stage, s.lane, outcome) for s in plan.steps),
        measurements=tuple(measurements),
        gates=gates,
        reference=reference,
        compression=compression,
        agreement=tuple(files.to_json(each) for each in compare_files(plan, outcome)),
        environment={**facts.versions, "host": facts.host},
        warnings=tuple(warnings),
        data=(*facts.data_notes, *(outcome.read(plan.data, "data.json") or {"notes": ()})["notes"]),
        wall_s=round(wall_s, 3),
    )


def worse_than_float(
    recipe: Recipe, targets: Sequence[TargetRecord], measurements: Sequence[Measurement]
) -> Iterator[str]:
    """Quantized files that are bigger, or slower by more than their intervals, than the same runtime's fp32 file."""
    known = {target.name: target for target in targets}
    asked = {target.name: target for target in recipe.targets}
    floats = {(t.runtime, t.layout): t.name for t in recipe.targets if t.quantize.scheme == "fp32"}
    found = {(m.target, m.metric, m.device): m for m in measurements}
    for name, target in asked.items():
        sibling = floats.get((target.runtime, target.layout))
        if sibling is None or target.quantize.scheme == "fp32":
            continue
        left = ", ".join(known[name].facts.get("float_layers", ()))
        because = f"; float weights: {left}" if left else "; no layer stayed float"
        for (of, metric, device), here in found.items():
            there = found.get((sibling, metric, device))
            if of != name or there is None:
                continue
            if metric == "size_bytes" and here.value >= there.value:
                sizes = f"{here.value:,.0f} bytes against {there.value:,.0f}"
                yield f"{name}: not smaller than {sibling}: {sizes}{because}"
            if metric == "latency_ms" and _is_slower(here, there):
                times = f"p50 {here.value:.4g} ms against {there.value:.4g}"
                yield f"{name}: slower than {sibling} on {device}: {times}{because}"


def _is_slower(here: Measurement, there: Measurement) -> bool:
    if not here.samples or not there.samples:
        return False
    return percentile_interval(here.samples, "p50").low > percentile_interval(there.samples, "p50").high


def _compression(plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """What the trunk's changes did and what they bought."""
    if not plan.changes:
        return {}
    steps = []
    for change in plan.changes:
        entry = outcome.entries.get(change.key)
        names = [n for n in ("prune.json", "train.json") if entry and n in entry.hashes]
        said = {n.removesuffix(".json"): outcome.read(change.key, n) for n in names}
        steps.append({"label": change.label, "entry": change.entry, "key": change.key, **said})
    return {"steps": steps, **(outcome.read(plan.gains, "gains.json") or {"states": [], "flags": []})}


def describe_flag(flag: Mapping[str, Any]) -> str:
    """A step that lowered MACs and not time, in words."""
    ratio, low, high = flag["ratio"]
    less = 1 - flag["macs"][1] / flag["macs"][0]
    layers = ", ".join(layer["name"] for layer in flag["layers"])
    time = f"× {ratio:.2f} (95 % {low:.2f} to {high:.2f})"
    where = f"{flag['label']}: {less:.0%} fewer MACs"
    if flag["verdict"] == "unsettled":
        return f"{where}; the timer's noise hides whether {flag['runtime']} got faster: {time}"
    return f"{where}, but no less time in {flag['runtime']}: {time}" + (
        f"; layers that gained nothing: {layers}" if layers else ""
    )


def recipe_digest(recipe: Recipe) -> str:
    """SHA-256 of what the recipe says (not of its comments, nor of where it lies)."""
    content = dataclasses.asdict(recipe)
    del content["folder"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _step_record(key: str, stage: str, lane: str, outcome: Outcome) -> StepRecord:
    return outcome.records.get(key) or StepRecord(stage, lane, key, "skipped", message="the build stopped before it")


def _target_record(
    lane: Lane, outcome: Outcome, results: Mapping[str, DeviceResult], why: dict[str, str] | None = None
) -> TargetRecord:
    target = lane.target
    exported = outcome.read(lane.export, "export.json")
    verified = outcome.read(lane.verify, "verify.json")
    quantized = outcome.result(lane.quantize, Quantized) if lane.quantize else None
    on_devices = [key for _, on in in_order(lane) for key in on.keys]
    keys = [k for k in (lane.quantize, lane.export, lane.verify, *on_devices) if k]
    errors = [outcome.errors[k].message for k in keys if k in outcome.errors]
    records = [outcome.records[k] for k in keys if k in outcome.records]
    errors += [r.message for r in records if r.status == "skipped"]
    warnings = list(exported["warnings"]) if exported else []
    checks: tuple[Check, ...] = ()
    facts: dict[str, Any] = dict(exported["facts"]) if exported else {}
    if why:
        facts["why"] = why
    if quantized:
        facts |= _quantized_facts(quantized)
        warnings += [f"stayed float: {layer}" for layer in quantized.left_float]
    if verified:
        checks = tuple(Check(**c) for c in verified["checks"])
        facts["runtimes"] = verified["runtimes"]
        facts["files"] = verified["files"]
        warnings += [f"{name}: {state}" for name, state in verified["runtimes"].items() if state != "works"]
        facts["kernels"] = judged_on(verified["kernels"], results)
    checks += tuple(Check(**c) for c in device_checks(lane, outcome))
    for device, result in results.items():
        if table := DEVICES[lane.on[device].via].about:
            facts.setdefault(table, {})[device] = dict(result.about)
        warnings += result.warnings
    wrong = any(not c.passed for c in checks)
    complete = verified is not None and all(k in outcome.entries for k in on_devices)
    return TargetRecord(
        name=target.name,
        runtime=target.runtime,
        scheme=target.quantize.scheme,
        status="wrong" if wrong else "built" if complete else "failed",
        artifacts=_artifacts(lane, exported, outcome) if exported else (),
        checks=checks,
        warnings=tuple(warnings),
        facts=facts,
        error="" if wrong else errors[0] if errors else "",
    )


def _quantized_facts(quantized: Quantized) -> dict[str, Any]:
    parts = {"mixed": quantized.mixed, "codebook": quantized.codebook, "repairs": quantized.repairs}
    return {
        "numerics": quantized.numerics,
        **{name: files.to_json(part) for name, part in parts.items() if part is not None},
        "quantized_layers": len(quantized.quantized),
        "float_layers": quantized.left_float,
    }


def _artifacts(lane: Lane, exported: dict[str, Any], outcome: Outcome) -> tuple[Artifact, ...]:
    entry = outcome.entries[lane.export]
    found = []
    for role, name in sorted(exported["files"].items(), key=lambda item: item[0] != "model"):
        content = (entry.files / name).read_bytes()
        found.append(
            Artifact(
                key=lane.export,
                kind=role,
                path=file_name(lane.target.name, lane.target.runtime, role),
                sha256=entry.hashes[name],
                size_bytes=len(content),
                gzip_bytes=len(gzip.compress(content, 9, mtime=0)),
            )
        )
    return tuple(found)


def _measure(
    lane: Lane,
    record: TargetRecord,
    reference: dict[str, Any],
    outcome: Outcome,
    on_devices: Mapping[str, DeviceResult],
) -> list[Measurement]:
    """Every measurement of a lane, each with the hash of the file it was taken from."""
    if not record.artifacts:
        return []
    model = record.artifacts[0]
    found: list[Measurement] = []

    def add(metric: str, value: float, via: Via = "host", **more: Any) -> None:
        unit = METRICS[metric].unit
        found.append(Measurement(metric, float(value), unit, lane.target.name, model.sha256, via, **more))

    add("size_bytes", model.size_bytes)
    add("gzip_bytes", model.gzip_bytes)
    exported = outcome.read(lane.export, "export.json") or {}
    for metric, own in file_values(outcome.entries[lane.export].files / exported["files"][model.kind]):
        add(metric, own)
    if reference:
        add("parameters", reference["parameters"], "pytorch")
        add("macs", reference["macs"], "pytorch")
    verified = outcome.read(lane.verify, "verify.json")
    if verified:
        measured = verified["files"]["model"]
        how = {"samples": measured["samples"], "runtime": next(iter(verified["runtimes"]))}
        # A file whose first output is not the model's has no accuracy, one of integers alone no SQNR.
        for metric, value in measured.get("accuracy", {}).items():
            add(metric, value, how=how)
        if "accuracy_drop" in measured:
            add("accuracy_drop", measured["accuracy_drop"], how=how)
        if "sqnr_db" in measured:
            several = {"output": measured["worst_output"]} if len(measured.get("outputs", ())) > 1 else {}
            add("parity_sqnr_db", measured["sqnr_db"], how={**how, **several})
    for value in (value for result in on_devices.values() for value in result.values):
        if value.sha256 not in ("", model.sha256):
            raise AssertionError(f"benchmark of {lane.target.name} on {value.device} is of another file")
        via = lane.on[value.device].via
        add(value.metric, value.value, via, device=value.device, how=dict(value.how), samples=value.samples)
    return found
