"""Channels that go together, and the pieces in which they may go."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pocketforge.pruning.attention import Attention
from pocketforge.pruning.depgraph import Handler
from pocketforge.pruning.search import Place, spread


@dataclass(slots=True, eq=False)
class Cut:
    """What a unit takes of one side of one layer.

    Attributes:
        name: The layer's, or a parameter's.
        handler: What cuts it.
        dim: Of a parameter: the dimension that is cut.
        is_output: Whether its outputs are cut.
        indices: Orbit → the layer's indices that go with it.
    """

    name: str
    handler: Handler
    dim: int
    is_output: bool
    indices: dict[int, list[int]]


@dataclass(slots=True, eq=False)
class Unit:
    """Channels that go together: index i of `root`'s and what depends on it in every other layer.

    Attributes:
        root: The layer whose channels are counted.
        layers: All layers whose outputs are cut, in the model's order.
        size: Channels of the root now, or heads.
        orbits: Root index → what it goes with.
        cuts: What goes with it in every layer.
        attention: Set when the pieces are heads.
        pieces: What may be removed, as the root's indices, least important first; always in this order, and each with
            all the indices that go with its own (partners in a gate, in other groups).
        scores: A piece's mean importance.
    """

    root: str
    layers: tuple[str, ...]
    size: int
    orbits: dict[int, int]
    cuts: list[Cut]
    attention: Attention | None = None
    pieces: list[tuple[int, ...]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def left(self, removed: int) -> int:
        """Channels (or heads) left when the first `removed` pieces are gone."""
        if self.attention is not None:
            return self.size - removed
        return self.size - sum(len(piece) for piece in self.pieces[:removed])

    def widths(self, removed: int) -> dict[str, int]:
        """Output channels that each layer loses with the first `removed` pieces."""
        gone = {self.orbits[index] for piece in self.pieces[:removed] for index in piece}
        return {name: sum(len(part.get(orbit, ())) for orbit in gone) for name, part in self._outputs().items()}

    def share(self) -> dict[str, int]:
        """Output channels of each layer that are this unit's."""
        return {name: sum(len(indices) for indices in part.values()) for name, part in self._outputs().items()}

    def _outputs(self) -> dict[str, dict[int, list[int]]]:
        return {cut.name: cut.indices for cut in self.cuts if cut.name in self.layers and cut.is_output}


@dataclass(slots=True)
class Units:
    """What of a model may be pruned, and what not.

    Attributes:
        channels: Those that may go.
        heads: Of attention, those that may go.
        protected: Layers that were asked to stay, or give the model's output.
        skipped: Layer → why it cannot be pruned.
    """

    channels: list[Unit]
    heads: list[Unit]
    protected: list[str]
    skipped: dict[str, str]

    def skip(self, name: str, why: str) -> None:
        """Note a reason; a layer may have several, for several parts of its channels."""
        known = self.skipped.get(name)
        self.skipped[name] = why if known is None or why in known else f"{known}; {why}"


def cut_heads(unit: Unit, attention: Attention, importance: Tensor) -> tuple[Unit | None, str]:
    if unit.size != attention.heads * attention.head_dim:
        return None, f"it has {unit.size} channels, not {attention.heads} heads of {attention.head_dim}"
    unit.attention, unit.size = attention, attention.heads
    scores = importance.view(attention.heads, -1).mean(1)
    order = torch.argsort(scores, stable=True).tolist()
    width = attention.head_dim
    unit.pieces = [tuple(range(head * width, (head + 1) * width)) for head in order[:-1]]
    unit.scores = [float(scores[head]) for head in order[:-1]]
    return unit, ""


def cut_channels(
    unit: Unit, orbits: Mapping[int, list[Place]], parts: int, importance: Tensor, round_to: int
) -> tuple[Unit | None, str]:
    """Pieces after each of which a multiple of `round_to` outputs of each layer is left.

    Orbits that take as many of every node are alike; all kinds lose the same share, so that halves that go different
    ways stay halves.
    """
    per_orbit = {name: count // len(orbits) for name, count in unit.share().items()}
    least = math.lcm(*(round_to // math.gcd(round_to, count) for count in per_orbit.values()))
    if len(orbits) <= least:
        if least == 1:
            return None, f"its {unit.size} channels all go together"
        together = unit.size // len(orbits)
        in_groups = f" in {parts} groups" if parts > 1 else f", {together} going together," if together > 1 else ""
        leaves = f"{least * together} is the least that round_to {round_to}{in_groups} leaves"
        return None, f"it has {unit.size} channels, and {leaves}"
    members: dict[int, list[int]] = {}
    scores = dict.fromkeys(orbits, 0.0)
    for (root, orbit), value in zip(unit.orbits.items(), importance.tolist(), strict=True):
        members.setdefault(orbit, []).append(root)
        scores[orbit] += value
    scores = {orbit: scores[orbit] / len(members[orbit]) for orbit in orbits}
    kinds: dict[tuple[Place, ...], list[int]] = {}
    for orbit in sorted(orbits, key=lambda orbit: scores[orbit]):
        kinds.setdefault(tuple(orbits[orbit]), []).append(orbit)
    classes = list(kinds.values())
    if len({len(alike) for alike in classes}) == 1 and math.lcm(least, len(classes)) < len(orbits):
        step = math.lcm(least, len(classes))
    else:
        step = least
    order = [classes[number][at] for number, at in spread(classes)]
    at = 0
    for left in range((len(orbits) - 1) // step * step, 0, -step):
        chunk = order[at : len(orbits) - left]
        at += len(chunk)
        unit.pieces.append(tuple(root for orbit in chunk for root in members[orbit]))
        score = sum(scores[orbit] for orbit in chunk) / len(chunk)
        unit.scores.append(max([score, *unit.scores[-1:]]))  # in the order of their going
    return unit, ""
