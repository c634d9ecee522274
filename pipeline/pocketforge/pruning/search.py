"""Which indices of which layers hang together with those of one layer, over Torch-Pruning's graph.

Torch-Pruning's own search follows every way through the graph anew, which takes minutes in some models and never ends
in others. This one visits each index of each node once, remembers which of the root's indices led there, and counts
its steps: the same model gives the same answer on every machine, and a search that does not end is given up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pocketforge.pruning.depgraph import Dependency, Handler, Index, Node


class SearchLimitError(Exception):
    """The search took more steps than it may."""


class Budget:
    """Steps that a search may take. Raises SearchLimitError when they are spent."""

    def __init__(self, steps: int) -> None:
        self.steps = self.left = steps

    def spend(self, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            raise SearchLimitError(f"the search did not end within {self.steps:,} steps")


class Place(NamedTuple):
    """The number of a member, the part of it (of a split's output), and how many indices."""

    member: int
    part: int
    taken: int


@dataclass(slots=True, eq=False)
class Member:
    """Indices of one side of one node.

    Attributes:
        dep: By which they were reached.
        roots: Index → the root's index that led to it first, in the order of the search.
    """

    dep: Dependency
    roots: dict[int, int] = field(default_factory=dict)


# One side of one node.
Side = tuple[Node, Handler]


class Reach:
    """All that hangs together with `indices` of one side of `node`.

    members: by node and pruning function. Roots that lead to the same index are one orbit: they go together. lost:
    members that the search could not be led on from, and why. size_of: a dependency → how many indices its target can
    have: what is beyond is led no further.
    """

    def __init__(
        self,
        node: Node,
        root: Dependency,
        indices: Iterable[int],
        budget: Budget,
        size_of: Callable[[Dependency], int],
    ) -> None:
        self.members: dict[Side, Member] = {}
        self.lost: dict[Side, str] = {}
        self._size_of = size_of
        self._parents = {index: index for index in indices}
        self._key = (node, root.handler)
        self.members[self._key] = Member(root, dict(self._parents))
        # As Torch-Pruning walks: a stack, entries noted when they are found. Its group's order is this one.
        stack = [(node, root.handler, [Index(index, index) for index in self._parents])]
        while stack:
            source, function, indices_there = stack.pop()
            for dep in source.dependencies:
                if dep.is_triggered_by(function):
                    try:
                        fresh = self._arrive(dep, _mapped(dep, indices_there, budget))
                    except (IndexError, TypeError, ZeroDivisionError) as error:  # over sizes that were not found
                        self.lost[source, function] = type(error).__name__
                        continue
                    if fresh:
                        stack.append((dep.target, dep.handler, fresh))

    @property
    def root(self) -> Member:
        return self.members[self._key]

    def _arrive(self, dep: Dependency, arrived: Sequence[Index]) -> list[Index]:
        """Those of `arrived` that were not known of the dependency's target."""
        if not arrived:
            return []
        key = (dep.target, dep.handler)
        member = self.members.setdefault(key, Member(dep))
        size = self._size_of(dep)
        fresh = []
        for index in arrived:
            known = member.roots.get(index.idx)
            if known is None:
                member.roots[index.idx] = index.root_idx
                if 0 <= index.idx < size:
                    fresh.append(index)
                else:
                    self.lost[key] = f"index {index.idx} of {size}"
            else:
                self.join(known, index.root_idx)
        return fresh

    def join(self, one: int, other: int) -> None:
        """Two of the root's indices go together."""
        one, other = self.orbit(one), self.orbit(other)
        self._parents[max(one, other)] = min(one, other)

    def orbit(self, root: int) -> int:
        """The least of the root's indices that go together with `root`."""
        while self._parents[root] != root:
            self._parents[root] = root = self._parents[self._parents[root]]
        return root

    def join_partitions(self, partitions: Callable[[Dependency], tuple[int, int]]) -> None:
        """Join what must stay in step: the channels at one place of each part.

        partitions: a dependency → (channels, equal parts they lie in) of its target, parts 1 where it has none.
        """
        for member in self.members.values():
            channels, parts = partitions(member.dep)
            if parts > 1:
                first: dict[int, int] = {}
                for index, root in member.roots.items():
                    self.join(first.setdefault(index % (channels // parts), root), root)

    def orbits(self, part_of: Callable[[Dependency, int], int]) -> dict[int, list[Place]]:
        """For each orbit where it takes indices, and how many. part_of: (dependency, index) → the part of its target
        (of a split) that the index lies in, 0 in all others.
        """
        counts: dict[int, Counter[tuple[int, int]]] = {}
        for number, member in enumerate(self.members.values()):
            for index, root in member.roots.items():
                counts.setdefault(self.orbit(root), Counter())[number, part_of(member.dep, index)] += 1
        return {
            o: [Place(n, part, count) for (n, part), count in sorted(places.items())] for o, places in counts.items()
        }


def _mapped(dep: Dependency, indices: list[Index], budget: Budget) -> list[Index]:
    """The indices, counted as the dependency's target counts."""
    budget.spend(len(indices) + 1)
    for mapping in dep.index_mapping:
        if mapping is not None and indices:
            mapped = mapping(indices)
            if any(index.root_idx is None for index in mapped):  # some mappings forget where an index came from
                mapped = [Index(to.idx, index.root_idx) for index in indices for to in mapping([index])]
            budget.spend(len(mapped))
            indices = mapped
    return indices


def spread(classes: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """(class, position in it) of all entries, so that at any point all classes have given about the same share."""
    keys = [
        ((at + 0.5) / len(entries), number, at) for number, entries in enumerate(classes) for at in range(len(entries))
    ]
    yield from ((number, at) for _, number, at in sorted(keys))
