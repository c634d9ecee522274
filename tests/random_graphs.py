"""Random small networks from a grammar of layer kinds and joins: what exporters, folds and pruning are held against.

`make(seed)` gives the same network each time. At most 8 steps, 16 channels, maps of 12 × 12. Its source is a model
definition as users write one, so a graph that fails can be cut down by hand.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import random_graph_joins  # noqa: F401  adds its kinds to the table
import torch
from random_graph_builder import BATCH, WEIGHTED, Builder, Unsuitable, Value, varies
from random_graph_kinds import CHAINED, KINDS, suitable
from torch import Tensor, nn
from torch.nn import functional as F

MOST_STEPS = 8
EACH_KIND = 1_000_000
# A step of the kind on the network's own input, and a layer behind it.
KIND_FIRST = 2_000_000
SECOND_READER = 100_000
# Kinds that need another value of the same shape; what comes before kinds that the inputs alone do not suit.
JOINS = frozenset({
    *("add", "add with alpha", "subtract", "subtract with alpha", "multiply", "maximum", "average", "stack", "gate"),
    *("interpolate", "concatenate", "concatenate three"),
})  # fmt: skip
BEFORE = {"concatenate three": "concatenate", "relu in place": "tanh"}
FIRST_LAYER = {2: "linear", 3: "conv1d pointwise", 4: "conv2d pointwise"}


@dataclass(frozen=True, slots=True)
class RandomGraph:
    """A network in eval mode, with weights.

    inputs: to trace with, batch 1. samples: an array an input, samples first. kinds: of its steps, in their order.
    recipe: its source, a model definition with `build()`, without the weights. members: of a grove, its networks.
    """

    seed: int
    module: nn.Module
    inputs: tuple[Tensor, ...]
    samples: tuple[Tensor, ...]
    kinds: tuple[str, ...]
    recipe: str
    members: tuple[RandomGraph, ...] = ()

    def draw(self, count: int, seed: int = 0) -> tuple[Tensor, ...]:
        """`count` other samples of the same distribution."""
        if self.members:
            return tuple(tensor for member in self.members for tensor in member.draw(count, seed))
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + seed)
        return tuple(_samples(tuple(i.shape[1:]), i.is_floating_point(), count, generator) for i in self.inputs)


def make(seed: int, steps: int | None = None) -> RandomGraph:
    """The network of a seed. steps: stop after so many (a failing graph is looked for in its beginnings).

    Seeds from EACH_KIND on: the smallest network of each kind in turn, a layer and a step of that kind. From KIND_FIRST
    on the step comes first, on what nothing has quantized yet, and the layer behind it; SECOND_READER further the input
    is read by a layer of its own as well.
    """
    with torch.random.fork_rng(devices=[]):
        for attempt in range(100 if seed < EACH_KIND else 2000):
            torch.manual_seed(1000 * seed + attempt)
            try:
                return _build(seed, random.Random(1000 * seed + attempt), steps)
            except Unsuitable:
                continue
    raise AssertionError(f"no network from seed {seed} in so many attempts")


GROVE = """class Grove(nn.Module):
    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList([{nets}])

    def forward(self, {inputs}):
        found = [{calls}]
        return tuple(each for one in found for each in (one if isinstance(one, tuple) else (one,)))


def build():
    return Grove()
"""


def grove(graphs: Sequence[RandomGraph]) -> RandomGraph:
    """The networks side by side as one, inputs after inputs and outputs after outputs: what a trace, a quantization and
    an export cost whatever the network is then paid once. Nothing of one reaches another.
    """
    parts, calls = [], []
    first = 0
    for number, graph in enumerate(graphs):
        inner = "".join(f"    {line}" if line.strip() else line for line in graph.recipe.splitlines(keepends=True))
        parts.append(f"def net_{number}():\n{inner}\n    return build()\n")
        names = (f"x{first + i}" for i in range(len(graph.inputs)))
        calls.append(f"self.nets[{number}]({', '.join(names)})")
        first += len(graph.inputs)
    made = ", ".join(f"net_{number}()" for number in range(len(graphs)))
    inputs = ", ".join(f"x{number}" for number in range(first))
    parts.append(GROVE.format(nets=made, inputs=inputs, calls=", ".join(calls)))
    recipe = "\n\n".join(parts)
    scope: dict[str, object] = {"torch": torch, "nn": nn, "F": F}
    exec(compile(recipe, "<random graphs>", "exec"), scope)
    module: nn.Module = scope["build"]()  # type: ignore[operator]
    for own, graph in zip(module.nets, graphs, strict=True):  # type: ignore[arg-type]
        own.load_state_dict(graph.module.state_dict())
    return RandomGraph(
        graphs[0].seed,
        module.eval().requires_grad_(True),
        tuple(tensor for graph in graphs for tensor in graph.inputs),
        tuple(tensor for graph in graphs for tensor in graph.samples),
        tuple(kind for graph in graphs for kind in graph.kinds),
        recipe,
        tuple(graphs),
    )


def _build(seed: int, choose: random.Random, steps: int | None) -> RandomGraph:
    generator = torch.Generator().manual_seed(seed)
    inputs = [
        Value(f"x{number}", _samples(shape, floating, BATCH, generator))
        for number, (shape, floating) in enumerate(_input_shapes(choose))
    ]
    builder = Builder(choose, inputs)
    chain = False
    if seed >= KIND_FIRST:
        _first(
            builder, list(KINDS)[(seed - KIND_FIRST) % SECOND_READER % len(KINDS)], seed - KIND_FIRST >= SECOND_READER
        )
    elif seed >= EACH_KIND:
        _one_of(builder, list(KINDS)[(seed - EACH_KIND) % len(KINDS)])
    else:
        chain = len(inputs) == 1 and inputs[0].rank != 2 and choose.random() < 0.15
        count = choose.randint(2, MOST_STEPS)
        for position in range(count if steps is None else min(steps, count)):
            _step(builder, chain, position)
    if not any(isinstance(m, WEIGHTED) for m in builder.net.modules()):
        raise Unsuitable("no layer with a weight")
    if any(i.name not in builder.used for i in inputs):
        raise Unsuitable("an input that nothing reads")
    outputs = [builder.newest] if chain else _heads(builder)
    recipe = _sequential(builder) if chain else _module(builder, outputs)
    module = _instance(recipe, builder, chain)
    _check_outputs(module, inputs)
    return RandomGraph(
        seed,
        module,
        tuple(i.tensor[:1].clone() for i in inputs),
        tuple(i.tensor for i in inputs),
        tuple(builder.kinds),
        recipe,
    )


def _input_shapes(choose: random.Random) -> list[tuple[tuple[int, ...], bool]]:
    """Shape of a sample and whether it is of floats, an input each."""
    size = choose.choice([6, 7, 8, 9, 12])
    image = (choose.choice([1, 2, 3, 3, 4, 8]), size, choose.choice([size, size, 8, 10, 5]))
    sequence, vector = (choose.choice([2, 3, 4, 6]), choose.choice([8, 9, 12, 16])), (choose.choice([4, 6, 8, 12]),)
    kind = choose.choices(["image", "sequence", "vector", "tokens", "pair", "image and vector"], [62, 14, 7, 7, 7, 3])[
        0
    ]
    found: dict[str, list[tuple[tuple[int, ...], bool]]] = {
        "image": [(image, True)],
        "sequence": [(sequence, True)],
        "vector": [(vector, True)],
        "tokens": [((choose.choice([5, 6, 8]),), False)],
        "pair": [(image, True), (image, True)],
        "image and vector": [(image, True), (vector, True)],
    }
    return found[kind]


def _samples(shape: tuple[int, ...], floating: bool, count: int, generator: torch.Generator) -> Tensor:
    if not floating:
        return torch.randint(0, 16, (count, *shape), generator=generator)
    # Each with a level and a contrast of its own: networks that take means must answer differently too.
    ones = (1,) * (len(shape) - 1)
    level = torch.randn((count, shape[0], *ones), generator=generator) * 0.5
    contrast = torch.rand((count, 1, *ones), generator=generator) + 0.5
    return torch.randn((count, *shape), generator=generator) * contrast + level


def _one_of(builder: Builder, name: str) -> None:
    """A convolution or linear layer, where the kind takes what it gives, and a step of the kind."""
    x = builder.inputs[0]
    if len(builder.inputs) > 1:
        raise Unsuitable("one input is enough")
    first = FIRST_LAYER[x.rank]
    before = [first] * builder.random.choice([1, 1, 1, 2])
    steps = [name, "linear"] if KINDS[name].tokens else [*before, name]
    for step in steps:
        x = builder.newest
        if step not in suitable(x) or not builder.attempt(step, KINDS[step].step, x):
            raise Unsuitable(f"{step} does not fit")


def _first(builder: Builder, name: str, second_reader: bool) -> None:
    """A step of the kind on the input, then a layer; and another layer on the input, where that has a second reader.

    A join is of two inputs.
    """
    if len(builder.inputs) != (2 if name in JOINS else 1):
        raise Unsuitable("another number of inputs is enough")
    value = builder.inputs[0]
    if name in BEFORE:
        _attempt(builder, BEFORE[name], value)
        value = builder.newest
    _attempt(builder, name, value)
    for value in (builder.newest, *builder.inputs[:second_reader]):
        _attempt(builder, FIRST_LAYER.get(value.rank, "") if value.tensor.is_floating_point() else name, value)


def _attempt(builder: Builder, step: str, value: Value) -> None:
    if step not in suitable(value) or not builder.attempt(step, KINDS[step].step, value):
        raise Unsuitable(f"{step or 'no layer'} does not fit")


def _step(builder: Builder, chain: bool, position: int) -> None:
    x = builder.newest
    if not chain and builder.values and builder.random.random() < 0.15:
        x = builder.random.choice([*builder.inputs, *builder.values])  # a branch
    elif not chain and position == 0:
        x = builder.inputs[0]
    elif not chain and any(i.name not in builder.used for i in builder.inputs) and builder.random.random() < 0.5:
        x = next(i for i in builder.inputs if i.name not in builder.used)
    names = [n for n in suitable(x) if n in CHAINED or not chain]
    if not names:
        raise Unsuitable("no kind fits")
    for _ in range(20):
        name = builder.random.choices(names, [KINDS[n].weight for n in names])[0]
        if builder.attempt(name, KINDS[name].step, x):
            return
    raise Unsuitable("no kind fits")


def _heads(builder: Builder) -> list[Value]:
    """What the network answers: its last value, and every other that nothing reads; integers and masks of them too."""
    loose = [v for v in builder.values if v.name not in builder.used]
    outputs = loose[-3:]
    for value in loose[:-3]:
        raise Unsuitable(f"{value.name} is read by nothing")
    draw = builder.random.random()
    last = outputs[-1]
    if draw < 0.08 and last.channels > 2 and len(outputs) < 3:
        builder.kinds.append("argmax")
        outputs.append(builder.op("{0}.argmax(1, keepdim=True)", last))
    elif draw < 0.11 and len(outputs) < 3:
        builder.kinds.append("mask")
        outputs.append(builder.op("{0} > 0", last))
    elif draw < 0.2 and len(builder.values) > 1:
        builder.kinds.append("inner output")
        outputs.append(builder.random.choice([v for v in builder.values if v not in outputs] or outputs))
    return outputs if len({o.name for o in outputs}) == len(outputs) else [last]


def _module(builder: Builder, outputs: list[Value]) -> str:
    made = [
        f"        self.{name}, {constructor}" if name.startswith("register") else f"        self.{name} = {constructor}"
        for name, constructor in builder.constructors
    ]
    return "\n".join(
        [
            "class Net(nn.Module):",
            "    def __init__(self):",
            "        super().__init__()",
            *made,
            "",
            f"    def forward(self, {', '.join(i.name for i in builder.inputs)}):",
            *(f"        {line}" for line in builder.lines),
            f"        return {', '.join(o.name for o in outputs)}",
            "",
            "",
            "def build():",
            "    return Net()",
            "",
        ]
    )


def _sequential(builder: Builder) -> str:
    """The same as one nn.Sequential, whose names are digits; of five layers or more the first three are nested."""
    made = [constructor for _, constructor in builder.constructors]
    if len(made) >= 5:
        made = [f"nn.Sequential({', '.join(made[:3])})", *made[3:]]
    return "\n".join(["def build():", "    return nn.Sequential(", *(f"        {m}," for m in made), "    )", ""])


def _instance(recipe: str, builder: Builder, chain: bool) -> nn.Module:
    scope: dict[str, object] = {}
    source = f"import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n\n\n{recipe}"
    exec(compile(source, "<random graph>", "exec"), scope)
    module: nn.Module = scope["build"]()  # type: ignore[operator]
    if chain:
        flat = [m for m in module.modules() if not isinstance(m, nn.Sequential)]
        tops = [m for m in flat if not any(m in set(o.modules()) - {o} for o in flat)]
        for target, (name, _) in zip(tops, builder.constructors, strict=True):
            target.load_state_dict(getattr(builder.net, name).state_dict())
    else:
        module.load_state_dict(builder.net.state_dict())
    return module.eval().requires_grad_(True)


def _check_outputs(module: nn.Module, inputs: list[Value]) -> None:
    """Raises Unsuitable unless every output is alive as files answer: one sample at a time."""
    try:
        with torch.no_grad():
            rows = [module(*(i.tensor[n : n + 1] for i in inputs)) for n in range(BATCH)]
    except ValueError as error:  # a norm without statistics over maps of one value
        raise Unsuitable(str(error)) from error
    rows = [r if isinstance(r, tuple) else (r,) for r in rows]
    for column in zip(*rows, strict=True):
        outputs = torch.cat([o.detach() for o in column])
        if not outputs.double().isfinite().all():
            raise Unsuitable("an output is not finite")
        if outputs.is_floating_point() and not varies(outputs):
            raise Unsuitable("an output hardly varies")
