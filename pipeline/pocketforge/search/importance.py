"""Which dimensions make the difference: fANOVA (Hutter et al. 2014), as Optuna has it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pocketforge.recipe.metric import Better
from pocketforge.search.dimension import Dimension
from pocketforge.search.sampling import Asking
from pocketforge.search.trial import Trial

# With fewer, a forest says nothing.
LEAST_TRIALS = 8
_DIGITS = 4


def importances(
    trials: Sequence[Trial], dimensions: Sequence[Dimension], better: Mapping[str, Better], seed: int
) -> dict[str, dict[str, float]]:
    """Objective → dimension → share of the variance, the greatest first. Of fully trained trials that were chosen; of
    objectives that do not vary there is none."""
    kept = [trial for trial in trials if trial.state == "full" and trial.choice]
    if len(kept) < LEAST_TRIALS:
        return {}
    asking = Asking(dimensions, better, "random", seed)
    found = {}
    for place, name in enumerate(better):
        if len({trial.values[name] for trial in kept}) < 2:
            continue
        shares = asking.importances(kept, place)
        if shares and all(map(math.isfinite, shares.values())):
            found[name] = {each: round(share, _DIGITS) for each, share in shares.items()}
    return found
