"""By what an output is trained: its loss, the loss's settings, and its share in the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.ranges import SHARE, Range
from pocketforge.recipe.typed_settings import TypedSettings

LossName = Literal["cross_entropy", "focal", "bce", "mse", "l1", "smooth_l1", "cosine", "ctc"]
# What leaves an output out of training.
UNTRAINED: Final = "none"
# Those with settings of their own, and which those are.
SETTINGS: Final[Mapping[str, frozenset[str]]] = {
    "cross_entropy": frozenset(),
    "focal": frozenset({"gamma"}),
    "bce": frozenset(),
    "mse": frozenset({"sigma"}),
    "l1": frozenset({"sigma"}),
    "smooth_l1": frozenset({"beta", "sigma"}),
    "cosine": frozenset({"margin"}),
    "ctc": frozenset(),
    UNTRAINED: frozenset(),
}
_WEIGHT = Range(0, 1e9, open_low=True)


@dataclass(frozen=True, slots=True)
class OutputLoss(TypedSettings):
    """`loss` of an output.

    Attributes:
        type: One of the role's (roles.py); a user's `file.py:function`, which gets outputs and targets by name and
            returns a scalar tensor; or `none`, which leaves the output out of training. Empty for the role's own.
        weight: It counts so often in the sum of all outputs' losses.
        gamma: Of focal: how much less what is right already counts (Lin et al. 2017); 0 is the plain loss.
        beta: Of smooth_l1: differences below it count by their square, in the output's unit.
        margin: Of cosine against labels: samples of two labels may be so near, 0 to 1.
        sigma: Of a heatmap: the width of the peak that it is held against, in its cells.
    """

    type: str = ""
    weight: float = 1.0
    gamma: float = 2.0
    beta: float = 1.0
    margin: float = 0.0
    sigma: float = 1.0

    RANGES: ClassVar[Mapping[str, Range]] = {
        "weight": _WEIGHT,
        "gamma": Range(0, 100),
        "beta": Range(0, 1e9, open_low=True),
        "margin": SHARE,
        "sigma": Range(0, 1000, open_low=True, unit="cells"),
    }

    def __post_init__(self) -> None:
        faults = self.settings_faults("loss", SETTINGS, of_all=("weight",))
        if self.type == UNTRAINED and "weight" in self.given():
            faults.append(Fault(f'"{UNTRAINED}" leaves the output out of training: leave out weight', "weight"))
        if faults:
            raise WrongTable(*faults)
