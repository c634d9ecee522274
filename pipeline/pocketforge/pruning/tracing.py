"""Torch-Pruning's graph of a model, made in steps that are counted and may fail one by one.

What one node's channels become in the next is found by Torch-Pruning for each view, concatenation and split. Where it
fails, or goes on for too long, only what passes that node cannot be pruned.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import nn

from pocketforge.pruning.importance import torch_pruning
from pocketforge.pruning.search import Budget, Index, SearchLimitError

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
    for step in (library.shape_infer.init_shape_information, library.index_mapping.update_index_mapping):
        for module, node in graph.module2node.items():
            if node in lost:
                continue
            budget = Budget(min(NODE_STEPS, max(0, total.left)))
            try:
                step(_one_node(graph, module, node, budget))
            except SearchLimitError:
                lost[node] = f"the search for what its channels become ({kind_of(node)}) does not end"
            except Exception as error:  # divisions by zero, names that were never set
                lost[node] = f"the dependency graph cannot follow its channels ({kind_of(node)}: {type(error).__name__})"
            total.left -= budget.steps - max(0, budget.left)
    for node in graph.module2node.values():
        _map_glu(node)
    return lost


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


def kind_of(node: Any) -> str:
    """What a node computes, as a reader knows it: glu, view, cat."""
    name = type(node.grad_fn).__name__.partition("Backward")[0]
    return name.lower() or type(node.module).__name__


def most_indices(node: Any) -> int | None:
    """How many indices a node that is no layer can have, from the shapes of what it gives; None for parameters."""
    shapes = [one.shape for one in getattr(node.grad_fn, "_input_metadata", ())]
    return sum(max(shape, default=1) for shape in shapes) or None


class _Halves:
    """A gated linear unit: channel i of its output is made of i and i + half of its input."""

    def __init__(self, half: int, reverse: bool) -> None:
        self.half, self.reverse = half, reverse

    def __call__(self, found: list[Index]) -> list[Index]:
        if self.reverse:
            return [Index(i.idx + more, i.root_idx) for i in found for more in (0, self.half)]
        return [Index(i.idx % self.half, i.root_idx) for i in found]


def _map_glu(node: Any) -> None:
    if kind_of(node) != "glu":
        return
    shape = node.grad_fn._saved_self.shape
    # Saved as an unsigned number: -1 is 2^64 - 1.
    dim = node.grad_fn._saved_dim
    dim = dim - 2**64 if dim >= 2**63 else dim
    half = shape[dim] // 2
    for source in node.inputs:
        for dep in node.dependencies:
            if dep.target is source:  # beside the mapping of a split or a concatenation before it
                dep.index_mapping.insert(0, _Halves(half, reverse=True))
        for dep in source.dependencies:
            if dep.target is node:
                dep.index_mapping.append(_Halves(half, reverse=False))


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
            return layer.normalized_shape[-1]

        get_in_channels = get_out_channels

    return RmsNormPruner()
