"""The joins of random networks: residuals, concatenations, splits, gates, modules that are called more than once."""

from __future__ import annotations

import random_graph_shapes  # noqa: F401  the table's order is part of what a seed means: these first
from random_graph_builder import Builder, Unsuitable, Value
from random_graph_kinds import conv_text, divisor, kind, width


def partner(b: Builder, x: Value, axes: slice = slice(1, None)) -> Value:
    found = b.like(x, axes)
    if not found:
        raise Unsuitable("nothing of its shape")
    return b.random.choice(found)


for _name, _text in {
    "add": "{0} + {1}",
    "add with alpha": "torch.add({0}, {1}, alpha=3)",
    "subtract": "{0} - {1}",
    "subtract with alpha": "torch.sub({0}, {1}, alpha=0.5)",
    "multiply": "{0} * {1}",
    "maximum": "torch.maximum({0}, {1})",
    "average": "({0} + {1}) / 2",
    "stack": "torch.stack([{0}, {1}], 1).mean(1)",
    "gate": "{0} * torch.sigmoid({1})",
    "interpolate": "torch.lerp({0}, {1}, 0.3)",
}.items():
    kind(_name, 2, 3, 4, weight=1.5)(lambda b, x, text=_text: b.op(text, x, partner(b, x)))  # type: ignore[misc]


@kind("concatenate", 2, 3, 4, weight=3)
def concatenate(b: Builder, x: Value) -> Value:
    others = [v for v in b.like(x, slice(2, None)) if v.channels + x.channels <= 24]
    if not others:
        raise Unsuitable("nothing of its size")
    return b.op("torch.cat([{0}, {1}], 1)", x, b.random.choice(others))


@kind("concatenate three", 3, 4)
def concatenate_three(b: Builder, x: Value) -> Value:
    others = [v for v in b.like(x, slice(2, None)) if v.channels <= 8]
    if len(others) < 2 or x.channels > 8:
        raise Unsuitable("nothing of its size")
    return b.op("torch.cat([{0}, {1}, {2}], 1)", x, *b.random.sample(others, 2))


@kind("concatenate with itself", 3, 4, weight=0.4)
def concatenate_itself(b: Builder, x: Value) -> Value:
    return b.op(b.random.choice(["torch.cat([{0}, {0}], 1)", "torch.cat([{0}, -{0}], 1)"]), x)


@kind("dense block", 4)
def dense(b: Builder, x: Value) -> Value:
    for _ in range(2):
        y = b.layer(f"nn.BatchNorm2d({x.channels})", x)
        y = b.layer(f"nn.Conv2d({x.channels}, 4, 3, padding=1, bias=False)", b.op("F.relu({0})", y))
        x = b.op("torch.cat([{0}, {1}], 1)", x, y)
    return x


@kind("residual block", 3, 4, weight=2)
def residual(b: Builder, x: Value) -> Value:
    size, c = x.rank - 2, x.channels
    y = b.layer(f"nn.Conv{size}d({c}, {c}, 3, padding=1, bias=False)", x)
    y = b.layer(f"nn.BatchNorm{size}d({c})", y)
    y = b.op("F.relu({0})", y)
    y = b.layer(f"nn.Conv{size}d({c}, {c}, 3, padding=1, bias=False)", y)
    y = b.layer(f"nn.BatchNorm{size}d({c})", y)
    return b.op("F.relu({0} + {1})", x, y)


@kind("residual around the batch norm", 3, 4, weight=2)
def around_the_norm(b: Builder, x: Value) -> Value:
    """The convolution is read before its norm as well: it cannot be folded."""
    size = x.rank - 2
    x = b.layer(conv_text(b, x, b.random.choice(["plain", "pointwise", "strided"])), x)
    y = b.op("F.relu({0})", b.layer(f"nn.BatchNorm{size}d({x.channels})", x))
    if b.random.random() < 0.5:
        y = b.layer(f"nn.Conv{size}d({x.channels}, {x.channels}, 3, padding=1)", y)
    return b.op(b.random.choice(["{0} + {1}", "torch.cat([{0}, {1}], 1)", "{0} * {1}"]), x, y)


@kind("one convolution, two norms", 3, 4)
def two_norms(b: Builder, x: Value) -> Value:
    size = x.rank - 2
    x = b.layer(conv_text(b, x, "plain"), x)
    first, second = (b.layer(f"nn.BatchNorm{size}d({x.channels})", x) for _ in range(2))
    return b.op("F.relu({0}) + F.silu({1})", first, second)


@kind("inverted residual", 4)
def inverted(b: Builder, x: Value) -> Value:
    c, inner = x.channels, 2 * x.channels
    y = b.layer(f"nn.BatchNorm2d({inner})", b.layer(f"nn.Conv2d({c}, {inner}, 1, bias=False)", x))
    y = b.op("F.hardswish({0})", y)
    y = b.layer(f"nn.Conv2d({inner}, {inner}, 3, padding=1, groups={inner}, bias=False)", y)
    y = b.op("F.relu6({0})", b.layer(f"nn.BatchNorm2d({inner})", y))
    y = b.layer(f"nn.Conv2d({inner}, {c}, 1)", y)
    return b.op("{0} + {1}", x, y)


@kind("squeeze and excite", 4)
def squeeze_excite(b: Builder, x: Value) -> Value:
    y = b.op(b.random.choice(["{0}.mean((2, 3), keepdim=True)", "F.adaptive_avg_pool2d({0}, 1)"]), x)
    y = b.op("F.relu({0})", b.layer(f"nn.Conv2d({x.channels}, 4, 1)", y))
    y = b.layer(f"nn.Conv2d(4, {x.channels}, 1)", y)
    return b.op(b.random.choice(["{0} * torch.sigmoid({1})", "{0} * F.hardsigmoid({1})"]), x, y)


@kind("split and swap", 2, 3, 4)
def swap(b: Builder, x: Value) -> Value:
    if x.channels < 3:
        raise Unsuitable("too narrow")
    k = b.random.randint(1, x.channels - 1)
    first = b.op(f"{{0}}.split([{k}, {x.channels - k}], 1)[0]", x) if k > 1 else b.op(f"{{0}}[:, :{k}]", x)
    second = b.op(f"{{0}}[:, {k}:]", x)
    return b.op("torch.cat([{1}, {0}], 1)", first, second)


@kind("split, one half through a layer", 3, 4)
def half_through(b: Builder, x: Value) -> Value:
    """As in CSP and ShuffleNet blocks."""
    if x.channels % 2 or x.channels < 4:
        raise Unsuitable("an odd width")
    half = x.channels // 2
    first, second = b.op("{0}.chunk(2, 1)[0]", x), b.op("{0}.chunk(2, 1)[1]", x)
    text = f"nn.Conv{x.rank - 2}d({half}, {half}, 3, padding=1, groups={b.random.choice([1, half])})"
    second = b.op("F.relu({0})", b.layer(text, second))
    return b.op("torch.cat([{0}, {1}], 1)", first, second)


@kind("halves added", 2, 3, 4)
def halves(b: Builder, x: Value) -> Value:
    if x.channels % 2 or x.channels < 4:
        raise Unsuitable("an odd width")
    first, second = b.op("{0}.chunk(2, 1)[0]", x), b.op("{0}.chunk(2, 1)[1]", x)
    return b.op(b.random.choice(["{0} + {1}", "{0} * torch.sigmoid({1})", "torch.maximum({0}, {1})"]), first, second)


@kind("one layer called twice", 2, 3, 4, weight=2)
def twice(b: Builder, x: Value) -> Value:
    c = x.channels
    text = f"nn.Linear({c}, {c})" if x.rank == 2 else f"nn.Conv{x.rank - 2}d({c}, {c}, 3, padding=1)"
    y = b.layer(text, x)
    name = b.constructors[-1][0]
    return b.again(name, b.op(b.random.choice(["F.relu({0})", "torch.tanh({0})"]), y))


@kind("one block called twice", 3, 4, weight=1.5)
def block_twice(b: Builder, x: Value) -> Value:
    size, c = x.rank - 2, x.channels
    y = b.layer(f"nn.Conv{size}d({c}, {c}, 3, padding=1, bias=False)", x)
    conv = b.constructors[-1][0]
    y = b.layer(f"nn.BatchNorm{size}d({c})", y)
    norm = b.constructors[-1][0]
    y = b.again(norm, b.again(conv, b.op("F.relu({0})", y)))
    return b.op("{0} + {1}", x, y)


@kind("siamese", 2, 3, 4, weight=1.5)
def siamese(b: Builder, x: Value) -> Value:
    other = b.random.choice(b.like(x) or [x])
    other = b.op("{0}.flip(1)", x) if other is x else other
    n = width(b)
    text = f"nn.Linear({x.last}, {n})" if x.rank == 2 else f"nn.Conv{x.rank - 2}d({x.channels}, {n}, 3, padding=1)"
    first = b.layer(text, x)
    second = b.again(b.constructors[-1][0], other)
    return b.op(
        b.random.choice(["({0} - {1}).abs()", "{0} * {1}", "torch.cat([F.relu({0}), F.relu({1})], 1)"]), first, second
    )


@kind("one weight, two layers", 2, 3, weight=0.7)
def weight_twice(b: Builder, x: Value) -> Value:
    """An autoencoder's tied weight: used as it is and transposed."""
    y = b.layer(f"nn.Linear({x.last}, {width(b)})", x)
    name = b.constructors[-1][0]
    return b.op(f"F.linear(torch.relu({{0}}), self.{name}.weight.t()) * 0.7", y)


@kind("shared head", 4)
def shared_head(b: Builder, x: Value) -> Value:
    """One head over maps of two sizes, as detectors have."""
    small = b.op("F.max_pool2d({0}, 2)", x)
    n = width(b)
    first = b.layer(f"nn.Conv2d({x.channels}, {n}, 3, padding=1)", x)
    second = b.again(b.constructors[-1][0], small)
    return b.op("torch.cat([{0}.flatten(2), {1}.flatten(2)], 2)", first, second)


@kind("shared norm", 3, 4, weight=0.6)
def shared_norm(b: Builder, x: Value) -> Value:
    size, c = x.rank - 2, x.channels
    y = b.layer(f"nn.BatchNorm{size}d({c})", b.layer(f"nn.Conv{size}d({c}, {c}, 1)", x))
    norm = b.constructors[-1][0]
    return b.again(norm, b.layer(f"nn.Conv{size}d({c}, {c}, 3, padding=1)", b.op("F.relu({0})", y)))


@kind("pyramid", 4)
def pyramid(b: Builder, x: Value) -> Value:
    if x.tensor.shape[2] % 2 or x.tensor.shape[3] % 2 or x.tensor.shape[2] < 4:
        raise Unsuitable("an odd size")
    y = b.layer(f"nn.Conv2d({x.channels}, {x.channels}, 3, stride=2, padding=1)", x)
    mode = b.random.choice(["nearest", "bilinear"])
    return b.op(f"{{0}} + F.interpolate({{1}}, scale_factor=2, mode='{mode}')", x, y)


@kind("maps of two scales", 4, weight=0.6)
def two_heads(b: Builder, x: Value) -> Value:
    """Boxes and scores in one output, as YOLO's head."""
    boxes = b.layer(f"nn.Conv2d({x.channels}, 4, 1)", x)
    scores = b.layer(f"nn.Conv2d({x.channels}, 2, 1)", x)
    return b.op("torch.cat([torch.sigmoid({0}) * 16, torch.sigmoid({1})], 1).flatten(2)", boxes, scores)


@kind("groups by hand", 4, weight=0.6)
def groups_by_hand(b: Builder, x: Value) -> Value:
    groups = divisor(b, x.channels)
    parts = [
        b.layer(f"nn.Conv2d({x.channels // groups}, 2, 3, padding=1)", b.op(f"{{0}}.chunk({groups}, 1)[{i}]", x))
        for i in range(groups)
    ]
    return b.op("torch.cat([" + ", ".join(f"{{{i}}}" for i in range(groups)) + "], 1)", *parts)
