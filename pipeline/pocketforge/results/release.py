"""The release folder: exactly the files an app ships, a sidecar beside each, and SHA256SUMS.

It is written whole beside its place (output_folder.py) and appears only when the gate passed. A release of an earlier
build is taken away when this build's gate fails: what lies in release/ is what the report beside it speaks of.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketforge.errors import StoreError
from pocketforge.files import hash_file, json_text
from pocketforge.plan.steps import Plan
from pocketforge.recipe import Recipe
from pocketforge.recipe.shipped_names import MODEL, SUMS, sidecar_name
from pocketforge.records import Artifact, Measurement, Report, TargetRecord
from pocketforge.results.output_folder import FAILED, RELEASE
from pocketforge.run.walk import Outcome
from pocketforge.stats import PERCENTILES, percentile

if TYPE_CHECKING:
    from collections.abc import Iterable

SIDECAR_VERSION = 1


def write_release(
    recipe: Recipe, plan: Plan, outcome: Outcome, report: Report, draft: Path, *, keep_failed: bool
) -> str | None:
    """Write `draft/release` (gate passed) or `draft/failed` (on request); returns which.

    Raises OSError, and StoreError for a stored file that is not what the report speaks of.
    """
    passed = report.verdict == "PASS"
    if not passed and not keep_failed:
        return None
    name = RELEASE if passed else FAILED
    folder = draft / name
    folder.mkdir()
    for lane, target in zip(plan.lanes, report.targets, strict=True):
        if target.artifacts:
            data = json.loads((outcome.entries[plan.data].files / "data.json").read_text(encoding="utf-8"))
            _write_target(recipe, target, report, outcome.entries[lane.export].files, data, folder)
    _write_new(folder / SUMS, "".join(f"{a.sha256}  {a.path}\n" for a in _artifacts(report)).encode())
    return name


def _artifacts(report: Report) -> Iterable[Artifact]:
    return (a for t in report.targets for a in t.artifacts)


def _write_target(
    recipe: Recipe, target: TargetRecord, report: Report, source: Path, data: dict[str, Any], folder: Path
) -> None:
    """Copy a target's files from its export's folder `source`, and write their sidecars."""
    exported = json.loads((source / "export.json").read_text(encoding="utf-8"))
    for artifact in target.artifacts:
        path = folder / artifact.path
        _write_new(path, (source / exported["files"][artifact.kind]).read_bytes())
        if hash_file(path) != artifact.sha256:
            raise StoreError(
                f"{artifact.path} is not the file that was verified: the stored result changed meanwhile",
                "build again: what is damaged is made again",
            )
        sidecar = make_sidecar(recipe, target, artifact, exported, data, report)
        _write_new(folder / sidecar_name(target.name, artifact.kind), json_text(sidecar).encode())


def _write_new(path: Path, content: bytes) -> None:
    """Never over another file: recipes are checked for names that meet (recipe/shipped_names.py)."""
    with path.open("xb") as file:
        file.write(content)


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
        if m.target == target.name and m.metric == "latency_ms" and artifact.kind == MODEL
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
        "emulated": _emulated(target) if artifact.kind == MODEL else [],
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
