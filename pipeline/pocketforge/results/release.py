"""The release folder: exactly the files an app ships, a sidecar beside each, and SHA256SUMS.

It appears whole, in one rename, and only when the gate passed. A release of an earlier build is taken away when this
build's gate fails: what lies in release/ is what the report beside it speaks of.
"""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketforge.files import json_text
from pocketforge.plan.steps import Plan
from pocketforge.recipe import Recipe
from pocketforge.records import Artifact, Measurement, Report, TargetRecord
from pocketforge.run.walk import Outcome
from pocketforge.stats import PERCENTILES, percentile

if TYPE_CHECKING:
    from collections.abc import Iterable

SIDECAR_VERSION = 1


def write_release(
    recipe: Recipe, plan: Plan, outcome: Outcome, report: Report, out: Path, *, keep_failed: bool
) -> Path | None:
    """Write `out/release` (gate passed) or `out/failed` (on request); returns the folder written. Raises OSError."""
    release, failed = out / "release", out / "failed"
    for folder in (release, failed):
        discard(folder)
    passed = report.verdict == "PASS"
    if not passed and not keep_failed:
        return None
    final = release if passed else failed
    draft = out / f".{final.name}.{uuid.uuid4().hex}"
    draft.mkdir()
    try:
        for lane, target in zip(plan.lanes, report.targets, strict=True):
            if target.artifacts:
                data = json.loads((outcome.entries[plan.data].files / "data.json").read_text(encoding="utf-8"))
                _write_target(recipe, target, report, outcome.entries[lane.export].files, data, draft)
        sums = "".join(f"{a.sha256}  {a.path}\n" for a in _artifacts(report))
        (draft / "SHA256SUMS").write_text(sums, encoding="utf-8")
        draft.rename(final)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return final


def _artifacts(report: Report) -> Iterable[Artifact]:
    return (a for t in report.targets for a in t.artifacts)


def _write_target(
    recipe: Recipe, target: TargetRecord, report: Report, source: Path, data: dict[str, Any], folder: Path
) -> None:
    """Copy a target's files from its export's folder `source`, and write their sidecars."""
    exported = json.loads((source / "export.json").read_text(encoding="utf-8"))
    for artifact in target.artifacts:
        shutil.copyfile(source / exported["files"][artifact.kind], folder / artifact.path)
        sidecar = make_sidecar(recipe, target, artifact, exported, data, report)
        (folder / sidecar_name(target, artifact)).write_text(json_text(sidecar), encoding="utf-8")


def sidecar_name(target: TargetRecord, artifact: Artifact) -> str:
    """NAME.json for the target's model file, NAME.ROLE.json for a file beside it (NAME.ort.json)."""
    return f"{target.name}.json" if artifact.kind == "model" else f"{target.name}.{artifact.kind}.json"


def make_sidecar(
    recipe: Recipe,
    target: TargetRecord,
    artifact: Artifact,
    exported: dict[str, Any],
    data: dict[str, Any],
    report: Report,
) -> dict[str, Any]:
    """What an app needs to feed the file and read its answers, and the evidence that it works."""
    measured = target.facts.get("files", {}).get(artifact.kind, {})
    latency = [
        {
            "device": m.device,
            "via": m.via,
            **{name: percentile(m.samples, name) for name in ("min", *PERCENTILES)},
            "samples": len(m.samples),
            "threads": m.how["threads"],
            **(_phone(target, m) if m.via == "adb" else {}),
        }
        for m in report.measurements
        if m.target == target.name and m.metric == "latency_ms" and artifact.kind == "model"
    ]
    return {
        "sidecar_version": SIDECAR_VERSION,
        "file": artifact.path,
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "gzip_bytes": artifact.gzip_bytes,
        "recipe": recipe.name,
        "recipe_sha256": report.recipe_sha256,
        "target": target.name,
        "runtime": target.runtime,
        "scheme": target.scheme,
        "task": recipe.task,
        "inputs": exported["inputs"],
        "outputs": exported["outputs"],
        "labels": data["labels"],
        "weights": report.reference.get("weights", {}),
        "preprocessing": _preprocessing(data["preprocess"], exported["inputs"]),
        "export": exported["facts"],
        "measured": measured,
        "latency_ms": latency,
        "emulated": _emulated(target) if artifact.kind == "model" else [],
        "runtimes": target.facts.get("runtimes", {}),
        "kernels": target.facts.get("kernels", []),
        "versions": {k: v for k, v in report.environment.items() if v != "none" and k != "host"},
        "gate": report.verdict,
    }


def _phone(target: TargetRecord, measurement: Measurement) -> dict[str, Any]:
    """On what a latency was measured: a time is of one phone, its Android and some of its cores."""
    phone = target.facts["phones"][measurement.device]["phone"]
    known = {name: phone.get(name) for name in ("model", "soc", "android_version")}
    return {"phone": {**known, "cores": measurement.how["cores"]}}


def _emulated(target: TargetRecord) -> list[dict[str, Any]]:
    """Exact counts and what is estimated from them, by device: emulated, so none of it is a phone's time."""
    found = []
    for device, about in target.facts.get("emulated", {}).items():
        if "counts" not in about:  # an x86 host: its outputs were compared, which `kernels` says
            continue
        estimate = about.get("estimate", {"refused": ""})
        estimated = {} if "refused" in estimate else {
            "estimated_latency_ms": {name: estimate[name] for name in ("latency_ms", "low_ms", "high_ms", "coverage")},
            "status": estimate["status"],
        }  # fmt: skip
        found.append({"device": device, "instructions": about["counts"]["instructions"], **estimated})
    return found


def _preprocessing(steps: dict[str, Any], inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """The steps from a raw sample to what *this file* takes: its layout, and its quantization where it has one."""
    if len(inputs) != 1:
        return steps
    (tensor,) = inputs
    kept = list(steps["steps"])
    output = steps["output"]
    if tensor["layout"] == "NHWC" and output == "NCHW":
        kept = [s for s in kept if s["step"] != "transpose"]
        output = "NHWC"
    if tensor["scale"] is not None:
        quantized = {k: tensor[k] for k in ("scale", "zero_point", "dtype")}
        kept.append({"step": "quantize", "round": "half_to_even", **quantized})
    return {**steps, "steps": kept, "output": output}


def discard(folder: Path) -> None:
    """Take a folder out of sight in one rename, then delete it."""
    if folder.exists():
        grave = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        folder.rename(grave)
        shutil.rmtree(grave, ignore_errors=True)
