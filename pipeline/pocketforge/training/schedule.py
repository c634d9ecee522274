"""The learning rate of every step: a pure function, so that a resumed training has nothing to restore."""

from __future__ import annotations

import math

from pocketforge.recipe.compress import Finetune


def learning_rate(settings: Finetune, step: int, steps_per_epoch: int) -> float:
    """lr of update `step` (0 to epochs × steps_per_epoch - 1).

    Warm-up rises linearly and ends at lr; its first step is one part of it, as a step with 0 would be wasted. cosine
    falls from lr over the steps that are left (0 would be reached one step after the last). step counts its epochs
    from the beginning.
    """
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    if settings.schedule == "step":
        return settings.lr * settings.gamma ** (step // steps_per_epoch // settings.step_epochs)
    left = settings.epochs * steps_per_epoch - warmup
    return settings.lr * (1 + math.cos(math.pi * (step - warmup) / left)) / 2
