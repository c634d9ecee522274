"""Torch-Pruning's graph of a model, made in steps that are counted and may fail one by one.

What one node's channels become in the next is found by Torch-Pruning for each view, concatenation and split. Where it
fails, or goes on for too long, only what passes that node cannot be pruned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from pocketforge.pruning.depgraph import (
    Dependency,
    Forward,
    Graph,
    IndexMapping,
    Node,
    empty_graph,
    torch_pruning,
)
from pocketforge.pruning.index_maps import ChannelDims, exact_maps, kind_of, with_constant
from pocketforge.pruning.search import Budget, SearchLimitError

# Steps (questions for a node's channels) for one node, and for all: 100 times what large networks take.
NODE_STEPS = 200_000
ALL_STEPS = 5_000_000


def dependency_graph(model: nn.Module, example: tuple[Tensor, ...], forward: Forward) -> tuple[Graph, dict[Node, str]]:
    """Torch-Pruning's graph of `model`, and the nodes that cannot be followed, with the reason."""
    graph = empty_graph()
    graph.verbose, graph.model, graph.ignored_params = False, model, []
    graph.register_customized_layer(nn.RMSNorm, rms_norm_pruner())
    graph._module2name = {module: name for name, module in model.named_modules()}
    graph._param_to_name, graph.unwrapped_parameters = graph._detect_unwrapped_parameters(None)
    graph.module2node = graph._trace(model, example, forward, output_transform=None)
    graph._build_dependency(graph.module2node)
    return graph, _map_indices(graph)


@dataclass(frozen=True, slots=True)
class _OneNode:
    """What Torch-Pruning's functions over a graph read, with one node to work on; each question costs a step."""

    module2node: dict[object, Node]
    get_out_channels: Callable[[Node], int | None]
    get_in_channels: Callable[[Node], int | None]
    _2d_4d: bool

    @classmethod
    def of(cls, graph: Graph, module: object, node: Node, budget: Budget) -> _OneNode:
        def counted(answer: Callable[[Node], int | None]) -> Callable[[Node], int | None]:
            def ask(asked: Node) -> int | None:
                budget.spend()
                return answer(asked)

            return ask

        return cls({module: node}, counted(graph.get_out_channels), counted(graph.get_in_channels), graph._2d_4d)


class _Follower:
    """Asks Torch-Pruning of one node after the other, and notes the nodes that it cannot follow, with the reason."""

    def __init__(self, graph: Graph) -> None:
        self.lost: dict[Node, str] = {}
        self._graph = graph
        self._total = Budget(ALL_STEPS)

    def ask(self, step: Callable[[_OneNode], object], module: object, node: Node) -> None:
        budget = Budget(min(NODE_STEPS, max(0, self._total.left)))
        kind = kind_of(node)
        try:
            step(_OneNode.of(self._graph, module, node, budget))
        except SearchLimitError:
            self.lost[node] = f"the search for what its channels become ({kind}) does not end"
        except Exception as error:  # divisions by zero, names that were never set
            self.lost[node] = f"the dependency graph cannot follow its channels ({kind}: {type(error).__name__})"
        self._total.left -= budget.steps - max(0, budget.left)


def _map_indices(graph: Graph) -> dict[Node, str]:
    """Give every dependency its mappings; returns the nodes that cannot be followed."""
    library = torch_pruning().dependency
    follower = _Follower(graph)
    lost = follower.lost
    nodes = list(graph.module2node.items())
    for module, node in nodes:
        follower.ask(library.shape_infer.init_shape_information, module, node)
    dims = ChannelDims()
    leaving: dict[int, IndexMapping] = {}
    arriving: dict[int, IndexMapping] = {}
    for module, node in nodes:
        constant = with_constant(node, graph.get_pruner_of_module(module).prune_out_channels)
        mappings = list(exact_maps(node, dims))
        if mappings:
            lost.pop(node, None)
            if constant is not None:
                lost[constant] = "it is added to, or is, a concatenation with a tensor that no weight made"
        elif node not in lost:
            follower.ask(library.index_mapping.update_index_mapping, module, node)
            mappings = list(_taken_away(node))
        for dep, mapping in mappings:
            (leaving if dep.source is node else arriving)[id(dep)] = mapping
    for _, node in nodes:
        for dep in node.dependencies:
            dep.index_mapping = [leaving.get(id(dep)), arriving.get(id(dep))]
    return lost


def _taken_away(node: Node) -> Iterator[tuple[Dependency, IndexMapping]]:
    """The mappings that Torch-Pruning left around a node, taken away: the next node's would overwrite them."""
    neighbours = dict.fromkeys([*node.inputs, *node.outputs])
    for dep in [*node.dependencies, *(d for n in neighbours for d in n.dependencies if d.target is node)]:
        mappings = [mapping for mapping in dep.index_mapping if mapping is not None]
        if mappings:
            yield dep, mappings[0]
        dep.index_mapping = [None, None]


def rms_norm_pruner() -> object:
    """Torch-Pruning 1.6.1 knows layer norm, but not torch's own root mean square norm."""
    base = torch_pruning().pruner.function.BasePruningFunc

    class RmsNormPruner(base):  # type: ignore[misc, valid-type]
        def prune_out_channels(self, layer: nn.RMSNorm, idxs: list[int]) -> nn.RMSNorm:
            channels = layer.normalized_shape[-1]
            left = sorted(set(range(channels)) - set(idxs))
            if layer.weight is not None:
                layer.weight = self._prune_parameter_and_grad(layer.weight, left, layer.weight.ndim - 1)
            layer.normalized_shape = (*layer.normalized_shape[:-1], len(left))
            return layer

        prune_in_channels = prune_out_channels

        def get_out_channels(self, layer: nn.RMSNorm) -> int:
            return int(layer.normalized_shape[-1])

        get_in_channels = get_out_channels

    return RmsNormPruner()
