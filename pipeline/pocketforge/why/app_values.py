"""Mistakes with what values mean: their range, mean and standard deviation, and a quantized file's levels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pocketforge.data.base import Array
from pocketforge.recipe.image_steps import Layout, Normalize, Scale
from pocketforge.recipe.preprocess import Step
from pocketforge.why.app_chain import Chain
from pocketforge.why.app_mistakes import Changes, Mistake

_IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = Normalize((0.5,), (0.5,))
_BYTE = 255.0
_FIX = "once each, in the sidecar's order: divide, then subtract mean, then divide by std"


def _without(kind: type) -> Changes:
    def change(chain: Chain) -> Chain | None:
        found = tuple(step for step in chain.steps if not isinstance(step, kind))
        return chain.with_steps(found) if found != chain.steps else None

    return change


def _twice(kind: type) -> Changes:
    def change(chain: Chain) -> Chain | None:
        places = [place for place, step in enumerate(chain.steps) if isinstance(step, kind)]
        if not places:
            return None
        at = places[-1]
        return chain.with_steps((*chain.steps[: at + 1], chain.steps[at], *chain.steps[at + 1 :]))

    return change


def _with_values(chain: Chain, *steps: Step) -> Chain:
    """With further steps on values, before the layout."""
    at = next((place for place, step in enumerate(chain.steps) if isinstance(step, Layout)), len(chain.steps))
    return chain.with_steps((*chain.steps[:at], *steps, *chain.steps[at:]))


def _scaled(chain: Chain) -> Chain | None:
    """0 to 1 where the file takes values as they are decoded."""
    if any(isinstance(step, Scale) for step in chain.steps):
        return None
    by = Scale(by=chain.about.value_max or _BYTE)
    at = next((place for place, step in enumerate(chain.steps) if isinstance(step, Normalize | Layout)), None)
    if at is None:
        return _with_values(chain, by)
    return chain.with_steps((*chain.steps[:at], by, *chain.steps[at:]))


def _normalized(by: Normalize) -> Changes:
    """By other numbers than the recipe's; where it has none, the app normalized all the same."""

    def change(chain: Chain) -> Chain | None:
        if not any(isinstance(step, Normalize) for step in chain.steps):
            scaled = chain if any(isinstance(step, Scale) for step in chain.steps) else _scaled(chain)
            return None if scaled is None else _with_values(scaled, by)
        found = tuple(by if isinstance(step, Normalize) else step for step in chain.steps)
        return chain.with_steps(found) if found != chain.steps else None

    return change


def _changed(what: str) -> Changes:
    """The recipe's own mean and std, used otherwise."""

    def change(chain: Chain) -> Chain | None:
        found = tuple(_other(step, what) if isinstance(step, Normalize) else step for step in chain.steps)
        return chain.with_steps(found) if found != chain.steps else None

    return change


def _other(step: Normalize, what: str) -> Normalize:
    if what == "reversed":
        return Normalize(step.mean[::-1], step.std[::-1])
    if what == "no_std":
        return Normalize(step.mean, (1.0,) * len(step.std))
    return Normalize((0.0,) * len(step.mean), step.std)


def _normalized_first(chain: Chain) -> Chain | None:
    """Divided after the mean was subtracted, not before."""
    scale = next((step for step in chain.steps if isinstance(step, Scale)), None)
    if scale is None or not any(isinstance(step, Normalize) for step in chain.steps):
        return None
    return _with_values(chain.with_steps(tuple(step for step in chain.steps if step is not scale)), scale)


def of_values(kind: str) -> Iterator[Mistake]:
    """Those of an input of a kind."""
    rows: list[tuple[str, str, str, Changes]] = [
        ("not_scaled", "range", "not divided (0-255 for 0-1)" if kind == "image" else "not divided", _without(Scale)),
        ("scaled_twice", "range", "divided twice", _twice(Scale)),
        ("not_normalized", "normalize", "not normalized (mean and std left out)", _without(Normalize)),
        ("normalized_twice", "normalize", "normalized twice (mean and std)", _twice(Normalize)),
        ("no_mean", "normalize", "divided by std without mean", _changed("no_mean")),
        ("no_std", "normalize", "mean subtracted, not divided by std", _changed("no_std")),
        ("normalized_first", "normalize", "normalized before it was divided", _normalized_first),
    ]
    if kind == "image":
        rows += [
            ("scaled", "range", "divided to 0-1, where values are taken as decoded", _scaled),
            ("imagenet", "normalize", "normalized by ImageNet's mean and std", _normalized(_IMAGENET)),
            ("half", "normalize", "normalized by mean 0.5 and std 0.5 (-1 to 1)", _normalized(_HALF)),
            ("reversed_mean", "normalize", "mean and std in the other order of channels", _changed("reversed")),
        ]
    for name, group, words, change in rows:
        yield Mistake(name, group, words, _FIX, change)
    yield from _LEVELS


def _no_zero_point(chain: Chain) -> Chain | None:
    taken = chain.taken
    if not taken.scale or not taken.zero_point:
        return None
    return replace(chain, to_numbers=lambda values: _held(np.rint(values / taken.scale), taken.dtype))


def _not_quantized(chain: Chain) -> Chain | None:
    if not chain.taken.scale:
        return None
    return replace(chain, to_numbers=lambda values: _held(np.trunc(values), chain.taken.dtype))


def _other_sign(chain: Chain) -> Chain | None:
    """uint8 levels where int8 ones are taken, or the other way round: the same byte with its first bit turned."""
    if chain.taken.dtype not in ("int8", "uint8"):
        return None
    return replace(chain, buffer=(*chain.buffer, lambda found: (found.view(np.uint8) ^ 0x80).view(found.dtype)))


def _pixels(signed: bool) -> Changes:
    """Pixels as they are decoded, in a quantized file's input."""

    def change(chain: Chain) -> Chain | None:
        if not chain.taken.scale or (signed and chain.taken.dtype != "int8"):
            return None
        plain = tuple(step for step in chain.steps if not isinstance(step, Scale | Normalize))
        less = 128 if signed else 0
        return replace(
            chain.with_steps(plain),
            to_numbers=lambda values: (values - less).astype(np.int64).astype(chain.taken.dtype),
        )

    return change


def _held(values: Array, dtype: str) -> Array:
    limits = np.iinfo(dtype)
    return np.clip(values, limits.min, limits.max).astype(dtype)


_LEVEL_FIX = "round(value / scale) + zero_point by the file's own numbers (tensor.quantizationParams())"
_LEVELS: tuple[Mistake, ...] = (
    Mistake("no_zero_point", "levels", "quantized without the zero point", _LEVEL_FIX, _no_zero_point),
    Mistake("not_quantized", "levels", "real values cast to integers, not quantized", _LEVEL_FIX, _not_quantized),
    Mistake("other_sign", "levels", "uint8 levels for int8 ones, or int8 for uint8 (128 off)", _LEVEL_FIX, _other_sign),
    Mistake("pixels", "levels", "pixels as decoded in a quantized input", _LEVEL_FIX, _pixels(False)),
    Mistake("pixels_less_128", "levels", "pixels less 128 in a quantized input", _LEVEL_FIX, _pixels(True)),
)
