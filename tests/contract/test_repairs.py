"""Repairs for nets that quantize badly: what they promise, and what they gain on MobileNetV2 with spoilt weights."""

from __future__ import annotations

import copy
import importlib.util
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from pocketforge.errors import ModelError
from pocketforge.recipe.quantize import Quantize

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
    from pocketforge.quantization import equalization
    from pocketforge.quantization.bias_correction import copy_biases, correct_biases
    from pocketforge.quantization.equalization import equalize, find_pairs
    from pocketforge.quantization.fold import fold_batch_norm
    from pocketforge.quantization.weighted import op_name, owner

QNNPACK = Quantize("static_int8", backend="qnnpack")  # one scale for a whole weight: what outliers hurt


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def traced(net, shape):
    return torch.export.export(net.eval(), (torch.zeros(shape),))


def answers(graph, samples):
    with torch.no_grad():
        return torch.cat([graph(torch.from_numpy(s[None])) for s in samples])


def sqnr_db(wanted, got):
    return float(10 * torch.log10(wanted.square().sum() / (wanted - got).square().sum()))


def names(graph):
    return [(owner(p.first), owner(p.second)) for p in find_pairs(graph)]


class Branches(nn.Module):
    """`a` goes to two places, `b` through an addition and `d` through a sigmoid: only c → d is a pair."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = (nn.Conv2d(4, 4, 1) for _ in range(5))

    def forward(self, x):
        x = self.a(x).relu()
        x = x + self.b(x)
        return self.e(torch.sigmoid(self.d(nn.functional.max_pool2d(self.c(x).relu(), 2))))


def test_pairs_are_layers_in_a_row_with_nothing_between_that_a_factor_cannot_pass():
    assert names(fold_batch_norm(traced(Branches(), (1, 4, 8, 8)))) == [("c", "d")]
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 1, groups=2),
        nn.LeakyReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    )
    assert names(fold_batch_norm(traced(net, (1, 3, 8, 8)))) == [("0", "3"), ("3", "5"), ("5", "9"), ("9", "11")]
    shared = nn.Linear(4, 4)
    assert names(fold_batch_norm(traced(nn.Sequential(shared, nn.ReLU(), shared), (1, 4)))) == []


def test_equalizing_keeps_the_function_and_makes_the_ranges_equal():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 1, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 5),
    )
    with torch.no_grad():
        net[0].weight[3] *= 70
        net[4].weight[:, 1] *= 40
        net[2].weight[5] = 0  # a pruned channel has no range to equalize
    program = traced(net, (1, 3, 8, 8))
    graph = fold_batch_norm(program)
    samples = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
    wanted = answers(graph, samples)
    report = equalize(graph, [samples])
    torch.testing.assert_close(answers(graph, samples), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(answers(program.module(), samples), wanted)  # whose weights are its own
    assert [pair.layers for pair in report.pairs] == [("0", "2"), ("2", "4"), ("4", "7")]
    for pair in find_pairs(graph):
        first = graph.get_parameter(str(pair.first.args[1].target)).flatten(1).abs().amax(1)
        weight = graph.get_parameter(str(pair.second.args[1].target))
        if owner(pair.second) == "7":
            second = weight.view(5, 6, 16).abs().amax((0, 2))
        elif owner(pair.second) == "2":
            second = weight.flatten(1).abs().amax(1)
        else:  # two groups of four inputs
            second = weight.view(2, 3, 4).abs().amax(1).flatten()
        usable = (first > 0) & (second > 0)
        torch.testing.assert_close(first[usable], second[usable], rtol=0.01, atol=0)


def test_what_reaches_relu6s_cap_is_left_alone():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        net[0].weight[0] *= 30  # far beyond 6
        net[0].weight[1] /= 100  # may be raised, but not to the cap
        net[2].weight[:, 1] *= 100
    graph = fold_batch_norm(traced(net, (1, 3, 4, 4)))
    samples = np.random.default_rng(0).standard_normal((8, 3, 4, 4)).astype(np.float32)
    before, wanted = graph.get_parameter("0.weight").clone(), answers(graph, samples)
    report = equalize(graph, [samples])
    torch.testing.assert_close(answers(graph, samples), wanted, rtol=1e-4, atol=1e-5)
    after = graph.get_parameter("0.weight")
    torch.testing.assert_close(after[0], before[0])
    assert after[1].abs().max() > 5 * before[1].abs().max()
    assert report.pairs[0].channels_near_cap >= 1
    with pytest.raises(ModelError, match=r"equalize: the model has ReLU6[\s\S]*calibration_samples"):
        equalize(graph, [samples[:0]])


@pytest.fixture(scope="module")
def mobilenet(request):
    """MobileNetV2 on real pixels as its recipe has it, narrow and small; also with outliers that keep its function:
    some channels between two layers are 50 to 100 times lower, and read with so much larger weights.
    """
    from pocketforge.model.load import build_model

    folder = request.config.rootpath / "models/mobilenet_v2"
    spec = importlib.util.spec_from_file_location("photos_of_mobilenet", folder / "data.py")
    assert spec is not None and spec.loader is not None
    data = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(data)
        samples = np.ascontiguousarray(data.photos(16)[0][:, :, ::2, ::2][:, :, :96, :96])
        net = build_model("model.py", {"width": 0.35, "classes": 100}, folder.joinpath)
        calibration, rest = samples[:8], samples[8:]
        graph = fold_batch_norm(traced(net, (1, 3, 96, 96)))
        wanted = answers(graph, rest)
        pairs = find_pairs(graph)
        seen = equalization._before_caps(graph, [samples], [p.cap for p in pairs if p.cap is not None])
        random = np.random.default_rng(0)
        with torch.no_grad():
            for pair in pairs:
                channels = equalization._outputs(graph, pair)
                factor = np.ones(channels, np.float32)
                factor[random.choice(channels, max(1, channels // 16), replace=False)] = random.choice([50, 100])
                factor = torch.from_numpy(factor)
                if pair.cap is not None:
                    factor[seen[pair.cap] >= 5] = 1  # a cap that is reached would be lost
                equalization._apply(graph, pair, factor)
    return {"spoilt": graph, "wanted": wanted, "calibration": calibration, "rest": rest}


@pytest.fixture(scope="module")
def quantized(mobilenet):
    def make(graph):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pocketforge.quantization.pt2e import quantize_graph

            program = torch.export.export(graph, (torch.zeros(1, 3, 96, 96),))
            return program, *quantize_graph(program, [mobilenet["calibration"]], QNNPACK)

    return make


@pytest.fixture(scope="module")
def spoilt(mobilenet, quantized):
    return quantized(mobilenet["spoilt"])


def test_equalization_brings_back_what_outliers_cost(mobilenet, quantized, spoilt):
    wanted, rest = mobilenet["wanted"], mobilenet["rest"]
    assert sqnr_db(wanted, answers(mobilenet["spoilt"], rest)) > 80  # the outliers are in the weights only
    graph = copy.deepcopy(mobilenet["spoilt"])
    equalize(graph, [mobilenet["calibration"]])
    assert sqnr_db(wanted, answers(graph, rest)) > 30  # caps that calibration does not reach, other photographs do
    before = sqnr_db(wanted, answers(spoilt[1], rest))
    after = sqnr_db(wanted, answers(quantized(graph)[1], rest))
    print(f"equalization: {before:.1f} → {after:.1f} dB")
    assert after > before + 8
    assert after > 5


def test_bias_correction_takes_the_mean_error_off(mobilenet, spoilt):
    wanted, rest, calibration = mobilenet["wanted"], mobilenet["rest"], mobilenet["calibration"]
    program, folded, unfolded = spoilt
    corrected, other = copy.deepcopy(folded), copy.deepcopy(unfolded)
    float32 = answers(program.module(), rest)
    report = correct_biases(program.module(), corrected, [calibration])
    copy_biases(corrected, other)
    before, after = (sqnr_db(wanted, answers(g, rest)) for g in (folded, corrected))
    print(f"bias correction: {before:.1f} → {after:.1f} dB")
    assert after > before + 2
    torch.testing.assert_close(answers(other, rest), answers(corrected, rest))  # the file's two forms stay one
    torch.testing.assert_close(answers(program.module(), rest), float32)  # what was traced is as it was
    layers = [node for node in program.graph.nodes if op_name(node) in ("conv2d", "linear")]
    assert [entry.node for entry in report.layers] == [node.name for node in layers]
    assert "features.1.conv.0.0" in [entry.layer for entry in report.layers]
    assert report.without_bias == () and report.samples == 8
    # By the definition: each layer's mean output on these samples is the float one's.
    layer_means: list[dict[str, list[torch.Tensor]]] = [{}, {}]
    for graph, means in zip((program.module(), corrected), layer_means, strict=True):

        class Watch(torch.fx.Interpreter):
            def run_node(self, n):
                value = super().run_node(n)
                if op_name(n) in ("conv2d", "linear"):
                    flat = value.detach().flatten(2).mean((0, 2)) if value.dim() > 2 else value.detach()[0]
                    means.setdefault(n.name, []).append(flat.clone())  # noqa: B023 - run in this turn
                return value

        with torch.no_grad():
            for sample in calibration:
                Watch(graph).run(torch.from_numpy(sample[None]))
    for name in layer_means[0]:
        one, two = (torch.stack(means[name]).mean(0) for means in layer_means)
        scale = torch.stack(layer_means[0][name]).abs().mean()
        torch.testing.assert_close(two, one, rtol=1e-3, atol=float(1e-3 * scale + 1e-6))


def test_batch_norm_need_not_be_folded_for_bias_correction(quantized):
    """The traced model as it is: a layer's output is then what its batch norm gives."""
    from pocketforge.quantization.pt2e import quantize_graph

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    net[1].running_mean.uniform_(-1, 1)
    net[4].bias = None
    program = traced(net, (1, 3, 8, 8))
    samples = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    folded, _ = quantize_graph(program, [samples], QNNPACK)
    report = correct_biases(program.module(), folded, [samples])
    assert [entry.layer for entry in report.layers] == ["0"]
    assert report.layers[0].mean_shift < 0.05
    assert report.without_bias == ("4",)
    with pytest.raises(ModelError, match="no calibration samples"):
        correct_biases(program.module(), folded, [samples[:0]])
