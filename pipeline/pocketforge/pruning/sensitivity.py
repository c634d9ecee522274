"""How much of the recipe's metric each layer's channels are worth: a layer at a time is pruned, at several ratios.

After Li et al. 2017, "Pruning Filters for Efficient ConvNets" (section 3.3): the model is not trained again in between,
and all other layers stay whole. Layers that must be cut together (through an addition, a depthwise convolution …) are
one row, under the name that the channel pruner calls first.

Judged on calibration samples and the first train samples, never on eval samples. The model was trained on the latter,
so absolute figures are too good; what a ratio costs, against the baseline on the same samples, is what counts.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocketforge.errors import ModelError
from pocketforge.outcomes.sensitivity import Judged, LayerSensitivity, SensitivityOutcome

if TYPE_CHECKING:
    from torch import nn

    from pocketforge.model.surgery import KeepChannels
    from pocketforge.pruning.base import Subject
    from pocketforge.pruning.units import Unit
    from pocketforge.recipe.compress import PruneChannels
    from pocketforge.recipe.metric import Metric
    from pocketforge.training.batches import Batch, BatchTargets
    from pocketforge.training.judge import Standard

RATIOS = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
# Float sums differ in their last bits with the number of samples: a drop of exactly the limit is within it.
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class _SingleCut:
    """A unit of coupled layers that the channel pruner may cut.

    Attributes:
        name: Of the first of them.
        channels: Those that it has.
        removed: Ratio → how many pieces go; raises ModelError when none would be left.
        edit: Ratio → the cut, as data.
    """

    name: str
    channels: int
    removed: Callable[[float], int]
    edit: Callable[[float], KeepChannels]


def measure(
    subject: Subject,
    pruning: PruneChannels,
    batches: Sequence[Batch],
    standard: Standard,
    ratios: Sequence[float] = RATIOS,
) -> SensitivityOutcome:
    """The metric, loss and MACs when one layer alone is pruned by each ratio, for every layer that can be.

    pruning: its importance, round_to, protect and max_ratio count; ratios above max_ratio are left out. batches: what
    the metric and the loss are measured on (importance is measured on the subject's own). standard: says the metric.
    Raises ModelError when there is nothing to measure on or no layer can be pruned, and for a metric that judges
    nothing, or cannot be taken of the whole model.
    """
    if not batches:
        raise ModelError("a sensitivity study needs samples, there are none", "raise data.calibration_samples")
    tried = [ratio for ratio in ratios if ratio <= pruning.max_ratio]
    if not tried:
        raise ModelError(
            f"no ratio of {', '.join(map(str, ratios))} is at most max_ratio = {pruning.max_ratio}",
            f"raise max_ratio to {min(ratios)} or more",
        )
    named = standard.named
    if named is None:
        raise ModelError(
            f"a sensitivity study goes by an output's metric, found {standard.metric}", "say which: metric = …"
        )
    judge = functools.partial(_judge, subject=subject, batches=batches, standard=standard)
    whole = judge(subject.module, strict=True)
    rows = []
    # Found and ranked once: a copy of the model and one forward pass of the samples is all that each cut then costs.
    cuts = _single_cuts(subject, pruning)
    if not cuts:
        raise ModelError("no layer's channels can be pruned", "protect less, or lower round_to")
    for number, cut in enumerate(cuts):
        known = {0: whole}
        judged = []
        for done, ratio in enumerate(tried):
            subject.emit((number + done / len(tried)) / len(cuts), f"{cut.name} at {ratio:g}")
            judged.append(_alone(subject.module, cut, ratio, judge, known))
        rows.append(
            LayerSensitivity(
                cut.name,
                cut.channels,
                metric=tuple(one.metric for one in judged),
                loss=tuple(one.loss for one in judged),
                macs=tuple(one.macs for one in judged),
            )
        )
    subject.emit(1.0, f"{len(cuts)} layers at {len(tried)} ratios")
    samples = sum(len(targets) for _, targets in batches)
    return SensitivityOutcome(
        standard.metric, named.row.better, not _is_share(named.row), whole, samples, tuple(tried), tuple(rows)
    )


def _is_share(row: Metric) -> bool:
    """Whether a drop of .01 means as much at any value: of shares, rates, correlations, not of errors and decibels."""
    return row.counted or (row.limits.low >= -1 and row.limits.high <= 1)


def choose_ratios(study: SensitivityOutcome, max_accuracy_drop: float) -> dict[str, float]:
    """For each layer the largest measured ratio up to which none costs more than `max_accuracy_drop`; 0.0 if none."""
    return {row.name: _largest(study.ratios, costs(study, row), max_accuracy_drop) for row in study.layers}


def costs(study: SensitivityOutcome, row: LayerSensitivity) -> list[float]:
    """How much worse the metric is at each ratio, in its unit, or as a share of the whole model's where it is no share;
    infinite where it could not be pruned or judged.
    """
    whole = study.baseline.metric
    if whole is None:  # against it nothing can be judged
        return [math.inf] * len(row.metric)
    sign = 1 if study.better == "higher" else -1
    scale = max(abs(whole), 1e-12) if study.relative else 1.0
    return [math.inf if value is None else sign * (whole - value) / scale for value in row.metric]


def _largest(ratios: Sequence[float], costs: Sequence[float], limit: float) -> float:
    chosen = 0.0
    for ratio, cost in sorted(zip(ratios, costs, strict=True)):
        if cost > limit + _TOLERANCE:
            break
        chosen = ratio
    return chosen


def _single_cuts(subject: Subject, pruning: PruneChannels) -> list[_SingleCut]:
    """What `channels.prune` would do with a ratio for one layer alone, for every layer.

    Its own steps one by one, because a whole prune() a ratio would build and check the dependency graph every time
    (seconds each on a ResNet-20, of which a study would need more than a hundred).
    """
    from pocketforge.pruning import channels

    graph, units = channels.find_units(subject, pruning)

    def single(unit: Unit) -> _SingleCut:
        def removed(ratio: float) -> int:
            return channels.removed_pieces(unit, ratio, subject, pruning.round_to)

        def edit(ratio: float) -> KeepChannels:
            return graph.record(channels.indices_of({unit: removed(ratio)}))

        return _SingleCut(unit.layers[0], unit.size, removed, edit)

    return [single(unit) for unit in units.channels]


def _alone(
    module: nn.Module,
    cut: _SingleCut,
    ratio: float,
    judge: Callable[[nn.Module], Judged],
    known: dict[int, Judged],
) -> Judged:
    """The model with only this layer cut. known: what was measured already, by the number of channels removed."""
    from pocketforge.model.surgery import apply_edits

    try:
        count = cut.removed(ratio)
    except ModelError:
        return Judged()
    # Ratios that round to the same number of channels remove the same ones.
    if count not in known:
        known[count] = judge(apply_edits(copy.deepcopy(module), [cut.edit(ratio)]))
    return known[count]


def _judge(
    module: nn.Module, subject: Subject, batches: Sequence[Batch], standard: Standard, *, strict: bool = False
) -> Judged:
    """What the metric, the loss and the MACs of a model are; NaN is no value of either."""
    from pocketforge.model.load import count_macs
    from pocketforge.training.judge import judging
    from pocketforge.training.role_losses import RoleLosses

    has_loss = not isinstance(subject.loss, RoleLosses) or bool(subject.loss.trained)
    total = 0.0 if has_loss else math.nan

    def answered() -> Iterator[tuple[object, BatchTargets]]:
        nonlocal total
        for inputs, targets in batches:
            answer = module(*inputs)
            if has_loss:
                total += float(subject.loss(answer, targets)) * len(targets)
            yield answer, targets

    with judging(module):
        value = standard.value_of(answered(), strict=strict)
    loss = total / sum(len(targets) for _, targets in batches)
    return Judged(
        None if math.isnan(value) else value,
        loss if math.isfinite(loss) else None,
        count_macs(module, subject.example),
    )
