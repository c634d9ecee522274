"""weight_only_int8, weight_only_int4 and fp16 through the real stages, run from the files, on shipped models."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import file_answers
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from shared_store import DigitsParts

from pocketforge.errors import StageFailed
from pocketforge.metrics import parity
from pocketforge.outcomes import files
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.verify import Verified
from pocketforge.quantization.encodings import Encoding, in_nibbles, load_encodings, save_encodings
from pocketforge.recipe import Data, Preprocess, Verify
from pocketforge.recipe.quantize import Quantize
from pocketforge.registries import RUNTIMES, STAGES
from pocketforge.runtimes.base import ExportRequest
from pocketforge.runtimes.describe import describe
from pocketforge.runtimes.stored_weights import Matcher
from pocketforge.specs.base import Spec
from pocketforge.specs.data import data_spec
from pocketforge.specs.export import ExportSpec
from pocketforge.specs.quantize import QuantizeSpec
from pocketforge.specs.reference import ReferenceSpec
from pocketforge.specs.trained import ModelSource
from pocketforge.specs.verify import VerifySpec

pytestmark = pytest.mark.usefixtures("runtimes_of_all_workers")
MODELS = Path(__file__).resolve().parents[2] / "models"
INT8, INT4, FP16, FP32 = (Quantize(s) for s in ("weight_only_int8", "weight_only_int4", "fp16", "fp32"))
# The .ort format has no 4-bit type: there, a 4-bit weight takes a byte.
STORED = {
    "weight_only_int8": {"model": "int8", "ort": "int8"},
    "weight_only_int4": {"model": "int4", "ort": "int8"},
    "fp16": {"model": "float16", "ort": "float16"},
}
# Of the float32 file's bytes, with the graph and what stays float32 (biases) included.
SIZE = {"int8": 0.42, "int4": 0.30, "float16": 0.60}


def run_stage(name: str, inputs: Mapping[str, Path], spec: Spec | Mapping[str, Any], out: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
        importlib.import_module(STAGES[name].module).run(inputs, spec, out, lambda fraction, text="": None)


@dataclass
class Lane:
    """The folders of a model's stages, each run when it is first asked for."""

    root: Path
    trunk: dict[str, Path]
    ran: dict[str, Path] = field(default_factory=dict)

    def inputs(self, how: Quantize) -> dict[str, Path]:
        if not how.info.stage:
            return self.trunk
        return {
            **self.trunk,
            "quantize": self._once(f"quantize-{how.scheme}", "quantize", self.trunk, QuantizeSpec(how.settled())),
        }

    def export(self, runtime: str, how: Quantize, layout: str = "NCHW", take: str = "") -> Path:
        spec = ExportSpec(runtime, how.scheme, layout, model_layout="NCHW", io="float32", opset=None)
        return self._once(f"export-{runtime}-{how.scheme}-{layout}{take}", "export", self.inputs(how), spec)

    def verify(self, runtime: str, how: Quantize, layout: str = "NCHW") -> tuple[Verified, Path]:
        spec = VerifySpec(runtime, how.scheme, False, "classification", Verify(), kernels="any")
        inputs = {**self.inputs(how), "export": self.export(runtime, how, layout)}
        out = self._once(f"verify-{runtime}-{how.scheme}-{layout}", "verify", inputs, spec)
        return files.read(out, Verified), out

    def file(self, runtime: str, how: Quantize, role: str = "model", take: str = "", layout: str = "NCHW") -> Path:
        folder = self.export(runtime, how, layout, take)
        return folder / files.read(folder, Exported).files[role]

    def _once(self, name: str, stage: str, inputs: Mapping[str, Path], spec: Spec | Mapping[str, Any]) -> Path:
        if name not in self.ran:
            (self.root / name).mkdir()
            run_stage(stage, inputs, spec, self.root / name)
            self.ran[name] = self.root / name
        return self.ran[name]


@pytest.fixture(scope="module")
def lanes(digits_parts: DigitsParts, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Lane]:
    """The shipped digits CNN (convolutions of all kinds, batch norm) and MLP (linear layers), as they are shipped."""
    cnn = Lane(tmp_path_factory.mktemp("digits_cnn"), {"data": digits_parts.data, "reference": digits_parts.reference})
    cnn.ran["export-onnx-fp32-NCHW"] = digits_parts.exported("onnx", "fp32")
    root = tmp_path_factory.mktemp("mlp_digits")
    preprocess = Preprocess(resize=(28, 28), scale=16.0, mean=(0.5,), std=(0.5,))
    inputs = {
        "data_root": MODELS / "mlp_digits",
        "weights": MODELS / "mlp_digits" / "weights.safetensors",
        "data": root / "data",
    }
    for folder in ("data", "reference"):
        (root / folder).mkdir()
    data = data_spec(Data("digits", eval_samples=150, preprocess=preprocess), 0, "classification")
    run_stage("data", inputs, data, root / "data")
    spec = ReferenceSpec(ModelSource("model.py", {}, 0), (), (), "classification", "accuracy_top1")
    run_stage("reference", inputs, spec, root / "reference")
    return {"digits_cnn": cnn, "mlp_digits": Lane(root, {"data": root / "data", "reference": root / "reference"})}


@pytest.mark.parametrize("how", [INT8, INT4, FP16], ids=lambda how: how.scheme)
@pytest.mark.parametrize("runtime", ["tflite", "onnx"])
def test_the_file_is_small_and_computes_what_was_simulated(lanes, runtime, how):
    lane = lanes["digits_cnn"]
    # The other order of channels once, where there is one.
    layout = "NHWC" if (runtime, how) == ("tflite", INT8) else "NCHW"
    found, folder = lane.verify(runtime, how, layout)
    assert [check for check in found.checks if not check.passed] == []
    whole = describe(lane.file("onnx", FP32))  # the smallest float file
    for role, measured in found.files.items():
        stored = STORED[how.scheme][role]
        outputs = np.load(folder / role / "outputs_0.npy")
        simulated = np.load(lane.inputs(how).get("quantize", lane.trunk["reference"]) / "outputs_0.npy")
        against = parity(outputs[: len(simulated)], simulated)
        print(f"{runtime} {role} {how.scheme}: {against} {measured}")
        # The same weights in the same order of layers: only the order of sums may differ.
        assert against.sqnr_db > (50 if how is FP16 else 100)
        assert against.argmax_agreement >= 0.99
        assert measured.accuracy["accuracy_top1"] > 0.97
        file = describe(lane.file(runtime, how, role, layout=layout))
        assert file.parameters == whole.parameters
        assert {t.dtype for t in (*file.inputs, *file.outputs)} == {"float32"}
        assert [t.name for t in (*file.inputs, *file.outputs)] == ["input", "output"]
        # All weights, biases left out: each element is in the stored type.
        assert {w.dtype for w in file.weights if len(w.shape) > 1} == {stored}
        assert file.size_bytes < SIZE[stored] * whole.size_bytes


@pytest.mark.parametrize("runtime", ["tflite", "onnx"])
def test_the_same_inputs_give_the_same_bytes(lanes, runtime):
    first, second = (lanes["mlp_digits"].file(runtime, INT4, take=take) for take in ("", "-again"))
    assert first != second and first.read_bytes() == second.read_bytes()
    if runtime == "onnx":  # ONNX Runtime itself writes it in another way each time
        assert first.with_suffix(".ort").read_bytes() == second.with_suffix(".ort").read_bytes()


def test_what_is_slow_or_larger_than_it_says_is_warned_of(lanes):
    def warned(runtime: str, how: Quantize) -> str:
        return "\n".join(files.read(lanes["mlp_digits"].export(runtime, how), Exported).warnings)

    assert "4-bit weights unpacked at each inference" in warned("tflite", INT4) and "fc1" in warned("tflite", INT4)
    assert "a byte each in model.ort" in warned("onnx", INT4)
    assert warned("tflite", INT8) == warned("onnx", INT8) == ""


def test_fp16_of_linear_layers_in_executorch(lanes):
    lane = lanes["mlp_digits"]
    found, _ = lane.verify("executorch", FP16)
    assert [check for check in found.checks if not check.passed] == []
    assert 50 < (found.files["model"].sqnr_db or 0) < 110  # it computes in half precision, too
    small, large = (describe(lane.file("executorch", how)) for how in (FP16, FP32))
    assert small.size_bytes < 0.55 * large.size_bytes and {*small.dtypes} == {"float16"}


def test_executorch_refuses_what_it_would_make_slow_or_no_smaller(lanes):
    with pytest.raises(StageFailed, match=r"fp16 would not make the \.pte smaller.*9\d% of this model's"):
        lanes["digits_cnn"].export("executorch", FP16)
    with pytest.raises(StageFailed, match="XNNPACK takes no float inputs with int8 or int4 weights") as said:
        lanes["mlp_digits"].export("executorch", INT8)
    assert "dynamic_int8" in str(said.value.hint)


# What the converters change on their way: norms before linear layers, tables, layers without weights of their own


class Words(torch.nn.Module):
    """An embedding, and layer norms whose factors TFLite's converter folds into the linear layers behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(40, 64)
        self.norm = torch.nn.LayerNorm(64)
        for value in (self.norm.weight, self.norm.bias):
            torch.nn.init.uniform_(value, 0.5, 1.5)
        self.first, self.second = torch.nn.Linear(64, 96), torch.nn.Linear(96, 64, bias=False)
        self.head = torch.nn.Linear(64, 5)

    def forward(self, ids, values):
        x = self.norm(self.table(ids) + values)
        return self.head(self.norm(x + self.second(torch.nn.functional.gelu(self.first(x)))).mean(1))


@pytest.mark.parametrize(
    ("runtime", "scheme"),
    [("tflite", "weight_only_int8"), ("tflite", "weight_only_int4"), ("onnx", "weight_only_int8")],
)
def test_transformer_layers(runtime, scheme, tmp_path):
    from pocketforge.quantization.weight_only import quantize_weights

    torch.manual_seed(0)
    random = np.random.default_rng(0)
    feeds: list[np.ndarray] = [random.integers(0, 40, (8, 7)), random.normal(size=(8, 7, 64)).astype(np.float32)]
    example = tuple(torch.from_numpy(f[:1]) for f in feeds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module, encodings = quantize_weights(torch.export.export(Words().eval(), example), Quantize(scheme))
        save_encodings(encodings, tmp_path)
        program = torch.export.export(module, example)
        request = ExportRequest(program, None, example, ("ids", "values"), ("y",), "NCHW", "float32", None,
                                scheme=scheme, encodings=tmp_path)  # fmt: skip
        result = importlib.import_module(RUNTIMES[runtime].module).export(request, tmp_path)
    assert sorted(encodings) == ["first.weight", "head.weight", "second.weight", "table.weight"]
    assert encodings["table.weight"].bits == 8
    assert not [w for w in result.warnings if "float32" in w]
    wanted = np.concatenate([module(*(torch.from_numpy(f[i : i + 1]) for f in feeds)).detach() for i in range(8)])
    for file in result.files.values():
        assert parity(file_answers.answers(runtime, tmp_path / file, feeds)[0], wanted).sqnr_db > 100
        found = describe(tmp_path / file)
        assert {w.dtype for w in found.weights if len(w.shape) > 1} <= {"int8", "int4"}
        assert found.parameters == sum(p.numel() for p in Words().parameters())


# Numbers


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_levels_are_the_nearest_and_keep_their_place(data):
    from pocketforge.quantization.weight_only import encode, group_size

    shape = data.draw(array_shapes(min_dims=2, max_dims=4, max_side=6))
    weight = data.draw(arrays(np.float32, shape, elements=st.floats(-4, 4, width=32, allow_subnormal=False)))
    axis = data.draw(st.integers(0, 1))
    bits = data.draw(st.sampled_from([4, 8]))
    size = group_size(weight, axis, data.draw(st.integers(2, 8))) if bits == 4 else 0
    encoding = encode(weight, axis, bits=bits, group_size=size, per_channel=data.draw(st.booleans()) or bits == 4)
    assert encoding.levels.shape == shape and np.abs(encoding.levels).max(initial=0) <= 2 ** (bits - 1) - 1
    steps = np.ones_like(encoding.levels)
    half_step = Encoding(steps, encoding.scales, bits, axis, size).values() / 2
    assert np.all(np.abs(encoding.values() - weight) <= half_step * 1.0001)
    # In whatever order a converter lays the axes, the constant is recognised and its parts give the same numbers.
    order = data.draw(st.permutations(range(len(shape))))
    constant = np.ascontiguousarray(encoding.values().transpose(order))
    matcher = Matcher({"w": encoding})
    placed = matcher.find(constant)
    assert placed is not None and matcher.missing == []
    rows = encoding.rows().astype(np.float32) * encoding.scales.reshape(-1, 1)
    moved = rows.reshape(placed.rows_shape).transpose(placed.rows_permutation).reshape(placed.shape)
    np.testing.assert_array_equal(moved, constant)
    if not size:
        scales = encoding.scales.reshape([-1 if i == placed.axis else 1 for i in range(len(shape))])
        np.testing.assert_array_equal(placed.levels * scales, constant)


def test_a_constant_with_other_numbers_is_not_replaced():
    levels = np.arange(-6, 6, dtype=np.int8).reshape(3, 4)
    encoding = Encoding(levels, np.array([0.1, 0.2, 0.3], np.float32))
    matcher = Matcher({"w": encoding})
    changed = encoding.values()
    changed[1, 2] = np.nextafter(changed[1, 2], np.float32(9))
    assert matcher.find(changed) is None and matcher.find(changed.T.copy()) is None
    # The same numbers in another order of elements, not of axes: the same sum of bits.
    assert matcher.find(encoding.values()[::-1].copy()) is None
    assert matcher.missing == ["w"]


def test_groups_divide_the_inputs_evenly_or_are_the_whole_channel():
    from pocketforge.quantization.weight_only import group_size

    sizes = {inputs: group_size(np.zeros((3, inputs), np.float32), 0, 32) for inputs in (9, 32, 64, 144, 784, 37, 74)}
    assert sizes == {9: 0, 32: 0, 64: 32, 144: 24, 784: 28, 37: 0, 74: 0}


def test_nibbles_and_files_come_back(tmp_path):
    levels = np.array([[-7, 7, 0], [1, -1, 5]], np.int8)
    packed = in_nibbles(levels[:, :1])
    assert packed.tolist() == [(-7 & 15) | (1 << 4)] and len(in_nibbles(levels)) == 3
    encoding = Encoding(levels, np.array([[0.5], [0.25]], np.float32), 4, 0, 3)
    save_encodings({"b.weight": encoding, "a": Encoding(levels, np.array([2.0], np.float32))}, tmp_path)
    first = (tmp_path / "weights.safetensors").read_bytes()
    back = load_encodings(tmp_path)
    assert sorted(back) == ["a", "b.weight"]
    np.testing.assert_array_equal(back["b.weight"].values(), [[-3.5, 3.5, 0], [0.25, -0.25, 1.25]])
    save_encodings(dict(reversed(back.items())), tmp_path)
    assert (tmp_path / "weights.safetensors").read_bytes() == first


def test_faults_are_said(lanes):
    from pocketforge.quantization.weight_only import quantize_weights

    example = (torch.zeros(1, 4),)
    with pytest.raises(StageFailed, match="no weight could be quantized"):
        quantize_weights(torch.export.export(torch.nn.ReLU(), example), INT8)
    broken = torch.nn.Linear(4, 4)
    torch.nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(StageFailed, match="weight holds NaN"):
        quantize_weights(torch.export.export(broken, example), INT8)
    lane = lanes["mlp_digits"]
    program = torch.export.load(lane.inputs(INT4)["quantize"] / "folded.pt2")
    request = ExportRequest(program, None, tuple(program.example_inputs[0]), ("x",), ("y",), "NCHW", "float32", 18,
                            scheme="weight_only_int4", encodings=lane.inputs(INT4)["quantize"])  # fmt: skip
    with pytest.raises(StageFailed, match="4-bit weights from opset 21 on, found opset 18"):
        importlib.import_module(RUNTIMES["onnx"].module).export(request, lane.root)
