"""Builds whose files are swapped at every boundary of every step: how many results are of other files than they say.

    python benchmarks/swapped_inputs.py [--builds 200] [--seed 0]

A net of two layers on 300 samples, fine-tuned for an epoch and exported to ONNX as float and int8. Its steps read
weights, a labels file, samples, a model file with a module beside it, and a configuration that build() opens by itself.
In each build one file is swapped for another of the same size and times, in one of five ways, when a step begins, while
it runs or when it ended, and in half of the builds put back at a later moment. Wrong is: a step that passes with
another result than a build of the files of its key has, in this build or in the next one, with the first files back; or
a next build that fails. The configuration is in no key: there, all steps must be of one and the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pocketforge import events
from pocketforge.errors import ChangedInput
from pocketforge.facts.gather import gather
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Plan
from pocketforge.recipe.toml import load_recipe
from pocketforge.run.store import Store
from pocketforge.run.walk import Outcome, run_plan

RECIPE = """\
name = "swapped"
[model]
definition = "model.py"
weights = "weights.safetensors"
[data]
source = "npz:samples.npz"
labels = "labels.txt"
calibration_samples = 32
[[compress]]
type = "finetune"
epochs = 1
batch_size = 64
[[target]]
name = "float"
runtime = "onnx"
[[target]]
name = "int8"
runtime = "onnx"
[target.quantize]
scheme = "static_int8"
"""
MODEL = """\
import json
from pathlib import Path

from layers import SLOPE
from torch import nn


def build():
    settings = json.loads(Path(__file__).with_name("settings.json").read_text())
    layers = [nn.Linear(16, 8), nn.LeakyReLU(SLOPE), nn.Linear(8, 3), nn.Hardtanh(-5, settings["most"])]
    return nn.Sequential(nn.Flatten(), *layers)
"""


def write(folder: Path, seed: int) -> None:
    """All files, of the same sizes and times whatever `seed` is."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(seed)
    weights = {"1.weight": (8, 16), "1.bias": (8,), "3.weight": (3, 8), "3.bias": (3,)}
    save_file({n: rng.normal(size=s).astype(np.float32) for n, s in weights.items()}, folder / "weights.safetensors")
    x = rng.normal(size=(300, 16)).astype(np.float32)
    np.savez(folder / "samples.npz", x=x, y=(x[:, :3]).argmax(1))
    (folder / "labels.txt").write_text("one\ntwo\nsix\n" if seed else "six\nten\none\n")
    (folder / "layers.py").write_text(f"SLOPE = 0.{seed + 1}\n")
    (folder / "settings.json").write_text(json.dumps({"most": 5 + seed}))
    (folder / "model.py").write_text(MODEL + ("\n# one\n" if seed else "\n# two\n"))
    (folder / "recipe.toml").write_text(RECIPE)
    for path in folder.iterdir():
        os.utime(path, (946_684_800, 946_684_800))


FILES = ("weights.safetensors", "samples.npz", "labels.txt", "layers.py", "settings.json", "model.py")
WAYS: dict[str, Callable[[Path, Path], None]] = {}


def _way(function: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    WAYS[function.__name__] = function
    return function


@_way
def in_place(path: Path, other: Path) -> None:
    with path.open("r+b") as file:
        file.write(other.read_bytes())
    shutil.copystat(other, path)


@_way
def copied(path: Path, other: Path) -> None:
    shutil.copy2(other, path)


@_way
def moved(path: Path, other: Path) -> None:
    shutil.copy2(other, path.with_name("new"))
    path.with_name("new").replace(path)


@_way
def linked(path: Path, other: Path) -> None:
    path.unlink()
    path.symlink_to(other)


@_way
def through_another_disk(path: Path, other: Path) -> None:
    with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="pocketforge-swap-", delete=False) as file:
        file.write(other.read_bytes())
    shutil.copystat(other, file.name)
    path.unlink()
    path.symlink_to(file.name)


@dataclass
class Swap:
    """One build: the file is swapped at one event and put back at another, counted over the build."""

    folder: Path
    file: str
    way: str
    at: int
    back_at: int
    seen: int = 0
    happened: list[str] = field(default_factory=list)

    def tell(self, event: events.Event) -> None:
        if isinstance(event, events.StepStarted | events.StepProgress | events.StepFinished):
            self.seen += 1
            for moment, source in ((self.at, "b"), (self.back_at, "a")):
                if self.seen == moment:
                    WAYS[self.way](self.folder / "project" / self.file, self.folder / source / self.file)
                    self.happened.append(f"{type(event).__name__} {event.stage}")


def plan_of(folder: Path) -> Plan:
    recipe = load_recipe(folder / "project" / "recipe.toml")
    whole = make_plan(recipe, gather(recipe, folder / "cache"))
    steps = tuple(s for s in whole.steps if s.stage in ("data", "finetune", "reference", "quantize", "export"))
    return Plan(steps, whole.data, whole.reference, ())


def digests(plan: Plan, outcome: Outcome) -> dict[str, str]:
    """Step → what it computed. Timings and times of day are no part of it."""
    found = {}
    for step in plan.steps:
        if step.key in outcome.entries:
            files = outcome.entries[step.key].files
            names = sorted(p for p in files.rglob("*") if p.suffix in (".npy", ".safetensors", ".onnx"))
            text = "".join(f"{p.name} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in names)
            found[step.name] = text + (files / "data.json").read_text() if step.stage == "data" else text
    return found


def fresh(folder: Path) -> None:
    for name in ("project", "cache"):
        shutil.rmtree(folder / name, ignore_errors=True)
    shutil.copytree(folder / "a", folder / "project")


def wrong_steps(found: dict[str, str], right: list[dict[str, str]]) -> set[str]:
    """Steps that are of neither set of results, or of another set than the others."""
    return min(({name for name, text in found.items() if text != whole[name]} for whole in right), key=len)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--builds", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    rng = random.Random(asked.seed)
    counts: Counter[str] = Counter()
    boundaries: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="pocketforge-swaps-") as scratch:
        folder = Path(scratch)
        for name, seed in (("a", 0), ("b", 1)):
            (folder / name).mkdir()
            write(folder / name, seed)
        right = []
        for settings in ("b", "a"):
            fresh(folder)
            shutil.copy2(folder / settings / "settings.json", folder / "project" / "settings.json")
            count = Swap(folder, FILES[0], "copied", 0, 0)
            plan = plan_of(folder)
            outcome = run_plan(plan, Store(folder / "cache"), logs=folder / "logs", emit=count.tell)
            assert not outcome.errors, outcome.errors
            right.insert(0, digests(plan, outcome))
        moments = count.seen
        assert {name for name in right[0] if right[0][name] != right[1][name]}
        print(f"{len(plan.steps)} steps, {moments} moments", flush=True)
        for number in range(asked.builds):
            fresh(folder)
            at = 1 + number % moments
            back_at = rng.randint(at + 1, moments + 1) if number % 2 else 0
            swap = Swap(folder, FILES[number // 2 % len(FILES)], rng.choice(list(WAYS)), at, back_at)
            plan = plan_of(folder)
            outcome = run_plan(plan, Store(folder / "cache"), logs=folder / "logs", emit=swap.tell)
            boundaries.update(swap.happened[:1])
            wrong = wrong_steps(digests(plan, outcome), right if swap.file == "settings.json" else right[:1])
            refused = any(isinstance(error, ChangedInput) for error in outcome.errors.values())
            others = [e for e in outcome.errors.values() if not isinstance(e, ChangedInput)]
            # The first files again: whatever was stored is right, or is not used.
            for name in FILES:
                (folder / "project" / name).unlink()
                shutil.copy2(folder / "a" / name, folder / "project" / name)
            plan = plan_of(folder)
            again = run_plan(plan, Store(folder / "cache"), logs=folder / "logs")
            after = wrong_steps(digests(plan, again), right[:1])
            counts.update(
                builds=1, wrong=bool(wrong), wrong_afterwards=bool(after or again.errors), refused=refused,
                other_errors=bool(others), passed=not outcome.errors,
            )  # fmt: skip
            print(json.dumps(counts), flush=True, file=sys.stderr)
            if wrong or after or others or again.errors:
                print(swap, wrong, after, others, again.errors, flush=True)
        for path in Path("/dev/shm").glob("pocketforge-swap-*"):
            path.unlink()
    print(json.dumps({**counts, "boundaries": len(boundaries)}))


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{time.monotonic() - began:.0f} s")
