"""What a study of pruning compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pocketforge.recipe.compress import Finetune

Method = Literal["channels", "layers", "unstructured", "both"]
Basis = Literal["parameters", "macs"]
METHODS: tuple[Method, ...] = get_args(Method)
BASES: tuple[Basis, ...] = get_args(Basis)


@dataclass(frozen=True, slots=True)
class Settings:
    """What to compare.

    Attributes:
        ratios: Shares to remove, 0 to 1, in rising order.
        seeds: Trainings of each cell.
        methods: Ways of pruning.
        by: What a share is a share of.
        runtimes: To export to and to time in; () for none.
        finetune: The budget of every training.
        rounds: How often each file is timed, in turns with the others.
    """

    ratios: tuple[float, ...]
    seeds: int
    methods: tuple[Method, ...]
    by: tuple[Basis, ...]
    runtimes: tuple[str, ...]
    finetune: Finetune
    rounds: int
