"""What a channel's index becomes on its way through concatenations, splits and gated linear units, from exact shapes.

Autograd's nodes know the shapes of what they gave. Torch-Pruning infers widths from the layers around, which goes wrong
where something else changes them, and takes a split's parts in the order in which it happens to find their readers.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.autograd.graph import Node as GradientFunction

from pocketforge.pruning.depgraph import Dependency, Handler, Index, IndexMapping, Node, dependency

_SPLITS = ("SplitBackward", "SplitWithSizesBackward")


class Constant:
    """Stands in a graph for a tensor that no weight made."""

    def __init__(self) -> None:
        self.dependencies: list[Dependency] = []
        self.inputs: list[Node] = []
        self.outputs: list[Node] = []
        self.grad_fn: GradientFunction | None = None
        self.pruning_dim = -1

    @property
    def module(self) -> object:
        return self


class _Shift:
    """Indices from `start` on, of `size`, counted from 0; or the other way round."""

    def __init__(self, start: int, size: int, reverse: bool) -> None:
        self.start, self.size, self.reverse = start, size, reverse

    def __call__(self, indices: list[Index]) -> list[Index]:
        if self.reverse:
            return [Index(i.idx + self.start, i.root_idx) for i in indices]
        return [Index(i.idx - self.start, i.root_idx) for i in indices if 0 <= i.idx - self.start < self.size]


class _Halves:
    """A gated linear unit: channel i of its output is made of i and i + half of its input."""

    def __init__(self, half: int, reverse: bool) -> None:
        self.half, self.reverse = half, reverse

    def __call__(self, indices: list[Index]) -> list[Index]:
        if self.reverse:
            return [Index(i.idx + more, i.root_idx) for i in indices for more in (0, self.half)]
        return [Index(i.idx % self.half, i.root_idx) for i in indices]


def kind_of(node: Node) -> str:
    """What a node computes, as a reader knows it: glu, view, cat."""
    name = type(node.grad_fn).__name__.partition("Backward")[0]
    return name.lower() or type(node.module).__name__


def saved(grad_fn: GradientFunction, name: str) -> int:
    """What autograd keeps of an operation's argument."""
    value: int = getattr(grad_fn, f"_saved_{name}")
    return value


def shapes_of(grad_fn: GradientFunction | None) -> list[tuple[int, ...]]:
    """The shapes of what the operation of an autograd node gave; none for what is not one."""
    return [tuple(one.shape) for one in getattr(grad_fn, "_input_metadata", ())]


class ChannelDims:
    """Which dimension of what a node gives the channels lie in; None where views and sums hide it."""

    def __init__(self) -> None:
        self._known: dict[Node, int | None] = {}

    def of(self, node: Node) -> int | None:
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

    def _dim(self, node: Node) -> int | None:
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


def _through(grad_fn: GradientFunction | None, dim: int, given: tuple[int, ...], result: tuple[int, ...]) -> int | None:
    """Where dimension `dim` of what an operation was given is in its result."""
    name = type(grad_fn).__name__
    if grad_fn is not None and name.startswith("PermuteBackward"):
        dims: tuple[int, ...] = getattr(grad_fn, "_saved_dims")  # noqa: B009 - nothing says that it has it
        order = [signed(d) % len(given) for d in dims]
        return order.index(dim)
    if grad_fn is not None and name.startswith("TransposeBackward"):
        one, other = (signed(saved(grad_fn, name)) % len(given) for name in ("dim0", "dim1"))
        return {one: other, other: one}.get(dim, dim)
    if given[: dim + 1] == result[: dim + 1]:
        return dim
    after = len(given) - dim
    if given[dim:] == result[len(result) - after :] and len(result) >= after:
        return len(result) - after
    if len(given) == len(result):
        return dim
    return 1 if len(result) == 2 and dim == 1 else None  # flattened


def signed(dim: int) -> int:
    """Dimensions are saved as unsigned numbers: -1 is 2^64 - 1."""
    return dim - 2**64 if dim >= 2**63 else dim


def edges_of(grad_fn: GradientFunction) -> list[tuple[GradientFunction | None, int]]:
    """The autograd nodes that an operation reads and the number of their output; without plain parameters."""
    return [(f, n) for f, n in grad_fn.next_functions if f is None or "AccumulateGrad" not in type(f).__name__]


def exact_maps(node: Node, dims: ChannelDims) -> Iterator[tuple[Dependency, IndexMapping]]:
    """(dependency, mapping) of a concatenation, split or gated linear unit over channels; none for what is unknown.

    The mapping of a dependency that comes from the node is of its leaving, of one that goes to it of its arriving.
    """
    name = type(node.grad_fn).__name__
    if node.grad_fn is None:
        return
    if name.startswith("CatBackward"):
        yield from _cat(node, node.grad_fn, dims)
    elif name.startswith(_SPLITS):
        yield from _split(node, node.grad_fn, dims)
    elif name.startswith("GluBackward"):
        shape = shapes_of(node.grad_fn)[0]
        dim = dims.of(node)
        if dim is not None and dim == signed(saved(node.grad_fn, "dim")) % len(shape):
            for source in node.inputs:
                yield from ((dep, _Halves(shape[dim], True)) for dep in node.dependencies if dep.target is source)
                yield from ((dep, _Halves(shape[dim], False)) for dep in source.dependencies if dep.target is node)


def _cat(node: Node, grad_fn: GradientFunction, dims: ChannelDims) -> Iterator[tuple[Dependency, IndexMapping]]:
    edges = edges_of(grad_fn)
    result = shapes_of(grad_fn)[0]
    dim = signed(saved(grad_fn, "dim")) % len(result)
    weighted = [edge for edge in edges if edge[0] is not None]
    if len(weighted) != len(node.inputs) or len(edges) - len(weighted) > 1 or dims.of(node) != dim:
        return
    sizes = [shapes_of(f)[n][dim] if f is not None else None for f, n in edges]
    rest = result[dim] - sum(size or 0 for size in sizes)
    sources = iter(node.inputs)
    at = 0
    passed: dict[Node, int] = {}
    for size in sizes:
        if size is None:
            constant = next(d for d in node.dependencies if isinstance(d.target, Constant))
            yield constant, _Shift(at, rest, False)
            at += rest
            continue
        source = next(sources)
        turn = passed[source] = passed.get(source, -1) + 1
        for deps, target, reverse in ((node.dependencies, source, False), (source.dependencies, node, True)):
            between = [dep for dep in deps if dep.target is target]
            if turn < len(between):
                yield between[turn], _Shift(at, size, reverse)
        at += size


def _split(node: Node, grad_fn: GradientFunction, dims: ChannelDims) -> Iterator[tuple[Dependency, IndexMapping]]:
    shapes = shapes_of(grad_fn)
    dim = signed(saved(grad_fn, "dim")) % len(shapes[0])
    if not node.inputs or dims.of(node) != dim:
        return
    starts = split_starts(node)
    for reader in dict.fromkeys(node.outputs):
        numbers = [n for f, n in getattr(reader.grad_fn, "next_functions", ()) if f is grad_fn]
        away = [dep for dep in node.dependencies if dep.target is reader]
        back = [dep for dep in reader.dependencies if dep.target is node]
        if len(numbers) == len(away) == len(back):
            for number, out, into in zip(numbers, away, back, strict=True):
                yield out, _Shift(starts[number], shapes[number][dim], False)
                yield into, _Shift(starts[number], shapes[number][dim], True)


def split_starts(node: Node) -> list[int]:
    """Where each part of a split begins in what is split, in the dimension that it splits; empty for all else."""
    if node.grad_fn is None or not type(node.grad_fn).__name__.startswith(_SPLITS):
        return []
    shapes = shapes_of(node.grad_fn)
    dim = signed(saved(node.grad_fn, "dim")) % len(shapes[0])
    return [sum(shape[dim] for shape in shapes[:number]) for number in range(len(shapes))]


def with_constant(node: Node, function: Handler) -> Constant | None:
    """Give a concatenation with one tensor that no weight made a neighbour that stands for it."""
    if node.grad_fn is None or not type(node.grad_fn).__name__.startswith("CatBackward"):
        return None
    if sum(f is None for f, _ in edges_of(node.grad_fn)) != 1:
        return None
    constant = Constant()
    node.dependencies.append(dependency(function, node, constant))
    return constant
