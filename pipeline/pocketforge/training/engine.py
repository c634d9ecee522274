"""How a step is computed: plainly or through accelerate (lower precision, several processes), on the CPU or on GPUs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from pocketforge.errors import DeviceUnavailable, ModelError, ToolMissing
from pocketforge.recipe.compress import Finetune
from pocketforge.training.placement import CPU

# Says to a process that it is one of several (see distributed.py); accelerate reads the same variable.
WORLD_SIZE = "WORLD_SIZE"


class Engine:
    """float32 in one process. On the CPU, the same inputs give the same bits.

    Attributes:
        device: Where it computes.
        halves: Whether a batch that memory does not hold is computed in parts; on the CPU it never is.
    """

    rank = 0
    world = 1

    def __init__(self, device: torch.device = CPU) -> None:
        self.device = device
        self.halves = device.type == "cuda"

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Gradients become those of the loss itself (fp16's are scaled)."""

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Change the weights; in fp16 not by gradients that have overflowed."""
        optimizer.step()

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

    def state(self) -> dict[str, Tensor]:
        """What the steps to come depend on, of every process. To be called in each."""
        states = {"": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda."] = torch.cuda.get_rng_state(self.device)
        return {f"{kind}{n}": each for kind, own in states.items() for n, each in enumerate(self.gathered(own))}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        torch.set_rng_state(state[f"{self.rank}"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state[f"cuda.{self.rank}"], self.device)


class Accelerated(Engine):
    """Through `accelerate.Accelerator`: autocast, fp16's scaling, and gradients averaged over processes (gloo, NCCL).

    Gradients are averaged in one flat tensor rather than by DistributedDataParallel's hooks, so that weights outside
    the model (a hint's regressor) and layers that a batch does not use need no special case.
    """

    def __init__(self, precision: str, device: torch.device = CPU) -> None:
        from accelerate import Accelerator

        mixed = "no" if precision == "fp32" else precision
        self._accelerator = Accelerator(cpu=device == CPU, mixed_precision=mixed)
        super().__init__(self._accelerator.device)
        # Of fp16: what is too small for its gradients is made larger before, and smaller after.
        self.scaler: torch.amp.GradScaler | None = self._accelerator.scaler
        self.rank = int(self._accelerator.process_index)
        self.world = int(self._accelerator.num_processes)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        autocast: contextlib.AbstractContextManager[object] = self._accelerator.autocast()
        return autocast

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.scaler is None:
            optimizer.step()
            return
        self.scaler.step(optimizer)
        self.scaler.update()

    def state(self) -> dict[str, Tensor]:
        state = super().state()
        if self.scaler is not None:
            numbers = self.scaler.state_dict()
            state |= {f"scaler.{name}": torch.tensor(float(numbers[name]), dtype=torch.float64) for name in numbers}
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        super().restore(state)
        if self.scaler is not None:
            numbers = self.scaler.state_dict()
            self.scaler.load_state_dict({n: type(v)(state[f"scaler.{n}"].item()) for n, v in numbers.items()})

    def average_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        if self.world == 1:
            return
        # A weight without a gradient in every process keeps none (weight decay would move it).
        used = torch.tensor([float(w.grad is not None) for w in weights], device=self.device)
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
        total = self._accelerator.reduce(torch.tensor(values, dtype=torch.float64, device=self.device), reduction="sum")
        return [float(value) for value in total]

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        return [each.to(tensor.device) for each in self._accelerator.gather(tensor[None].to(self.device))]


@contextlib.contextmanager
def engine_for(settings: Finetune, device: str = "cpu") -> Iterator[Engine]:
    """The engine that the settings ask for. accelerate's state, which is global, is gone afterwards.

    device: `cpu` or `cuda`. Raises ModelError when the machine or the process cannot do it, DeviceUnavailable without
    a GPU for "cuda", ToolMissing without accelerate.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable(
            f"torch {torch.__version__} finds no GPU to train on", 'training.device = "auto" takes the CPU then'
        )
    if device == "cpu" and settings.precision == "fp16":
        raise ModelError('precision "fp16" is for GPUs, and this trains on the CPU', '"bf16" and "fp32" train there')
    world = int(os.environ.get(WORLD_SIZE, "1"))
    if settings.processes != world:
        raise ModelError(
            f"processes = {settings.processes}, but {world} train together here",
            "a build's finetune step starts its processes itself; everywhere else leave processes at 1",
        )
    if settings.precision == "fp32" and settings.processes == 1:
        yield Engine(torch.device("cuda", 0) if device == "cuda" else CPU)
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
        yield Accelerated(settings.precision, torch.device(device))
    finally:
        forget()
