"""Builds one random network step by step: source text, modules and what they answer to real samples, side by side.

Every layer gets its weights when it is added, from what reaches it: outputs of about unit size, batch norms with the
statistics of their input (a little off, as after training), biases that are not zero.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 16  # samples that the builder looks at
MOST_CHANNELS, MOST_PIXELS, MOST_NUMBERS = 16, 12, 1600
WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)
BATCH_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


class Unsuitable(Exception):
    """A step that this value cannot take: another is tried."""


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor of the network: its name in the source, and what it is for `BATCH` samples."""

    name: str
    tensor: Tensor

    @property
    def rank(self) -> int:
        return self.tensor.dim()

    @property
    def channels(self) -> int:
        return int(self.tensor.shape[1])

    @property
    def last(self) -> int:
        return int(self.tensor.shape[-1])


@dataclass(slots=True)
class Builder:
    """random: chooses everything but weights, which torch's own generator draws."""

    random: random.Random
    inputs: list[Value]
    net: nn.Module = field(default_factory=nn.Module)
    constructors: list[tuple[str, str]] = field(default_factory=list)  # attribute, its constructor
    lines: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    used: set[str] = field(default_factory=set)  # names of values that something reads
    kinds: list[str] = field(default_factory=list)
    called: list[str] = field(default_factory=list)  # an attribute a line; "" for a line that is no module's call

    def layer(self, constructor: str, *inputs: Value, call: str = "{0}({1})") -> Value:
        """Add a module and call it. call: how, where {0} is the module and {1} its arguments."""
        name = f"{constructor.partition('(')[0].rpartition('.')[2].lower()}_{len(self.constructors)}"
        with torch.no_grad():
            module: nn.Module = eval(constructor, {"nn": nn, "torch": torch}).eval()
            _draw(module)
            _settle(module, inputs)
        setattr(self.net, name, module)
        self.constructors.append((name, constructor))
        return self.again(name, *inputs, call=call)

    def again(self, name: str, *inputs: Value, call: str = "{0}({1})") -> Value:
        """Call a module that is there."""
        arguments = ", ".join(f"{{{i}}}" for i in range(len(inputs)))
        value = self.op(call.format(f"self.{name}", arguments), *inputs)
        self.called[-1] = name
        return value

    def parameter(self, kind: str, values: Tensor) -> str:
        """Add a parameter or buffer of the model itself. Returns how the source reads it."""
        name = f"value_{len(self.constructors)}"
        shape = ", ".join(str(n) for n in values.shape)
        if kind == "buffer":
            self.net.register_buffer(name, values)
            self.constructors.append((f"register_buffer('{name}'", f"torch.zeros({shape}))"))
        else:
            setattr(self.net, name, nn.Parameter(values))
            self.constructors.append((name, f"nn.Parameter(torch.zeros({shape}))"))
        return f"self.{name}"

    def op(self, expression: str, *inputs: Value) -> Value:
        """Add a line `xN = expression`, where {0}, {1} … are the inputs."""
        text = expression.format(*(i.name for i in inputs))
        scope = {"torch": torch, "nn": nn, "F": F, "self": self.net, **{i.name: i.tensor for i in inputs}}
        try:
            with torch.no_grad():
                tensor = eval(text, scope)
        except (RuntimeError, ValueError, IndexError) as error:
            raise Unsuitable(f"{text}: {error}") from error
        value = Value(f"x{len(self.inputs) + len(self.lines)}", tensor)
        _check(value.tensor)
        self.lines.append(f"{value.name} = {text}")
        self.called.append("")
        self.used |= {i.name for i in inputs}
        self.values.append(value)
        return value

    def attempt(self, kind: str, step: Callable[[Builder, Value], Value], x: Value) -> bool:
        """Take a step, or leave everything as it was. Returns whether it was taken."""
        before = (list(self.constructors), list(self.lines), list(self.values), set(self.used), list(self.called))
        try:
            step(self, x)
        except Unsuitable:
            self.constructors, self.lines, self.values, self.used, self.called = before
            kept = {name for name, _ in before[0]}
            for name in [n for n, _ in self.net.named_children() if n not in kept]:
                delattr(self.net, name)
            return False
        self.kinds.append(kind)
        return True

    @property
    def newest(self) -> Value:
        return (self.values or self.inputs)[-1]

    def like(self, x: Value, axes: slice = slice(1, None)) -> list[Value]:
        """Other values of the shape of `x`; axes: which must agree."""
        return [
            v
            for v in (*self.inputs, *self.values)
            if v is not x
            and v.tensor.dtype == x.tensor.dtype
            and v.rank == x.rank
            and v.tensor.shape[axes] == x.tensor.shape[axes]
        ]


def _check(tensor: Tensor) -> None:
    """Raises Unsuitable for what is too large, not finite, or hardly varies from sample to sample."""
    if tensor.dim() < 2 or tensor.shape[0] != BATCH or not 2 <= tensor[0].numel() <= MOST_NUMBERS:
        raise Unsuitable(f"shape {list(tensor.shape)}")
    if tensor.dim() == 4 and (max(tensor.shape[2:]) > MOST_PIXELS or tensor.shape[1] > 2 * MOST_CHANNELS):
        raise Unsuitable(f"shape {list(tensor.shape)}")
    if not tensor.is_floating_point():
        return
    if not tensor.isfinite().all() or tensor.abs().max() > 60:
        raise Unsuitable("too large")
    if not varies(tensor):
        raise Unsuitable("hardly varies")


def varies(outputs: Tensor) -> bool:
    """Whether most elements differ from sample to sample, by more than a thousandth of the largest."""
    spread = outputs.double().reshape(len(outputs), -1).std(0)
    return bool((spread > 1e-3 * outputs.abs().max()).double().mean() > 0.5)


def _draw(module: nn.Module) -> None:
    """Random parameters, none of them at its neutral value."""
    for layer in module.modules():
        for name, value in layer.named_parameters(recurse=False):
            if value.dim() >= 2:
                nn.init.normal_(value, 0.0, (value.numel() / value.shape[0]) ** -0.5)
            elif isinstance(layer, nn.PReLU):
                nn.init.uniform_(value, 0.1, 0.4)
            elif name == "weight":
                nn.init.uniform_(value, 0.5, 1.5)
            else:
                nn.init.normal_(value, 0.0, 0.2)


def _settle(module: nn.Module, inputs: tuple[Value, ...]) -> None:
    """Statistics of norms from what they get; weights scaled so that outputs are of about unit size."""
    x: Any = inputs[0].tensor
    if isinstance(module, BATCH_NORMS) and module.running_mean is not None and module.running_var is not None:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        std = x.var(axes).clamp_min(1e-3).sqrt()
        module.running_mean.copy_(x.mean(axes) + std * torch.empty_like(std).uniform_(-0.2, 0.2))
        module.running_var.copy_((std * torch.empty_like(std).uniform_(0.8, 1.25)) ** 2)
    if isinstance(module, WEIGHTED):
        try:
            answer = module(x)
        except RuntimeError as error:
            raise Unsuitable(str(error)) from error
        module.weight.mul_(1 / answer.std().clamp_min(1e-2))
