"""Kinds of steps that change a value's shape or mix its positions: pools, sizes, padding, linear layers, attention."""

from __future__ import annotations

import torch
from random_graph_builder import MOST_CHANNELS, Builder, Unsuitable, Value
from random_graph_kinds import CHAINED, KINDS, Kind, divisor, kind, layers, ops, width

# Pools, sizes, padding ----------------------------------------------------------------------------------------------

for size, rank in ((1, 3), (2, 4)):
    layers(
        {
            f"max_pool{size}d": f"nn.MaxPool{size}d(2)",
            f"max_pool{size}d padded": f"nn.MaxPool{size}d(3, stride=2, padding=1)",
            f"max_pool{size}d ceil": f"nn.MaxPool{size}d(3, stride=2, ceil_mode=True)",
            f"avg_pool{size}d": f"nn.AvgPool{size}d(2)",
            f"avg_pool{size}d padded": f"nn.AvgPool{size}d(3, stride=2, padding=1)",
            f"avg_pool{size}d ceil": f"nn.AvgPool{size}d(3, stride=2, padding=1, ceil_mode=True)",
            f"avg_pool{size}d without padding": f"nn.AvgPool{size}d(3, stride=1, padding=1, count_include_pad=False)",
            f"adaptive_avg_pool{size}d": f"nn.AdaptiveAvgPool{size}d(1)",
            f"adaptive_max_pool{size}d": f"nn.AdaptiveMaxPool{size}d(1)",
            f"upsample{size}d nearest": "nn.Upsample(scale_factor=2, mode='nearest')",
            f"upsample{size}d linear": f"nn.Upsample(scale_factor=2, mode='{'linear' if size == 1 else 'bilinear'}')",
        },
        rank,
        weight=0.45,
    )
layers(
    {
        "adaptive_avg_pool2d to a size": "nn.AdaptiveAvgPool2d((2, 3))",
        "upsample2d aligned": "nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True)",
        "upsample2d bilinear to a size": "nn.Upsample(size=(9, 11), mode='bilinear')",
        "upsample2d nearest to a size": "nn.Upsample(size=(9, 11), mode='nearest')",
        "pad": "nn.ZeroPad2d((1, 0, 0, 2))",
        "pad with a value": "nn.ConstantPad2d(1, 0.5)",
        "pad by reflection": "nn.ReflectionPad2d(1)",
        "pad by replication": "nn.ReplicationPad2d((1, 2, 0, 1))",
        "max_pool2d dilated": "nn.MaxPool2d(2, stride=1, dilation=2)",
        "local response norm": "nn.LocalResponseNorm(3)",
    },
    4,
    weight=0.45,
)
ops(
    {
        "max_pool2d without a stride": "F.max_pool2d({0}, 2)",
        "avg_pool2d without a stride": "F.avg_pool2d({0}, 2)",
        "crop": "{0}[:, :, 1:-1, 1:]",
        "every second row": "{0}[:, :, ::2]",
        "flip": "{0}.flip(3)",
        "roll": "torch.roll({0}, 1, 2)",
        "rotate": "{0}.transpose(2, 3)",
        "mean of rows": "{0}.mean(2)",
        "largest of columns": "{0}.amax(3)",
        "rows as tokens": "{0}.flatten(2).transpose(1, 2)",
        "flatten the map": "{0}.flatten(2)",
    },
    4,
    weight=0.4,
)
ops(
    {"first channels": "{0}[:, :2]", "every second channel": "{0}[:, ::2]", "last channels": "{0}[:, 1:]"},
    2,
    3,
    4,
    weight=0.4,
)
ops({"transpose": "{0}.transpose(1, 2)", "unsqueeze": "{0}.unsqueeze(2)", "mean of the last": "{0}.mean(-1)"}, 3)
ops({"sum with the axis kept": "{0}.sum(1, keepdim=True) * 0.3"}, 3, 4, weight=0.3)


@kind("pixel_shuffle", 4, chain=True)
def pixel_shuffle(b: Builder, x: Value) -> Value:
    return b.layer("nn.PixelShuffle(2)" if x.channels % 4 == 0 else "nn.PixelUnshuffle(2)", x)


@kind("channel_shuffle", 4)
def channel_shuffle(b: Builder, x: Value) -> Value:
    groups = divisor(b, x.channels)
    if b.random.random() < 0.5:
        return b.layer(f"nn.ChannelShuffle({groups})", x)
    c, h, w = x.tensor.shape[1:]
    x = b.op(f"{{0}}.reshape(-1, {groups}, {c // groups}, {h}, {w}).transpose(1, 2)", x)
    return b.op(f"{{0}}.reshape(-1, {c}, {h}, {w})", x)


# Linear, tokens -----------------------------------------------------------------------------------------------------


@kind("linear", 2, 3, 4, weight=3, chain=True)
def linear(b: Builder, x: Value) -> Value:
    return b.layer(f"nn.Linear({x.last}, {width(b)}{b.random.choice(['', '', ', bias=False'])})", x)


@kind("linear of channels", 4)
def linear_of_channels(b: Builder, x: Value) -> Value:
    last = b.layer(f"nn.Linear({x.channels}, {width(b)})", b.op("{0}.permute(0, 2, 3, 1)", x))
    return b.op("{0}.permute(0, 3, 1, 2)", last)


@kind("linear, batch norm", 2, chain=True)
def linear_norm(b: Builder, x: Value) -> Value:
    x = b.layer(f"nn.Linear({x.last}, {width(b)})", x)
    return b.layer(f"nn.BatchNorm1d({x.channels})", x)


@kind("flatten, linear", 3, 4, weight=1.5, chain=True)
def flatten_linear(b: Builder, x: Value) -> Value:
    x = b.layer("nn.Flatten()", x)
    if x.last > 600:
        raise Unsuitable("too wide")
    return b.layer(f"nn.Linear({x.last}, {width(b)})", x)


@kind("mean, linear", 4, weight=1.5)
def mean_linear(b: Builder, x: Value) -> Value:
    return b.layer(f"nn.Linear({x.channels}, {width(b)})", b.op("{0}.mean((2, 3))", x))


@kind("vector as a map", 2)
def to_map(b: Builder, x: Value) -> Value:
    channels = b.random.choice([2, 3])
    x = b.layer(f"nn.Linear({x.last}, {channels * 20})", x)
    return b.op(f"{{0}}.reshape(-1, {channels}, 4, 5)", x)


@kind("vector as a sequence", 2)
def to_sequence(b: Builder, x: Value) -> Value:
    return b.op(f"{{0}}.view(-1, {divisor(b, x.last)}, {x.last // divisor(b, x.last)})", x)


@kind("bilinear", 2, weight=0.2)
def squeeze_bmm(b: Builder, x: Value) -> Value:
    """Second-order features: an outer product, as factorization machines have."""
    if x.last > MOST_CHANNELS // 2:
        raise Unsuitable("too wide")
    return b.op("torch.bmm({0}.unsqueeze(2), {0}.unsqueeze(1)).flatten(1) * 0.5", x)


@kind("multihead attention", 3, weight=0.8)
def multihead_attention(b: Builder, x: Value) -> Value:
    if x.last % 2:
        raise Unsuitable("an odd width")
    return b.layer(
        f"nn.MultiheadAttention({x.last}, 2, batch_first=True)", x, x, x, call="{0}({1}, need_weights=False)[0]"
    )


@kind("attention by hand", 3, weight=0.8)
def attention(b: Builder, x: Value) -> Value:
    e = x.last
    q, k, v = (b.layer(f"nn.Linear({e}, {e})", x) for _ in range(3))
    if b.random.random() < 0.5:
        return b.op("F.scaled_dot_product_attention({0}, {1}, {2})", q, k, v)
    return b.op(f"torch.softmax({{0}} @ {{1}}.transpose(1, 2) / {e**0.5:.4f}, -1) @ {{2}}", q, k, v)


def _embed(b: Builder, x: Value) -> Value:
    return b.layer(f"nn.Embedding(16, {b.random.choice([4, 6, 8])})", x)


KINDS["embedding"] = Kind(_embed, (2,), 3.0, tokens=True)
CHAINED.add("embedding")


def _tied(b: Builder, x: Value) -> Value:
    e = b.layer(f"nn.Embedding(16, {b.random.choice([4, 6, 8])})", x)
    table = b.constructors[-1][0]
    h = b.layer(f"nn.Linear({e.last}, {e.last})", e)
    return b.op(f"F.linear({{0}}, self.{table}.weight) * 0.5", h)


KINDS["embedding tied to a linear"] = Kind(_tied, (2,), tokens=True)


@kind("learned addend", 2, 3, 4, weight=0.5)
def learned_addend(b: Builder, x: Value) -> Value:
    shape = x.tensor.shape[1:] if b.random.random() < 0.5 else (x.channels, *[1] * (x.rank - 2))
    name = b.parameter(b.random.choice(["buffer", "parameter"]), torch.randn(1, *shape) * 0.5)
    return b.op(f"{{0}} + {name}", x)


@kind("learned factor", 2, 3, 4, weight=0.5)
def learned_factor(b: Builder, x: Value) -> Value:
    name = b.parameter("parameter", torch.rand(x.channels, *[1] * (x.rank - 2)) + 0.5)
    return b.op(f"{{0}} * {name}", x)


@kind("weight standardized", 4, weight=0.3)
def weight_standardized(b: Builder, x: Value) -> Value:
    """A convolution whose weight is computed from a parameter."""
    name = b.parameter("parameter", torch.randn(width(b), x.channels, 3, 3) * 0.3)
    return b.op(f"F.conv2d({{0}}, {name} - {name}.mean((1, 2, 3), keepdim=True), padding=1) * 0.5", x)
