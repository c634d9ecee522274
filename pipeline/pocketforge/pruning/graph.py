"""Which channels of which layers must be removed together, from Torch-Pruning's dependency graph, and their removal.

Torch-Pruning traces the model (Fang et al. 2023, "DepGraph: Towards Any Structural Pruning"); what hangs together is
searched here (search.py). It never touches the model itself: what it would remove is recorded as a
`surgery.KeepChannels`, and only `surgery` makes the edit, here as in every later load.
"""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node as GradientFunction

from pocketforge.errors import ModelError, ToolMissing
from pocketforge.model.surgery import KeepChannels, record_kept
from pocketforge.pruning.attention import Attention, find_attention, set_heads
from pocketforge.pruning.costs import matches
from pocketforge.pruning.depgraph import Dependency, Handler, Item, Node, Scorer, dependency
from pocketforge.pruning.equality import Equality, tensors_of
from pocketforge.pruning.index_maps import kind_of, shapes_of, split_starts
from pocketforge.pruning.search import Budget, Member, Place, Reach, SearchLimitError, Side
from pocketforge.pruning.tracing import dependency_graph
from pocketforge.pruning.units import Cut, Unit, Units, cut_channels, cut_heads

# Indices visited for one layer, and for all: 20 times what the widest of large networks take.
LAYER_STEPS = 5_000_000
ALL_STEPS = 20_000_000
_PROTECTED = "protected"
# What changes how channels are counted, as far as a message names it.
_VIEWS = {
    "view",
    "unsafeview",
    "reshapealias",
    "cat",
    "pixelshuffle",
    "pixelunshuffle",
    "permute",
    "glu",
    "repeat",
    "slice",
}


Removed = Mapping[Unit, Sequence[int]]


class Dependencies:
    """The dependency graph of a copy of `module`. Raises ModelError when it cannot be traced.

    samples: real inputs, to check cuts with; the example else.
    """

    def __init__(
        self, module: nn.Module, example: tuple[Tensor, ...], samples: Iterable[tuple[Tensor, ...]] = ()
    ) -> None:
        self.module = module
        self.copy = copy.deepcopy(module).eval()
        for tensor in self.copy.parameters():
            if tensor.is_floating_point():  # tracing follows the gradients
                tensor.requires_grad_(True)
        self._outputs: set[GradientFunction | None] = set()
        self._alive: list[Tensor] = []  # the graph holds nodes by their gradient function's identity
        try:
            with torch.enable_grad():
                self.graph, self._lost = dependency_graph(self.copy, example, self._forward)
        except (ModelError, ToolMissing):
            raise
        except Exception as error:  # whatever the user's forward raises, and Torch-Pruning's own
            raise ModelError(
                f"the model's dependency graph cannot be made: {_words(error)}",
                "prune_channels follows plain tensor code; unstructured pruning and drop_layers need no such graph",
            ) from error
        self.names: dict[object, str] = dict(self.graph._module2name)
        self.position = {name: number for number, (name, _) in enumerate(module.named_modules())}
        self.attention = find_attention(module)
        self._inner = {layer: attention for attention in self.attention for layer in attention.layers}
        self._ties = _ties(self.copy)
        nodes = self.graph.module2node.values()
        widths = [max(shape, default=1) for node in nodes for shape in shapes_of(node.grad_fn)]
        self._widest = max([1, *widths, *(size for tensor in module.parameters() for size in tensor.shape)])
        self._starts: dict[Node, list[int]] = {}
        self._equality = Equality(module, example, samples)

    def _forward(self, module: nn.Module, example: tuple[Tensor, ...]) -> list[Tensor]:
        outputs = [output for output in tensors_of(module(*example)) if output.grad_fn is not None]
        if not outputs:
            raise ModelError(
                "no gradient leads from the model's outputs to its weights: it cannot be seen which layers go together",
                "a model that answers class numbers (argmax) is pruned with its scores as the output; what takes their "
                'largest is post = "argmax", or added after',
            )
        self._alive = outputs
        self._outputs = {output.grad_fn for output in outputs}
        return outputs

    def units(self, scorer: Scorer, protect: Iterable[str], round_to: int) -> Units:
        """Everything that may be pruned, in the model's order, each with its pieces."""
        units = Units([], [], [], {})
        protect = list(protect)
        total = Budget(ALL_STEPS)
        covered: dict[Side, set[int]] = {}
        for layer, node in list(self.graph.module2node.items()):
            if not isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)):
                continue
            pruner = self.graph.get_pruner_of_module(layer)
            function = pruner.prune_out_channels
            indices = sorted(set(range(pruner.get_out_channels(layer))) - covered.get((node, function), set()))
            if not indices:
                continue
            budget = Budget(min(LAYER_STEPS, max(0, total.left)))
            try:
                reach = self._reach(layer, function, indices, budget)
            except SearchLimitError:
                units.skip(self.names[layer], "the search for what depends on its channels does not end")
                continue
            finally:
                total.left -= budget.steps - max(0, budget.left)
            for key, member in reach.members.items():
                covered.setdefault(key, set()).update(member.roots)
            self._add_classes(units, reach, scorer, protect, round_to)
        for attention in self.attention:
            if not attention.layers:
                units.skipped.setdefault(attention.name, attention.fixed)
        for name, module in self.copy.named_modules():
            if isinstance(module, nn.RNNBase | nn.RNNCellBase):
                units.skipped.setdefault(name, "its state fixes the width of a recurrent layer")
        for several in (units.channels, units.heads):  # the graph goes from the outputs to the inputs
            several.sort(key=lambda unit: self.position[unit.layers[0]])
        units.skipped = dict(sorted(units.skipped.items(), key=lambda entry: self.position[entry[0]]))
        return units

    def _reach(self, layer: object, function: Handler, indices: Sequence[int], budget: Budget) -> Reach:
        node = self.graph.module2node[layer]
        reach = Reach(node, dependency(function, node, node), indices, budget, self._size_of)
        reach.join_partitions(self._partitions)
        return reach

    def _add_classes(self, units: Units, reach: Reach, scorer: Scorer, protect: list[str], round_to: int) -> None:
        """The units that a search gives: the channels that take as many of the same layers, and stop at the same."""
        members = list(reach.members.values())
        stops = [self._stop(member.dep, protect) for member in members]
        for number, key in enumerate(reach.members):
            if key in reach.lost:
                stops[number] = stops[number] or self._lost_count(reach, key)
        outputs = [self._cut_layer(member.dep) for member in members]
        classes: dict[tuple[tuple[tuple[str, int], ...], tuple[str, ...]], dict[int, list[Place]]] = {}
        for orbit, counts in reach.orbits(self._part_of).items():
            taken = tuple((outputs[at.member], at.taken) for at in counts if outputs[at.member])
            stopped = tuple(dict.fromkeys(stops[at.member] for at in counts if stops[at.member]))
            classes.setdefault((taken, stopped), {})[orbit] = counts
        for (counts_of, whys), orbits in classes.items():
            layers = sorted({name for name, _ in counts_of}, key=self.position.__getitem__)
            if _PROTECTED in whys:
                units.protected += layers
                continue
            attention = next((self._inner[layer] for layer in layers if layer in self._inner), None)
            why = attention.fixed if attention is not None else ""
            why = why or (whys[0] if whys else "")
            unit = None
            if not why:
                unit, why = self._unit(reach, orbits, layers, attention, scorer, round_to)
            if unit is None:
                for name in [attention.name] if attention else layers:
                    units.skip(name, why)
            else:
                (units.heads if attention else units.channels).append(unit)

    def _cut_layer(self, dep: Dependency) -> str:
        """The name of a convolution or linear layer whose outputs the dependency cuts; empty for everything else."""
        layer = dep.target.module
        if isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)) and self._is_output(dep):
            return self.names[layer]
        return ""

    def _is_output(self, dep: Dependency) -> bool:
        return bool(self.graph.is_out_channel_pruning_fn(dep.handler))

    def _stop(self, dep: Dependency, protect: list[str]) -> str:
        """Why what reaches this place must stay; empty when it need not."""
        target, grad_fn = dep.target.module, dep.target.grad_fn
        layer = self._cut_layer(dep)
        if (layer and matches(layer, protect)) or (grad_fn in self._outputs and self._is_output(dep)):
            return _PROTECTED
        if target in self._ties:
            return self._ties[target]
        reads = self.names.get(target) in self._inner and not self._is_output(dep)
        if isinstance(target, (nn.Embedding, nn.MultiheadAttention)) or reads or _table(target):
            return "it carries the embedding stream, whose width attention and embeddings fix"
        return self._lost.get(dep.target, "") or _fixes_width(grad_fn)

    def _unit(
        self,
        reach: Reach,
        orbits: dict[int, list[Place]],
        layers: list[str],
        attention: Attention | None,
        scorer: Scorer,
        round_to: int,
    ) -> tuple[Unit | None, str]:
        if attention is not None and len(attention.layers) == 1:
            # Fused q, k and v: a head is three slices of it, and one of the layer that reads them.
            members = [m for m in reach.members.values() if isinstance(m.dep.target.module, nn.Linear)]
            reader = [m for m in members if not self._is_output(m.dep)]
            if not reader:
                return None, "no layer reads its heads"
            dep = reader[-1].dep
            reach = self._reach(dep.target.module, dep.handler, sorted(reader[-1].roots), Budget(LAYER_STEPS))
            orbits = reach.orbits(self._part_of)
        members = _restricted(reach, orbits)
        if why := self._out_of_step(reach, members):
            return None, why
        roots = sorted(root for root in reach.root.roots if reach.orbit(root) in orbits)
        position = {root: at for at, root in enumerate(roots)}
        group = [Item.of(m.dep, list(m.roots), [position[root] for root in m.roots.values()]) for m in members]
        try:
            importance = scorer(group)
        except Exception as error:  # Torch-Pruning's criteria, on shapes that they do not know
            return None, f"this importance cannot be measured on it: {_words(error)}"
        if importance is None:
            return None, "its group has nothing that this importance is measured on"
        if len(importance) != len(roots):
            return None, f"this importance has {len(importance)} values for its {len(roots)} channels"
        unit = Unit(
            self.names[reach.root.dep.target.module],
            tuple(layers),
            len(roots),
            {root: reach.orbit(root) for root in roots},
            self._cuts(reach, members),
        )
        if attention is not None:
            return cut_heads(unit, attention, importance)
        parts = math.lcm(*(self._partitions(member.dep)[1] for member in members))
        return cut_channels(unit, orbits, parts, importance, round_to)

    def _cuts(self, reach: Reach, members: list[Member]) -> list[Cut]:
        cuts = []
        for member in members:
            target = member.dep.target.module
            name = self.graph._param_to_name.get(target) if isinstance(target, nn.Parameter) else None
            name = name or self.names.get(target)
            if name is not None:
                indices: dict[int, list[int]] = {}
                for index, root in member.roots.items():
                    indices.setdefault(reach.orbit(root), []).append(index)
                dim = member.dep.target.pruning_dim
                cuts.append(Cut(name, member.dep.handler, dim, self._is_output(member.dep), indices))
        return cuts

    def _size_of(self, dep: Dependency) -> int:
        """How many indices the dependency's target can have: a layer's channels, else the widest tensor's."""
        if dep.target.module in self.names:
            count = self.graph.get_out_channels if self._is_output(dep) else self.graph.get_in_channels
            size = count(dep.target)
            if size is not None:
                return size
        return int(self._widest)

    def _part_of(self, dep: Dependency, index: int) -> int:
        """The part of a split that an index lies in: all parts of a chunk must lose as many."""
        node = dep.target
        if node not in self._starts:
            self._starts[node] = split_starts(node)
        return max(0, bisect_right(self._starts[node], index) - 1)

    def _lost_count(self, reach: Reach, key: Side) -> str:
        """Why the channels that reach a place where the search was lost must stay."""
        node = key[0]
        on_the_way = {kind_of(other) for other, _ in reach.members if other.module not in self.names}
        views = ", ".join(sorted(on_the_way & _VIEWS)) or "a view"
        place = self.names.get(node.module) or kind_of(node)
        return f"the dependency graph loses count of its channels at {place} ({views} on the way)"

    def _out_of_step(self, reach: Reach, members: list[Member]) -> str:
        """The layer in whose groups these channels do not lie evenly, so that others' would change places."""
        for member in members:
            channels, parts = self._partitions(member.dep)
            if parts > 1:
                counts: dict[int, list[int]] = {}
                for index, root in member.roots.items():
                    counts.setdefault(reach.orbit(root), [0] * parts)[index // (channels // parts)] += 1
                if any(len(set(of_orbit)) > 1 for of_orbit in counts.values()):
                    name = self.names[member.dep.target.module]
                    return f"its channels do not lie evenly in the {parts} groups of {name}, with those of other layers"
        return ""

    def _partitions(self, dep: Dependency) -> tuple[int, int]:
        """Channels of the dependency's target, and in how many equal parts they lie, each of which must lose as many
        (grouped convolutions, norms).
        """
        layer = dep.target.module
        if isinstance(layer, nn.GroupNorm):
            return layer.num_channels, layer.num_groups
        if isinstance(layer, nn.modules.conv._ConvNd) and layer.groups != layer.out_channels:
            return (layer.out_channels if self._is_output(dep) else layer.in_channels), layer.groups
        return 1, 1

    def record(self, removed: Removed) -> KeepChannels:
        """The edit that removes these indices of these units, with all that depends on them."""
        cuts: dict[tuple[str, Handler, int], set[int]] = {}
        for unit, indices in removed.items():
            gone = {unit.orbits[index] for index in indices}
            for cut in unit.cuts:
                taken = [index for orbit in gone for index in cut.indices.get(orbit, ())]
                if taken:
                    cuts.setdefault((cut.name, cut.handler, cut.dim), set()).update(taken)

        def prune(twin: nn.Module) -> None:
            for (name, handler, dim), gone in cuts.items():
                setattr(handler.__self__, "pruning_dim", dim)  # noqa: B010 - of the pruner, which has no types
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
        tensors = {
            n: {dim: tuple(sorted(indices)) for dim, indices in dims.items()} for n, dims in edit.tensors.items()
        }
        return KeepChannels(tensors, edit.attributes)

    def check(self, removed: Removed) -> str:
        """Why removing these would be wrong, empty when it is right: the model without them must still run, and compute
        what it computes with all their weights at zero (see equality.py).
        """
        if not any(removed.values()):
            return ""
        try:
            wrong = self._equality.differs(self.record(removed))
        except Exception as error:  # the user's forward, or Torch-Pruning's pruners, on shapes that do not fit
            return f"the model does not run without them: {_words(error)}"
        if not wrong:
            return ""
        return "its channels are used in a way that the dependency graph does not see (a shuffle or a fixed view?)"


def _restricted(reach: Reach, orbits: Iterable[int]) -> list[Member]:
    """The members of some of the orbits only, without those that they do not reach."""
    some = set(orbits)
    members = [
        Member(m.dep, {index: root for index, root in m.roots.items() if reach.orbit(root) in some})
        for m in reach.members.values()
    ]
    return [member for member in members if member.roots]


def _ties(module: nn.Module) -> dict[object, str]:
    """Modules that share a weight with another one, and why they must stay."""
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    for name, part in module.named_modules():
        for attribute, parameter in part._parameters.items():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append((part, f"{name}.{attribute}" if name else attribute))
    ties: dict[object, str] = {}
    for sharing in owners.values():
        if len(sharing) > 1:
            names = " and ".join(name for _, name in sharing)
            why = f"{names} are one tensor (tied weights): it cannot be cut for one of them alone"
            ties.update({part: why for part, _ in sharing})
    return ties


def _table(target: object) -> bool:
    """A parameter that is more than one number a channel, such as an embedding of positions."""
    return isinstance(target, nn.Parameter) and sum(size > 1 for size in target.shape) > 1


def _fixes_width(grad_fn: GradientFunction | None) -> str:
    """Why an operation that adds channels of its own fixes a width; empty for all others."""
    kind = type(grad_fn).__name__
    if grad_fn is None:
        return ""
    if kind.startswith("ConstantPadNd") and any(getattr(grad_fn, "_saved_pad", ())[4:6]):
        return "a zero-padded shortcut fixes its width"
    # With one such tensor the widths are known (index_maps.py).
    if kind.startswith("CatBackward") and sum(function is None for function, _ in grad_fn.next_functions) > 1:
        return (
            "it is concatenated with a tensor that no weight made, whose channels the dependency graph does not count"
        )
    return ""


def _words(error: Exception) -> str:
    """An error of the user's forward or of Torch-Pruning in a line."""
    return f"{type(error).__name__}: {(str(error).strip() or '(no message)').splitlines()[0]}"
