"""Observers: each method is what it is called, held against a slow computation on the values themselves."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketforge.data.digits import Digits
from pocketforge.errors import ModelError
from pocketforge.recipe.backends import BACKENDS
from pocketforge.recipe.quantize import Quantize

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
    from pocketforge.quantization import observers, range_search
    from pocketforge.quantization.observers import activation_observer, weight_levels, weight_observer
    from pocketforge.quantization.pt2e import calibrated_graphs

METHODS = ("minmax", "histogram", "entropy", "percentile", "mse")


def activation(method, backend="xnnpack", percentile=99.99, **more):
    """An observer as prepare_pt2e makes it of a QuantizationSpec."""
    low, high = BACKENDS[backend].activation_levels
    make = activation_observer(method, percentile, BACKENDS[backend])
    return make.with_args(
        **{"dtype": torch.int8, "qscheme": torch.per_tensor_affine, "quant_min": low, "quant_max": high, **more}
    )()


def qparams(observer, batches):
    for batch in batches:
        assert observer(batch) is batch
    scale, zero_point = observer.calculate_qparams()
    return float(scale), int(zero_point)


def rounded(x, scale, zero_point, low=-128, high=127):  # wide enough for all backends' levels
    return (np.clip(np.round(x / scale) + zero_point, low, high) - zero_point) * scale


def error(x, *grid):
    return float(np.square(rounded(x, *grid) - x, dtype=np.float64).sum())


@pytest.fixture(scope="module")
def activations(repo_root_of_module):
    """Values that layers of the trained digits CNN compute on real images, by layer: batches of one sample."""
    from pocketforge.model.load import build_model
    from pocketforge.model.weights import load_weights

    folder = repo_root_of_module / "models/digits_cnn"
    net = build_model("model.py", {}, folder.joinpath)
    load_weights(net, folder / "weights.safetensors")
    digits = Digits()
    found: dict[str, list[Any]] = {}

    def keep(name):
        return lambda module, given, result: found.setdefault(name, []).append(result.detach())

    handles = [
        module.register_forward_hook(keep(name))
        for name, module in net.named_modules()
        if name in ("stem.2", "down1.conv.3", "inverted.conv.7", "classifier")
    ]
    with torch.no_grad():
        for index in range(40):
            image = torch.tensor(digits.sample(index)[0][0])[None, None, :, :, 0]
            net((torch.nn.functional.interpolate(image, (32, 32)) / 16 - 0.5) / 0.5)
    for handle in handles:
        handle.remove()
    return found


@pytest.fixture(scope="module")
def repo_root_of_module(request):
    return request.config.rootpath


def all_of(batches):
    return torch.cat([b.reshape(-1) for b in batches]).numpy().astype(np.float64)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=4)  # torch searches a histogram of few values for seconds
@given(
    values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=30),
    batches=st.integers(1, 3),
)
def test_every_range_gives_a_scale_and_keeps_zero(method, backend, values, batches):
    scale, zero_point = qparams(activation(method, backend), torch.tensor(values).chunk(batches))
    low, high = BACKENDS[backend].activation_levels
    assert 0 < scale < np.inf
    assert low <= zero_point <= high
    assert rounded(0.0, scale, zero_point) == 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 3.7, -2.0, 1e-3, -1e4])
def test_a_constant_activation_comes_back_as_it_was(method, backend, value):
    scale, zero_point = qparams(activation(method, backend), [torch.full((2, 3), value)] * 3)
    assert 0 < scale < np.inf
    assert rounded(value, scale, zero_point) == pytest.approx(value, rel=1e-6)


# Not entropy: to it a lone spike above another is an outlier, as its mass may move to the last bin at no divergence.
@pytest.mark.parametrize("method", [m for m in METHODS if m != "entropy"])
def test_the_values_of_a_constant_layer_that_changes_once_are_all_kept(method):
    """A range that grows from a single value, from zeros only, and from what was zeros and values."""
    for batches in itertools.permutations([torch.zeros(64), torch.full((64,), 2.0), torch.full((64,), -1.0)]):
        scale, zero_point = qparams(activation(method), batches)
        got = rounded(np.array([0.0, 2.0, -1.0]), scale, zero_point)
        np.testing.assert_allclose(got, [0.0, 2.0, -1.0], atol=scale)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_numbers_are_refused(method, wrong):
    observer = activation(method)
    observer(torch.ones(3))
    with pytest.raises(ModelError, match="NaN ranges: 1 of 3 values are NaN or infinite"):
        observer(torch.tensor([1.0, wrong, 2.0]))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_observed_and_a_range_beyond_float32_are_refused(method):
    with pytest.raises(ModelError, match=r"nothing was observed[\s\S]*calibration_samples"):
        activation(method).calculate_qparams()
    with pytest.raises(ModelError, match="nothing was observed"):
        qparams(activation(method), [torch.zeros(0, 3)])
    if method == "minmax":
        with pytest.raises(ModelError, match="too wide for a float32 scale"):
            qparams(activation(method), [torch.tensor([-3e38, 3e38])])


@pytest.mark.parametrize("method", METHODS)
def test_the_levels_of_the_range_may_be_fewer_than_those_where_values_are_clamped(activations, method):
    """7 of 8 bits, as a graph stores them; the base class refuses levels without 0."""
    kind, spec = observers.METHODS[method], {"dtype": torch.int8, "qscheme": torch.per_tensor_affine}
    for batches in activations.values():
        shifted = kind(levels=(-128, -1), quant_min=-128, quant_max=127, **spec)
        alone = kind(quant_min=-128, quant_max=-1, **spec)
        plain = kind(quant_min=0, quant_max=127, **spec)
        scale, zero_point = qparams(shifted, batches)
        assert qparams(alone, batches) == (scale, zero_point)
        assert qparams(plain, batches) == (scale, zero_point + 128)
        assert (shifted.quant_min, shifted.quant_max, alone.quant_max) == (-128, 127, -1)


def test_minmax_lays_the_whole_range_over_the_levels(activations):
    for batches in activations.values():
        values = all_of(batches)
        low, high = min(values.min(), 0), max(values.max(), 0)
        for backend, steps in (("xnnpack", 255), ("qnnpack", 255), ("fbgemm", 127)):
            scale, zero_point = qparams(activation("minmax", backend), batches)
            assert scale == pytest.approx((high - low) / steps, rel=1e-6)
            assert zero_point == BACKENDS[backend].activation_levels[0] + round(-low / scale)


def test_histogram_is_torchs_own(activations):
    from torchao.quantization.pt2e import HistogramObserver

    random = torch.Generator().manual_seed(0)
    heavy = torch.randn(4000, generator=random) / torch.randn(4000, generator=random)
    # Its end moves after thousands of steps, or in each; few values are in few bins, and most steps move nothing.
    others = [[heavy], [torch.randn(500, generator=random), torch.tensor([40.0])], [torch.tensor([1.0, -2.0, 3.0])]]
    for batches in [*activations.values(), *others]:
        theirs = HistogramObserver(dtype=torch.int8, quant_min=-128, quant_max=127)
        assert qparams(activation("histogram"), batches) == qparams(theirs, batches)


@pytest.mark.parametrize("percentile", [99.0, 99.9, 100.0])
def test_percentile_cuts_at_the_quantiles(activations, percentile):
    for batches in activations.values():
        values = all_of(batches)
        scale, zero_point = qparams(activation("percentile", percentile=percentile), batches)
        ends = np.array([(-128 - zero_point) * scale, (127 - zero_point) * scale])
        # What a histogram can know is a bin, and quantiles of few values are as wide as the gaps between them.
        loose = 2 * (values.max() - values.min()) / 2048 + scale / 2
        wanted, few = np.array([1 - percentile / 100, percentile / 100]), 2 / len(values)
        least, most = (np.quantile(values, np.clip(wanted + d, 0, 1)) for d in (-few, few))
        assert (ends >= np.minimum(least, [0, np.inf]) - loose).all()
        assert (ends <= np.maximum(most, [-np.inf, 0]) + loose).all()
        assert percentile == 100 or scale * 255 < values.max() - values.min()


def test_mse_finds_a_range_that_no_other_much_improves_on(activations):
    """Its error on the values themselves, against that of ranges tried one by one."""
    for backend, steps in (("xnnpack", 255), ("fbgemm", 127)):
        low_level, high_level = BACKENDS[backend].activation_levels
        for batches in activations.values():
            values = all_of(batches)
            found = error(values, *qparams(activation("mse", backend), batches), low_level, high_level)
            tried = []
            for f, g in itertools.product(np.linspace(0.1, 1, 10), repeat=2):
                low, high = f * min(values.min(), 0), g * max(values.max(), 0)
                scale = (high - low) / steps
                tried.append(error(values, scale, low_level - round(low / scale), low_level, high_level))
            assert found <= 1.02 * min(tried)
            assert found <= 1.001 * error(values, *qparams(activation("minmax", backend), batches))


def test_squared_error_of_a_histogram_is_that_of_its_values():
    """Values spread evenly in each bin, tried with ranges that cut, that fit, and whose steps are wider than bins."""
    counts, edges = np.array([3.0, 0.0, 5.0, 1.0]), np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    inside = np.linspace(0, 1, 20_001)[1:] - 0.5 / 20_000
    values = np.concatenate([a + inside * (b - a) for a, b in itertools.pairwise(edges)])
    weights = np.repeat(counts, 20_000) / 20_000
    for low, high in [(-1, 1), (-0.3, 0.8), (0, 0.4), (-2, 3)]:
        for levels in [(-128, 127), (-2, 1), (-128, -1)]:
            scale = (high - low) / (levels[1] - levels[0])
            errors = np.square(rounded(values, scale, levels[0] - round(low / scale), *levels) - values)
            found = range_search.squared_error(counts, edges, (low, high), levels)
            assert found == pytest.approx((weights * errors).sum(), rel=1e-3)


def slow_divergence(magnitudes, kept, levels):
    """NVIDIA's own procedure, bin by bin."""
    stats = pytest.importorskip("scipy.stats")
    groups = [[i for i in range(kept) if i * levels // kept == g] for g in range(levels)]
    coarse = np.zeros(kept)
    for group in groups:
        filled = [i for i in group if magnitudes[i] > 0]
        for i in filled:
            coarse[i] = sum(magnitudes[i] for i in group) / len(filled)
    exact = np.array(magnitudes[:kept], dtype=float)
    exact[-1] += sum(magnitudes[kept:])
    return float(stats.entropy(exact, coarse)) if coarse.any() else float("inf")


@settings(max_examples=50)
@given(
    magnitudes=st.lists(st.integers(0, 50), min_size=8, max_size=40).filter(any),
    kept=st.integers(4, 8),
    levels=st.integers(1, 4),
)
def test_divergence_is_nvidias(magnitudes, kept, levels):
    found = range_search.divergence_when_cut(np.array(magnitudes, dtype=float), kept, levels)
    assert found == pytest.approx(slow_divergence(magnitudes, kept, levels), rel=1e-9, abs=1e-12)


def test_entropy_takes_the_threshold_of_least_divergence(activations):
    for batches in activations.values():
        values = all_of(batches)
        low, high = min(values.min(), 0), max(values.max(), 0)
        # The histogram of all values at once; the observer's grows with what comes, so bins differ a little.
        counts, edges = np.histogram(np.abs(values[values != 0]), bins=2048, range=(0, max(-low, high)))
        divergence = {}
        for kept in range(128, 2049):
            top = edges[kept]
            levels = round(256 * top / (min(top, high) - max(-top, low)))
            if kept >= levels:
                divergence[kept] = range_search.divergence_when_cut(counts.astype(float), kept, levels)
        scale, _ = qparams(activation("entropy"), batches)
        tops = {kept: min(edges[kept], high) - max(-edges[kept], low) for kept in divergence}
        chosen = min(divergence, key=lambda kept: abs(tops[kept] - 255 * scale))
        near = [divergence[kept] for kept in range(chosen - 8, chosen + 9) if kept in divergence]
        assert min(near) <= 1.2 * min(divergence.values()) + 1e-4


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", ["entropy", "percentile", "mse"])
def test_an_outlier_does_not_take_the_levels_of_all_the_rest(method, backend):
    """640 k normal values and one of 25: cutting it off loses less than the wider steps of the whole range."""
    random = np.random.default_rng(0)
    batches = [torch.from_numpy(random.standard_normal((1, 64, 100, 10)).astype(np.float32)) for _ in range(10)]
    batches[4].view(-1)[7] = 25.0
    values = all_of(batches)
    cut, whole = (error(values, *qparams(activation(m, backend), batches)) for m in (method, "minmax"))
    gain_db = 10 * np.log10(whole / cut)
    assert gain_db > (1 if backend != "fbgemm" else 4)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_weights_lie_over_the_backends_steps(backend, per_channel, bits):
    levels = weight_levels(BACKENDS[backend], bits)
    assert levels == {8: (-127, 127), 4: (-7, 7), 2: (-1, 1)}[bits]
    weight = torch.randn((6, 4, 3, 3), generator=torch.Generator().manual_seed(0))
    weight[2] = 0  # a pruned channel
    weight[3] *= 100
    settings = {"dtype": torch.int8, "quant_min": levels[0], "quant_max": levels[1]}
    kind = torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric
    more = {"ch_axis": 0} if per_channel else {}
    observer = weight_observer(BACKENDS[backend], per_channel, bits).with_args(**settings, **more, qscheme=kind)()
    assert ("PerChannel" in type(observer).__name__) == per_channel  # how torchao knows whether it has an axis
    observer(weight)
    scale, zero_point = observer.calculate_qparams()
    steps = BACKENDS[backend].weight_steps if bits == 8 else levels[1]
    widest = weight.abs().amax((1, 2, 3)) if per_channel else weight.abs().max().reshape(1)
    widest = torch.where(widest == 0, widest.max(), widest)
    np.testing.assert_allclose(scale.numpy(), widest.numpy() / steps, rtol=1e-6)
    assert not zero_point.any()
    assert (observer.quant_min, observer.quant_max) == levels
    zero = weight_observer(BACKENDS[backend], per_channel, bits).with_args(**settings, **more, qscheme=kind)()
    zero(torch.zeros(3, 2))
    assert (zero.calculate_qparams()[0] > 1e-3).all()  # so that bias / (input's scale × this) stays within int32


@pytest.fixture(scope="module")
def prepared():
    """A conv and a linear layer, prepared with XNNPACK's quantizer and our observers, one graph for each use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dataclasses

        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

        def make(method, backend):
            torch.manual_seed(0)
            net = torch.nn.Sequential(
                torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 5)
            )
            program = torch.export.export(net.eval(), (torch.zeros(1, 3, 6, 6),))
            wanted = BACKENDS[backend]
            base = get_symmetric_quantization_config(
                is_per_channel=wanted.per_channel,
                act_qmin=wanted.activation_levels[0],
                act_qmax=wanted.activation_levels[1],
                weight_qmin=wanted.weight_levels[0],
                weight_qmax=wanted.weight_levels[1],
            )
            seen = activation_observer(method, 99.99, wanted)
            weight = weight_observer(wanted, wanted.per_channel)
            config = dataclasses.replace(
                base,
                input_activation=dataclasses.replace(base.input_activation, observer_or_fake_quant_ctr=seen),
                output_activation=dataclasses.replace(base.output_activation, observer_or_fake_quant_ctr=seen),
                weight=dataclasses.replace(base.weight, observer_or_fake_quant_ctr=weight),
            )
            graph = prepare_pt2e(program.module(), XNNPACKQuantizer().set_global(config))
            observers.name_observers(graph)
            return graph

        return make


@pytest.mark.parametrize(
    ("method", "backend"), list(zip(METHODS, ["fbgemm", "xnnpack", "qnnpack", "xnnpack", "fbgemm"], strict=True))
)
def test_pt2e_takes_them(prepared, method, backend):
    graph = prepared(method, backend)
    images = torch.randn((8, 3, 6, 6), generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        wanted = torch.cat([graph(image[None]) for image in images])
        converted = convert_pt2e(graph)
        got = torch.cat([converted(image[None]) for image in images])
    assert 10 * torch.log10(wanted.square().sum() / (wanted - got).square().sum()) > 20
    quantized = [n for n in converted.graph.nodes if "quantized_decomposed.quantize_per_tensor" in str(n.target)]
    assert len(quantized) >= 3
    low, high = BACKENDS[backend].activation_levels
    for node in quantized:
        assert tuple(node.args[3:5]) == (low, high)
        assert low <= node.args[2] <= high
    weights = [b for b in converted.buffers() if b.dtype == torch.int8]
    assert len(weights) == 2 and all(int(w.min()) >= -127 for w in weights)


def test_an_error_says_which_layer(prepared):
    graph = prepared("histogram", "xnnpack")
    with torch.no_grad():
        next(p for name, p in graph.named_parameters() if name.endswith("0.bias")).fill_(float("nan"))
    with pytest.raises(ModelError, match=r"NaN ranges: 64 of 64 values are NaN or infinite: .*\(output of relu\)"):
        graph(torch.zeros(1, 3, 6, 6))
    graph = prepared("mse", "xnnpack")
    with pytest.raises(ModelError, match="NaN ranges: 1 of 108 values are NaN or infinite: input"):
        graph(torch.tensor([float("nan")] + [0.5] * 107).reshape(1, 3, 6, 6))


class Small(torch.nn.Module):  # type: ignore[name-defined]  # importorskip gives it
    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.conv, self.head = torch.nn.Conv2d(1, 3, 3), torch.nn.Linear(3, 2)

    def forward(self, x):
        return self.head(torch.nn.functional.relu(self.conv(x)).amax((2, 3)))


@pytest.mark.filterwarnings("ignore")  # of the toolchains
@pytest.mark.parametrize("method", ["minmax", "entropy"])
def test_what_was_seen_is_told_of_each_activation(method):
    net = Small().eval()
    samples = np.random.default_rng(6).normal(0.3, 1.0, (8, 1, 6, 6)).astype(np.float32)
    samples[3] = 0
    program = torch.export.export(net, (torch.zeros(1, 1, 6, 6),))
    _, ranges = calibrated_graphs(program, [samples], Quantize("static_int8", calibration=method))
    with torch.no_grad():
        x = torch.from_numpy(samples)
        relu = torch.nn.functional.relu(net.conv(x))
        values = {"input x": x, "relu (output of relu)": relu, "head (output of linear)": net(x)}
    found = {each.tensor: each for each in ranges}
    assert set(found) == {*values, "amax (output of amax)"} and len(ranges) == 4, sorted(found)
    for name, seen in values.items():
        row = found[name]
        assert (row.low, row.high) == pytest.approx((float(seen.min()), float(seen.max())), rel=1e-5, abs=1e-6), name
        whole = (max(row.high, 0.0) - min(row.low, 0.0)) / 255
        assert row.scale is not None and row.zero_point is not None and row.scale <= whole * 1.0001
        if method == "minmax":
            assert row.scale == pytest.approx(whole, rel=1e-4)
            assert (-128 - row.zero_point) * row.scale == pytest.approx(min(row.low, 0.0), abs=row.scale)
