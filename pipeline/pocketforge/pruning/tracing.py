"""Torch-Pruning's graph of a model, made in steps that are counted and may fail one by one.

What one node's channels become in the next is found by Torch-Pruning for each view, concatenation and split. Where it
fails, or goes on for too long, only what passes that node cannot be pruned.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from torch import nn

from pocketforge.pruning.importance import torch_pruning
from pocketforge.pruning.index_maps import ChannelDims, exact_maps, kind_of, with_constant
from pocketforge.pruning.search import Budget, SearchLimitError

# Steps (questions for a node's channels) for one node, and for all: 100 times what large networks take.
NODE_STEPS = 200_000
ALL_STEPS = 5_000_000


def dependency_graph(model: nn.Module, example: Any, forward: Any) -> tuple[Any, dict[Any, str]]:
    """Torch-Pruning's graph of `model`, and the nodes that cannot be followed, with the reason."""
    graph = torch_pruning().DependencyGraph()
    graph.verbose, graph.model, graph.ignored_params = False, model, []
    graph.register_customized_layer(nn.RMSNorm, rms_norm_pruner())
    graph._module2name = {module: name for name, module in model.named_modules()}
    graph._param_to_name, graph.unwrapped_parameters = graph._detect_unwrapped_parameters(None)
    graph.module2node = graph._trace(model, example, forward, output_transform=None)
    graph._build_dependency(graph.module2node)
    return graph, _map_indices(graph)


def _map_indices(graph: Any) -> dict[Any, str]:
    library = torch_pruning().dependency
    lost: dict[Any, str] = {}
    total = Budget(ALL_STEPS)
    nodes = list(graph.module2node.items())

    def each(step: Any, module: Any, node: Any) -> None:
        budget = Budget(min(NODE_STEPS, max(0, total.left)))
        try:
            step(_one_node(graph, module, node, budget))
        except SearchLimitError:
            lost[node] = f"the search for what its channels become ({kind_of(node)}) does not end"
        except Exception as error:  # divisions by zero, names that were never set
            lost[node] = f"the dependency graph cannot follow its channels ({kind_of(node)}: {type(error).__name__})"
        total.left -= budget.steps - max(0, budget.left)

    for module, node in nodes:
        each(library.shape_infer.init_shape_information, module, node)
    dims = ChannelDims()
    leaving: dict[int, Any] = {}
    arriving: dict[int, Any] = {}
    for module, node in nodes:
        constant = with_constant(node, library.Dependency, graph.get_pruner_of_module(module).prune_out_channels)
        exact = list(exact_maps(node, dims))
        if exact:
            lost.pop(node, None)
            if constant is not None:
                lost[constant] = "it is added to, or is, a concatenation with a tensor that no weight made"
        elif node not in lost:
            each(library.index_mapping.update_index_mapping, module, node)
            exact = list(_theirs(node))
        for dep, mapping in exact:
            (leaving if dep.source is node else arriving)[id(dep)] = mapping
    for _, node in nodes:
        for dep in node.dependencies:
            dep.index_mapping = [leaving.get(id(dep)), arriving.get(id(dep))]
    return lost


def _theirs(node: Any) -> Iterator[tuple[Any, Any]]:
    """The mappings that Torch-Pruning left around a node, taken away: the next node's would overwrite them."""
    neighbours = dict.fromkeys([*node.inputs, *node.outputs])
    for dep in [*node.dependencies, *(d for n in neighbours for d in n.dependencies if d.target is node)]:
        found = [mapping for mapping in dep.index_mapping if mapping is not None]
        if found:
            yield dep, found[0]
        dep.index_mapping = [None, None]


def _one_node(graph: Any, module: Any, node: Any, budget: Budget) -> Any:
    """What Torch-Pruning's functions over a graph read, with one node to work on; each question costs a step."""

    def counted(answer: Any) -> Any:
        def ask(asked: Any) -> Any:
            budget.spend()
            return answer(asked)

        return ask

    return SimpleNamespace(
        module2node={module: node},
        get_out_channels=counted(graph.get_out_channels),
        get_in_channels=counted(graph.get_in_channels),
        _2d_4d=graph._2d_4d,
    )


def rms_norm_pruner() -> Any:
    """Torch-Pruning 1.6.1 knows layer norm, but not torch's own root mean square norm."""
    base = torch_pruning().pruner.function.BasePruningFunc

    class RmsNormPruner(base):  # type: ignore[misc, valid-type]
        def prune_out_channels(self, layer: nn.RMSNorm, idxs: list[int]) -> nn.RMSNorm:
            channels = layer.normalized_shape[-1]
            kept = sorted(set(range(channels)) - set(idxs))
            if layer.weight is not None:
                layer.weight = self._prune_parameter_and_grad(layer.weight, kept, layer.weight.ndim - 1)
            layer.normalized_shape = (*layer.normalized_shape[:-1], len(kept))
            return layer

        prune_in_channels = prune_out_channels

        def get_out_channels(self, layer: nn.RMSNorm) -> int:
            return int(layer.normalized_shape[-1])

        get_in_channels = get_out_channels

    return RmsNormPruner()
