"""A build that takes a second: a small net, one ONNX file, and each of its files in two versions."""

from __future__ import annotations

import gc
import hashlib
import importlib
import io
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from release_build import Done

from pocketforge.errors import DamagedEntry
from pocketforge.recipe.shipped_names import DOCUMENTS
from pocketforge.registries import RUNTIMES, STAGES
from pocketforge.run.store import Store
from storm.commands import command
from storm.programs import forked

MODEL = """\
import json
from pathlib import Path

from torch import nn

from layers import Signed

def build():
    scale = json.loads(Path(__file__).with_name("scale.json").read_text())
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4), Signed({sign} * scale["sign"]))
"""
LAYERS = """\
from torch import nn

class Signed(nn.Module):
    def __init__(self, sign):
        super().__init__()
        self.sign = sign

    def forward(self, x):
        return x * (self.sign * {sign})
"""
FUNCTION = """\
from pathlib import Path

import numpy as np

def samples():
    stored = np.load(Path(__file__).with_name("samples.npz"))
    return stored["x"], (stored["y"] + {other}) % 4
"""
RECIPE = """\
name = "storm"

[model]
definition = "model.py"
weights = "weights.safetensors"

[data]
source = "{source}"
labels = "labels.txt"
calibration_samples = 16

[[target]]
name = "storm_onnx"
runtime = "onnx"

[[device]]
name = "host"
processes = 3
spacing_seconds = 0
warmup = 0
min_samples = 3
min_seconds = 0

[[budget]]
metric = "accuracy_top1"
limit = 0.9
"""
SOURCES = {"npz": "npz:samples.npz", "function": "function.py:samples"}
# Files of a build, each of which has a second version with another answer; and what reads it by itself.
FILES = ("weights.safetensors", "samples.npz", "function.py", "model.py", "layers.py", "scale.json", "labels.txt")


def content(name: str, version: int) -> bytes:
    """Of a file; version 0 is right, 1 answers otherwise, weights have a 2 that is right too. All are equally long."""
    sign = ("+1", "-1")[version % 2]
    if name == "model.py":
        return MODEL.format(sign=sign).encode()
    if name == "layers.py":
        return LAYERS.format(sign=sign).encode()
    if name == "function.py":
        return FUNCTION.format(other=version).encode()
    if name == "scale.json":
        return json.dumps({"sign": (10, -1)[version % 2]}).encode()
    if name == "labels.txt":
        return b"\n".join(((b"ant", b"bee", b"cow", b"dog"), (b"axe", b"bow", b"cap", b"dot"))[version % 2])
    return _arrays(name, version)


def _arrays(name: str, version: int) -> bytes:
    if name == "weights.safetensors":
        from safetensors.numpy import save

        last = np.roll(np.eye(4, 8, dtype=np.float32), version % 2, axis=0) * (1 + version // 2)
        zeros = {"0.bias": np.zeros(8, np.float32), "2.bias": np.zeros(4, np.float32)}
        return bytes(save({"0.weight": np.eye(8, dtype=np.float32), "2.weight": np.ascontiguousarray(last), **zeros}))
    targets = np.arange(96) % 4
    x = 4 * np.eye(4, 8, dtype=np.float32)[targets] + np.random.default_rng(0).uniform(0, 1, (96, 8)).astype(np.float32)
    written = io.BytesIO()
    np.savez(written, x=x, y=(targets + version) % 4)
    return written.getvalue()


@dataclass(frozen=True)
class Shop:
    """A folder with the recipe, and a cache. source: npz or function."""

    folder: Path
    cache: Path
    source: str = "npz"

    def fill(self, **versions: int) -> Shop:
        """Write every file; versions: of those that are not version 0, with _ for the dot."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (self.folder / name).write_bytes(content(name, versions.get(name.replace(".", "_"), 0)))
        (self.folder / "recipe.toml").write_text(RECIPE.format(source=SOURCES[self.source]), encoding="utf-8")
        return self

    def build(self, *args: object, timeout_s: float = 60, env: dict[str, str] | None = None) -> Done:
        words = ("build", "recipe.toml", "--out", "out", *args)
        return command(*words, cache=self.cache, cwd=self.folder, timeout_s=timeout_s, env=env)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def built(self) -> dict[str, Any]:
        """What a finished build left: the same for the same files, whatever it took."""
        report = json.loads((self.out / "report.json").read_text(encoding="utf-8"))
        (target,) = report["targets"]
        files = {artifact["path"]: _lasting(artifact) for artifact in target["artifacts"]}
        found = {"verdict": report["verdict"], "accuracy": report["reference"]["accuracy"], "files": files}
        if (self.out / "release").is_dir():
            found["release"] = release_files(self.out)
        return found


def release_files(out: Path) -> dict[str, Any]:
    """Name → what every build of the same files gives: a hash, a sidecar's content. Sums are `whole_release`'s."""
    paths = [path for path in sorted((out / "release").iterdir()) if path.name != "SHA256SUMS"]
    return {path.name: _content(path) for path in paths}


def _content(path: Path) -> Any:
    if path.name in DOCUMENTS:  # each has the hash of the .ort file; that they agree is `whole_release`'s too
        return "there"
    if path.suffix == ".json":
        return _lasting(json.loads(path.read_text(encoding="utf-8")))
    # ONNX Runtime's converter orders constants otherwise from run to run.
    return path.stat().st_size if path.suffix == ".ort" else hashlib.sha256(path.read_bytes()).hexdigest()


def _lasting(about: dict[str, Any]) -> dict[str, Any]:
    """Of a file without its times; of an .ort file without what hangs on the order of its constants."""
    is_ort = str(about.get("path", about.get("file"))).endswith(".ort")
    gone = {"latency_ms", *(("sha256", "gzip_bytes") if is_ort else ())}
    return {name: value for name, value in about.items() if name not in gone}


def import_toolchain(*runtimes: str) -> None:
    """What stages of such a build import, for ONNX if no runtimes are named; forks of this process have it."""
    gc.disable()
    preloads = [stage.preload for stage in STAGES.values()] + [RUNTIMES[name].preload for name in runtimes or ("onnx",)]
    for name in dict.fromkeys(name for preload in preloads for name in preload):
        importlib.import_module(name)
    gc.enable()
    gc.freeze()


def reference(base: Path, source: str = "npz", **versions: int) -> tuple[Shop, dict[str, Any]]:
    """An undisturbed build with a cache of its own, made once in `base`, and what it left."""
    folder = _reference_folder(base, source, versions)
    shop = Shop(folder, folder / "cache", source)
    answer = folder / "answer.json"
    if not answer.exists():
        shutil.rmtree(folder, ignore_errors=True)
        done = shop.fill(**versions).build()
        assert done.code in (0, 1), done.stderr
        answer.write_text(json.dumps(shop.built()), encoding="utf-8")
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return shop, found


def _reference_folder(base: Path, source: str, versions: dict[str, int]) -> Path:
    others = (f"{file}_{version}" for file, version in sorted(versions.items()) if version)
    return base / "_".join([source, *others])


def reference_apart(base: Path, **versions: int) -> None:
    """Make a reference in another process, which imports the toolchain."""

    def do() -> int:
        import_toolchain()
        reference(base, "npz", **versions)
        return 0

    if (_reference_folder(base, "npz", versions) / "answer.json").exists():
        return
    ended = forked(do, base / "said")
    assert ended.code == 0, ended.said


def difference(found: Any, wanted: Any, path: str = "") -> str:
    """Where two things that were built differ first; nothing where they are alike."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted({*found, *wanted}):
            where = difference(found.get(key), wanted.get(key), f"{path}/{key}")
            if where:
                return where
        return ""
    return "" if found == wanted else f"{path}: {str(found)[:60]} for {str(wanted)[:60]}"


def whole_release(out: Path) -> str:
    """What is wrong with `out/release`, and with a report that speaks of it; nothing when both are whole or absent."""
    release, report = out / "release", out / "report.json"
    if release.exists():
        try:
            lines = (release / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
        except OSError as error:
            return f"half a release: {error.strerror}: SHA256SUMS"
        for line in lines:
            digest, _, name = line.partition("  ")
            if not (release / name).is_file():
                return f"half a release: {name} is missing"
            if hashlib.sha256((release / name).read_bytes()).hexdigest() != digest:
                return f"half a release: {name} is another"
        shipped = {line.partition("  ")[2] for line in lines}
        more = {path.name for path in release.iterdir()} ^ {*shipped, *DOCUMENTS, "SHA256SUMS"}
        if more:
            return f"half a release: {min(more)} is not listed, or not there"
        lacking = {name for name in shipped if name.endswith(".onnx") and not (release / f"{name[:-5]}.json").is_file()}
        if not lines or lacking:
            return f"half a release: no sidecar of {', '.join(sorted(lacking)) or 'anything'}"
    if report.exists():
        try:
            said = json.loads(report.read_text(encoding="utf-8"))
        except ValueError as error:
            return f"half a report: {error}"
        if said["verdict"] == "PASS":
            if not release.exists():
                return "a report says PASS, and there is no release"
            wanted = {a["path"]: a["sha256"] for t in said["targets"] for a in t["artifacts"]}
            sums = (line.partition("  ") for line in (release / "SHA256SUMS").read_text("utf-8").splitlines())
            hashes = {name: digest for digest, _, name in sums}
            if wanted != {name: hashes.get(name) for name in wanted}:
                return "a report says PASS of another release"
    return ""


def damaged(cache: Path) -> str:
    """The first stored result that is not what was stored."""
    store = Store(cache)
    keys = store.keys()
    for key in keys:
        try:
            store.get(key)
        except DamagedEntry as damage:
            return f"damaged entry: {damage.message}"
    return ""


def leftovers(shop: Shop, more: Iterable[Path] = ()) -> str:
    """What a dead build left that its successor should have taken away."""
    drafts = [p for p in shop.out.iterdir() if p.name.startswith(".") and not p.name.endswith(".lock")]
    work = [p for p in (shop.cache / "v1" / "tmp").iterdir() if not p.name.endswith(".lock")]
    found = sorted(p.name for p in (*drafts, *work, *more))
    return f"leftovers: {', '.join(found)}" if found else ""
