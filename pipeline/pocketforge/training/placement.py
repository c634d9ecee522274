"""Where tensors are while a model is trained: all that takes part goes to the device, and comes back to the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from pocketforge.training.batches import Batch, BatchTargets, NamedTargets

CPU = torch.device("cpu")


@contextmanager
def placed(modules: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Modules are on `device` inside, and on the CPU again outside. Parameters stay the same objects, so optimizers,
    masks and guards keep theirs.
    """
    if device == CPU:
        yield
        return
    try:
        for module in modules:
            _move(module, device)
        yield
    finally:
        for module in modules:
            _move(module, CPU)


def _move(module: nn.Module, device: torch.device) -> None:
    module.to(device)
    # A traced graph says where it makes tensors.
    for part in module.modules():
        if isinstance(part, GraphModule) and _rewritten(part, device):
            part.recompile()


def _rewritten(graph: GraphModule, device: torch.device) -> bool:
    changed = False
    for node in graph.graph.nodes:
        args: tuple[Any, ...] = tuple(device if isinstance(each, torch.device) else each for each in node.args)
        kwargs = {name: device if isinstance(each, torch.device) else each for name, each in node.kwargs.items()}
        if args != node.args or kwargs != node.kwargs:
            node.args, node.kwargs, changed = args, kwargs, True
    return changed


def batch_on(batch: Batch, device: torch.device) -> Batch:
    inputs, targets = batch
    if device == CPU:
        return batch
    return tuple(x.to(device) for x in inputs), _targets_on(targets, device)


def _targets_on(targets: BatchTargets, device: torch.device) -> BatchTargets:
    if isinstance(targets, Tensor):
        return targets.to(device)
    columns = {
        name: [each.to(device) if isinstance(each, Tensor) else each for each in column]
        for name, column in targets.columns.items()
    }
    return NamedTargets(columns, targets.count)  # type: ignore[arg-type]
