"""Operations between layers: their names, overrides of them, concats of unlike range, and what `check` says of them,
held against the files of all three runtimes."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from pocketforge.errors import ModelError, StageFailed  # noqa: E402
from pocketforge.metrics import parity  # noqa: E402
from pocketforge.outcomes.annotate import Annotated  # noqa: E402
from pocketforge.recipe.quantize import Override, Quantize  # noqa: E402
from pocketforge.registries import RUNTIMES  # noqa: E402
from pocketforge.results.checked import in_runtime  # noqa: E402
from pocketforge.runtimes.traffic import traffic_of  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
    from pocketforge.quantization import pt2e
    from pocketforge.quantization.annotated import annotated_parts
    from pocketforge.quantization.attention import advice, sums_for_norms
    from pocketforge.quantization.concats import LEAST_LEVELS, keep_apart
    from pocketforge.quantization.operations import float_operations, operations_of
    from pocketforge.quantization.small_values import made_for_steep_ones, made_of_constants

pytestmark = pytest.mark.filterwarnings("ignore")
STATIC = Quantize("static_int8", calibration="minmax")
BOXES, SCORES = slice(0, 4), slice(4, 7)


class Head(nn.Module):
    """As YOLO's: boxes in pixels beside scores; strides of several maps; the box as a softmax's mean (DFL)."""

    def __init__(self) -> None:
        super().__init__()
        self.box, self.score, self.mean = nn.Conv2d(8, 16, 1), nn.Conv2d(8, 3, 1), nn.Conv2d(4, 1, 1, bias=False)
        for layer in (self.box, self.score):
            layer.weight.data *= 8  # boxes and scores that differ from place to place
        self.mean.weight.data[:] = torch.arange(4.0).view(1, 4, 1, 1)

    def forward(self, x):
        n = x.shape[2] * x.shape[3]
        both = torch.cat([self.box(x), self.score(x)], 1).flatten(2)
        boxes, scores = both.split((16, 3), 1)
        boxes = self.mean(boxes.view(1, 4, 4, n).transpose(2, 1).softmax(1)).view(1, 4, n)
        return torch.cat([boxes * 200, scores.sigmoid() ** 2], 1)


class Detector(nn.Module):
    """Two heads whose answers become one; between its layers, operations that runtimes compute in other ways."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.neck, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(16, 8, 1), nn.Conv2d(8, 8, 1)
        self.head = Head()

    def forward(self, x):
        x = self.stem(x)
        x = self.neck(torch.cat([F.leaky_relu(x), torch.tanh(x)], 1))
        x = self.last(torch.maximum(x, x - 0.1))
        return torch.cat([self.head(x), self.head(F.avg_pool2d(x, 2))], 2)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return Detector().eval()


@pytest.fixture(scope="module")
def program(net, images) -> Any:
    return torch.export.export(net, (torch.from_numpy(images[0][:1]),))


@pytest.fixture(scope="module")
def graph(program) -> Any:
    return pt2e.rewritten_for_quantizer(program)


@pytest.fixture(scope="module")
def annotated(program) -> Annotated:
    return Annotated(annotated_parts(pt2e.prepare(program, STATIC)))


def answers(module: Any, images: list[np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate([module(torch.from_numpy(images[0][i : i + 1])).numpy() for i in range(len(images[0]))])


def test_operations_have_names_by_kind_and_module(graph):
    names = [operation.name for operation in operations_of(graph.graph).values()]
    assert names[:5] == ["leaky_relu@.", "tanh@.", "cat@.", "sub@.", "maximum@."]
    assert [name for name in names if "head" in name] == [
        *("cat@head", "softmax@head", "mul@head", "sigmoid@head", "pow@head", "cat@head#2"),
        *("cat@head#3", "softmax@head#2", "mul@head#2", "sigmoid@head#2", "pow@head#2", "cat@head#4"),
    ]


def schemes_of(graph: Any, *overrides: Override) -> dict[str, str]:
    return pt2e.layer_schemes(graph.graph, dataclasses.replace(STATIC, overrides=overrides))


def test_overrides_name_operations_all_of_a_kind_in_a_module_one_or_a_part(graph):
    assert float_operations(schemes_of(graph, Override(ops=("mul@head", "max*@*")))) == (
        *("mul@head", "mul@head#2", "maximum@."),
    )
    assert float_operations(schemes_of(graph, Override(ops=("cat@head#2",)))) == ("cat@head#2",)
    assert float_operations(schemes_of(graph, Override(ops=("cat@head#4:1",)))) == ("cat@head#4:1",)
    last = Override(ops=("mul@*",)), Override(ops=("mul@head#2",), scheme="static_int8")
    assert float_operations(schemes_of(graph, *last)) == ("mul@head",)
    whole = Override(ops=("cat@head#4:1",)), Override(ops=("cat@head#4",), scheme="static_int8")
    assert float_operations(schemes_of(graph, *whole)) == ()
    assert float_operations(schemes_of(graph, *whole[::-1])) == ("cat@head#4:1",)


@pytest.mark.parametrize(
    ("pattern", "scheme", "message", "hint"),
    [
        ("cat@hed*", "fp32", r"no operation is named 'cat@hed\*'", "nearest: cat@head"),
        ("cat@head:7", "fp32", "no operation is named 'cat@head:7'", "nearest: cat@head:"),
        ("cat@head:1", "static_int8", "cat@head:1 is a part of a concat", "name the concat, cat@head"),
        ("softmax@*", "static_int8", "softmax@head has no int8 form", "check RECIPE --verbose"),
    ],
)
def test_an_override_that_means_nothing_is_an_error_with_the_nearest(graph, pattern, scheme, message, hint):
    with pytest.raises(ModelError, match=message) as caught:
        schemes_of(graph, Override(ops=(pattern,), scheme=scheme))
    assert hint in caught.value.hint


def test_a_layer_s_name_that_means_nothing_is_told_with_the_nearest(graph):
    with pytest.raises(ModelError, match=r"no layer is named 'head\.boxes'") as caught:
        schemes_of(graph, Override("head.boxes"))
    assert caught.value.hint.startswith("nearest: head.box")


def test_what_overrides_name_is_float_and_nothing_else(program, annotated):
    before = {part.name: part.numbers for part in annotated.parts}
    assert {before[name] for name in ("stem", "cat@.", "maximum@.", "mul@head", "cat@head#2")} == {"int8"}
    assert before["tanh@."] == before["leaky_relu@."] == "between" and before["pow@head"] == "float"
    overrides = (Override(ops=("maximum@.", "cat@head#4:0")),)
    prepared = pt2e.prepare(program, dataclasses.replace(STATIC, overrides=overrides))
    after = {part.name: part.numbers for part in annotated_parts(prepared)}
    # What lay between levels of which one set is gone, and what makes the part that is kept whole.
    assert {name for name in after if after[name] != before[name]} == {"maximum@.", "sub@.", "cat@head#4", "mul@head#2"}
    assert {after[name] for name in ("maximum@.", "sub@.", "cat@head#4", "mul@head#2")} <= {"float", "behind"}


def test_parts_of_unlike_range_are_kept_apart_up_to_the_output(graph, images):
    apart = keep_apart(graph, images, {})
    assert sorted(apart.schemes) == ["cat@.#2", "cat@head#2", "cat@head#4"], "also that which joins the heads' answers"
    first = apart.concats[0]
    assert (first.name, first.kept_apart, first.float_operations) == ("cat@head#2", True, ("cat@head#2", "cat@.#2"))
    boxes, scores = first.parts
    assert (boxes.made_by, scores.made_by) == ("mul@head", "pow@head")
    assert scores.levels < LEAST_LEVELS < boxes.levels == 255
    assert scores.shared_db is not None and scores.own_db is not None and boxes.own_db is not None
    assert scores.shared_db < 5 and scores.own_db > 30 and boxes.shared_db == boxes.own_db > 40
    told = keep_apart(graph, images, {"cat@head#2": "static_int8"})
    assert "cat@head#2" not in told.schemes, "who names the concat has the last word"


def test_a_concat_that_a_layer_reads_shares_its_scale_and_is_told(images):
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(6, 2, 1)

        def forward(self, x):
            return self.last(torch.cat([self.layer(x) * 100, x], 1))

    program = torch.export.export(Mixed().eval(), (torch.from_numpy(images[0][:1]),))
    apart = keep_apart(pt2e.rewritten_for_quantizer(program), images, {})
    assert apart.schemes == {} and [(c.name, c.kept_apart) for c in apart.concats] == [("cat@.", False)]
    assert apart.concats[0].parts[1].made_by == "x"


class Stream(nn.Module):
    """A residual stream with norms before its layers, one of whose channels is a hundred times the others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(24, 16), nn.Linear(16, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(4))
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        self.first.bias.data[5] += 100
        for norm in self.norms:
            norm.weight.data[:] = 5.0  # of the small channels; the large one is scaled away
            norm.weight.data[5] = 0.1

    def forward(self, x):
        x = self.first(x.flatten(2).transpose(1, 2))
        for norm, layer in zip(self.norms, self.layers, strict=False):
            x = x + layer(norm(x))
        return self.last(self.norms[3](x).mean(1)), x.softmax(-1) @ x.transpose(1, 2)


def test_sums_that_norms_alone_read_stay_float_and_keep_the_small_channels(images):
    net, samples = Stream().eval(), [images[0].reshape(8, 24, 8)]
    program = torch.export.export(net, (torch.from_numpy(samples[0][:1]),))
    graph = pt2e.rewritten_for_quantizer(program).graph
    assert sums_for_norms(graph) == ("add@.", "add@.#2"), "the third is read by others too"
    assert 'in the [[target]]: quantize = { scheme = "dynamic_int8" }' in advice(graph)

    def sqnr_db(*overrides: Override) -> float:
        folded, _ = pt2e.quantize_graph(program, samples, dataclasses.replace(STATIC, overrides=overrides))
        found, wanted = (np.concatenate([answer[0].numpy() for answer in run(m, samples)]) for m in (folded, net))
        return parity(found, wanted).sqnr_db

    def run(module: Any, samples: list[np.ndarray]) -> list[Any]:
        with torch.no_grad():
            return [module(torch.from_numpy(samples[0][i : i + 1])) for i in range(len(samples[0]))]

    assert sqnr_db() > sqnr_db(Override(ops=("add@.",), scheme="static_int8")) + 2


class SmallValues(nn.Module):
    """What tells small values apart, of sums and products; and what does not, or is read by others too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bank, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        bank = self.bank(x)
        logs = self.last(torch.log(bank.square().add(1e-2)))
        y = bank + 1.0
        scaled = y * torch.rsqrt((y * y).mean(1, keepdim=True) + 1e-3)
        shares = y / (bank.abs().sum(1, keepdim=True) + 1e-2)
        either = torch.log((bank * 2.0).sigmoid()) + torch.sqrt(torch.relu(bank * bank) + 1e-3)
        return logs, scaled, shares, either


class Pcen(nn.Module):
    """Per-channel energy normalization (Wang et al. 2017): energies by what they were before, to a learnt power."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bank, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.speed, self.alpha, self.root = (nn.Parameter(torch.linspace(a, a / 2, 8)) for a in (-1.0, -0.02, -0.7))

    def forward(self, x):
        energy = self.bank(x).square()
        speed, alpha, root = (each.exp()[None, :, None, None] for each in (self.speed, self.alpha, self.root))
        before = [energy[..., 0]]
        for column in range(1, energy.shape[-1]):
            before.append((1 - speed[..., 0]) * before[-1] + speed[..., 0] * energy[..., column])
        return self.last((energy / (torch.stack(before, -1) + 1e-6).pow(alpha) + 2.0).pow(root))


def test_what_learnt_powers_read_stays_float(images):
    net, samples = Pcen().eval(), [images[0] * np.linspace(0.02, 1, 3, dtype=np.float32)[:, None, None]]
    program = torch.export.export(net, (torch.from_numpy(samples[0][:1]),))
    made = made_for_steep_ones(pt2e.rewritten_for_quantizer(program).graph)
    assert len(made) == 3 * (samples[0].shape[-1] - 3) + 2, "two products and a sum a column, and what powers read"


class Rotated(nn.Module):
    """Rotary positions (Su et al. 2021), whose angles `forward` makes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        angles = torch.arange(float(x.shape[1]))[:, None] * (10000 ** (-torch.arange(4.0) / 4))[None]
        cosine, sine = angles.cos(), angles.sin()
        a, b = self.first(x).chunk(2, -1)
        return self.last(torch.cat([a * cosine - b * sine, a * sine + b * cosine], -1))


def test_a_table_that_forward_makes_stays_float():
    """Of angles up to 127 radians 8 bits leave every second one: 16 dB."""
    net, samples = Rotated().eval(), [np.random.default_rng(0).normal(size=(4, 128, 8)).astype(np.float32)]
    program = torch.export.export(net, (torch.from_numpy(samples[0][:1]),))
    graph = pt2e.rewritten_for_quantizer(program)
    assert made_of_constants(graph.graph) == ("mul@.",)
    folded, _ = pt2e.quantize_graph(program, samples, STATIC)
    with torch.no_grad():
        found, wanted = (
            np.concatenate([m(torch.from_numpy(x[None])).numpy() for x in samples[0]]) for m in (folded, net)
        )
    assert parity(found, wanted).sqnr_db > 25


def test_what_logarithms_roots_and_divisors_read_stays_float(images):
    net = SmallValues().eval()
    program = torch.export.export(net, (torch.from_numpy(images[0][:1]),))
    graph = pt2e.rewritten_for_quantizer(program)
    kept = ("add@.", "mul@.", "add@.#3", "add@.#4", "mul@.#4", "add@.#5")
    assert made_for_steep_ones(graph.graph) == kept
    assert float_operations(pt2e.layer_schemes(graph.graph, STATIC)) == kept
    annotated = Annotated(annotated_parts(pt2e.prepare(program, STATIC)))
    for runtime in RUNTIMES:
        parts = {part.name: part.numbers for part in in_runtime(annotated, runtime).parts}
        assert {parts[name] for name in kept} == {"float"} and parts["mul@.#3"] == "int8"

    def logs_db(*overrides: Override) -> float:
        folded, _ = pt2e.quantize_graph(program, images, dataclasses.replace(STATIC, overrides=overrides))
        with torch.no_grad():
            found, wanted = (m(torch.from_numpy(images[0][:1]))[0].numpy() for m in (folded, net))
        return parity(found, wanted).sqnr_db

    assert logs_db() > max(25, logs_db(Override(ops=("add@.",), scheme="static_int8")) + 10)


@pytest.fixture(scope="module")
def converted(program, graph, images) -> tuple[Any, Any]:
    schemes = {**pt2e.layer_schemes(graph.graph, STATIC), **keep_apart(graph, images, {}).schemes}
    example = (torch.from_numpy(images[0][:1]),)
    folded, unfolded = (
        torch.export.export(m, example) for m in pt2e.quantize_graph(program, images, STATIC, schemes=schemes)
    )
    return folded, unfolded


KERNELS = {  # operation of the net above → its operator in a file
    "executorch": {"maximum": "Maximum", "tanh": "Tanh", "leaky_relu": "LeakyReLU", "avg_pool2d": "AvgPooling2d"},
    "tflite": {"maximum": "MAXIMUM", "tanh": "TANH", "leaky_relu": "LEAKY_RELU", "avg_pool2d": "AVERAGE_POOL_2D"},
    "onnx": {"maximum": "Max", "tanh": "Tanh", "leaky_relu": "LeakyRelu", "avg_pool2d": "AveragePool"},
}
VALUES = {"maximum": 512, "tanh": 512, "leaky_relu": 512, "avg_pool2d": 128}


def onnx_operators(path: Path) -> set[str]:
    """What runs: those of the graph that ONNX Runtime makes of the file."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_name("optimized.onnx"))
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node}


def operators_in_int8(runtime: str, path: Path) -> set[str]:
    """Those of VALUES that a file's kernels compute on levels."""
    if runtime == "onnx":
        run = onnx_operators(path)
        assert all({kind, f"QLinear{kind}"} & run for kind in KERNELS[runtime].values())
        return {name for name, kind in KERNELS[runtime].items() if f"QLinear{kind}" in run}
    written = {(each["kind"], each["output_bytes"]) for each in traffic_of(path)["operators"]}
    in_int8 = {name for name, kind in KERNELS[runtime].items() if (kind, VALUES[name]) in written}
    assert all((kind, 4 * VALUES[name]) in written for name, kind in KERNELS[runtime].items() if name not in in_int8)
    return in_int8


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_files_keep_a_detector_s_parts_and_compute_as_check_says(runtime, net, annotated, images, converted, tmp_path):
    from pocketforge.runtimes.base import ExportRequest

    folded, unfolded = converted
    example = (torch.from_numpy(images[0][:1]),)
    request = ExportRequest(folded, unfolded, example, ("x",), ("y",), "NCHW", "float32", None, scheme="static_int8")
    with contextlib.redirect_stdout(io.StringIO()):
        result = importlib.import_module(RUNTIMES[runtime].module).export(request, tmp_path)
    path = tmp_path / result.files["model"]
    sessions = importlib.import_module(f"pocketforge.runtimes.sessions.{RUNTIMES[runtime].session}")
    session = sessions.open_session(path, 1)
    found = np.concatenate([np.array(session.run([images[0][i : i + 1]])[0]) for i in range(len(images[0]))])
    wanted = answers(net, images)
    for part in (BOXES, SCORES):
        assert parity(found[:, part], wanted[:, part]).sqnr_db > 25
    said = in_runtime(annotated, runtime).parts
    in_int8 = {part.kind for part in said if part.kind in VALUES and part.numbers == "int8"}
    assert in_int8 == operators_in_int8(runtime, path)


class Ends(nn.Module):
    """Operations of which it hangs on what reads them, or on their form, whether they have an int8 kernel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.ModuleList(nn.Conv2d(8, 2, 1) for _ in range(4))

    def forward(self, x):
        x, last = self.stem(x), self.last
        grown = last[0](F.interpolate(torch.sigmoid(x), scale_factor=2))
        pooled = F.avg_pool2d(F.relu(last[1](x)), 2)
        return grown, pooled, last[2](F.adaptive_avg_pool2d(x, 4)), last[3](F.adaptive_avg_pool2d(x, 1))


# Runtime → operation → its operator in int8, and in float; in .tflite and .pte with the bytes that it writes.
ENDS: dict[str, dict[str, tuple[Any, Any]]] = {
    "executorch": {
        "sigmoid@.": (("Sigmoid", 512), ("Sigmoid", 2048)),
        "upsample_nearest2d@.": (("aten::upsample_nearest2d", 2048), ("aten::upsample_nearest2d", 8192)),
        "avg_pool2d@.": (("AvgPooling2d", 32), ("AvgPooling2d", 128)),
        "adaptive_avg_pool2d@.": (("aten::_adaptive_avg_pool2d", 128), ("aten::_adaptive_avg_pool2d", 512)),
        "adaptive_avg_pool2d@.#2": (("GlobalAvgPooling2d", 8), ("GlobalAvgPooling2d", 32)),
    },
    "tflite": {
        "sigmoid@.": (("LOGISTIC", 512), ("LOGISTIC", 2048)),
        "upsample_nearest2d@.": (("RESIZE_NEAREST_NEIGHBOR", 2048), ("RESIZE_NEAREST_NEIGHBOR", 8192)),
        "avg_pool2d@.": (("AVERAGE_POOL_2D", 32), ("AVERAGE_POOL_2D", 128)),
        "adaptive_avg_pool2d@.": (("AVERAGE_POOL_2D", 128), ("AVERAGE_POOL_2D", 512)),
        "adaptive_avg_pool2d@.#2": (("MEAN", 8), ("MEAN", 32)),
    },
    "onnx": {  # Resize is the same operator of both
        "sigmoid@.": ("QLinearSigmoid", "Sigmoid"),
        "avg_pool2d@.": ("none", "AveragePool"),
        "adaptive_avg_pool2d@.": ("QLinearAveragePool", "none"),
        "adaptive_avg_pool2d@.#2": ("none", "ReduceMean"),
    },
}


@pytest.fixture(scope="module")
def ends(images) -> tuple[Annotated, list[Any]]:
    example = (torch.from_numpy(images[0][:1]),)
    traced = torch.export.export(Ends().eval(), example)
    annotated = Annotated(annotated_parts(pt2e.prepare(traced, STATIC)))
    return annotated, [torch.export.export(m, example) for m in pt2e.quantize_graph(traced, images, STATIC)]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_hangs_on_readers_and_on_form_is_computed_as_check_says(runtime, ends, images, tmp_path):
    from pocketforge.runtimes.base import ExportRequest

    annotated, pair = ends
    example, names = (torch.from_numpy(images[0][:1]),), ("a", "b", "c", "d")
    folded, unfolded = pair
    request = ExportRequest(folded, unfolded, example, ("x",), names, "NCHW", "float32", None, scheme="static_int8")
    with contextlib.redirect_stdout(io.StringIO()):
        path = tmp_path / importlib.import_module(RUNTIMES[runtime].module).export(request, tmp_path).files["model"]
    written: set[Any] = set()
    if runtime == "onnx":
        written = onnx_operators(path)
    else:
        written = {(each["kind"], each["output_bytes"]) for each in traffic_of(path)["operators"]}
    said = {part.name: part.numbers for part in in_runtime(annotated, runtime).parts}
    found = {name: "int8" if of_levels in written else "float" for name, (of_levels, _) in ENDS[runtime].items()}
    assert found == {name: said[name] for name in found}
    assert {name: ENDS[runtime][name][found[name] == "float"] in written for name in found} == dict.fromkeys(
        found, True
    )


@pytest.mark.parametrize("runtime", ["onnx", "executorch"])
def test_levels_are_refused_of_an_output_that_is_kept_float_with_what_gives_it_one_scale(
    runtime, images, converted, tmp_path
):
    from pocketforge.runtimes.base import ExportRequest

    example = (torch.from_numpy(images[0][:1]),)
    request = ExportRequest(
        converted[0], converted[1], example, ("x",), ("y",), "NCHW", "int8", None, scheme="static_int8"
    )
    with pytest.raises(StageFailed, match="output 'y' is not quantized last") as caught:
        importlib.import_module(RUNTIMES[runtime].module).export(request, tmp_path)
    assert 'overrides = [{ ops = ["cat@…"], scheme = "static_int8" }]' in caught.value.hint


def test_a_concat_that_is_an_output_and_that_a_layer_reads_keeps_its_parts_in_tflite(images, tmp_path):
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.box, self.score, self.last = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            both = torch.cat([self.box(x) * 300, torch.sigmoid(self.score(x))], 1)
            return both, self.last(both)

    from pocketforge.runtimes.base import ExportRequest

    torch.manual_seed(0)
    net, example = Both().eval(), (torch.from_numpy(images[0][:1]),)
    traced = torch.export.export(net, example)
    apart = keep_apart(pt2e.rewritten_for_quantizer(traced), images, {}).schemes
    schemes = {**pt2e.layer_schemes(traced.graph, STATIC), **apart}
    pair = [torch.export.export(m, example) for m in pt2e.quantize_graph(traced, images, STATIC, schemes=schemes)]
    request = ExportRequest(
        pair[0], pair[1], example, ("x",), ("y", "z"), "NCHW", "float32", None, scheme="static_int8"
    )
    with contextlib.redirect_stdout(io.StringIO()):
        importlib.import_module(RUNTIMES["tflite"].module).export(request, tmp_path)
    sessions = importlib.import_module(f"pocketforge.runtimes.sessions.{RUNTIMES['tflite'].session}")
    found = np.array(sessions.open_session(tmp_path / "model.tflite", 1).run([images[0][:1]])[0])
    with torch.no_grad():
        wanted = net(example[0])[0].numpy()
    assert parity(found[:, 2:], wanted[:, 2:]).sqnr_db > 25
