"""Whether a model that lost channels computes what the whole one does with all their weights at zero.

Norms over channels compute something else over fewer of them. In both models they give their affine part instead, and
a group norm a number for each group too, so that a channel that came into another group is seen.

Compared twice: with the model's own weights, and with random ones, in which no small scale, zero or dead branch hides
a wrong channel.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import NotImplementedType
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pocketforge.model.structure import parts
from pocketforge.model.surgery import KeepChannels, apply_edits

Inputs = tuple[Tensor, ...]
_Weight: TypeAlias = Tensor | None
# Of the largest value: what double precision leaves, and float32 where the model insists on it.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}


@dataclass(frozen=True, slots=True)
class _Trial:
    module: nn.Module
    inputs: Inputs
    dtype: torch.dtype


class Equality:
    """Compares cuts of `module` with zeros in their place.

    samples: real inputs, best first; one that is all alike shows nothing and is left out. example: an input of the
    right shape, for when there are none.
    """

    def __init__(self, module: nn.Module, example: Inputs, samples: Iterable[Inputs] = ()) -> None:
        self.module = module
        self.example = example
        real = telling_inputs(example, samples)
        noise = tuple(_random(x, 1) if x.is_floating_point() else x for x in real)
        mixed = _with_random_weights(module)
        possible = [_trial(module, real), _trial(mixed, noise) or _trial(mixed, real)]
        self.trials = [trial for trial in possible if trial is not None]

    def differs(self, edit: KeepChannels) -> bool:
        """Whether the model after `edit` computes something else. Raises whatever its forward raises."""
        with torch.no_grad():  # with its norms: a stale size shows only there
            apply_edits(_twin(self.module), [edit])(*_copies(self.example))
        return any(not _same(trial, edit) for trial in self.trials)


def telling_inputs(example: Inputs, samples: Iterable[Inputs]) -> Inputs:
    """The first sample that fits the example and is not all alike, else the example, else random numbers."""
    for sample in itertools.chain(samples, [example]):
        fits = len(sample) == len(example) and all(
            a.shape == b.shape and a.dtype == b.dtype for a, b in zip(sample, example, strict=True)
        )
        if fits and all(x.numel() < 2 or bool((x != x.flatten()[0]).any()) for x in sample):
            return tuple(x.detach().clone() for x in sample)
    return tuple(_random(x, 0) for x in example)


def _twin(module: nn.Module) -> nn.Module:
    """A copy of the modules that shares their parameters, which are replaced and never written into: a check copies the
    model several times. Buffers are its own, as a forward may count in them.
    """
    return copy.deepcopy(module, {id(parameter): parameter for parameter in module.parameters()})


def tensors_of(output: object) -> list[Tensor]:
    """Every tensor in a model's output, however nested."""
    if isinstance(output, Tensor):
        return [output]
    return [tensor for _, item in parts(output) or () for tensor in tensors_of(item)]


def _random(like: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if like.is_floating_point():
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype)
    # Class numbers, tokens, masks: what is above the example's may be out of range.
    most = max(1, int(like.max())) if like.numel() else 1
    return torch.randint(0, most + 1, like.shape, generator=generator).to(like.dtype)


def _with_random_weights(module: nn.Module) -> nn.Module:
    """A copy whose weights keep the signal's size, with no scale or statistic near zero."""
    mixed = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(0)

    def fill(tensor: Tensor, scale: float, shift: float, uniform: bool) -> None:
        draw = torch.rand if uniform else torch.randn
        tensor.data.copy_(draw(tensor.shape, generator=generator, dtype=torch.float64) * scale + shift)

    for name, parameter in mixed.named_parameters():
        if not parameter.is_floating_point():
            continue
        if parameter.ndim > 1:
            fan_in = max(1, parameter.numel() // parameter.shape[0])
            fill(parameter, (2 / fan_in) ** 0.5, 0.0, uniform=False)
        elif name.endswith("bias"):
            fill(parameter, 0.3, 0.0, uniform=False)
        else:  # scales
            fill(parameter, 1.0, 0.5, uniform=True)
    for part in mixed.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            fill(part.running_mean, 0.3, 0.0, uniform=False)
            assert part.running_var is not None
            fill(part.running_var, 1.0, 0.5, uniform=True)
    return mixed


def _trial(module: nn.Module, inputs: Inputs) -> _Trial | None:
    """With doubles where the model computes in them; None where its answer is no number at all."""
    for dtype in (torch.float64, torch.float32):
        with suppress(Exception):  # a float32 made inside meets doubles; random inputs that its forward refuses
            trial = _Trial(copy.deepcopy(module).to(dtype), inputs, dtype)
            answers = [x for x in _answers(_twin(trial.module), trial) if x.is_floating_point()]
            if any(bool(torch.isfinite(x).any()) for x in answers):
                return trial
    return None


def _answers(module: nn.Module, trial: _Trial) -> list[Tensor]:
    inputs = (x.to(trial.dtype) if x.is_floating_point() else x for x in _copies(trial.inputs))
    with torch.no_grad(), _AffineNorms():
        return tensors_of(module(*inputs))


def _same(trial: _Trial, edit: KeepChannels) -> bool:
    cut = _answers(apply_edits(_twin(trial.module), [edit]), trial)
    zeroed = _answers(_zeroed(trial.module, edit), trial)
    return len(cut) == len(zeroed) and all(
        _close(a, b, _TOLERANCE[trial.dtype]) for a, b in zip(cut, zeroed, strict=True)
    )


def _close(value: Tensor, reference: Tensor, tolerance: float) -> bool:
    if value.shape != reference.shape:
        return False
    if not reference.is_floating_point():
        return bool(torch.equal(value, reference))
    finite = torch.isfinite(reference)
    if not torch.equal(finite, torch.isfinite(value)):
        return False
    largest = float(reference[finite].abs().max()) if bool(finite.any()) else 0.0
    return bool(torch.allclose(value[finite], reference[finite], rtol=0.0, atol=tolerance * largest + 1e-30))


def _zeroed(module: nn.Module, edit: KeepChannels) -> nn.Module:
    """A copy of the whole module with zeros wherever `edit` keeps nothing."""
    whole = _twin(module)
    tensors = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers())
    for name, dims in edit.tensors.items():
        value = tensors[name].detach().clone()
        for dim, indices in dims.items():
            keep = torch.zeros(value.shape[dim], dtype=torch.bool)
            keep[list(indices)] = True
            value.mul_(keep.view([-1 if d == dim else 1 for d in range(value.ndim)]))
        owner, _, last = name.rpartition(".")
        given = nn.Parameter(value) if isinstance(tensors[name], nn.Parameter) else value
        setattr(whole.get_submodule(owner), last, given)
    return whole


def _copies(inputs: Inputs) -> Inputs:
    """In-place operations at the model's beginning would write into the inputs."""
    return tuple(x.clone() for x in inputs)


class _AffineNorms(TorchFunctionMode):
    """Within it norms that compute statistics give their affine part."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        stand_in = _STAND_INS.get(func)
        answer = stand_in(*args, **(kwargs or {})) if stand_in is not None else NotImplemented
        return func(*args, **(kwargs or {})) if answer is NotImplemented else answer


def _trailing(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: _Weight = None,
    bias: _Weight = None,
    *_: object,
    **__: object,
) -> Tensor:
    if list(x.shape[x.ndim - len(normalized_shape) :]) != list(normalized_shape):
        raise ValueError(f"a norm over {list(normalized_shape)} was given shape {list(x.shape)}")
    y = x if weight is None else x * weight
    return y if bias is None else y + bias


def _rms(x: Tensor, normalized_shape: Sequence[int], weight: _Weight = None, *_: object, **__: object) -> Tensor:
    return _trailing(x, normalized_shape, weight)


def _grouped(
    x: Tensor, num_groups: int, weight: _Weight = None, bias: _Weight = None, *_: object, **__: object
) -> Tensor:
    by_group = torch.linspace(0.75, 1.25, num_groups, dtype=x.dtype, device=x.device)
    y = (x.reshape(x.shape[0], num_groups, -1) * by_group.view(1, -1, 1)).reshape(x.shape)
    return _per_channel(y, weight, bias)


def _per_channel(x: Tensor, weight: _Weight, bias: _Weight) -> Tensor:
    shape = (1, -1, *[1] * (x.ndim - 2))
    y = x if weight is None else x * weight.view(shape)
    return y if bias is None else y + bias.view(shape)


def _batch(
    x: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: _Weight = None,
    bias: _Weight = None,
    training: bool = False,
    *_: object,
    **__: object,
) -> Tensor | NotImplementedType:
    # With running statistics it is affine already.
    return NotImplemented if mean is not None and not training else _per_channel(x, weight, bias)


def _raw_batch(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    training: bool = False,
    *_: object,
    **__: object,
) -> Tensor | NotImplementedType:
    return _batch(x, mean, var, weight, bias, training)


def _instance(
    x: Tensor,
    mean: _Weight = None,
    var: _Weight = None,
    weight: _Weight = None,
    bias: _Weight = None,
    *_: object,
    **__: object,
) -> Tensor:
    return _per_channel(x, weight, bias)


def _raw_instance(x: Tensor, weight: _Weight, bias: _Weight, *_: object, **__: object) -> Tensor:
    return _per_channel(x, weight, bias)


_STAND_INS: dict[Callable[..., object], Callable[..., Tensor | NotImplementedType]] = {
    functional.layer_norm: _trailing,
    torch.layer_norm: _trailing,
    functional.rms_norm: _rms,
    torch.rms_norm: _rms,
    functional.group_norm: _grouped,
    torch.group_norm: _grouped,
    functional.batch_norm: _batch,
    torch.batch_norm: _raw_batch,
    functional.instance_norm: _instance,
    torch.instance_norm: _raw_instance,
}
