"""Which layers lost MACs and gained no time: each is exported alone, before and after, and timed in turns."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pocketforge.errors import PocketforgeError
from pocketforge.measure.trial import export_float, time_in_turns
from pocketforge.model.load import count_macs
from pocketforge.outcomes.gains import SlowLayer
from pocketforge.stats import ratio_interval

# The layers that lost most MACs; each costs two exports.
LIMIT = 3
HEAVY = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def find_slow_layers(
    before: nn.Module, after: nn.Module, example: tuple[Tensor, ...], runtime: str, scratch: Path
) -> list[SlowLayer]:
    """Of the layers that lost most MACs, those whose time in `runtime` was not shown to fall.

    A layer that the runtime does not take alone is left out.
    """
    inputs = [_layer_inputs(module, example) for module in (before, after)]
    shared = [name for name in inputs[0] if name in inputs[1]]
    macs = {
        name: (
            count_macs(before.get_submodule(name), (inputs[0][name],)),
            count_macs(after.get_submodule(name), (inputs[1][name],)),
        )
        for name in shared
    }
    lost = sorted((n for n in shared if macs[n][1] < macs[n][0]), key=lambda n: macs[n][1] - macs[n][0])
    slow = []
    for name in lost[:LIMIT]:
        try:
            trials = []
            for index, module in enumerate((before, after)):
                folder = scratch / f"{name}-{index}"
                trials.append(export_float(module.get_submodule(name), (inputs[index][name],), runtime, folder))
                np.save(folder / "input.npy", inputs[index][name].numpy())
            # Their inputs differ in shape, so they are timed one by one, in turns.
            rounds: tuple[list[float], list[float]] = ([], [])
            for turn in (0, 1, 1, 0, 0, 1):
                (median,) = time_in_turns([trials[turn]], [trials[turn].path.parent / "input.npy"], rounds=1)
                rounds[turn].extend(median)
        except PocketforgeError:
            continue
        ratio = ratio_interval(*rounds)
        if ratio[2] >= 1:
            medians = statistics.median(rounds[0]), statistics.median(rounds[1])
            slow.append(SlowLayer(name, macs[name], medians, ratio))
    return slow


def _layer_inputs(module: nn.Module, example: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """The input of every convolution and linear layer that runs, by name."""
    inputs: dict[str, Tensor] = {}
    handles = []
    for name, layer in module.named_modules():
        if isinstance(layer, HEAVY) and name:

            def hook(_layer: nn.Module, args: tuple[Tensor, ...], name: str = name) -> None:
                inputs.setdefault(name, args[0].detach().clone())

            handles.append(layer.register_forward_pre_hook(hook))
    try:
        with torch.no_grad():
            module(*example)
    finally:
        for handle in handles:
            handle.remove()
    return inputs
