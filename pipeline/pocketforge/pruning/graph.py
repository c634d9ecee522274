"""Which channels of which layers must be removed together, from Torch-Pruning's dependency graph, and their removal.

Torch-Pruning traces the model and finds the groups (Fang et al. 2023, "DepGraph: Towards Any Structural Pruning"). It
never touches the model itself: what it would remove is recorded as a `surgery.KeepChannels`, and only `surgery` makes
the edit, here as in every later load.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.model.surgery import KeepChannels, apply_edits, record_kept
from pocketforge.pruning.attention import Attention, find_attention, set_heads
from pocketforge.pruning.costs import matches
from pocketforge.pruning.importance import Scorer, torch_pruning


@dataclass(slots=True, eq=False)
class Unit:
    """Channels that go together: index i of `root`'s and what depends on it in every other layer.

    root, to_output: the layer whose outputs (or inputs) the indices count. layers: all layers whose outputs are cut, in
    the model's order. size: channels now, or heads. pieces: what may be removed, as indices, least important first;
    always in this order. scores: a piece's mean importance. attention: set when the pieces are heads. statistics: a
    norm computes over these channels: without them the model computes something else than with them at zero.
    """

    root: str
    to_output: bool
    layers: tuple[str, ...]
    size: int
    attention: Attention | None = None
    pieces: list[tuple[int, ...]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    statistics: bool = False

    def left(self, removed: int) -> int:
        """Channels (or heads) left when the first `removed` pieces are gone."""
        if self.attention is not None:
            return self.size - removed
        return self.size - sum(len(piece) for piece in self.pieces[:removed])


@dataclass(slots=True)
class Units:
    """channels, heads: what may be pruned. protected: layers that were asked to stay, or give the model's output.

    skipped: layer → why it cannot be pruned.
    """

    channels: list[Unit]
    heads: list[Unit]
    protected: list[str]
    skipped: dict[str, str]


Removed = Mapping[Unit, Sequence[int]]


class Dependencies:
    """The dependency graph of a copy of `module`. Raises ModelError when it cannot be traced."""

    def __init__(self, module: nn.Module, example: tuple[Tensor, ...]) -> None:
        library = torch_pruning()
        self.module = module
        self.example = example
        self.copy = copy.deepcopy(module).eval()
        for tensor in self.copy.parameters():
            if tensor.is_floating_point():  # tracing follows the gradients
                tensor.requires_grad_(True)
        self._outputs: set[Any] = set()
        self._kept: list[Any] = []  # the graph holds nodes by their gradient function's identity
        try:
            with torch.enable_grad():
                self.graph = library.DependencyGraph().build_dependency(
                    self.copy, example_inputs=example, forward_fn=self._forward, verbose=False
                )
        except ModelError:
            raise
        except Exception as error:  # whatever the user's forward raises, and Torch-Pruning's own
            first = (str(error).strip() or "(no message)").splitlines()[0]
            raise ModelError(
                f"the model's dependency graph cannot be made: {type(error).__name__}: {first}",
                "prune_channels follows plain tensor code; unstructured pruning and drop_layers need no such graph",
            ) from error
        self.names: dict[Any, str] = dict(self.graph._module2name)
        self.position = {name: number for number, (name, _) in enumerate(module.named_modules())}
        self.attention = find_attention(module)

    def _forward(self, module: nn.Module, example: tuple[Tensor, ...]) -> list[Tensor]:
        outputs = [output for output in _tensors(module(*example)) if output.grad_fn is not None]
        if not outputs:
            raise ModelError("the model's output depends on none of its weights: there is nothing to prune")
        self._kept = outputs
        self._outputs = {output.grad_fn for output in outputs}
        return outputs

    def units(self, scorer: Scorer, protect: Iterable[str], round_to: int) -> Units:
        """Everything that may be pruned, in the model's order, each with its pieces."""
        found = Units([], [], [], {})
        protect = list(protect)
        inner = {layer: attention for attention in self.attention for layer in attention.layers}
        types = [nn.modules.conv._ConvNd, nn.Linear]
        for group in self.graph.get_all_groups(root_module_types=types):
            layers = self._cut_layers(group)
            name = layers[0]
            if any(matches(layer, protect) for layer in layers) or self._gives_output(group):
                found.protected += layers
                continue
            attention = next((inner[layer] for layer in layers if layer in inner), None)
            why = self._fixed_width(group, attention, inner)
            unit = None
            if not why:
                unit, why = self._unit(group, layers, attention, scorer, round_to)
            if unit is None:
                found.skipped[attention.name if attention else name] = why
            else:
                (found.heads if attention else found.channels).append(unit)
        for attention in self.attention:
            if not attention.layers:
                found.skipped.setdefault(attention.name, attention.fixed)
        for units in (found.channels, found.heads):  # the graph goes from the outputs to the inputs
            units.sort(key=lambda unit: self.position[unit.layers[0]])
        found.skipped = dict(sorted(found.skipped.items(), key=lambda entry: self.position[entry[0]]))
        return found

    def _cut_layers(self, group: Any) -> list[str]:
        """Convolutions and linear layers whose outputs the group cuts, in the model's order."""
        names = []
        for dep, _ in group:
            layer = dep.target.module
            if isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)) and self._is_output(dep):
                names.append(self.names[layer])
        return sorted(set(names), key=self.position.__getitem__)

    def _is_output(self, dep: Any) -> bool:
        return bool(self.graph.is_out_channel_pruning_fn(dep.handler))

    def _gives_output(self, group: Any) -> bool:
        return any(dep.target.grad_fn in self._outputs and self._is_output(dep) for dep, _ in group)

    def _fixed_width(self, group: Any, attention: Attention | None, inner: Mapping[str, Attention]) -> str:
        """Why the group's channels must stay; empty when they need not."""
        if attention is not None and attention.fixed:
            return attention.fixed
        for dep, _ in group:
            target, grad_fn = dep.target.module, dep.target.grad_fn
            reads = self.names.get(target) in inner and not self._is_output(dep)
            if isinstance(target, (nn.Embedding, nn.MultiheadAttention)) or reads or _table(target):
                return "it carries the embedding stream, whose width attention and embeddings fix"
            if _pads_channels(grad_fn):
                return "a zero-padded shortcut fixes its width"
        return ""

    def _unit(
        self, group: Any, layers: list[str], attention: Attention | None, scorer: Scorer, round_to: int
    ) -> tuple[Unit | None, str]:
        if attention is not None and len(attention.layers) == 1:
            # Fused q, k and v: a head is three slices of it, and one of the layer that reads them.
            reader = [(d, i) for d, i in group if isinstance(d.target.module, nn.Linear) and not self._is_output(d)]
            if not reader:
                return None, "no layer reads its heads"
            dep, indices = reader[-1]
            group = self.graph.get_pruning_group(dep.target.module, dep.handler, sorted(set(indices)))
        if not self._within(group):
            return None, "the dependency graph loses count of its channels (a concatenation that is flattened?)"
        importance = scorer(group)
        if importance is None:
            return None, "its group has nothing that this importance is measured on"
        dep, indices = group[0]
        statistics = any(isinstance(d.target.module, (nn.LayerNorm, nn.GroupNorm)) for d, _ in group)
        unit = Unit(self.names[dep.target.module], self._is_output(dep), tuple(layers), len(indices))
        unit.statistics = statistics
        if attention is not None:
            return _heads(unit, attention, importance)
        return _chunks(unit, self._partitions(group), importance, round_to)

    def _within(self, group: Any) -> bool:
        """Whether every index is one of its layer's: a flattened concatenation's are not."""
        for dep, indices in group:
            if dep.target.module in self.names:
                count = self.graph.get_out_channels if self._is_output(dep) else self.graph.get_in_channels
                channels = count(dep.target)
                if channels is not None and max(indices, default=0) >= channels:
                    return False
        return True

    def _partitions(self, group: Any) -> int:
        """In how many equal parts the channels lie, each of which must lose as many (grouped convolutions, norms)."""
        parts = 1
        for dep, _ in group:
            layer = dep.target.module
            if isinstance(layer, nn.GroupNorm):
                parts = math.lcm(parts, layer.num_groups)
            elif isinstance(layer, nn.modules.conv._ConvNd) and layer.groups != layer.out_channels:
                parts = math.lcm(parts, layer.groups)
        return parts

    def record(self, removed: Removed) -> KeepChannels:
        """The edit that removes these indices of these units, with all that depends on them."""
        cuts: dict[tuple[str, Any, int], set[int]] = {}
        for unit, indices in removed.items():
            if not indices:
                continue
            root = self.copy.get_submodule(unit.root)
            pruner = self.graph.get_pruner_of_module(root)
            function = pruner.prune_out_channels if unit.to_output else pruner.prune_in_channels
            for dep, found in self.graph.get_pruning_group(root, function, sorted(indices)):
                target = dep.target.module
                name = self.graph._param_to_name.get(target) if isinstance(target, nn.Parameter) else None
                name = name or self.names.get(target)
                if name is not None:
                    cuts.setdefault((name, dep.handler, dep.target.pruning_dim), set()).update(found)

        def prune(twin: nn.Module) -> None:
            for (name, handler, dim), gone in cuts.items():
                handler.__self__.pruning_dim = dim
                owner, _, last = name.rpartition(".")
                target = getattr(twin.get_submodule(owner), last)
                result = handler(target, sorted(gone))
                if isinstance(target, nn.Parameter):
                    setattr(twin.get_submodule(owner), last, result)
            for unit, indices in removed.items():
                if unit.attention is not None and indices:
                    set_heads(twin, unit.attention, unit.size - len(indices) // unit.attention.head_dim)

        edit = record_kept(self.module, prune)
        # Torch-Pruning keeps layer norm's channels in the order of a Python set, which is not always rising.
        tensors = {n: {dim: tuple(sorted(kept)) for dim, kept in dims.items()} for n, dims in edit.tensors.items()}
        return KeepChannels(tensors, edit.attributes)

    def check(self, removed: Removed) -> str:
        """Why removing these would be wrong, empty when it is right: the model without them must still run, and compute
        what it computes with all their weights at zero (where no norm's statistics change).
        """
        try:
            edit = self.record(removed)
            cut = apply_edits(copy.deepcopy(self.module), [edit]).double()
            with torch.no_grad():
                example = tuple(x.double() if x.is_floating_point() else x for x in self.example)
                found = cut(*example)
                if any(unit.statistics for unit, indices in removed.items() if indices):
                    return ""
                wanted = _zeroed(self.module, edit).double()(*example)
        except Exception as error:  # the user's forward, or Torch-Pruning's pruners, on shapes that do not fit
            first = (str(error).strip() or "(no message)").splitlines()[0]
            return f"the model does not run without them: {type(error).__name__}: {first}"
        pairs = list(zip(_tensors(found), _tensors(wanted), strict=True))
        if all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in pairs):
            return ""
        return "its channels are used in a way that the dependency graph does not see (a shuffle or a fixed view?)"


def _heads(unit: Unit, attention: Attention, importance: Tensor) -> tuple[Unit | None, str]:
    if unit.size != attention.heads * attention.head_dim:
        return None, f"it has {unit.size} channels, not {attention.heads} heads of {attention.head_dim}"
    unit.attention, unit.size = attention, attention.heads
    scores = importance.view(attention.heads, -1).mean(1)
    order = torch.argsort(scores, stable=True).tolist()
    width = attention.head_dim
    unit.pieces = [tuple(range(head * width, (head + 1) * width)) for head in order[:-1]]
    unit.scores = [float(scores[head]) for head in order[:-1]]
    return unit, ""


def _chunks(unit: Unit, parts: int, importance: Tensor, round_to: int) -> tuple[Unit | None, str]:
    """Pieces after each of which a multiple of `round_to` channels is left, as many in each of the `parts`."""
    if unit.size % parts:
        return None, f"it has {unit.size} channels in {parts} groups"
    least = math.lcm(round_to, parts)
    if unit.size <= least:
        in_groups = f" in {parts} groups" if parts > 1 else ""
        return None, f"it has {unit.size} channels, and {least} is the least that round_to {round_to}{in_groups} leaves"
    scores = importance.view(parts, -1).mean(0)
    order = torch.argsort(scores, stable=True).tolist()
    size = unit.size // parts
    at = 0
    left = (unit.size - 1) // least * least
    while left >= least:
        chunk = order[at : size - left // parts]
        at += len(chunk)
        unit.pieces.append(tuple(part * size + index for part in range(parts) for index in chunk))
        unit.scores.append(float(scores[chunk].mean()))
        left -= least
    return unit, ""


def _table(target: Any) -> bool:
    """A parameter that is more than one number a channel, such as an embedding of positions."""
    return isinstance(target, nn.Parameter) and sum(size > 1 for size in target.shape) > 1


def _pads_channels(grad_fn: Any) -> bool:
    """An operation that adds constant channels: F.pad, or a concatenation with something that no weight made."""
    kind = type(grad_fn).__name__
    if kind.startswith("ConstantPadNd"):
        return any(grad_fn._saved_pad[4:6])
    if kind.startswith("CatBackward"):
        return any(function is None for function, _ in grad_fn.next_functions)
    return False


def _zeroed(module: nn.Module, edit: KeepChannels) -> nn.Module:
    """A copy of the whole module with zeros wherever `edit` keeps nothing."""
    whole = copy.deepcopy(module)
    tensors = dict(whole.named_parameters()) | dict(whole.named_buffers())
    for name, dims in edit.tensors.items():
        for dim, kept in dims.items():
            keep = torch.zeros(tensors[name].shape[dim], dtype=torch.bool)
            keep[list(kept)] = True
            shape = [-1 if d == dim else 1 for d in range(tensors[name].ndim)]
            tensors[name].data.mul_(keep.view(shape))
    return whole


def _tensors(output: Any) -> list[Tensor]:
    """Every tensor in a model's output, however nested."""
    if isinstance(output, Tensor):
        return [output]
    inside = output.values() if isinstance(output, Mapping) else output if isinstance(output, (list, tuple)) else ()
    return [tensor for item in inside for tensor in _tensors(item)]
