"""What a channel's index becomes on its way through concatenations, splits and gated linear units, from exact shapes.

Autograd's nodes know the shapes of what they gave. Torch-Pruning infers widths from the layers around, which goes wrong
where something else changes them, and takes a split's parts in the order in which it happens to find their readers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from pocketforge.pruning.search import Index

_SPLITS = ("SplitBackward", "SplitWithSizesBackward")
Mapping = Callable[[list[Index]], list[Index]]


class Constant:
    """Stands in a graph for a tensor that no weight made."""

    def __init__(self) -> None:
        self.dependencies: list[Any] = []
        self.module, self.grad_fn, self.pruning_dim = self, None, -1


class _Shift:
    """Indices from `start` on, of `size`, counted from 0; or the other way round."""

    def __init__(self, start: int, size: int, reverse: bool) -> None:
        self.start, self.size, self.reverse = start, size, reverse

    def __call__(self, found: list[Index]) -> list[Index]:
        if self.reverse:
            return [Index(i.idx + self.start, i.root_idx) for i in found]
        return [Index(i.idx - self.start, i.root_idx) for i in found if 0 <= i.idx - self.start < self.size]


class _Halves:
    """A gated linear unit: channel i of its output is made of i and i + half of its input."""

    def __init__(self, half: int, reverse: bool) -> None:
        self.half, self.reverse = half, reverse

    def __call__(self, found: list[Index]) -> list[Index]:
        if self.reverse:
            return [Index(i.idx + more, i.root_idx) for i in found for more in (0, self.half)]
        return [Index(i.idx % self.half, i.root_idx) for i in found]


def kind_of(node: Any) -> str:
    """What a node computes, as a reader knows it: glu, view, cat."""
    name = type(node.grad_fn).__name__.partition("Backward")[0]
    return name.lower() or type(node.module).__name__


def shapes_of(grad_fn: Any) -> list[tuple[int, ...]]:
    """The shapes of what the operation of an autograd node gave; none for what is not one."""
    return [tuple(one.shape) for one in getattr(grad_fn, "_input_metadata", ())]


class ChannelDims:
    """Which dimension of what a node gives the channels lie in; None where views and sums hide it."""

    def __init__(self) -> None:
        self._known: dict[Any, int | None] = {}

    def of(self, node: Any) -> int | None:
        """Of one node; its inputs come first, without recursion: graphs are deep."""
        path = [(node, iter(node.inputs))] if node not in self._known else []
        on_path = {node}
        while path:
            at, inputs = path[-1]
            # A layer that is called twice may be its own input's: what is on the path is left out.
            after = next((i for i in inputs if i not in self._known and i not in on_path), None)
            if after is None:
                path.pop()
                on_path.discard(at)
                self._known[at] = self._dim(at)
            else:
                path.append((after, iter(after.inputs)))
                on_path.add(after)
        return self._known[node]

    def _dim(self, node: Any) -> int | None:
        shapes = shapes_of(node.grad_fn)
        if not shapes:
            return None
        rank = len(shapes[0])
        if isinstance(node.module, (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.GroupNorm)):
            return 1
        if isinstance(node.module, (nn.Linear, nn.LSTM, nn.Embedding)):
            return rank - 1
        for source in node.inputs:
            dim = self._known.get(source)  # None on a circle
            given = shapes_of(source.grad_fn)
            if dim is not None and given:
                return _through(node.grad_fn, dim, given[0], shapes[0])
        return None


def _through(grad_fn: Any, dim: int, given: tuple[int, ...], made: tuple[int, ...]) -> int | None:
    """Where dimension `dim` of what an operation was given is in what it made."""
    name = type(grad_fn).__name__
    if name.startswith("PermuteBackward"):
        order = [signed(d) % len(given) for d in grad_fn._saved_dims]
        return order.index(dim)
    if name.startswith("TransposeBackward"):
        one, other = (signed(d) % len(given) for d in (grad_fn._saved_dim0, grad_fn._saved_dim1))
        return {one: other, other: one}.get(dim, dim)
    if given[: dim + 1] == made[: dim + 1]:
        return dim
    after = len(given) - dim
    if given[dim:] == made[len(made) - after :] and len(made) >= after:
        return len(made) - after
    if len(given) == len(made):
        return dim
    return 1 if len(made) == 2 and dim == 1 else None  # flattened


def signed(dim: int) -> int:
    """Dimensions are saved as unsigned numbers: -1 is 2^64 - 1."""
    return dim - 2**64 if dim >= 2**63 else dim


def edges_of(node: Any) -> list[tuple[Any, int]]:
    """The autograd nodes that an operation reads and the number of their output; without plain parameters."""
    return [(f, n) for f, n in node.grad_fn.next_functions if f is None or "AccumulateGrad" not in type(f).__name__]


def exact_maps(node: Any, dims: ChannelDims) -> Iterator[tuple[Any, Mapping | None]]:
    """(dependency, mapping) of a concatenation, split or gated linear unit over channels; none for what is unknown.

    The mapping of a dependency that comes from the node is of its leaving, of one that goes to it of its arriving.
    """
    name = type(node.grad_fn).__name__
    if name.startswith("CatBackward"):
        yield from _cat(node, dims)
    elif name.startswith(_SPLITS):
        yield from _split(node, dims)
    elif name.startswith("GluBackward") and dims.of(node) == signed(node.grad_fn._saved_dim) % len(
        node.grad_fn._saved_self.shape
    ):
        half = shapes_of(node.grad_fn)[0][dims.of(node) or 0]
        for source in node.inputs:
            yield from ((dep, _Halves(half, True)) for dep in node.dependencies if dep.target is source)
            yield from ((dep, _Halves(half, False)) for dep in source.dependencies if dep.target is node)


def _cat(node: Any, dims: ChannelDims) -> Iterator[tuple[Any, Mapping | None]]:
    edges = edges_of(node)
    made = shapes_of(node.grad_fn)[0]
    dim = signed(node.grad_fn._saved_dim) % len(made)
    there = [edge for edge in edges if edge[0] is not None]
    if len(there) != len(node.inputs) or len(edges) - len(there) > 1 or dims.of(node) != dim:
        return
    sizes = [shapes_of(f)[n][dim] if f is not None else None for f, n in edges]
    rest = made[dim] - sum(size or 0 for size in sizes)
    sources = iter(node.inputs)
    at = 0
    passed: dict[Any, int] = {}
    for size in sizes:
        if size is None:
            constant = next(d for d in node.dependencies if isinstance(d.target, Constant))
            yield constant, _Shift(at, rest, False)
            at += rest
            continue
        source = next(sources)
        turn = passed[source] = passed.get(source, -1) + 1
        for deps, target, reverse in ((node.dependencies, source, False), (source.dependencies, node, True)):
            found = [dep for dep in deps if dep.target is target]
            if turn < len(found):
                yield found[turn], _Shift(at, size, reverse)
        at += size


def _split(node: Any, dims: ChannelDims) -> Iterator[tuple[Any, Mapping | None]]:
    shapes = shapes_of(node.grad_fn)
    dim = signed(node.grad_fn._saved_dim) % len(shapes[0])
    if not node.inputs or dims.of(node) != dim:
        return
    starts = split_starts(node)
    for reader in dict.fromkeys(node.outputs):
        numbers = [n for f, n in getattr(reader.grad_fn, "next_functions", ()) if f is node.grad_fn]
        there = [dep for dep in node.dependencies if dep.target is reader]
        back = [dep for dep in reader.dependencies if dep.target is node]
        if len(numbers) == len(there) == len(back):
            for number, out, into in zip(numbers, there, back, strict=True):
                yield out, _Shift(starts[number], shapes[number][dim], False)
                yield into, _Shift(starts[number], shapes[number][dim], True)


def split_starts(node: Any) -> list[int]:
    """Where each part of a split begins in what is split, in the dimension that it splits; empty for all else."""
    if not type(node.grad_fn).__name__.startswith(_SPLITS):
        return []
    shapes = shapes_of(node.grad_fn)
    dim = signed(node.grad_fn._saved_dim) % len(shapes[0])
    return [sum(shape[dim] for shape in shapes[:number]) for number in range(len(shapes))]


def with_constant(node: Any, dependency: Any, function: Any) -> Constant | None:
    """Give a concatenation with one tensor that no weight made a neighbour that stands for it."""
    if not type(node.grad_fn).__name__.startswith("CatBackward"):
        return None
    if sum(f is None for f, _ in edges_of(node)) != 1:
        return None
    constant = Constant()
    node.dependencies.append(dependency(function, function, source=node, target=constant))
    return constant
