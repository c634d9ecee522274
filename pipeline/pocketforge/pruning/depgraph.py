"""Torch-Pruning 1.6.1 as we use it: it has no types of its own, so this is what its graph is taken to be."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from types import MethodType, ModuleType
from typing import NamedTuple, Protocol

from torch import Tensor, nn
from torch.autograd.graph import Node as GradientFunction

from pocketforge.errors import ToolMissing
from pocketforge.version import install

# A pruner's method, as BasePruningFunc.prune_out_channels: takes a layer or a parameter, and indices that go.
Handler = MethodType
# Makes outputs of the model and an example, whose gradients are traced.
Forward = Callable[[nn.Module, tuple[Tensor, ...]], list[Tensor]]


class Index(NamedTuple):
    """An index of a node's channels and the root's index that led to it, under Torch-Pruning's names."""

    idx: int
    root_idx: int


IndexMapping = Callable[[list[Index]], list[Index]]


class Node(Protocol):
    """A layer, a parameter or an operation of the model. module: that, or Torch-Pruning's own stand-in for it."""

    @property
    def module(self) -> object: ...
    @property
    def grad_fn(self) -> GradientFunction | None: ...
    @property
    def inputs(self) -> Sequence[Node]: ...
    @property
    def outputs(self) -> Sequence[Node]: ...
    @property
    def dependencies(self) -> list[Dependency]: ...
    @property
    def pruning_dim(self) -> int: ...


class Dependency(Protocol):
    """From one side of one node to one side of another, or of itself."""

    index_mapping: list[IndexMapping | None]

    @property
    def source(self) -> Node: ...
    @property
    def target(self) -> Node: ...
    @property
    def handler(self) -> Handler: ...
    def is_triggered_by(self, function: Handler, /) -> bool: ...


class Pruner(Protocol):
    """What cuts one kind of layer."""

    @property
    def prune_out_channels(self) -> Handler: ...
    def get_out_channels(self, layer: object, /) -> int: ...


class Graph(Protocol):
    """A `DependencyGraph`; names with _ are its own steps, which `tracing` takes one by one."""

    verbose: bool
    model: nn.Module
    ignored_params: list[nn.Parameter]
    module2node: Mapping[object, Node]
    unwrapped_parameters: object
    _module2name: Mapping[object, str]
    _param_to_name: Mapping[object, str]

    @property
    def _2d_4d(self) -> bool: ...
    def register_customized_layer(self, kind: type[nn.Module], pruner: object, /) -> None: ...
    def get_pruner_of_module(self, module: object, /) -> Pruner: ...
    def get_out_channels(self, node: Node, /) -> int | None: ...
    def get_in_channels(self, node: Node, /) -> int | None: ...
    def is_out_channel_pruning_fn(self, function: Handler, /) -> bool: ...
    def _detect_unwrapped_parameters(self, given: None, /) -> tuple[Mapping[object, str], object]: ...
    def _trace(
        self, model: nn.Module, example: tuple[Tensor, ...], forward: Forward, *, output_transform: None
    ) -> Mapping[object, Node]: ...
    def _build_dependency(self, nodes: Mapping[object, Node], /) -> None: ...


class Item(tuple[Dependency, list[int]]):
    """An entry of a group as Torch-Pruning's importance criteria read it: (dep, idxs), and root_idxs beside them."""

    root_idxs: list[int]

    @classmethod
    def of(cls, dep: Dependency, idxs: list[int], root_idxs: list[int]) -> Item:
        item = cls((dep, idxs))
        item.root_idxs = root_idxs
        return item

    @property
    def dep(self) -> Dependency:
        return self[0]

    @property
    def idxs(self) -> list[int]:
        return self[1]


Group = Sequence[Item]
# A group → importance of each of its root's channels; None where it has none.
Scorer = Callable[[Group], Tensor | None]


def torch_pruning() -> ModuleType:
    """The library. Raises ToolMissing when it is not installed."""
    try:
        return importlib.import_module("torch_pruning")
    except ImportError as error:
        raise ToolMissing(f"prune_channels needs the package torch-pruning: {error}", install("compress")) from error


def empty_graph() -> Graph:
    """A dependency graph of no model yet."""
    graph: Graph = torch_pruning().DependencyGraph()
    return graph


def dependency(function: Handler, source: Node, target: Node) -> Dependency:
    """That what `function` cuts of the source is cut of the target by the same."""
    new: Dependency = torch_pruning().dependency.Dependency(function, function, source=source, target=target)
    return new
