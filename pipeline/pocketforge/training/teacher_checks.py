"""Whether a teacher knows anything of what it is to teach."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn

from pocketforge.errors import ModelError
from pocketforge.training.batches import Batch, Batches, NamedTargets, TrainSamples
from pocketforge.training.role_losses import RoleLosses


def check_teacher(accuracy: float, classes: int, samples: int) -> None:
    """Raises ModelError for a teacher that knows nothing: one that was never trained, or on other classes.

    It must be right more often than guessing is by luck: chance, 1 / classes, and three standard errors of it on so
    many samples, at least half as often again where there are many classes; but at most half-way to always.
    """
    chance = 1 / classes
    luck = max(chance * (1 - chance) / 2, 3 * (chance * (1 - chance) / samples) ** 0.5)
    if accuracy <= chance + min(luck, (1 - chance) / 2):
        raise ModelError(
            f"the teacher answers {accuracy:.1%} of {samples} calibration samples right, hardly more than chance "
            f"({chance:.1%}): it is not trained for these classes",
            "give the weights of a trained model, with its classes in the data's order",
        )


# With so many other samples' targets a teacher must not do better than with each sample's own.
_SHIFTS = 16
# Losses that differ by less, as a share, are one: samples may have equal targets, and float sums differ.
_TIE = 1e-6


def check_teacher_of_roles(own: float, others: Sequence[float], samples: int) -> None:
    """Raises ModelError for a teacher that knows nothing of its samples: whose loss with other samples' targets is
    lower than with their own, or never higher.

    own: its loss on the calibration samples. others: with each sample's targets taken from another, each time from
    another place. A teacher that knows nothing has the least of n + 1 such losses by luck once in n + 1.
    """
    if not others:
        raise ModelError(
            "whether a teacher knows its samples shows on 2 calibration samples or more, there is 1",
            "raise data.calibration_samples",
        )
    near = _TIE * abs(own)
    if not math.isfinite(own) or min(others) < own - near or not max(others) > own + near:
        least = min(others, default=math.nan)
        raise ModelError(
            f"the teacher's loss on {samples} calibration samples is {own:.4g} with their own targets, and {least:.4g} "
            "with other samples': it is not trained for these targets",
            "give the weights of a trained model, whose outputs are what the recipe says",
        )


def judging_batches(samples: TrainSamples, size: int) -> list[Batch]:
    """Samples in their order, about `size` at a time: a last batch that is too small to give each sample another's
    targets so many times is part of the one before."""
    starts = list(range(0, len(samples), size))
    if len(starts) > 1 and len(samples) - starts[-1] <= _SHIFTS:
        starts.pop()
    gathered = Batches(samples, keep=False)
    return [gathered.gather(range(a, b)) for a, b in itertools.pairwise([*starts, len(samples)])]


def losses_with_others(roles: RoleLosses, module: nn.Module, batches: Sequence[Batch]) -> tuple[float, list[float]]:
    """A model's mean loss with its samples' own targets, and with those of others of their batch, by places moved."""
    sums, samples = [0.0], 0
    size = min(len(targets) for _, targets in batches)
    moved = range(1, min(size, _SHIFTS + 1))
    sums += [0.0 for _ in moved]
    with torch.no_grad():
        for inputs, targets in batches:
            assert isinstance(targets, NamedTargets), "samples of outputs with roles have targets by name"
            answer = module(*inputs)
            for place, by in enumerate((0, *moved)):
                sums[place] += float(roles(answer, targets.shifted(by))) * len(targets)
            samples += len(targets)
    own, *others = (total / samples for total in sums)
    return own, others
