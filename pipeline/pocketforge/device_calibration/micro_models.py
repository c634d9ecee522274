"""The blocks and operators whose latencies on a Pixel 4 were published with nn-Meter, rebuilt as .tflite files.

Definitions: microsoft/nn-Meter (MIT licence), branch dev/hybrid-transformer: examples/test_transformer/build_lut/
build_lut_modules.py (dsconv, first_conv_layer, mbpool_layer, transformer_ds, transformer_attn, transformer_ffn) with
cv_attention/keras_cv_attention_models/{levit/levit.py, common_layers.py}; names: build_lut.py. `hw` is the input's
height and width; batch normalisation is folded into the convolution, as the converter does. What else the converter
makes of the attention and feed-forward blocks was seen with TensorFlow 2.12.1's (docs/estimates.md).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pocketforge.device_calibration.tflite_graph import Graph, Precision, Tensor

HEAD_CHANNELS = 16
LAYER_NORM_EPSILON = 1e-5


def block(name: str, seed: int = 0) -> bytes:
    """The float32 file of one row of latency_blocks_fp32_pixel4.csv, by its name there; ValueError for others."""
    family, *rest = name.split("_")
    if family not in FAMILIES:
        raise ValueError(f"no block of family {family!r}; known: {', '.join(FAMILIES)}")
    graph = Graph(name, "fp32", seed)
    try:
        output = FAMILIES[family](graph, [word for word in rest if word not in ("hard", "swish", "ln")])
    except (ValueError, LookupError) as fault:
        raise ValueError(f"{name!r} is not a name of a {family} block: {fault}") from None
    return graph.finish(output)


def operator(
    kind: str, hw: int, cin: int, cout: int, kernel: int, stride: int, *, precision: Precision = "int8", seed: int = 0
) -> bytes:
    """One operator of latency_ops_int8_pixel4.csv: conv-bn-relu, dwconv-bn-relu or add (of a tensor with itself)."""
    graph = Graph(f"{kind}_{hw}_{cin}_{cout}_{kernel}_{stride}", precision, seed)
    x = graph.input(1, hw, hw, cin)
    if kind == "conv-bn-relu":
        return graph.finish(graph.conv2d(x, cout, kernel, stride, activation="relu"))
    if kind == "dwconv-bn-relu":
        return graph.finish(graph.depthwise(x, kernel, stride, activation="relu"))
    if kind == "add":
        return graph.finish(graph.add(x, x))
    raise ValueError(f"no operator {kind!r}; known: conv-bn-relu, dwconv-bn-relu, add")


def mobilenet_v1(precision: Precision, *, size: int = 224, width: float = 1.0, seed: int = 0) -> bytes:
    """MobileNetV1 (Howard et al. 2017, table 1): random weights, real shapes, 1001 classes."""

    def channels(n: int) -> int:
        return max(8, int(n * width))

    graph = Graph(f"mobilenet_v1_{width}_{size}", precision, seed)
    x = graph.conv2d(graph.input(1, size, size, 3), channels(32), 3, 2, activation="relu6")
    layers = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for cout, stride in layers:
        x = graph.depthwise(x, 3, stride, activation="relu6")
        x = graph.conv2d(x, channels(cout), 1, activation="relu6")
    return graph.finish(_classify(graph, x))


def mobilenet_v2(precision: Precision, *, size: int = 224, seed: int = 0) -> bytes:
    """MobileNetV2 1.0 (Sandler et al. 2018, table 2): random weights, real shapes, 1001 classes."""
    graph = Graph(f"mobilenet_v2_1.0_{size}", precision, seed)
    x = graph.conv2d(graph.input(1, size, size, 3), 32, 3, 2, activation="relu6")
    stages = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    for expansion, cout, repeats, first_stride in stages:
        for i in range(repeats):
            stride, before = (first_stride if i == 0 else 1), x
            if expansion != 1:
                x = graph.conv2d(x, before.shape[3] * expansion, 1, activation="relu6")
            x = graph.depthwise(x, 3, stride, activation="relu6")
            x = graph.conv2d(x, cout, 1)
            if stride == 1 and before.shape[3] == cout:
                x = graph.add(before, x)
    return graph.finish(_classify(graph, graph.conv2d(x, 1280, 1, activation="relu6")))


def _classify(graph: Graph, x: Tensor) -> Tensor:
    return graph.fully_connected(graph.mean(x, (1, 2), keep=False), 1001)


def _padded(graph: Graph, x: Tensor, kernel: int) -> Tensor:
    return graph.pad(x, kernel // 2) if kernel > 1 else x


def _conv_swish(graph: Graph, x: Tensor, channels: int) -> Tensor:
    return graph.hard_swish(graph.conv2d(x, channels, 1))


def _squeeze_excite(graph: Graph, x: Tensor, squeezed: int) -> Tensor:
    gate = graph.conv2d(graph.mean(x, (1, 2), keep=True), squeezed, 1, activation="relu")
    gate = graph.conv2d(gate, x.shape[3], 1)
    gate = graph.add(gate, graph.constant(np.array([3.0], np.float32)), activation="relu6")
    return graph.multiply(graph.multiply(gate, graph.constant(np.array([1 / 6], np.float32))), x)


def _dsconv(graph: Graph, x: Tensor, cout: int, expansion: int, stride: int, kernel: int, excite: bool) -> Tensor:
    cin, height = x.shape[3], x.shape[1]
    y = _conv_swish(graph, x, cin * expansion) if expansion > 1 else x
    y = graph.hard_swish(graph.depthwise(_padded(graph, y, kernel), kernel, stride, padding="valid"))
    if excite:
        y = _squeeze_excite(graph, y, cin * expansion // 4)
    y = graph.conv2d(y, cout, 1)
    if cin == cout:
        return graph.add(y, x) if stride == 1 else y
    if stride == 2:
        x = graph.average_pool(graph.pad(x, 1) if height % 2 else x, 2, 2)
    return graph.add(y, graph.conv2d(x, cout, 1))


def _conv(graph: Graph, words: list[str]) -> Tensor:
    hw, cin, cout, expansion, stride, kernel = (int(w) for w in words[:6])
    excite = {"se": True, "nose": False}[words[6]]
    return _dsconv(graph, graph.input(1, hw, hw, cin), cout, expansion, stride, kernel, excite)


def _first_conv(graph: Graph, words: list[str]) -> Tensor:
    hw, cin, cout, stride, kernel = (int(w) for w in words)
    x = _padded(graph, graph.input(1, hw, hw, cin), kernel)
    return graph.hard_swish(graph.conv2d(x, cout, kernel, stride, padding="valid"))


def _downsample(graph: Graph, words: list[str]) -> Tensor:
    hw, cin, cout, stride, expansion = (int(w) for w in words)
    x = graph.reshape(graph.input(1, hw * hw, cin), 1, hw, hw, cin)
    y = _dsconv(graph, x, cout, expansion, stride, 3, excite=True)
    return graph.reshape(y, 1, y.shape[1] * y.shape[2], cout)


def _layer_norm(graph: Graph, x: Tensor) -> Tensor:
    """As Keras lowers LayerNormalization(epsilon=1e-5): moments, then scale and shift."""
    channels = x.shape[-1]
    mean = graph.mean(x, (2,), keep=True)
    variance = graph.mean(graph.squared_difference(x, mean), (2,), keep=True)
    inverse = graph.rsqrt(graph.add(variance, graph.constant(np.array([LAYER_NORM_EPSILON], np.float32))))
    scale = graph.multiply(inverse, graph.constant(1 + np.float32(0.1) * graph.random(channels)))
    shift = graph.subtract(graph.constant(np.float32(0.1) * graph.random(channels)), graph.multiply(mean, scale))
    return graph.add(graph.multiply(x, scale), shift)


def _feed_forward(graph: Graph, words: list[str]) -> Tensor:
    hw, channels, expansion = (int(w) for w in words)
    x = _layer_norm(graph, graph.input(1, hw * hw, channels))
    # y · relu6(y + 3) / 6 of a dense layer's y: the converter makes y + 3 a second dense layer with that bias.
    first = graph.matrix(channels * expansion, channels)
    y = graph.multiply(graph.product(x, first), graph.product(x, first, bias=3.0, activation="relu6"))
    return graph.add(x, graph.product(y, graph.matrix(channels, channels * expansion)))


def _attention(graph: Graph, words: list[str]) -> Tensor:
    hw, channels, value_scale = (int(w) for w in words)
    tokens, heads, values = hw * hw, channels // HEAD_CHANNELS, HEAD_CHANNELS * value_scale
    width = 2 * HEAD_CHANNELS + values
    x = _layer_norm(graph, graph.input(1, tokens, channels))
    x = graph.product(x, graph.matrix(width * heads, channels))
    x = graph.transpose(graph.reshape(x, 1, tokens, heads, width), 0, 2, 1, 3)
    query, key, value = graph.split(x, [HEAD_CHANNELS, HEAD_CHANNELS, values])
    # The converter unrolls a product of matrices over the heads: dense layers whose weights are no constants.
    keys = [graph.reshape(k, tokens, HEAD_CHANNELS) for k in _heads(graph, key)]
    found = [graph.product(q, k, keep=False) for q, k in zip(_heads(graph, query), keys, strict=True)]
    scores = graph.multiply(graph.pack(found), graph.constant(np.array([HEAD_CHANNELS**-0.5], np.float32)))
    scores = graph.add(scores, graph.constant(np.float32(0.1) * graph.random(heads, tokens, tokens)))
    scores = graph.softmax(graph.reshape(scores, 1, heads, tokens, tokens))
    parts = [graph.transpose(graph.reshape(v, tokens, values), 1, 0) for v in _heads(graph, value)]
    made = [graph.product(s, v, keep=False) for s, v in zip(_heads(graph, scores), parts, strict=True)]
    y = graph.transpose(graph.reshape(graph.pack(made), 1, heads, tokens, values), 0, 2, 1, 3)
    y = graph.hard_swish(graph.reshape(y, 1, tokens, heads * values))
    return graph.product(y, graph.matrix(channels, heads * values))


def _heads(graph: Graph, x: Tensor) -> list[Tensor]:
    """(1, heads, a, b) as a (1, a, b) a head."""
    return graph.unstack(graph.reshape(x, *x.shape[1:]))


def _pooled_head(graph: Graph, words: list[str]) -> Tensor:
    hw, cin, cout, expansion = (int(w) for w in words)
    x = graph.reshape(graph.input(1, hw * hw, cin), 1, hw, hw, cin)
    x = graph.mean(_conv_swish(graph, x, cin * expansion), (1, 2), keep=True)
    return graph.fully_connected(graph.conv2d(x, cout, 1), 1000)


FAMILIES: dict[str, Callable[[Graph, list[str]], Tensor]] = {
    "conv": _conv,
    "firstconv": _first_conv,
    "transds": _downsample,
    "transffn": _feed_forward,
    "transattn": _attention,
    "mbpool": _pooled_head,
}
