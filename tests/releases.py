"""Releases of a net that nobody trained, written by the product's own writer: small, and each part can be another."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pocketforge.outcomes import files
from pocketforge.outcomes.data import Counts, Preprocessing, Sampled, SampleTensor
from pocketforge.outcomes.package import Packed
from pocketforge.outcomes.verify import FileCheck, Measured, OutputFigures
from pocketforge.plan.steps import Lane, Plan
from pocketforge.recipe import Budget, Data, Model, Recipe, Release, Target
from pocketforge.recipe.preprocess import InputSteps
from pocketforge.recipe.sound_steps import Tokenize
from pocketforge.records import Artifact, GateResult, Measurement, Report, TargetFacts, TargetRecord
from pocketforge.release.inputs import Commit, InputFile, InputRole, Inputs
from pocketforge.results.release import write_release
from pocketforge.run.store import Entry
from pocketforge.run.walk import Outcome

HASH = "a" * 64
INPUT = {"name": "x", "shape": [1, 3, 8, 8], "dtype": "float32", "layout": "NCHW", "scale": None, "zero_point": None}
OUTPUT = {"name": "y", "shape": [1, 2], "dtype": "float32", "layout": "", "scale": None, "zero_point": None}
MADE_OF = Inputs(
    (
        InputRole("data", "d" * 64, 100, ()),
        InputRole("weights", "e" * 64, 1, (InputFile("weights.safetensors", "f" * 64),)),
    ),
    Commit("c" * 40, clean=True),
)


FIRST = Release(version="1.0.0")


@dataclass(frozen=True)
class Net:
    """What a release is written from; every field can be another."""

    about: Release = FIRST
    model: bytes = b"the weights of a net " * 500
    beside: bytes = b"the same for another runtime " * 300
    name: str = "net"
    runtime: str = "onnx"
    inputs: tuple[dict[str, Any], ...] = (INPUT,)
    outputs: tuple[dict[str, Any], ...] = (OUTPUT,)
    labels: tuple[str, ...] = ("cat", "dog")
    steps: tuple[dict[str, Any], ...] = ({"step": "divide", "by": 255.0},)
    facts: dict[str, Any] = field(default_factory=lambda: {"opset": 18})
    accuracy: float = 0.9
    runtimes: dict[str, str] = field(default_factory=lambda: {"onnxruntime 1.32.0": "works"})
    warnings: tuple[str, ...] = ()
    task: str = "classification"
    latency_ms: float = 1.0
    host: str = "box-a x86_64"
    versions: dict[str, str] = field(default_factory=lambda: {"torch": "2.13.0+cpu", "onnxruntime": "1.32.0"})
    made_of: Inputs = MADE_OF
    folder: str = ""
    definition: str = "m.py"
    source: str = "digits"
    notes: tuple[str, ...] = ()
    tokenizer: bytes = b""
    package: Packed | None = None


def write(out: Path, net: Net | None = None, *, passed: bool = True) -> Path:
    """`out/release` as a build writes it (or `out/failed`)."""
    net = net or Net()
    source = out / "stored"
    source.mkdir(parents=True)
    names = {"model": "model.onnx", **({"ort": "model.ort"} if net.runtime == "onnx" else {})}
    suffix = {"onnx": ".onnx", "tflite": ".tflite", "executorch": ".pte"}[net.runtime]
    artifacts = []
    for role, name in names.items():
        content = net.model if role == "model" else net.beside
        (source / name).write_bytes(content)
        path = f"{net.name}{suffix}" if role == "model" else f"{net.name}.{role}"
        artifacts.append(Artifact(HASH, role, path, hashlib.sha256(content).hexdigest(), len(content), len(content)))
    exported = {"files": names, "inputs": net.inputs, "outputs": net.outputs, "facts": net.facts}
    (source / "export.json").write_text(json.dumps(exported))
    files.write(source, _sampled(net))
    target = Target(name=net.name, runtime=net.runtime)
    data = Data(source=net.source)
    if net.tokenizer:
        (out / "words").mkdir()
        (out / "words/tokenizer.json").write_bytes(net.tokenizer)
        data = Data("d.py:f", preprocess=(InputSteps((Tokenize(str(out / "words/tokenizer.json"), 4),)),))
        sha256 = hashlib.sha256(net.tokenizer).hexdigest()
        net = replace(net, steps=({"step": "tokenize", "file": "tokenizer.json", "sha256": sha256},))
        files.write(source, _sampled(net))
    recipe = Recipe(
        name="pets", model=Model(net.definition), data=data, targets=(target,), task=net.task,  # type: ignore[arg-type]
        release=net.about, folder=net.folder,
    )  # fmt: skip
    plan = Plan((), "data", "reference", (Lane(target, "", "export", "verify", {}, "data", "reference"),))
    entry = Entry("k", source, {}, 0, 0.0, {})
    outcome = Outcome(entries={"data": entry, "export": entry})
    report = _report(net, recipe, tuple(artifacts), passed=passed)
    wrote = write_release(recipe, plan, outcome, report, net.made_of, out, keep_failed=True)
    assert wrote == ("release" if passed else "failed")
    return out / wrote


def _sampled(net: Net) -> Sampled:
    return Sampled(
        net.source, "classification", net.labels, Counts(30, 5, 15, 10, 0, 0), {"eval": HASH},
        (SampleTensor((3,), "uint8"),), SampleTensor((), "int64"), Preprocessing("HWC", "NCHW", net.steps), None,
        net.notes,
    )  # fmt: skip


def _report(net: Net, recipe: Recipe, artifacts: tuple[Artifact, ...], *, passed: bool) -> Report:
    figures = OutputFigures("y", "float32", {}, sqnr_db=40.0)
    measured = Measured((figures,), 10, {"accuracy_top1": net.accuracy}, sqnr_db=40.0)
    record = TargetRecord(
        net.name, net.runtime, "fp32", "built", artifacts, (FileCheck("SQNR", "20 dB", "40 dB", True),), net.warnings,
        TargetFacts(runtimes=net.runtimes, files={"model": measured}, package=net.package),
    )  # fmt: skip
    timed = Measurement(
        "latency_ms", net.latency_ms, "ms", net.name, artifacts[0].sha256, "host", "host", (net.latency_ms,)
    )
    kept = GateResult(Budget("latency_ms", 50.0), net.name, "host", timed, net.latency_ms, "PASS")
    return Report(
        recipe.name, HASH, "PASS" if passed else "FAIL", (record,), (), (timed,), (kept,),
        environment={**net.versions, "timm": "none", "host": net.host}, wall_s=net.latency_ms,
    )  # fmt: skip


@dataclass(frozen=True)
class Keys:
    """A pair of keys, in files as OpenSSL writes them."""

    private: Path
    public: Path

    @property
    def pem(self) -> str:
        return self.private.read_text()


def make_keys(folder: Path) -> Keys:
    """A new pair."""
    folder.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    keys = Keys(folder / "release.key", folder / "release.pub")
    keys.private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    keys.public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return keys
