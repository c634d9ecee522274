"""The kinds of steps that random networks are made of: convolutions, norms and activations here.

random_graph_shapes.py has those that change shapes, random_graph_joins.py ways of joining values.

A step adds its lines to the builder, or raises Unsuitable: another kind is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from random_graph_builder import Builder, Unsuitable, Value

Step = Callable[[Builder, Value], Value]


@dataclass(frozen=True, slots=True)
class Kind:
    """ranks: of the values that it takes, the batch axis counted."""

    step: Step
    ranks: tuple[int, ...]
    weight: float = 1.0
    tokens: bool = False


KINDS: dict[str, Kind] = {}
CHAINED: set[str] = set()  # what a plain nn.Sequential can hold


def kind(name: str, *ranks: int, weight: float = 1.0, chain: bool = False) -> Callable[[Step], Step]:
    def add(step: Step) -> Step:
        KINDS[name] = Kind(step, ranks, weight)
        if chain:
            CHAINED.add(name)
        return step

    return add


def layers(table: dict[str, str], *ranks: int, weight: float = 1.0) -> None:
    """Kinds of one module: name → its constructor, where C is the channels and L the last axis."""
    for name, constructor in table.items():
        kind(name, *ranks, weight=weight, chain=True)(_one(constructor))


def ops(table: dict[str, str], *ranks: int, weight: float = 1.0) -> None:
    """Kinds of one expression of {0}."""
    for name, expression in table.items():
        kind(name, *ranks, weight=weight)(lambda b, x, text=expression: b.op(text, x))  # type: ignore[misc]


def _one(constructor: str) -> Step:
    def step(b: Builder, x: Value) -> Value:
        text = constructor.replace("$C", str(x.channels)).replace("$L", str(x.last))
        return b.layer(text.replace("$S", ", ".join(str(n) for n in x.tensor.shape[1:])), x)

    return step


def suitable(x: Value) -> list[str]:
    """Names of the kinds that may take this value."""
    tokens = not x.tensor.is_floating_point()
    return [name for name, k in KINDS.items() if x.rank in k.ranks and k.tokens == tokens]


def width(b: Builder, multiple: int = 1) -> int:
    return b.random.choice([n for n in (2, 3, 4, 6, 8, 12, 16) if n % multiple == 0])


def divisor(b: Builder, number: int) -> int:
    """A divisor other than 1 and the number itself."""
    found = [n for n in range(2, number) if number % n == 0]
    if not found:
        raise Unsuitable(f"{number} channels do not divide")
    return b.random.choice(found)


# Convolutions -------------------------------------------------------------------------------------------------------


def conv_text(b: Builder, x: Value, how: str, bias: bool | None = None) -> str:
    """The constructor of a convolution of `x` in one of many ways."""
    size, c, n = x.rank - 2, x.channels, width(b)
    more = "" if (b.random.random() < 0.7 if bias is None else bias) else ", bias=False"
    k = b.random.choice([3, 3, 3, 5 if x.last > 5 else 3, 2])
    p = k // 2
    if how == "grouped":
        g = divisor(b, c)
        return f"nn.Conv{size}d({c}, {width(b) * g if g < 4 else 2 * g}, {k}, padding={p}, groups={g}{more})"
    table = {
        "plain": f"{c}, {n}, {k}, padding={b.random.choice([p, p, 0])}",
        "pointwise": f"{c}, {n}, 1",
        "strided": f"{c}, {n}, {k}, stride=2, padding={p}",
        "depthwise": f"{c}, {c}, {k}, stride={b.random.choice([1, 1, 2])}, padding={p}, groups={c}",
        "multiplier": f"{c}, {2 * c}, {k}, padding={p}, groups={c}",
        "dilated": f"{c}, {n}, 3, padding={b.random.choice([2, 1, 0])}, dilation=2",
        "same": f"{c}, {n}, {b.random.choice([2, 3, 4, 5])}, padding='same', dilation={b.random.choice([1, 1, 2])}",
        "reflect": f"{c}, {n}, 3, padding=1, padding_mode='{b.random.choice(['reflect', 'replicate', 'circular'])}'",
        "asymmetric": f"{c}, {n}, (3, 1), stride=(1, 2), padding=(1, 0)",
    }
    return f"nn.Conv{size}d({table[how]}{more})"


def transposed_text(b: Builder, x: Value, how: str) -> str:
    size, c = x.rank - 2, x.channels
    more = "" if b.random.random() < 0.6 else ", bias=False"
    if how == "grouped":
        g = divisor(b, c)
        stride, outputs = b.random.choice([1, 2]), g * b.random.choice([1, 2])
        return f"nn.ConvTranspose{size}d({c}, {outputs}, 3, stride={stride}, padding=1, groups={g}{more})"
    n = width(b)
    table = {
        "plain": f"{c}, {n}, 3, padding={b.random.choice([0, 1])}",
        "strided": f"{c}, {n}, {b.random.choice(['2, stride=2', '3, stride=2, padding=1', '4, stride=2, padding=1'])}",
        "output_padding": f"{c}, {n}, 3, stride=2, padding=1, output_padding=1",
        "depthwise": f"{c}, {c}, 3, stride={b.random.choice([1, 2])}, padding=1, groups={c}",
        "dilated": f"{c}, {n}, 3, padding=2, dilation=2",
    }
    return f"nn.ConvTranspose{size}d({table[how]}{more})"


def _add_convolutions() -> None:
    ways = ("plain", "pointwise", "strided", "grouped", "depthwise", "multiplier", "dilated", "same", "reflect")
    for rank, name in ((4, "conv2d"), (3, "conv1d")):
        for how in (*ways, "asymmetric") if rank == 4 else ways:
            weight = 3.0 if how in ("plain", "pointwise") else 1.2

            def conv(b: Builder, x: Value, how: str = how) -> Value:
                return b.layer(conv_text(b, x, how), x)

            kind(f"{name} {how}", rank, weight=weight, chain=True)(conv)
        for how in ("plain", "strided", "output_padding", "grouped", "depthwise", "dilated"):

            def transposed(b: Builder, x: Value, how: str = how) -> Value:
                return b.layer(transposed_text(b, x, how), x)

            kind(f"conv_transpose{name[4:]} {how}", rank, weight=0.5, chain=True)(transposed)


_add_convolutions()


@kind("conv, batch norm, activation", 3, 4, weight=6, chain=True)
def conv_norm(b: Builder, x: Value) -> Value:
    how = b.random.choice(["plain", "pointwise", "strided", "depthwise", "grouped", "same", "transposed"])
    text = transposed_text(b, x, "plain") if how == "transposed" else conv_text(b, x, how, b.random.random() < 0.3)
    x = b.layer(text, x)
    x = b.layer(f"nn.BatchNorm{x.rank - 2}d({x.channels})", x)
    act = b.random.choice(["ReLU", "ReLU6", "SiLU", "Hardswish", "ReLU", "GELU", ""])
    return b.layer(f"nn.{act}()", x) if act else x


# Norms --------------------------------------------------------------------------------------------------------------

for size, rank in ((1, 3), (2, 4)):
    layers(
        {
            f"batch_norm{size}d": f"nn.BatchNorm{size}d($C)",
            f"batch_norm{size}d without affine": f"nn.BatchNorm{size}d($C, affine=False)",
            f"batch_norm{size}d without statistics": f"nn.BatchNorm{size}d($C, track_running_stats=False)",
            f"instance_norm{size}d": f"nn.InstanceNorm{size}d($C)",
            f"instance_norm{size}d affine": f"nn.InstanceNorm{size}d($C, affine=True)",
            f"instance_norm{size}d statistics": f"nn.InstanceNorm{size}d($C, affine=True, track_running_stats=True)",
        },
        rank,
        weight=0.5,
    )
layers({"batch_norm of a vector": "nn.BatchNorm1d($C)"}, 2)
layers(
    {
        "layer_norm": "nn.LayerNorm($L)",
        "layer_norm without affine": "nn.LayerNorm($L, elementwise_affine=False)",
        "layer_norm without bias": "nn.LayerNorm($L, bias=False)",
        "rms_norm": "nn.RMSNorm($L)",
        "layer_norm of all": "nn.LayerNorm([$S])",
    },
    2,
    3,
    4,
    weight=0.4,
)


@kind("group_norm", 3, 4, chain=True)
def group_norm(b: Builder, x: Value) -> Value:
    affine = b.random.choice(["", "", ", affine=False"])
    return b.layer(f"nn.GroupNorm({b.random.choice([1, divisor(b, x.channels)])}, {x.channels}{affine})", x)


@kind("layer_norm of channels", 3, 4)
def channel_norm(b: Builder, x: Value) -> Value:
    last = b.op("{0}.permute(0, 2, 3, 1)" if x.rank == 4 else "{0}.transpose(1, 2)", x)
    last = b.layer(f"nn.LayerNorm({x.channels})", last)
    return b.op("{0}.permute(0, 3, 1, 2)" if x.rank == 4 else "{0}.transpose(1, 2)", last)


# Activations --------------------------------------------------------------------------------------------------------

layers({"relu": "nn.ReLU()", "silu": "nn.SiLU()", "gelu": "nn.GELU()", "hardswish": "nn.Hardswish()"}, 2, 3, 4)
layers({"relu6": "nn.ReLU6()", "sigmoid": "nn.Sigmoid()", "prelu per channel": "nn.PReLU($C)"}, 2, 3, 4)
layers(
    {
        "prelu": "nn.PReLU()",
        "leaky_relu": "nn.LeakyReLU(0.1)",
        "elu": "nn.ELU()",
        "selu": "nn.SELU()",
        "celu": "nn.CELU(0.5)",
        "mish": "nn.Mish()",
        "tanh": "nn.Tanh()",
        "softplus": "nn.Softplus()",
        "hardsigmoid": "nn.Hardsigmoid()",
        "hardtanh": "nn.Hardtanh(-1.5, 2.0)",
        "gelu tanh": "nn.GELU('tanh')",
        "log_sigmoid": "nn.LogSigmoid()",
        "softmax of channels": "nn.Softmax(1)",
        "softmax of the last axis": "nn.Softmax(-1)",
        "log_softmax": "nn.LogSoftmax(1)",
        "identity": "nn.Identity()",
        "dropout": "nn.Dropout(0.5)",
    },
    2,
    3,
    4,
    weight=0.35,
)
layers({"softmax of rows": "nn.Softmax(2)"}, 4, weight=0.4)
ops(
    {
        "clamp": "{0}.clamp(-0.8, 1.2)",
        "clamp from below": "{0}.clamp(min=-0.5)",
        "abs": "{0}.abs()",
        "square": "{0} * {0}",
        "root": "torch.sqrt({0}.abs() + 0.1)",
        "divide": "{0} / (1 + {0}.abs())",
        "exp": "torch.exp(-{0}.abs())",
        "scale and shift": "{0} * 0.5 + 0.25",
        "subtract from one": "1 - {0}",
        "negate": "-{0}",
        "sine": "torch.sin({0})",
        "normalize": "",  # below: where it is, no seed means another network
        "minimum": "torch.minimum({0}, {0} * 0.25 + 0.1)",
        "where": "torch.where({0} > 0, {0}, 0.2 * {0})",
        "standardize": "({0} - {0}.mean(-1, keepdim=True)) / ({0}.std(-1, keepdim=True) + 0.5)",
        "silu by hand": "{0} * torch.sigmoid({0})",
        "relu called": "F.relu({0})",
    },
    2,
    3,
    4,
    weight=0.25,
)


def _normalize(b: Builder, x: Value) -> Value:
    if bool((x.tensor.norm(dim=1) < 0.05).any()):
        raise Unsuitable("near nothing, whatever comes before decides the direction")
    return b.op("F.normalize({0}, dim=1)", x)


KINDS["normalize"] = Kind(_normalize, (2, 3, 4), 0.25)


@kind("relu in place", 2, 3, 4, weight=0.5)
def relu_in_place(b: Builder, x: Value) -> Value:
    if x in b.inputs:
        raise Unsuitable("it would change the caller's samples")
    return b.layer("nn.ReLU(inplace=True)", x)


@kind("glu", 2, 3, 4, chain=True)
def glu(b: Builder, x: Value) -> Value:
    axis = b.random.choice([1, -1])
    if x.tensor.shape[axis] % 2 or x.tensor.shape[axis] < 4:
        raise Unsuitable("an odd size")
    return b.layer(f"nn.GLU({axis})", x)
