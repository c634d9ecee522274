"""prune.json of stage `prune`: what one entry of [[compress]], or a part of it, took away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Size:
    """How large a model is.

    Attributes:
        parameters: How many numbers its parameters are.
        macs: Multiply-accumulates of one sample.
    """

    parameters: int
    macs: int


@dataclass(frozen=True, slots=True)
class LeftDense:
    """A layer that unstructured pruning left alone.

    Attributes:
        name: The layer's.
        reason: Why.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class LayerZeros:
    """Zeros of one layer's weight.

    Attributes:
        name: The layer's.
        weights: How many numbers its weight is.
        zeros: How many of them are 0.
        share: zeros / weights, 0 to 1.
    """

    name: str
    weights: int
    zeros: int
    share: float


@dataclass(frozen=True, slots=True)
class Zeros:
    """Zeros among the weights of several layers.

    Attributes:
        layers: Layer by layer.
        zeros: Of all of them.
        weights: Of all of them.
        share: zeros / weights, 0 to 1; 0 where there is no weight.
    """

    layers: tuple[LayerZeros, ...]
    zeros: int
    weights: int
    share: float


@dataclass(frozen=True, slots=True)
class WeightsReport(Zeros):
    """What `prune_unstructured` did. Zeros are those that masks hold.

    Attributes:
        criterion: How weights were ranked, as in the entry.
        scope: `global` or `local`, as in the entry.
        schedule: `once` or `cubic`, as in the entry.
        n_m: n and m of n:m pruning; () for another amount.
        left_dense: Layers that stay whole, each with the reason.
    """

    criterion: str
    scope: str
    schedule: str
    n_m: tuple[int, ...]
    left_dense: tuple[LeftDense, ...]


@dataclass(frozen=True, slots=True)
class ReachedGoal:
    """A goal, and what was reached of it.

    Attributes:
        metric: Of the goal.
        before: What there was.
        limit: The most that was to be left.
        reached: What is left.
    """

    metric: str
    before: float
    limit: float
    reached: float


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A layer that lost channels, or an attention module that lost heads.

    Attributes:
        name: Its name.
        before: Output channels, or heads.
        after: Those left.
        heads: Whether heads are counted.
    """

    name: str
    before: int
    after: int
    heads: bool = False

    OMIT_UNSET: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Skipped:
    """A layer that keeps its channels.

    Attributes:
        name: The layer's.
        why: The reason.
    """

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class ChannelsReport:
    """What `prune_channels` did.

    Attributes:
        layers: Those that lost something.
        macs: Before and after.
        parameters: Before and after.
        goal: None where a ratio decided.
        protected: Layers that the entry, or their place in the model, kept whole.
        skipped: Layers that could not be pruned.
        warnings: Layers whose width is not what was asked, within a tile of round_to, in words.
    """

    layers: tuple[Narrowed, ...]
    macs: tuple[int, int]
    parameters: tuple[int, int]
    goal: ReachedGoal | None
    protected: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A block that could be dropped.

    Attributes:
        name: Its name.
        importance: As first measured; None where it was not.
        macs: Multiply-accumulates of one sample while it runs.
        parameters: How many numbers its parameters are.
    """

    name: str
    importance: float | None
    macs: int
    parameters: int


@dataclass(frozen=True, slots=True)
class MapFit:
    """A map that was fitted to stand for a block.

    Attributes:
        name: The block's.
        kind: `linear`, `conv2d`, or `identity` where no map was better than nothing.
        error: Of the map: what it leaves of the variation of the block's output, 0 to 1.
        loss: Of the model with the map.
        loss_of_identity: Of the model without block and map; None where it does not run so.
    """

    name: str
    kind: str
    error: float
    loss: float
    loss_of_identity: float | None = None


@dataclass(frozen=True, slots=True)
class Refit:
    """The classifier, fitted again to other features.

    Attributes:
        classifier: Its name.
        in_features: Before and after.
        strength: The ridge's.
        error: What the ridge regression leaves of the variation of the old logits, 0 to 1.
        anchor: Weight on the distance to the ridge's solution while the loss was minimized; None: the ridge's alone.
        loss: On the calibration samples with the ridge's solution and with the one taken; None where it was not asked.
    """

    classifier: str
    in_features: tuple[int, int]
    strength: float
    error: float
    anchor: float | None
    loss: tuple[float, float] | None = None

    OMIT_UNSET: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class BlocksReport:
    """What `drop_layers` did.

    Attributes:
        candidates: Blocks that might go, least important first.
        dropped: Those that went, in order.
        kept: The others.
        cannot: Of those kept: block → why the model does not run without it.
        loss: On the calibration samples, before and after.
        macs: Before and after.
        parameters: Before and after.
        refitted: None where the classifier stayed as it was.
        fits: Maps that were fitted for dropped blocks.
        goal: None where a count decided.
    """

    candidates: tuple[Block, ...]
    dropped: tuple[str, ...]
    kept: tuple[str, ...]
    cannot: Mapping[str, str]
    loss: tuple[float, float]
    macs: tuple[int, int]
    parameters: tuple[int, int]
    refitted: Refit | None
    fits: tuple[MapFit, ...]
    goal: ReachedGoal | None


Report = WeightsReport | ChannelsReport | BlocksReport


@dataclass(frozen=True, slots=True)
class PruneOutcome:
    """prune.json. In the file, the report's keys stand beside the others.

    Attributes:
        type: Of the entry.
        part: Which part of the entry this was, and how many it has.
        before: The model that was given.
        after: The model that is left.
        report: What the entry's method says.
    """

    type: str
    part: tuple[int, int]
    before: Size
    after: Size
    report: Report

    FILE: ClassVar[str] = "prune.json"
    FLAT: ClassVar[str] = "report"
