"""Trains a net for a minute on its recipe's own train split: random weights say nothing about int8."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from pocketforge.data.dataset import open_recipe
from pocketforge.model.structure import leaves
from pocketforge.recipe.toml import load_recipe
from zoo import losses
from zoo.definition import build
from zoo.entries import Net

ENOUGH = 0.1  # the rate falls from when the losses of the last steps are below this share of the first's
LAST = 10  # so many steps
WARM_UP, FALL = 20, 50  # steps in which the rate rises from nothing, and in which it falls to nothing
SETTLING = 24  # batches that norms' statistics are the mean of in the end


def train(net: Net, recipe: Path, weights: Path) -> dict[str, float]:
    """Write the weights, and say what it took. The number of steps is the same on every machine but for floats' last
    bits: it goes by losses, not by time."""
    torch.manual_seed(0)
    module = build(net.name).train()
    samples = _Samples(recipe)
    optimizer = torch.optim.AdamW(module.parameters(), lr=net.rate, weight_decay=0.01)
    found: list[float] = []
    began = time.process_time()
    fall = min(FALL, net.steps // 2)
    falls = net.steps - fall
    for inputs, targets in _batches(samples, net):
        step = len(found)
        if step < falls and step > 2 * LAST and np.mean(found[-LAST:]) < ENOUGH * found[0]:
            falls = step
        if step == falls + fall:
            break
        for group in optimizer.param_groups:
            group["lr"] = net.rate * min(1.0, (step + 1) / WARM_UP, (falls + fall - step) / fall)
        answer = [leaf.value for leaf in leaves(module(*inputs))]
        loss = getattr(losses, net.task.loss)(answer, targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        found.append(float(loss.detach()))
    settle(module, samples, net)
    partial = weights.with_suffix(".partial")
    save_file({name: value.clone().contiguous() for name, value in module.state_dict().items()}, partial)
    partial.rename(weights)
    cpu_s = time.process_time() - began
    return {"steps": len(found), "loss": round(float(np.mean(found[-LAST:])), 4), "train_cpu_s": round(cpu_s, 1)}


def settle(module: torch.nn.Module, samples: _Samples, net: Net) -> None:
    """Take norms' statistics anew, with the weights as they are now: a running mean lags behind weights that moved, and
    torchvision's MobileNetV3 takes a hundredth of each batch, which is far from any after some hundred."""
    norms = [part for part in module.eval().modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.train()  # alone: dropout would make the statistics others than those of inference
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of what comes
    if norms:
        with torch.no_grad():
            for inputs, _ in itertools.islice(_batches(samples, net), SETTLING):
                module(*inputs)


class _Samples:
    """Those of the train split that are asked for, each read once."""

    def __init__(self, recipe: Path) -> None:
        self._split = open_recipe(load_recipe(recipe)).train
        self._read: dict[int, tuple[Any, dict[str, Any]]] = {}

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        if index not in self._read:
            inputs, target = self._split[index]
            self._read[index] = inputs, _named(target)
        return self._read[index]


def _named(target: Any) -> dict[str, Any]:
    return dict(target) if isinstance(target, Mapping) else {"label": target, "value": target}


def _batches(samples: _Samples, net: Net) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    order = torch.Generator().manual_seed(0)
    for _ in range(net.steps):
        chosen = [samples[int(i)] for i in torch.randint(len(samples), (net.batch,), generator=order)]
        inputs = [torch.stack([torch.as_tensor(x) for x in each]) for each in zip(*(x for x, _ in chosen), strict=True)]
        yield inputs, {name: _stacked([y[name] for _, y in chosen]) for name in chosen[0][1]}


def _stacked(values: Sequence[Any]) -> Any:
    """A tensor with samples first; a list where they differ in shape, as boxes do."""
    tensors = [torch.from_numpy(np.array(value)) for value in values]
    return torch.stack(tensors) if len({t.shape for t in tensors}) == 1 else tensors
