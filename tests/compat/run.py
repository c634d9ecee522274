"""Program of `nox -s compat`: small model files of this environment's toolchains, and those of another one run here.

    python tests/compat/run.py make FOLDER     builds six files, and keeps what each answered beside it
    python tests/compat/run.py cross FOLDER    runs the files of FOLDER here; exits 1 where one differs

What may differ is what may on another processor: a step of the output where a value lies between two, the order of
float sums.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np

from pocketforge.devices import host
from pocketforge.devices.base import RunRequest
from pocketforge.errors import PocketforgeError
from pocketforge.facts.tested import TESTED
from pocketforge.files import hash_file
from pocketforge.registries import RUNTIMES

ROOT = Path(__file__).resolve().parents[2]
SCHEMES = ("fp32", "static_int8")
HEAD = """\
name = "compat"

[model]
definition = "model.py"
weights = "weights.safetensors"

[data]
source = "digits"
eval_samples = 8
preprocess = { resize = [32, 32], color = "rgb", scale = 16.0, mean = [0.5], std = [0.5] }

[[budget]]
metric = "accuracy_top1"
limit = 0.9
"""
TARGET = '\n[[target]]\nname = "{name}"\nruntime = "{runtime}"\nquantize = {{ scheme = "{scheme}" }}\n'
# A float's order of sums, of the largest answer; a level of an int8 output.
FLOAT, STEPS = 1e-4, 1.01


def versions() -> dict[str, str]:
    """Of the toolchains, here."""
    return {name: metadata.version(name).partition("+")[0] for name in TESTED}


def make(folder: Path) -> int:
    """Build, through the whole product, and keep each file with its samples and answers."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="pocketforge-compat-") as scratch:
        shop, cache = Path(scratch, "model"), Path(scratch, "cache")
        shutil.copytree(ROOT / "models" / "two_conv", shop)
        targets = [
            TARGET.format(name=f"{runtime}_{scheme}", runtime=runtime, scheme=scheme)
            for runtime in RUNTIMES.ours
            for scheme in SCHEMES
        ]
        (shop / "compat.toml").write_text(HEAD + "".join(targets), encoding="utf-8")
        words = ["-m", "pocketforge", "build", "compat.toml", "--out", "out", "--cache-dir", os.fspath(cache)]
        done = subprocess.run([sys.executable, *words, "--json"], cwd=shop, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            print(f"a build ends with {done.returncode} with {versions()}", file=sys.stderr)
            return 1
        (samples,) = cache.rglob("eval_0.npy")
        shutil.copy(samples, folder / "samples.npy")
        for file in json.loads((shop / "out" / "release" / "manifest.json").read_text(encoding="utf-8"))["files"]:
            shutil.copy(shop / "out" / "release" / file["path"], folder)
            answered = answers(folder / file["path"], file["runtime"], folder / "samples.npy")
            np.save(folder / f"{file['path']}.npy", answered)
    (folder / "versions.json").write_text(json.dumps(versions(), indent=1) + "\n", encoding="utf-8")
    return 0


def cross(folder: Path) -> int:
    """Run another environment's files here."""
    made = json.loads((folder / "versions.json").read_text(encoding="utf-8"))
    here = versions()
    differ = [f"{name} {made[name]} → {here[name]}" for name in here if made.get(name) != here[name]]
    print(f"files of {folder}: {', '.join(differ) or 'the same versions'}")
    wrong = tried = 0
    known = {each.suffix: name for name, info in RUNTIMES.items() for each in info.formats}
    for path in sorted(folder.iterdir()):
        if path.suffix not in known:
            continue
        tried += 1
        wanted = np.load(folder / f"{path.name}.npy").astype(np.float64)
        try:
            found = answers(path, known[path.suffix], folder / "samples.npy").astype(np.float64)
        except PocketforgeError as error:
            print(f"WRONG {path.name}: {error.message}")
            wrong += 1
            continue
        apart = float(np.abs(found - wanted).max()) if found.shape == wanted.shape else float("inf")
        allowed = STEPS * _step(wanted) if "int8" in path.name else FLOAT * float(np.abs(wanted).max())
        wrong += apart > allowed
        print(f"{'WRONG' if apart > allowed else 'ok   '} {path.name}: {apart:.3g} apart, allowed {allowed:.3g}")
    if not tried:
        print(f"WRONG {folder} has no model file")
    return int(wrong > 0 or not tried)


def _step(values: np.ndarray) -> float:
    """The least distance of two answers that are not the same: an int8 output's are whole steps apart."""
    gaps = np.diff(np.unique(values))
    return float(gaps[gaps > 1e-6 * np.abs(values).max()].min())


def answers(path: Path, runtime: str, samples: Path) -> np.ndarray:
    with tempfile.TemporaryDirectory(prefix="pocketforge-compat-") as scratch:
        out = Path(scratch, "outputs")
        host.run(RunRequest(RUNTIMES[runtime].session, path, hash_file(path), (samples,), out), quiet=True)
        return np.load(out / "outputs_0.npy")


if __name__ == "__main__":
    command, where = sys.argv[1:]
    sys.exit({"make": make, "cross": cross}[command](Path(where)))
