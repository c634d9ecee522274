"""How a step is computed: plainly, or through accelerate (bfloat16, several processes)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError, ToolMissing
from pocketforge.recipe.compress import Finetune

# Says to a process that it is one of several (see distributed.py); accelerate reads the same variable.
WORLD_SIZE = "WORLD_SIZE"


class Engine:
    """float32 in one process. On the CPU, the same inputs give the same bits."""

    rank = 0
    world = 1

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def average_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        """The mean over the processes of each gradient."""

    def share_buffers(self, module: nn.Module) -> None:
        """Every process gets the first one's floating-point buffers (batch norm's running statistics)."""

    def sums(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the processes."""
        return list(values)

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """The tensor of every process, in their order."""
        return [tensor]


class Accelerated(Engine):
    """Through `accelerate.Accelerator`: autocast, and gradients averaged over processes (gloo).

    Gradients are averaged in one flat tensor rather than by DistributedDataParallel's hooks, so that weights outside
    the model (a hint's regressor) and layers that a batch does not use need no special case.
    """

    def __init__(self, precision: str) -> None:
        from accelerate import Accelerator

        mixed = "no" if precision == "fp32" else precision
        self._accelerator = Accelerator(cpu=True, mixed_precision=mixed)
        self.rank = int(self._accelerator.process_index)
        self.world = int(self._accelerator.num_processes)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        autocast: contextlib.AbstractContextManager[object] = self._accelerator.autocast()
        return autocast

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def average_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        if self.world == 1:
            return
        # A weight without a gradient in every process keeps none (weight decay would move it).
        used = torch.tensor([float(w.grad is not None) for w in weights])
        parts = [(torch.zeros_like(w) if w.grad is None else w.grad).reshape(-1) for w in weights]
        flat = self._accelerator.reduce(torch.cat([*parts, used]), reduction="sum") / self.world
        start = 0
        for number, weight in enumerate(weights):
            if flat[len(flat) - len(weights) + number] > 0:
                weight.grad = flat[start : start + weight.numel()].view_as(weight).clone()
            start += weight.numel()

    def share_buffers(self, module: nn.Module) -> None:
        buffers = [b for b in module.buffers() if b.is_floating_point()]
        if self.world == 1 or not buffers:
            return
        from accelerate.utils import broadcast

        flat = broadcast(torch.cat([b.reshape(-1) for b in buffers]), from_process=0)
        for buffer, part in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
            buffer.copy_(part.view_as(buffer))

    def sums(self, values: Sequence[float]) -> list[float]:
        if self.world == 1:
            return list(values)
        total = self._accelerator.reduce(torch.tensor(values, dtype=torch.float64), reduction="sum")
        return [float(value) for value in total]

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        return list(self._accelerator.gather(tensor[None]))


@contextlib.contextmanager
def engine_for(settings: Finetune) -> Iterator[Engine]:
    """The engine that the settings ask for. accelerate's state, which is global, is gone afterwards.

    Raises ModelError when the machine or the process cannot do it, ToolMissing without accelerate.
    """
    world = int(os.environ.get(WORLD_SIZE, "1"))
    if settings.processes != world:
        raise ModelError(
            f"processes = {settings.processes}, but {world} train together here",
            "a build's finetune step starts its processes itself; everywhere else leave processes at 1",
        )
    if settings.precision == "fp32" and settings.processes == 1:
        yield Engine()
        return
    try:
        from accelerate.state import AcceleratorState, GradientState
    except ImportError as error:
        raise ToolMissing(f"cannot import accelerate: {error}", "pip install accelerate") from error

    def forget() -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()

    forget()
    try:
        yield Accelerated(settings.precision)
    finally:
        forget()
