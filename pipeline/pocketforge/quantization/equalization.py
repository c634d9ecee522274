"""Cross-layer equalization: weights of two layers in a row rescaled by channel, so that one scale fits all channels.

Method: Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction", section 4.1. What
lies between two layers (ReLU, pooling …) commutes with a positive factor on a channel, so the first layer's output
channel may be divided by what the second one's input channel is multiplied with: the function stays, up to float
rounding. ReLU6 does not commute where its cap is reached. The paper replaces it by ReLU; here it stays, and only
channels take part that stay below HEADROOM × 6 on the calibration samples, before and after. On other samples a value
of such a channel beyond 6 is cut elsewhere than before.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pocketforge.errors import ModelError
from pocketforge.metrics import Arrays
from pocketforge.outcomes.quantize import Equalization, EqualizedPair
from pocketforge.quantization.weighted import op_name, owner
from pocketforge.rewrites.graph import first_input

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
LAYERS = (*CONVOLUTIONS, "linear")
CAPPED = ("relu6", "relu6_", "hardtanh", "hardtanh_")
# f(s x) = s f(x) for s > 0, each channel by itself, channels where they were.
COMMUTING = (
    *(
        "relu",
        "relu_",
        "leaky_relu",
        "leaky_relu_",
        "dropout",
        "dropout_",
        "feature_dropout",
        "clone",
        "alias",
        "detach",
    ),
    *("contiguous", "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d"),
    *("adaptive_avg_pool2d", "adaptive_max_pool2d"),
)
FLATTENING = ("flatten", "mean", "squeeze", "view", "reshape")  # from (N, C, …) to (N, C × …), for a linear layer
CAP = 6.0
HEADROOM = 0.5  # the share of the cap that calibrated values stay below, as other samples go higher
ROUNDS = 30  # the most; three layers in a row share the middle one, so pairs are repeated until they rest
SETTLED = 1e-3


@dataclass(frozen=True, slots=True)
class Pair:
    """Two layers whose channels can be rescaled against each other.

    Attributes:
        first: Its output channels are divided by the factors.
        second: Its input channels are multiplied with them.
        cap: The ReLU6 between them; None where none is.
    """

    first: torch.fx.Node
    second: torch.fx.Node
    cap: torch.fx.Node | None


def equalize(graph: torch.fx.GraphModule, samples: Arrays) -> Equalization:
    """Equalize all pairs of layers in `graph`, in place: an eval graph with batch norm folded and weights of its own.

    samples: one array a model input, samples first; only models with a ReLU6 are run on them. Raises ModelError for a
    model with a ReLU6 and no samples.
    """
    pairs = find_pairs(graph)
    for layer in {node for pair in pairs for node in (pair.first, pair.second)}:
        weight = _weight(graph, layer)
        weight.data = weight.data.contiguous()  # factors are applied to a view of it
    seen = _before_caps(graph, samples, [p.cap for p in pairs if p.cap is not None])
    product = {id(pair): torch.ones(_outputs(graph, pair)) for pair in pairs}
    with torch.no_grad():
        for _ in range(ROUNDS):
            moved = 0.0
            for pair in pairs:
                factor = _factor(graph, pair)
                if pair.cap is not None:
                    widest = seen[pair.cap]
                    factor = _within_cap(factor, widest > HEADROOM * CAP, widest / product[id(pair)])
                _apply(graph, pair, factor)
                product[id(pair)] *= factor
                moved = max(moved, float((factor.log().abs()).max()))
            if moved < SETTLED:
                break
    equalized = []
    for pair in pairs:
        factors = product[id(pair)]
        near_cap = int((seen[pair.cap] > HEADROOM * CAP).sum()) if pair.cap is not None else 0
        equalized.append(
            EqualizedPair(
                layers=(owner(pair.first), owner(pair.second)),
                channels=len(factors),
                least_factor=float(factors.min()),
                largest_factor=float(factors.max()),
                channels_near_cap=near_cap,
            )
        )
    return Equalization(tuple(equalized))


def find_pairs(graph: torch.fx.GraphModule) -> list[Pair]:
    """Layers whose whole output goes, through commuting ops only, to one other layer; neither shares its weights."""
    pairs = []
    for node in graph.graph.nodes:
        if not _is_layer(node):
            continue
        cap, flattened, last = None, False, node
        while len(last.users) == 1:
            user = next(iter(last.users))
            name = op_name(user)
            if _is_layer(user) and user.args[0] is last:
                fits = _outputs_of(graph, node) == _inputs_of(graph, user)
                spread = flattened and op_name(node) in CONVOLUTIONS and op_name(user) == "linear"
                if (fits and (op_name(node) == "linear") == (op_name(user) == "linear")) or (
                    spread and _inputs_of(graph, user) % _outputs_of(graph, node) == 0
                ):
                    pairs.append(Pair(node, user, cap))
                break
            if name in CAPPED and cap is None and _caps_at_six(user):
                cap = user
            elif name in FLATTENING and not flattened and _flattens(user, last):
                flattened = True
            elif name not in COMMUTING:
                break
            last = user
    return pairs


def _is_layer(node: torch.fx.Node) -> bool:
    """With weights and bias that are parameters and belong to this node alone."""
    given = [a for a in node.args[1:3] if isinstance(a, torch.fx.Node)]
    return op_name(node) in LAYERS and all(a.op == "get_attr" and len(a.users) == 1 for a in given) and bool(given)


def _caps_at_six(node: torch.fx.Node) -> bool:
    return "relu6" in op_name(node) or tuple(node.args[1:3]) == (0.0, CAP)


def _flattens(node: torch.fx.Node, source: torch.fx.Node) -> bool:
    """Whether (N, C, …) becomes (N, C × …) here, in this order: by the shapes that tracing noted."""
    before, after = (getattr(n.meta.get("val"), "shape", None) for n in (source, node))
    if before is None or after is None or len(before) < 3 or len(after) != 2 or before[0] != after[0]:
        return False
    return bool(after[1] == (before[1] if op_name(node) in ("mean", "squeeze") else before[1:].numel()))


def _value(graph: torch.fx.GraphModule, node: object) -> torch.Tensor:
    assert isinstance(node, torch.fx.Node)
    value: torch.Tensor = operator.attrgetter(str(node.target))(graph)
    return value


def _weight(graph: torch.fx.GraphModule, layer: torch.fx.Node) -> torch.Tensor:
    return _value(graph, layer.args[1])


def _groups(layer: torch.fx.Node) -> int:
    given = layer.args[6] if len(layer.args) > 6 else layer.kwargs.get("groups", 1)
    return int(given) if op_name(layer) in CONVOLUTIONS else 1  # type: ignore[arg-type]


def _outputs_of(graph: torch.fx.GraphModule, layer: torch.fx.Node) -> int:
    return int(_weight(graph, layer).shape[0])


def _inputs_of(graph: torch.fx.GraphModule, layer: torch.fx.Node) -> int:
    return int(_weight(graph, layer).shape[1]) * _groups(layer)


def _outputs(graph: torch.fx.GraphModule, pair: Pair) -> int:
    return _outputs_of(graph, pair.first)


def _by_input(graph: torch.fx.GraphModule, pair: Pair) -> torch.Tensor:
    """The second layer's weight as a view of (groups, outputs a group, inputs a group, the rest)."""
    weight, groups, channels = _weight(graph, pair.second), _groups(pair.second), _outputs(graph, pair)
    return weight.view(groups, weight.shape[0] // groups, channels // groups, -1)


def _factor(graph: torch.fx.GraphModule, pair: Pair) -> torch.Tensor:
    """What each channel between the two is to be divided by: equation 11 of the paper. 1 for a channel of zeros."""
    first = _weight(graph, pair.first).flatten(1).abs().amax(1)
    second = _by_input(graph, pair).abs().amax((1, 3)).flatten()
    usable = (first > 0) & (second > 0)
    return torch.where(usable, torch.sqrt(first * second) / second.clamp(min=torch.finfo(torch.float32).tiny), 1.0)


def _within_cap(factor: torch.Tensor, near: torch.Tensor, widest: torch.Tensor) -> torch.Tensor:
    """As `factor`, but 1 where the cap is near, and nowhere raising the widest value beyond HEADROOM × CAP."""
    return torch.where(near, 1.0, torch.maximum(factor, torch.clamp(widest / (HEADROOM * CAP), max=1.0)))


def _apply(graph: torch.fx.GraphModule, pair: Pair, factor: torch.Tensor) -> None:
    weight = _weight(graph, pair.first)
    weight.div_(factor.view(-1, *[1] * (weight.dim() - 1)))
    if len(pair.first.args) > 2 and pair.first.args[2] is not None:
        _value(graph, pair.first.args[2]).div_(factor)
    groups = _groups(pair.second)
    _by_input(graph, pair).mul_(factor.view(groups, 1, -1, 1))


def _before_caps(
    graph: torch.fx.GraphModule, samples: Arrays, caps: Sequence[torch.fx.Node]
) -> dict[torch.fx.Node, torch.Tensor]:
    """Each channel's largest magnitude of what comes to each ReLU6 on the samples.

    Magnitude, as a channel that happens to be negative on all of them may be as far above 0 on others.
    """
    seen: dict[torch.fx.Node, torch.Tensor] = {}
    watched = set(caps)

    class Watch(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            if n in watched:
                value = self.env[first_input(n)].detach()
                widest = value.movedim(1 if value.dim() > 2 else -1, 0).flatten(1).abs().amax(1)
                seen[n] = torch.maximum(seen[n], widest) if n in seen else widest
            return super().run_node(n)

    if watched and not len(samples[0]):
        raise ModelError(
            "equalize: the model has ReLU6, whose channels are measured on calibration samples, and there are none",
            "set data.calibration_samples to one or more",
        )
    if watched:
        with torch.no_grad():
            for index in range(len(samples[0])):
                Watch(graph).run(*(torch.from_numpy(np.array(a[index : index + 1])) for a in samples))
    return seen
