"""`[fit]`: what `pocketforge fit` searches for, and where. A build reads nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from pocketforge.recipe.backends import BackendName
from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.names import Runtime
from pocketforge.recipe.quantize import Calibration, Repair, Scheme
from pocketforge.recipe.ranges import COUNT, SHARE_BELOW_ONE, Range, check_ranges

Sampler = Literal["tpe", "nsga2", "random"]
Importance = Literal["l1", "l2", "taylor", "bn_scale", "fpgm", "random"]


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric that the search makes better.

    Attributes:
        metric: A metric's name, or "metric" for the recipe's own.
        device: Where it is taken, of metrics of devices; empty where only one device of the recipe gives it.
    """

    metric: str
    device: str = ""


@dataclass(frozen=True, slots=True)
class PruneGroup:
    """Layers that lose one share of their channels.

    Attributes:
        layers: Patterns over their names; (): all layers.
        ratios: The shares to choose from, 0 to 1; 0 prunes nothing.
    """

    ratios: tuple[float, ...]
    layers: tuple[str, ...] = ()

    RANGES: ClassVar[Mapping[str, Range]] = {"ratios": SHARE_BELOW_ONE}

    def __post_init__(self) -> None:
        check_ranges(self)
        if len(set(self.ratios)) < len(self.ratios) or not self.ratios:
            raise ValueError(f"ratios must be shares, each once, found {list(self.ratios)}")


@dataclass(frozen=True, slots=True)
class Space:
    """What a trial chooses, each key a list to choose from; what is left out stays as the recipe has it.

    Attributes:
        target_names: Of these targets of the recipe; (): of all. A trial has one.
        runtimes: In the place of the target's own.
        schemes: Of quantization.
        calibrations: How ranges come from samples, where the scheme calibrates.
        calibration_samples: How many of data.calibration_samples.
        backends: Numerics of the static schemes.
        repairs: Each a list of repairs; [] is none.
        float_layers: Patterns over layers: each may stay float in a static scheme, or not.
        prune: Groups of layers, each with a share of its own.
        importances: By which channels are ranked.
        sparsities: Shares of single weights that are set to zero; 0 sets none.
        drop_blocks: How many blocks are removed.
        resize: [height, width] that images are made, in the place of `data.preprocess.resize`.
        epochs: Of the fine-tuning; 0 is none.
        lr: [least, most] of its learning rate.
        distill: Whether it learns from the model as it was, too.
    """

    target_names: tuple[str, ...] = ()
    runtimes: tuple[Runtime, ...] = ()
    schemes: tuple[Scheme, ...] = ()
    calibrations: tuple[Calibration, ...] = ()
    calibration_samples: tuple[int, ...] = ()
    backends: tuple[BackendName, ...] = ()
    repairs: tuple[tuple[Repair, ...], ...] = ()
    float_layers: tuple[str, ...] = ()
    prune: tuple[PruneGroup, ...] = ()
    importances: tuple[Importance, ...] = ()
    sparsities: tuple[float, ...] = ()
    drop_blocks: tuple[int, ...] = ()
    resize: tuple[tuple[int, ...], ...] = ()
    epochs: tuple[int, ...] = ()
    lr: tuple[float, ...] = ()
    distill: tuple[bool, ...] = ()

    RANGES: ClassVar[Mapping[str, Range]] = {
        "calibration_samples": COUNT,
        "sparsities": SHARE_BELOW_ONE,
        "drop_blocks": Range(0, 10_000),
        "epochs": Range(0, 10_000),
        "lr": Range(0, 100, open_low=True),
    }

    def __post_init__(self) -> None:
        check_ranges(self)
        faults = [
            Fault(f"each once, found {list(getattr(self, each.name))}", each.name)
            for each in fields(self)
            if any(getattr(self, each.name).count(value) > 1 for value in getattr(self, each.name))
        ]
        if self.lr and (len(self.lr) != 2 or not self.lr[0] < self.lr[1]):
            faults.append(Fault(f"wanted [least, most], found {list(self.lr)}", "lr"))
        if self.importances and not self.prune:
            faults.append(Fault("they rank channels, and no [[fit.space.prune]] prunes any", "importances"))
        if (self.lr or self.distill) and self.epochs in ((), (0,)):
            faults.append(Fault("lr and distill are of a fine-tuning: epochs = [3, 9] says for how long"))
        faults += [
            Fault(f"wanted [height, width], found {list(size)}", f"resize[{index}]")
            for index, size in enumerate(self.resize)
            if len(size) != 2 or min(size) < 1
        ]
        if faults:
            raise WrongTable(*faults)

    @property
    def is_empty(self) -> bool:
        """Whether it leaves nothing to choose, whatever the recipe's targets are."""
        own = [len(getattr(self, each.name)) for each in fields(self) if each.name not in ("prune", "float_layers")]
        return max(own) < 2 and not self.float_layers and all(len(group.ratios) < 2 for group in self.prune)


@dataclass(frozen=True, slots=True)
class Fit:
    """A search.

    Attributes:
        objectives: What is made better, the most important first; (): the recipe's metric, then the file's size.
        space: What a trial chooses; None: a space that follows from the model and the targets.
        sampler: Optuna's way to choose the next trials.
        trials: How many there are at most.
        batch: So many are chosen at a time, and race each other.
        reduction: Of a batch one in so many is trained fully; so much shorter training shows which. 1: all are.
    """

    objectives: tuple[Objective, ...] = ()
    space: Space | None = None
    sampler: Sampler = "tpe"
    trials: int = 40
    batch: int = 8
    reduction: int = 3

    RANGES: ClassVar[Mapping[str, Range]] = {
        "trials": Range(1, 100_000),
        "batch": Range(1, 1000),
        "reduction": Range(1, 100),
    }

    def __post_init__(self) -> None:
        check_ranges(self)
        names = [(each.metric, each.device) for each in self.objectives]
        if len(set(names)) < len(names):
            raise ValueError(f"objectives are named once each, found {', '.join(metric for metric, _ in names)}")
