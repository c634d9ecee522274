"""The release folder: the files an app ships, a sidecar beside each, documents (release/documents.py), and SHA256SUMS.

It is written whole beside its place (output_folder.py) and appears only when the gate passed. A release of an earlier
build is taken away when this build's gate fails: what lies in release/ is what the report beside it speaks of.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketforge.errors import StoreError
from pocketforge.files import hash_file, json_text
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Preprocessing, PreprocessingOfInputs, Sampled
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.for_file import make_preprocessing
from pocketforge.plan.steps import Plan
from pocketforge.recipe import Recipe
from pocketforge.recipe.output import labelled
from pocketforge.recipe.packed import judged_as_packed
from pocketforge.recipe.shipped_names import MODEL, SUMS, shared_name, sidecar_name
from pocketforge.records import (
    Artifact,
    Estimated,
    HowElse,
    HowHere,
    HowOnThePhone,
    Measurement,
    Reference,
    Report,
    TargetRecord,
)
from pocketforge.release.contents import Contents, ShippedTarget
from pocketforge.release.documents import documents
from pocketforge.release.inputs import Inputs
from pocketforge.release.manifest import SharedFile
from pocketforge.release.sums import write_sums
from pocketforge.results.output_folder import FAILED, RELEASE
from pocketforge.results.sidecar_sizes import sizes_of
from pocketforge.run.walk import Outcome
from pocketforge.stats import PERCENTILES, percentile

SIDECAR_VERSION = 1


def write_release(
    recipe: Recipe, plan: Plan, outcome: Outcome, report: Report, inputs: Inputs, draft: Path, *, keep_failed: bool
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
    hashes: dict[str, str] = {}
    shipped: list[ShippedTarget] = []
    for lane, target in zip(plan.lanes, report.targets, strict=True):
        if target.artifacts:
            sampled = files.read(outcome.entries[lane.data].files, Sampled)
            source = outcome.entries[lane.export].files
            # Documents are of the model, whatever a file does of the app's side.
            of_model = files.read(outcome.entries[lane.prepared or lane.data].files, Sampled)
            shipped.append(ShippedTarget(target, of_model, files.read(source, Exported)))
            hashes |= _write_target(Shipped(recipe, report, target, sampled), source, folder)
    shared = tuple(_write_shared(recipe, [each.sampled for each in shipped], folder))
    hashes |= {file.path: file.sha256 for file in shared}
    if passed:
        for document, content in documents(Contents(recipe, report, inputs, tuple(shipped), shared)).items():
            hashes[document] = _write_new(folder / document, content)
    _write_new(folder / SUMS, write_sums(hashes))
    return name


@dataclass(frozen=True, slots=True)
class Shipped:
    """What the sidecars of one target's files are made from.

    Attributes:
        recipe: That was built.
        report: Of the build.
        target: The target's record in it.
        sampled: What the data were: labels, and how samples are prepared.
    """

    recipe: Recipe
    report: Report
    target: TargetRecord
    sampled: Sampled


def _write_target(shipped: Shipped, source: Path, folder: Path) -> dict[str, str]:
    """Copy a target's files from its export's folder `source`, and write their sidecars. Name → SHA-256."""
    exported = files.read(source, Exported)
    hashes: dict[str, str] = {}
    for artifact in shipped.target.artifacts:
        written = _copy_new(source / exported.files[artifact.kind], folder / artifact.path)
        if written != artifact.sha256:
            raise StoreError(
                f"{artifact.path} is not the file that was verified: the stored result changed meanwhile",
                "build again: what is damaged is made again",
            )
        sidecar = sidecar_name(shipped.target.name, artifact.kind)
        about = json_text(make_sidecar(shipped, artifact, exported)).encode()
        hashes |= {artifact.path: written, sidecar: _write_new(folder / sidecar, about)}
    return hashes


def _write_shared(recipe: Recipe, sampled: Sequence[Sampled], folder: Path) -> Iterator[SharedFile]:
    """Copy the tokenizers that made the samples. Raises StoreError for one that is another by now."""
    meant = {
        (str(step["file"]), str(step["sha256"]))
        for each in sampled
        for step in _steps(each.preprocess)
        if step.get("step") == "tokenize"
    }
    for file in recipe.data.tokenizers() if meant else ():
        name, content = shared_name(file), recipe.resolve(file).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        if (name, sha256) not in meant:
            raise StoreError(
                f"{file} is not the tokenizer that made the samples: it changed meanwhile",
                "build again: what was made with the other is made again",
            )
        _write_new(folder / name, content)
        yield SharedFile(name, sha256, len(content), "tokenizer")


def _steps(prepared: Preprocessing | PreprocessingOfInputs) -> tuple[Mapping[str, object], ...]:
    if isinstance(prepared, Preprocessing):
        return tuple(prepared.steps)
    return tuple(step for each in prepared.inputs for step in each.steps)


def _write_new(path: Path, content: bytes) -> str:
    """Never over another file: recipes are checked for names that meet (recipe/shipped_names.py). Gives its SHA-256."""
    with path.open("xb") as file:
        file.write(content)
    return hashlib.sha256(content).hexdigest()


def _copy_new(source: Path, path: Path) -> str:
    """The same of a file that may be hundreds of megabytes. Gives the copy's SHA-256."""
    with source.open("rb") as read, path.open("xb") as written:
        shutil.copyfileobj(read, written, 1 << 20)
    return hash_file(path)


def make_sidecar(shipped: Shipped, artifact: Artifact, exported: Exported) -> dict[str, object]:
    """What an app needs to feed the file and read its answers, and the evidence that it works."""
    recipe, report, target = shipped.recipe, shipped.report, shipped.target
    is_model = artifact.kind == MODEL
    measured, made = target.facts.files.get(artifact.kind), target.facts.elsewhere
    weights = report.reference.weights if isinstance(report.reference, Reference) else None
    return {
        "sidecar_version": SIDECAR_VERSION,
        "file": artifact.path,
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "gzip_bytes": artifact.gzip_bytes,
        "recipe": recipe.name,
        "recipe_sha256": report.recipe_sha256,
        "version": recipe.release.version or None,
        "target": target.name,
        "runtime": target.runtime,
        "scheme": target.scheme,
        "task": recipe.task,
        "inputs": files.to_json(exported.inputs),
        "outputs": files.to_json(exported.outputs),
        **({"output_roles": roles} if (roles := _roles(shipped, exported)) else {}),
        "labels": shipped.sampled.labels,
        "weights": files.to_json(weights) if weights else {},
        "preprocessing": make_preprocessing(
            shipped.sampled.preprocess, made.in_samples_order(exported.inputs) if made else exported.inputs
        ),
        **({"elsewhere": files.to_json(made)} if made else {}),
        **({"package": files.to_json(target.facts.package)} if target.facts.package else {}),
        "export": exported.facts,
        **sizes_of(recipe, target, artifact.kind),
        "measured": files.to_json(measured) if measured else {},
        "latency_ms": [_latency(target, m) for m in report.measurements if is_model and _times(m, target)],
        "emulated": list(_emulated(target)) if is_model else [],
        "runtimes": target.facts.runtimes,
        "kernels": files.to_json(target.facts.kernels),
        "versions": {k: v for k, v in report.environment.items() if v != "none" and k != "host"},
        "gate": report.verdict,
    }


def _roles(shipped: Shipped, exported: Exported) -> list[dict[str, object]]:
    """What each output is, and what was done to it before it was judged: an app has to do the same. Nothing where that
    is a task's, and of the first one."""
    recipe, target, made = shipped.recipe, shipped.target, shipped.target.facts.elsewhere
    if not recipe.outputs and (made is None or len(exported.outputs) == 1):
        return []
    judged = next((judged_as_packed(t.package, recipe.judged) for t in recipe.targets if t.name == target.name), ())
    of_labels = labelled(judged)
    names = [output.name or _first_output(shipped, exported) for output in judged]
    return [
        {
            "name": made.own_name(name, exported.outputs) if made else name,
            "role": output.role,
            "post": output.post_in_words(),
            "labels": output is of_labels,
        }
        for name, output in zip(names, judged, strict=True)
    ]


def _first_output(shipped: Shipped, exported: Exported) -> str:
    """The one that a task is about: the model's first, which need not be a file's that was made elsewhere."""
    made, reference = shipped.target.facts.elsewhere, shipped.report.reference
    if made and made.against and isinstance(reference, Reference):
        return reference.outputs[0].name
    return made.answers[0] if made else exported.outputs[0].name


def _times(measurement: Measurement, target: TargetRecord) -> bool:
    return measurement.target == target.name and measurement.metric == "latency_ms"


def _latency(target: TargetRecord, measurement: Measurement) -> dict[str, object]:
    return {
        "device": measurement.device,
        "via": measurement.via,
        **{name: percentile(measurement.samples, name) for name in ("min", *PERCENTILES)},
        "samples": len(measurement.samples),
        **_threads(target, measurement),
    }


def _threads(target: TargetRecord, measurement: Measurement) -> dict[str, object]:
    """How a latency was measured; a phone's also on what: it is of one phone, its Android and some of its cores."""
    how = measurement.how
    if isinstance(how, HowElse):
        return {"threads": how.more["threads"]} if "threads" in how.more else {}
    if isinstance(how, HowHere):
        return {"threads": how.threads}
    if not isinstance(how, HowOnThePhone):
        return {}
    phone = target.facts.phones[measurement.device].phone
    known = {"model": phone.model, **{name: phone.more.get(name) for name in ("soc", "android_version")}}
    return {"threads": how.threads, "phone": {**known, "cores": how.cores}}


def _emulated(target: TargetRecord) -> Iterator[dict[str, object]]:
    """Exact counts and what is estimated from them, by device: emulated, so none of it is a phone's time."""
    for device, known in target.facts.emulated.items():
        if known.counts is None:  # an x86 host: its outputs were compared, which `kernels` says
            continue
        row: dict[str, object] = {"device": device, "instructions": known.counts.instructions}
        if isinstance(known.estimate, Estimated):
            estimate = known.estimate
            row["estimated_latency_ms"] = {
                "latency_ms": estimate.latency_ms,
                "low_ms": estimate.low_ms,
                "high_ms": estimate.high_ms,
                "coverage": estimate.coverage,
            }
            row["status"] = estimate.status
        yield row
