"""prune_channels: whole channels and attention heads, with everything that depends on them.

What may be pruned are units of coupled channels (graph.py); each gives its pieces, least important first, so that what
is left is always a multiple of `round_to`. A scope puts the pieces of all units in one order, and a ratio or a goal
says how many of that order go:

- local: each unit loses the same share. With a ratio r a layer of n channels keeps int(n (1 - r)), rounded down to a
  multiple of round_to, as Torch-Pruning's own pruner does.
- global: the least important piece of the whole model goes first, but no unit loses more than `max_ratio`.

Left alone: layers that give the model's output, the embedding stream of a transformer (embeddings, norms and residual
sums of its hidden size; feed-forward layers and heads are pruned), streams of zero-padded shortcuts, layers of no more
than round_to channels, and all for which the model without the channels does not compute what it computes with their
weights at zero. The report names them with the reason. Heads are pruned by `head_ratio` only; a goal decides about the
channels beside them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from pocketforge.errors import ModelError
from pocketforge.model.load import count_macs, count_parameters
from pocketforge.model.surgery import KeepChannels, apply_edits, keep_masks
from pocketforge.outcomes.prune import ChannelsReport, Narrowed, ReachedGoal, Skipped
from pocketforge.pruning.base import Pruned, Subject
from pocketforge.pruning.costs import check_patterns, check_subject, matches
from pocketforge.pruning.goals import fewest
from pocketforge.pruning.graph import Dependencies
from pocketforge.pruning.importance import accumulate_gradients, make_scorer
from pocketforge.pruning.units import Unit, Units
from pocketforge.recipe.compress import Compress, PruneChannels

# Guards floors of products such as 20 × (1 - 0.9), which is 1.9999999999999996.
_EPSILON = 1e-9


def prune(subject: Subject, settings: Compress) -> Pruned[ChannelsReport]:
    """Remove channels (and heads) of `subject.module` in place, as `settings` (a PruneChannels) says.

    Raises ModelError: a pattern that fits no layer, a ratio that would empty a layer, nothing that may be pruned, a
    goal that cannot be met (with the least reached). ToolMissing without torch-pruning.
    """
    assert isinstance(settings, PruneChannels)
    module, example = subject.module, subject.example
    names = [name for name, _ in module.named_modules() if name]
    check_patterns(settings.protect, names, "protect")
    check_patterns(settings.ratios, names, "ratios")
    graph, units = find_units(subject, settings)
    while True:
        removed, goal = _choose(graph, units, subject, settings)
        wrong = _wrong(graph, indices_of(removed))
        if not wrong:
            break
        _skip(units, wrong)
    subject.emit(0.8, f"removing channels in {sum(1 for count in removed.values() if count)} groups of layers")
    warnings = _width_warnings(removed, subject, settings) if settings.goal is None else []
    edit = graph.record(indices_of(removed))
    widths, macs, parameters = _widths_of(module, units), count_macs(module, example), count_parameters(module)
    if edit.tensors:
        _must_run(module, edit, example)
        apply_edits(module, [edit])
    layers = [
        Narrowed(name, widths[name], width)
        for name, width in _widths_of(module, units).items()
        if width != widths[name]
    ]
    heads = [
        Narrowed(unit.attention.name, unit.size, unit.left(removed[unit]), heads=True)
        for unit in units.heads
        if unit.attention is not None and removed.get(unit)
    ]
    report = ChannelsReport(
        layers=(*layers, *heads),
        macs=(macs, count_macs(module, example)),
        parameters=(parameters, count_parameters(module)),
        goal=goal,
        protected=tuple(sorted(set(units.protected))),
        skipped=tuple(Skipped(name, why) for name, why in units.skipped.items()),
        warnings=tuple(warnings),
    )
    return Pruned(report, [edit] if edit.tensors else [], keep_masks(subject.masks, [edit], module))


def find_units(subject: Subject, settings: PruneChannels) -> tuple[Dependencies, Units]:
    """The units, with those dropped that fail `Dependencies.check`."""
    samples = (
        tuple(x[: len(e)] for x, e in zip(inputs, subject.example, strict=False)) for inputs, _ in subject.batches
    )
    graph = Dependencies(subject.module, subject.example, samples)
    if settings.importance == "taylor":
        check_subject(subject)
        accumulate_gradients(graph.copy, subject)
    # Another step of several is another draw.
    scorer = make_scorer(settings.importance, subject.seed * 1000 + subject.step)
    units = graph.units(scorer, settings.protect, settings.round_to)
    if not settings.head_ratio:
        units.heads = []
    _skip(units, _wrong(graph, {unit: _half(unit) for unit in units.channels + units.heads}))
    return graph, units


def _wrong(graph: Dependencies, removed: dict[Unit, list[int]]) -> dict[Unit, str]:
    """Units that cannot lose what `removed` takes of them, and why. None at all in most models: one check for all, and
    halves of what fails, until one unit is left.
    """
    right: dict[Unit, list[int]] = {}
    wrong = {}
    waiting = [[unit for unit, indices in removed.items() if indices]]
    while waiting:
        some = waiting.pop()
        together = {unit: removed[unit] for unit in some}
        why = graph.check(right | together)
        if not why:
            right |= together
        elif len(some) == 1:
            wrong[some[0]] = why
        else:
            half = len(some) // 2
            waiting += [some[half:], some[:half]]
    return wrong


def _skip(units: Units, wrong: dict[Unit, str]) -> None:
    units.channels = [unit for unit in units.channels if unit not in wrong]
    units.heads = [unit for unit in units.heads if unit not in wrong]
    for unit, why in wrong.items():
        for name in [unit.attention.name] if unit.attention else unit.layers:
            units.skip(name, why)


def _choose(
    graph: Dependencies, units: Units, subject: Subject, settings: PruneChannels
) -> tuple[dict[Unit, int], ReachedGoal | None]:
    """How many pieces of each unit go, and what the report says of the goal."""
    if subject.step == 1 and not units.channels and not (units.heads and settings.head_ratio):
        raise ModelError(f"prune_channels: nothing can be pruned{_reasons(units)}", "protect less, or lower round_to")
    heads = _heads_to_remove(units.heads, subject, settings)
    if settings.goal is None:
        return heads | _by_ratio(units.channels, subject, settings), None
    order = _order(units.channels, settings)

    def candidate(count: int) -> nn.Module:
        edit = graph.record(indices_of(heads | _counts(order[:count])))
        return apply_edits(copy.deepcopy(subject.module), [edit])

    count, goal = fewest(subject, settings.goal, len(order), candidate, _reasons(units))
    return heads | _counts(order[:count]), goal


def _half(unit: Unit) -> list[int]:
    """The more important half of what may go: a wrong removal of them shows most in the output."""
    return sorted(index for piece in unit.pieces[len(unit.pieces) // 2 :] for index in piece)


def _by_ratio(units: list[Unit], subject: Subject, settings: PruneChannels) -> dict[Unit, int]:
    """Pieces to remove of each unit, by the settings' ratios. Raises ModelError when a layer would be emptied."""
    named = {unit: _named_ratio(unit, subject, settings) for unit in units}
    rest = settings.ratio if isinstance(settings.ratio, float) else 0.0
    removed: dict[Unit, int] = {}
    ranked = []
    for unit, ratio in named.items():
        if ratio is None and settings.scope == "global":
            ranked.append(unit)
        else:
            removed[unit] = removed_pieces(unit, rest if ratio is None else ratio, subject, settings.round_to)
    _give_back(removed, subject, settings)
    total = sum(unit.size for unit in ranked)
    # Of what is left, so that the steps together remove `rest`.
    share = rest / subject.steps / (1 - rest * (subject.step - 1) / subject.steps)
    to_go = total - math.floor(total * (1 - share) + _EPSILON)
    order = _order(ranked, settings)
    gone = 0
    for unit, position in order:
        if gone >= to_go:
            break
        gone += len(unit.pieces[position])
        removed[unit] = position + 1
    return removed


def _named_ratio(unit: Unit, subject: Subject, settings: PruneChannels) -> float | None:
    """The ratio given for one of the unit's layers; of several, the least: none may lose more than was said."""
    if settings.ratio == "auto":
        return min((subject.ratios[layer] for layer in unit.layers if layer in subject.ratios), default=0.0)
    ratios = settings.ratios.items()
    return min((r for pattern, r in ratios if any(matches(layer, [pattern]) for layer in unit.layers)), default=None)


def removed_pieces(unit: Unit, ratio: float, subject: Subject, round_to: int) -> int:
    """Pieces to remove for `ratio` of the unit's channels, of what they were before the first of several steps."""
    before = _before(unit.size, ratio, subject)
    if subject.step > 1:
        # Earlier steps rounded down to a multiple; a layer's width was most likely one before them, too.
        before = math.ceil(before / round_to - _EPSILON) * round_to
    left = math.floor(before * (1 - ratio * subject.step / subject.steps) + _EPSILON)
    if left < 1:
        raise ModelError(
            f"prune_channels: ratio {ratio:g} would empty layer {unit.layers[0]}, which has {unit.size} channels",
            "lower the ratio, give this layer its own in ratios, or protect it",
        )
    return next((n for n in range(len(unit.pieces)) if unit.left(n) <= left), len(unit.pieces))


def _before(size: int, ratio: float, subject: Subject) -> float:
    """What `size` was before the first step, when the steps before this one removed their part of `ratio`."""
    return size / (1 - ratio * (subject.step - 1) / subject.steps)


@dataclass(slots=True)
class _Width:
    """What was asked of a layer's width, what is left, and the units whose channels it has."""

    asked: float
    left: int
    units: list[Unit]


def _widths(removed: dict[Unit, int], subject: Subject, settings: PruneChannels) -> dict[str, _Width]:
    """Of every layer of which a share was asked; of several shares the least."""
    units = [unit for unit in removed if unit.attention is None]
    layers: dict[str, list[Unit]] = {}
    for unit in units:
        for name in unit.layers:
            layers.setdefault(name, []).append(unit)
    widths = {}
    for name, cut in layers.items():
        ratios = [ratio for unit in cut if (ratio := _asked(unit, subject, settings)) is not None]
        if ratios:
            width = _channels_of(subject.module, name)
            done = subject.step / subject.steps
            asked = _before(width, min(ratios), subject) * (1 - min(ratios) * done)
            widths[name] = _Width(asked, width - sum(unit.widths(removed[unit])[name] for unit in cut), cut)
    return widths


def _give_back(removed: dict[Unit, int], subject: Subject, settings: PruneChannels) -> None:
    """Take fewer pieces of units that were rounded down, where a layer would lose a tile more than was asked."""
    tile = settings.round_to + _EPSILON
    while True:
        widths = _widths(removed, subject, settings)
        for width in widths.values():
            if width.asked - width.left <= tile:
                continue
            for unit in sorted(width.units, key=lambda unit: _rounded_off(unit, removed[unit], subject, settings))[
                ::-1
            ]:
                fewer = {**removed, unit: removed[unit] - 1}
                if removed[unit] and all(
                    abs(after.asked - after.left) <= max(tile, abs(widths[name].asked - widths[name].left) - _EPSILON)
                    for name, after in _widths(fewer, subject, settings).items()
                    if unit in after.units
                ):
                    removed[unit] -= 1
                    break
            else:
                continue
            break
        else:
            return


def _rounded_off(unit: Unit, count: int, subject: Subject, settings: PruneChannels) -> float:
    """Channels that a unit lost beyond what was asked of it."""
    ratio = _asked(unit, subject, settings) or 0.0
    return _before(unit.size, ratio, subject) * (1 - ratio * subject.step / subject.steps) - unit.left(count)


def _width_warnings(removed: dict[Unit, int], subject: Subject, settings: PruneChannels) -> list[str]:
    """Layers whose width is further from what was asked than one tile of round_to, by name, with the reason."""
    warnings = []
    for name, width in _widths(removed, subject, settings).items():
        if abs(width.left - width.asked) > settings.round_to + _EPSILON:
            before = _channels_of(subject.module, name)
            whole = sum(unit.share()[name] for unit in width.units)
            at_a_time = max(unit.widths(1)[name] for unit in width.units)
            why = f"they go {at_a_time} at a time" if whole == before else f"only {whole} of them can go"
            warnings.append(f"{name}: {width.left} of {before} channels left, {width.asked:g} asked: {why}")
    return warnings


def _asked(unit: Unit, subject: Subject, settings: PruneChannels) -> float | None:
    """The share that a unit was asked to lose; None where only all of the units together were."""
    named = _named_ratio(unit, subject, settings)
    if named is not None or settings.scope == "global":
        return named
    return settings.ratio if isinstance(settings.ratio, float) else 0.0


def _order(units: list[Unit], settings: PruneChannels) -> list[tuple[Unit, int]]:
    """All removable pieces of the units as (unit, position), in the order of their going.

    local: by the share that its unit has lost before it, so that all lose alike. global: by importance.
    """
    keys = []
    for number, unit in enumerate(units):
        for position, score in enumerate(unit.scores):
            if settings.scope == "local":
                keys.append((1 - unit.left(position) / unit.size, score, number, position))
            elif unit.left(position + 1) >= unit.size * (1 - settings.max_ratio) - _EPSILON:
                keys.append((score, 0.0, number, position))
    # A unit's pieces keep their order: its scores rise, and so do the shares.
    return [(units[number], position) for *_, number, position in sorted(keys)]


def _heads_to_remove(units: list[Unit], subject: Subject, settings: PruneChannels) -> dict[Unit, int]:
    ratio, done = settings.head_ratio, subject.step / subject.steps
    if not ratio or not units:
        return {}
    # Rounded: heads are whole before every step. A part of a head is a head, as in Torch-Pruning.
    left = {
        unit: math.floor(round(_before(unit.size, ratio, subject)) * (1 - ratio * done) + _EPSILON) for unit in units
    }
    for unit, count in left.items():
        if count < 1 and unit.attention is not None:
            raise ModelError(
                f"prune_channels: head_ratio {ratio:g} would remove all {unit.size} heads of {unit.attention.name}",
                "lower head_ratio",
            )
    if settings.scope == "local":
        return {unit: max(0, unit.size - left[unit]) for unit in units}
    to_go = sum(unit.size - left[unit] for unit in units)
    ranked = sorted((score, n, position) for n, unit in enumerate(units) for position, score in enumerate(unit.scores))
    return _counts((units[n], position) for _, n, position in ranked[: max(0, to_go)])


def _counts(order: Iterable[tuple[Unit, int]]) -> dict[Unit, int]:
    counts: dict[Unit, int] = {}
    for unit, position in order:
        counts[unit] = max(counts.get(unit, 0), position + 1)
    return counts


def indices_of(removed: dict[Unit, int]) -> dict[Unit, list[int]]:
    return {unit: sorted(index for piece in unit.pieces[:count] for index in piece) for unit, count in removed.items()}


def _must_run(module: nn.Module, edit: KeepChannels, example: tuple[torch.Tensor, ...]) -> None:
    try:
        with torch.no_grad():
            apply_edits(copy.deepcopy(module), [edit])(*example)
    except Exception as error:  # the user's own forward
        first = (str(error).strip() or "(no message)").splitlines()[0]
        raise ModelError(
            f"the pruned model does not run: {type(error).__name__}: {first}", "protect the layers that it names"
        ) from error


def _widths_of(module: nn.Module, units: Units) -> dict[str, int]:
    """Output channels of every layer that may lose some."""
    return {name: _channels_of(module, name) for unit in units.channels for name in unit.layers}


def _channels_of(module: nn.Module, name: str) -> int:
    """Output channels of a convolution or linear layer."""
    layer = module.get_submodule(name)
    return int(getattr(layer, "out_channels", getattr(layer, "out_features", 0)))


def _reasons(units: Units) -> str:
    parts = []
    if units.protected:
        parts.append(f"protected: {', '.join(sorted(set(units.protected))[:8])}")
    parts += [f"{name}: {why}" for name, why in list(units.skipped.items())[:4]]
    return f" ({'; '.join(parts)})" if parts else ""
