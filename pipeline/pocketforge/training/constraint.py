"""What weights must obey while they are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class WeightConstraint(Protocol):
    """A rule on a module's weights: masks that stay, or a sparsity that grows.

    Its module is changed in place by training, so it may keep references to parameters.
    """

    def after_update(self, step: int, total_steps: int, /) -> None:
        """Make the weights obey. Called when `step` (1 to total_steps) optimizer updates are done.

        Called once more with step = total_steps after the weights that are kept (an average, the best of an early
        stop) have been put in place: what it leaves is what is saved.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything that `after_update` depends on besides the weights, for a resumed training."""
        ...

    def load_state(self, state: Mapping[str, Tensor], /) -> None: ...
