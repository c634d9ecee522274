"""CPU seconds of an epoch of the shipped ResNet-20 on digits: how its threads wait, and beside a plain PyTorch loop.

    python benchmarks/training.py [--pairs 5] [--samples 1120]

spinning   `fit` as torch starts by itself: threads that wait for each other keep their processors busy
sleeping   `fit` as `pocketforge` starts torch (OMP_WAIT_POLICY=PASSIVE, cli/main.py)                     target ≤ .7
plain      the same model, samples and optimizer in ten lines of PyTorch, its threads sleeping, too

Each is a new process; they take turns. Figures are of the training alone, without imports. The weights of the first two
must be the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

ROOT = Path(__file__).parents[1]
SIDES = {"spinning": "fit", "sleeping": "fit", "plain": "plain"}
BATCH, THREADS = 64, 2


def child(how: str, samples: int) -> dict[str, Any]:
    import torch

    from pocketforge.data.dataset import open_recipe
    from pocketforge.model.load import build_model
    from pocketforge.recipe.toml import load_recipe

    recipe = load_recipe(ROOT / "models/resnet_cifar/digits.toml")
    train = open_recipe(recipe).train
    kept = [train[position] for position in range(min(samples, len(train)))]
    module = build_model(recipe.model.definition, recipe.model.args, recipe.resolve, seed=0)
    torch.set_num_threads(THREADS)
    before, began = cpu_seconds(), time.perf_counter()
    (ours if how == "fit" else plain)(module, kept)
    taken = {"cpu_s": cpu_seconds() - before, "wall_s": time.perf_counter() - began, "samples": len(kept)}
    sha256 = hashlib.sha256()
    for tensor in module.state_dict().values():
        sha256.update(tensor.numpy().tobytes())
    return {**taken, "weights": sha256.hexdigest()}


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def ours(module: nn.Module, kept: list[Any]) -> None:
    from pocketforge.recipe.compress import Finetune
    from pocketforge.training.loop import fit

    fit(module, kept, Finetune(epochs=1, batch_size=BATCH))


def plain(module: nn.Module, kept: list[Any]) -> None:
    import torch

    images = torch.stack([torch.from_numpy(inputs[0]) for inputs, _ in kept])
    labels = torch.tensor([int(label) for _, label in kept])
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-4, weight_decay=1e-2)
    module.train()
    for some in torch.randperm(len(images)).split(BATCH):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(images[some]), labels[some]).backward()
        optimizer.step()


def run(side: str, samples: int) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'pipeline'}", "POCKETFORGE_TRAINING_THREADS": str(THREADS)}
    environment.pop("OMP_WAIT_POLICY", None)
    environment.pop("OMP_NUM_THREADS", None)
    if side != "spinning":
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    argv = [sys.executable, __file__, "--child", SIDES[side], "--samples", str(samples)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--samples", type=int, default=1120)
    parser.add_argument("--child", choices=sorted(set(SIDES.values())), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(child(given.child, given.samples)))
        return 0
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(given.pairs):
        for side, so_far in found.items():
            so_far.append(run(side, given.samples))
            print(f"  {side:<9} {so_far[-1]['cpu_s']:7.2f} CPU s {so_far[-1]['wall_s']:7.2f} s", flush=True)
    medians = {side: statistics.median(each["cpu_s"] for each in some) for side, some in found.items()}
    same = len({each["weights"] for side in ("spinning", "sleeping") for each in found[side]}) == 1
    print(
        f"medians of {given.pairs}: " + ", ".join(f"{side} {value:.2f}" for side, value in medians.items()),
        f"sleeping ÷ spinning {medians['sleeping'] / medians['spinning']:.2f} (target .7)",
        f"sleeping ÷ plain {medians['sleeping'] / medians['plain']:.2f}",
        f"the same weights: {'yes' if same else 'NO'}",
        sep="\n",
    )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
