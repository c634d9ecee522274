"""What divisions and normalizations come to, one after the other: value × factor + shift, channel by channel."""

from __future__ import annotations

from collections.abc import Iterable

from pocketforge.recipe.image_steps import Normalize, Scale


def affine(steps: Iterable[Scale | Normalize]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Factors and shifts, in double precision: one of each where channels are alike, else one a channel. Of a `Scale`
    somebody has to have said by what."""
    factor, shift = [1.0], [0.0]
    for step in steps:
        if isinstance(step, Scale):
            assert step.by, "it is said by what"
            factor, shift = [f / step.by for f in factor], [s / step.by for s in shift]
            continue
        count = max(len(factor), len(step.mean))
        factor, shift, mean, std = (
            list(values) * (count if len(values) == 1 else 1) for values in (factor, shift, step.mean, step.std)
        )
        shift = [(s - m) / d for s, m, d in zip(shift, mean, std, strict=True)]
        factor = [f / d for f, d in zip(factor, std, strict=True)]
    return tuple(factor), tuple(shift)
