"""dynamic_int8 through the real stages: a pruned MLP and a conv net, for every runtime, run from the files."""

from __future__ import annotations

import importlib
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import file_answers
import numpy as np
import pytest
import torch

from pocketforge.data.dataset import open_dataset
from pocketforge.devices.environments import TFLITE_RUNTIME
from pocketforge.errors import StageFailed
from pocketforge.files import resolver
from pocketforge.outcomes import files
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.quantize import Quantized
from pocketforge.outcomes.verify import Verified
from pocketforge.recipe import Data, Preprocess, Verify
from pocketforge.recipe.quantize import Quantize
from pocketforge.registries import RUNTIMES, STAGES
from pocketforge.runtimes.base import ExportRequest
from pocketforge.runtimes.describe import Description, describe
from pocketforge.specs.base import Spec
from pocketforge.specs.data import data_spec
from pocketforge.specs.export import ExportSpec
from pocketforge.specs.quantize import QuantizeSpec
from pocketforge.specs.reference import ReferenceSpec
from pocketforge.specs.trained import ModelSource
from pocketforge.specs.verify import VerifySpec

pytestmark = pytest.mark.usefixtures("runtimes_of_all_workers")
MODEL = """\
import torch
from torch import nn


def build(kind):
    if kind == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    conv = [nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 10, 3, stride=2)]
    head = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*conv, *head, *([nn.Linear(10, 10)] if kind == "conv_linear" else []))
"""
DIGITS = Data("digits", eval_samples=200, preprocess=Preprocess(resize=(28, 28), mean=(0.5,), std=(0.5,)))
PARAMETERS = 784 * 256 + 256 + 256 * 10 + 10


def run_stage(name: str, inputs: Mapping[str, Path], spec: Spec, out: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
        importlib.import_module(STAGES[name].module).run(inputs, spec, out, quiet)


def quiet(fraction: float, message: str = "") -> None:
    """Progress, which nobody watches here."""


@dataclass
class Lane:
    """The folders of a model's stages, each run when it is first asked for."""

    root: Path
    trunk: dict[str, Path]
    ran: dict[str, Path] = field(default_factory=dict)
    verified: Path = Path()  # the last one

    def quantize(self, how: Quantize) -> Path:
        return self._once(
            f"quantize-{how.scheme}-{how.per_channel}", "quantize", self.trunk, QuantizeSpec(how.settled())
        )

    def inputs(self, how: Quantize) -> dict[str, Path]:
        return self.trunk | ({"quantize": self.quantize(how)} if how.is_int8 else {})

    def export(self, runtime: str, how: Quantize, take: str = "") -> Path:
        spec = ExportSpec(runtime, how.scheme, "NCHW", "NCHW", "float32", None)
        return self._once(f"export-{runtime}-{how.scheme}-{how.per_channel}{take}", "export", self.inputs(how), spec)

    def verify(self, runtime: str, how: Quantize, exported: Path | None = None, legacy: bool = False) -> Verified:
        older = "tflite-runtime 2.14.0" if legacy else ""
        spec = VerifySpec(runtime, how.scheme, False, "classification", Verify(), kernels="any", legacy=older)
        exported = exported or self.export(runtime, how)
        inputs = {**self.inputs(how), "export": exported}
        self.verified = out = self._once(f"verify-{exported.name}-{legacy}", "verify", inputs, spec)
        return files.read(out, Verified)

    def _once(self, name: str, stage: str, inputs: Mapping[str, Path], spec: Spec) -> Path:
        if name not in self.ran:
            out = self.root / name
            out.mkdir()
            run_stage(stage, inputs, spec, out)
            self.ran[name] = out
        return self.ran[name]


DYNAMIC = Quantize("dynamic_int8")
ONE_SCALE = Quantize("dynamic_int8", per_channel=False)


def train(module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(module.parameters(), 2e-3)
    module.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x[batch]), y[batch]).backward()
            optimizer.step()
    module.eval()


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Lane]:
    """The models, trained on digits of 28×28 for seconds; the MLP's first layer is pruned by half, as in issue 3."""
    root = tmp_path_factory.mktemp("dynamic")
    (root / "model.py").write_text(MODEL, encoding="utf-8")
    spec = data_spec(DIGITS, 0, "classification")
    (root / "data").mkdir()
    run_stage("data", {"data_root": root}, spec, root / "data")
    samples = [(arrays[0], target) for arrays, target in open_dataset(spec, resolver(root)).train]
    x, y = torch.from_numpy(np.stack([s for s, _ in samples])), torch.tensor([int(np.asarray(t)) for _, t in samples])
    namespace: dict[str, Any] = {}
    exec(MODEL, namespace)
    found = {}
    torch.manual_seed(0)
    for kind, epochs in (("mlp", 6), ("conv_linear", 4), ("conv", 1)):
        module = namespace["build"](kind)
        train(module, x, y, epochs)
        if kind == "mlp":
            with torch.no_grad():
                weight = module[1].weight
                weight[weight.abs() <= weight.abs().median()] = 0
        folder = root / kind
        folder.mkdir()
        torch.save(module.state_dict(), folder / "weights.pt")
        (folder / "reference").mkdir()
        model = ModelSource("model.py", {"kind": kind}, 0)
        stage = ReferenceSpec(model, (), (), "classification", "accuracy_top1")
        inputs = {"data": root / "data", "data_root": root, "weights": folder / "weights.pt"}
        run_stage("reference", inputs, stage, folder / "reference")
        found[kind] = Lane(folder, {"data": root / "data", "reference": folder / "reference"})
    return found


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    return request.param


def model_file(runtime: str, folder: Path) -> Path:
    return folder / f"model{RUNTIMES[runtime].suffix}"


def matrices(found: Description) -> dict[tuple[int, ...], str]:
    """Shape → dtype of the weights with two dimensions or more, transposed ones in the order that torch stores."""
    return {tuple(sorted(w.shape, reverse=True)): w.dtype for w in found.weights if len(w.shape) > 1}


@pytest.mark.parametrize("how", [DYNAMIC, ONE_SCALE], ids=["per_channel", "one_scale"])
def test_the_pruned_mlp_keeps_its_answers_in_a_quarter_of_the_bytes(lanes, runtime, how):
    lane = lanes["mlp"]
    found = lane.verify(runtime, how)
    assert [each for each in found.checks if not each.passed] == []
    assert any(each.name.endswith("int8 weights") for each in found.checks)
    for role, measured in found.files.items():
        print(f"{runtime} {role} {how.per_channel}: {measured}")
        assert (measured.argmax_agreement or 0) >= 0.99
        assert measured.accuracy["accuracy_top1"] >= 0.9  # trained, so that agreement means something
        assert 30 < (measured.sqnr_db or 0) < 80  # rounded to 8 bits: neither broken nor a float file
        # All runtimes compute the graph that was quantized, but for a step where a value lies between two.
        assert (measured.graph_sqnr_db or 0) > 45
    small, large = (model_file(runtime, lane.export(runtime, q)) for q in (how, Quantize()))
    print(f"{runtime}: {small.stat().st_size} of {large.stat().st_size} bytes")
    assert small.stat().st_size < 0.4 * large.stat().st_size


def test_the_description_says_dynamic(lanes, runtime):
    folder = lanes["mlp"].export(runtime, DYNAMIC)
    for file in files.read(folder, Exported).files.values():
        found = describe(folder / file)
        assert found.metadata["dynamically_quantized_ops"] == "2"
        assert found.parameters == PARAMETERS  # scales and zero points are not parameters
        assert matrices(found) == dict.fromkeys([(784, 256), (256, 10)], "uint8" if runtime == "onnx" else "int8")
        assert {t.dtype for t in (*found.inputs, *found.outputs)} == {"float32"}
    plain = describe(model_file(runtime, lanes["mlp"].export(runtime, Quantize())))
    assert "dynamically_quantized_ops" not in plain.metadata


def test_zeros_and_weights_are_those_of_the_graph_in_every_file(lanes):
    import onnx
    from ai_edge_litert import schema_py_generated as schema
    from onnx import numpy_helper

    lane = lanes["mlp"]
    program = torch.export.load(lane.quantize(DYNAMIC) / "folded.pt2")
    tensors = {**program.state_dict, **program.constants}
    wanted = [t.numpy() for t in tensors.values() if t.dtype == torch.int8 and t.ndim == 2]
    assert [(w == 0).mean() >= 0.5 for w in wanted if w.shape == (256, 784)] == [True]
    stored = onnx.load(model_file("onnx", lane.export("onnx", DYNAMIC))).graph.initializer
    ours = [numpy_helper.to_array(t) for t in stored if t.data_type == onnx.TensorProto.UINT8 and len(t.dims) == 2]
    for found in (ours, [w.T + 128 for w in _int8_tensors(schema, lane)]):
        assert len(found) == len(wanted) == 2
        for one in wanted:
            assert any(np.array_equal(one.T.astype(np.int16) + 128, other) for other in found)


def _int8_tensors(schema: Any, lane: Lane) -> list[np.ndarray]:
    data = model_file("tflite", lane.export("tflite", DYNAMIC)).read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(data), 0))
    return [
        np.frombuffer(bytes(model.buffers[t.buffer].data), np.int8).reshape(t.shape).astype(np.int16)
        for t in model.subgraphs[0].tensors
        if t.type == schema.TensorType.INT8
    ]


def test_the_same_inputs_give_the_same_bytes(lanes, runtime):
    first, second = (model_file(runtime, lanes["mlp"].export(runtime, DYNAMIC, take)) for take in ("", "-again"))
    assert first != second and first.read_bytes() == second.read_bytes()
    if runtime == "onnx":  # ONNX Runtime itself writes it in another way each time
        assert first.with_suffix(".ort").read_bytes() == second.with_suffix(".ort").read_bytes()


def test_convolutions_stay_float_and_are_named(lanes, runtime):
    lane = lanes["conv_linear"]
    summary = files.read(lane.quantize(DYNAMIC), Quantized)
    assert summary.quantized == ["linear (7)"]
    assert summary.left_float == ["conv2d (0)", "conv2d (3)"]  # what a build's warnings and report name
    checks = lane.verify(runtime, DYNAMIC).checks
    # Trained for a second, it has nearly as much for its second class at some samples, at how many (.965 to .99 agree)
    # hangs on the processor that trained it.
    assert [each for each in checks if not each.passed and not each.name.endswith("argmax_agreement")] == []
    assert all(float(each.found) >= 0.93 for each in checks if each.name.endswith("argmax_agreement"))
    found = describe(model_file(runtime, lane.export(runtime, DYNAMIC)))
    dtypes = {len(w.shape): w.dtype for w in found.weights if len(w.shape) > 1}
    assert dtypes == {4: "float32", 2: "uint8" if runtime == "onnx" else "int8"}
    assert found.metadata["dynamically_quantized_ops"] == "1"


def test_static_int8_is_untouched(lanes):
    lane, static = lanes["conv_linear"], Quantize("static_int8")
    summary = files.read(lane.quantize(static), Quantized)
    (levels,) = summary.outputs
    assert len(summary.quantized) == 3 and summary.left_float == [] and levels is not None and levels.scale > 0
    found = describe(model_file("onnx", lane.export("onnx", static)))
    assert "dynamically_quantized_ops" not in found.metadata
    assert {w.dtype for w in found.weights if len(w.shape) > 1} == {"uint8"}
    measured = lane.verify("onnx", static).files["model"]
    # The net is another one on each kind of processor that trains it. Of 256 levels its file and its graph are seldom a
    # step apart; where a value lies between two in each of three layers, three were seen (AVX2; AVX-512: two).
    steps, agreement = measured.max_steps_from_graph, measured.graph_argmax_agreement
    assert steps is not None and agreement is not None
    simulated = np.load(lane.quantize(static) / "outputs_0.npy")
    outputs = np.load(lane.verified / "model" / "outputs_0.npy")[: len(simulated)]
    assert np.abs(outputs - simulated).mean() < 0.25 * levels.scale and steps < 8 and agreement >= 0.95
    # After four epochs the best two classes of many samples are within a step: either is right there. Where they are
    # further apart than both can move, nothing may tip.
    best = np.sort(simulated, axis=1)[:, -2:]
    clear = best[:, 1] - best[:, 0] > 2.01 * steps * levels.scale
    assert clear.mean() > 0.25 and (outputs.argmax(1) == simulated.argmax(1))[clear].all()


def test_a_model_without_linear_layers_is_refused(lanes):
    with pytest.raises(
        StageFailed, match=r"dynamic_int8 is for linear layers and LSTMs; float: conv2d \(0\), conv2d \(3\)"
    ) as said:
        lanes["conv"].quantize(DYNAMIC)
    assert 'scheme = "static_int8"' in str(said.value.hint)


def test_a_float_file_in_its_place_is_wrong(lanes, runtime):
    lane = lanes["mlp"]
    swapped = lane.root / f"swapped-{runtime}"
    shutil.copytree(lane.export(runtime, DYNAMIC), swapped)
    shutil.copy(model_file(runtime, lane.export(runtime, Quantize())), model_file(runtime, swapped))
    found = lane.verify(runtime, DYNAMIC, swapped)
    assert [each.name for each in found.checks if not each.passed] == ["int8 weights"]


@pytest.mark.skipif(TFLITE_RUNTIME.python is None, reason="the environment of tflite-runtime 2.14 is not set up")
def test_what_the_older_runtime_makes_of_it_is_said(lanes):
    lane = lanes["mlp"]
    name = "tflite-runtime 2.14.0"
    found = lane.verify("tflite", DYNAMIC, legacy=True)
    assert "does not work" in found.runtimes[name] and "FULLY_CONNECTED" in found.runtimes[name]
    found = lane.verify("tflite", ONE_SCALE, legacy=True)
    assert found.runtimes[name] == "works"
    assert (found.files["legacy"].argmax_agreement or 0) >= 0.98


# What the exporters are given here is made to break them


class Extreme(torch.nn.Module):
    """Every product at its limit: 8-bit kernels that add two in 16 bits overflow."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(64, 4, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([1.0, -1.0, 0.5, -0.25])[:, None].expand(4, 64))

    def forward(self, x):
        return self.linear(x)


class Attention(torch.nn.Module):
    """Layers that share an input, one without a bias, and products of activations, which stay float."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (torch.nn.Linear(16, 16, bias=b) for b in (True, False, True))
        self.head = torch.nn.Linear(16, 3)

    def forward(self, x):
        weights = torch.softmax(self.query(x) @ self.key(x).transpose(1, 2) / 4, -1)
        return self.head((weights @ self.value(x)).mean(1))


@dataclass(frozen=True)
class Quantized8:
    """A net, samples for it, and its graphs in dynamic_int8: the same for all runtimes."""

    module: torch.nn.Module
    samples: np.ndarray
    example: tuple[torch.Tensor]
    programs: tuple[Any, Any]

    def wanted(self) -> np.ndarray:
        return self.module(torch.from_numpy(self.samples)).detach().numpy()


def quantized(module: torch.nn.Module, samples: np.ndarray) -> Quantized8:
    example = (torch.from_numpy(samples[:1]),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pocketforge.quantization.pt2e import quantize_graph

        graphs = quantize_graph(torch.export.export(module.eval(), example), [samples], DYNAMIC)
        folded, unfolded = (torch.export.export(graph, example) for graph in graphs)
    return Quantized8(module, samples, example, (folded, unfolded))


@pytest.fixture(scope="module")
def extreme() -> Quantized8:
    random = np.random.default_rng(0)
    samples = np.concatenate([np.ones((2, 64)), -np.ones((2, 64)), random.choice([-1.0, 1.0], (8, 64))])
    return quantized(Extreme(), samples.astype(np.float32))


@pytest.fixture(scope="module")
def attention() -> Quantized8:
    torch.manual_seed(0)
    module = Attention()
    return quantized(module, np.random.default_rng(0).normal(size=(6, 7, 16)).astype(np.float32))


def answers_of_files(runtime: str, case: Quantized8, out: Path) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        request = ExportRequest(*case.programs, case.example, ("x",), ("y",), "NCHW", "float32", None)
        result = importlib.import_module(RUNTIMES[runtime].module).export(request, out)
    return [file_answers.answers(runtime, out / file, [case.samples])[0] for file in result.files.values()]


def test_sums_do_not_saturate(runtime, extreme, tmp_path):
    for found in answers_of_files(runtime, extreme, tmp_path):
        # One step in 255 of every input, at worst all the same way; saturated sums are off by half.
        np.testing.assert_allclose(found, extreme.wanted(), atol=64 / 255)


def test_attention(runtime, attention, tmp_path):
    wanted = attention.wanted()
    for found in answers_of_files(runtime, attention, tmp_path):
        assert 0 < np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    file = next(p for p in tmp_path.iterdir() if p.suffix == RUNTIMES[runtime].suffix)
    assert describe(file).metadata["dynamically_quantized_ops"] == "4"
