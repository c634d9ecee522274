"""Weights in another form than the model's: pruning masks, weight norm and spectral norm, by old names and new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_NEW = "parametrizations."
# How the names of a tensor's parts end; without it, the tensor's own.
_ENDINGS = ("_orig", "_mask", "_g", "_v", "_u")


def whole_name(name: str) -> str:
    """The tensor that a part belongs to: `c.weight` of `c.weight_orig` and of `c.parametrizations.weight.original0`."""
    owner, _, last = name.rpartition(".")
    at = name.rfind(_NEW)
    if at >= 0 and (at == 0 or name[at - 1] == "."):
        return name[:at] + name[at + len(_NEW) :].partition(".")[0]
    for ending in _ENDINGS:
        if last.endswith(ending) and last != ending:
            return (f"{owner}." if owner else "") + last.removesuffix(ending)
    return name


def to_form_of(
    module: nn.Module, shapes: Mapping[str, torch.Size | None], given: Mapping[str, object]
) -> tuple[dict[str, object], list[str]]:
    """`given` with every tensor in the form that `module`, whose names and shapes are `shapes`, has it in; and what was
    done.

    What has no part missing, or no form that is known, stays as it is: then torch says that it does not fit.
    """
    state = dict(given)
    if not any(whole_name(name) != name for name in given.keys() ^ shapes.keys()):
        return state, []
    done: Counter[str] = Counter()
    for name in shapes:
        if name in state:
            continue
        for what, make in _MAKERS.items():
            converted = make(_Place(module, *_owner_and_last(name), shapes.get(name)), state)
            if converted is not None:
                state[name], used = converted
                for part in used:
                    del state[part]
                done[what] += 1
                break
    for name in shapes:
        if name not in state and _split(name, shapes, state):
            done["weight(s) renamed or split for the model's weight norm"] += 1
    return state, [f"{count} {what}" for what, count in done.items()]


@dataclass(frozen=True, slots=True)
class _Place:
    """A tensor that the model has. at: the names' beginning, with its dot."""

    module: nn.Module
    at: str
    last: str
    shape: torch.Size | None


_Made = tuple[Tensor, tuple[str, ...]] | None


def _owner_and_last(name: str) -> tuple[str, str]:
    owner, _, last = name.rpartition(".")
    return (f"{owner}." if owner else ""), last


def _parts(state: Mapping[str, object], *names: str) -> list[Tensor] | None:
    values = [state.get(name) for name in names]
    plain = [v for v in values if isinstance(v, Tensor) and v.is_floating_point() and v.layout is torch.strided]
    if len(plain) < len(names) or any(v.is_quantized or v.is_meta or v.is_nested for v in plain):
        return None
    return plain


def _wide(value: Tensor) -> Tensor:
    # Half-precision parts are multiplied as float32: the file's rounding is enough.
    return value.to(torch.float32) if value.dtype.itemsize < torch.float32.itemsize else value


def _masked(place: _Place, state: Mapping[str, object]) -> _Made:
    """torch.nn.utils.prune: `weight_orig` × `weight_mask`."""
    names = f"{place.at}{place.last}_orig", f"{place.at}{place.last}_mask"
    parts = _parts(state, names[0])
    mask = state.get(names[1])
    if parts is None or not isinstance(mask, Tensor) or not parts[0].shape == mask.shape == place.shape:
        return None
    return _wide(parts[0]) * mask.to(torch.float32), names


def _normed(place: _Place, state: Mapping[str, object]) -> _Made:
    """Weight norm: v × g / |v|, over the dimensions that g has one value for."""
    for names in (_old(place.at, place.last), _new(place.at, place.last)):
        parts = _parts(state, *names)
        if parts is None or parts[1].shape != place.shape:
            continue
        g, v = parts
        if g.ndim in (0, v.ndim) and all(size in (1, v.shape[d]) for d, size in enumerate(g.shape)):
            return _wide(v) * (_wide(g) / _norm(_wide(v), g.shape)), names
    return None


def _norm(v: Tensor, kept: torch.Size) -> Tensor:
    dims = [d for d in range(v.ndim) if not kept or kept[d] == 1]
    return torch.linalg.vector_norm(v, dim=dims, keepdim=bool(kept)) if dims else v.abs()


def _old(at: str, last: str) -> tuple[str, str]:
    return f"{at}{last}_g", f"{at}{last}_v"


def _new(at: str, last: str) -> tuple[str, str]:
    return f"{at}{_NEW}{last}.original0", f"{at}{_NEW}{last}.original1"


def _spectral(place: _Place, state: Mapping[str, object]) -> _Made:
    """Spectral norm as it is in eval mode: weight / (u · W v)."""
    old, new = f"{place.at}{place.last}", f"{place.at}{_NEW}{place.last}"
    for names in ((f"{old}_orig", f"{old}_u", f"{old}_v"), (f"{new}.original", f"{new}.0._u", f"{new}.0._v")):
        parts = _parts(state, *names)
        if parts is None or parts[0].shape != place.shape or parts[0].ndim < 2:
            continue
        weight, u, v = (_wide(part) for part in parts)
        owner = dict(place.module.named_modules()).get(place.at.removesuffix("."))
        transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
        matrix = (weight.transpose(0, 1) if isinstance(owner, transposed) else weight).flatten(1)
        if matrix.shape == (*u.shape, *v.shape):
            return weight / torch.dot(u, torch.mv(matrix, v)), names
    return None


_MAKERS: dict[str, Callable[[_Place, Mapping[str, object]], _Made]] = {
    "pruning mask(s) applied": _masked,
    "spectral norm(s) applied": _spectral,
    "weight norm(s) applied": _normed,
}


def _split(name: str, shapes: Mapping[str, torch.Size | None], state: dict[str, object]) -> bool:
    """Fill the `name` that the model's weight norm wants, and its partner, from the other form or from the whole."""
    whole = whole_name(name)
    old, new = _old(*_owner_and_last(whole)), _new(*_owner_and_last(whole))
    for mine, other in ((old, new), (new, old)):
        if name not in mine or any(part not in shapes or part in state for part in mine):
            continue
        if all(part in state for part in other):
            for part, source in zip(mine, other, strict=True):
                state[part] = state.pop(source)
            return True
        parts = _parts(state, whole)
        shape = shapes[mine[0]]
        if parts is not None and whole not in shapes and shape is not None and parts[0].shape == shapes[mine[1]]:
            state[mine[0]], state[mine[1]] = _norm(_wide(parts[0]), shape), parts[0]
            del state[whole]
            return True
    return False
