"""What is put around a graph does what the data stage and PyTorch do, and a whole lane is right in each runtime."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
import warnings
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pocketforge.data.preprocess import About, prepare
from pocketforge.data.preprocess_resize import resize
from pocketforge.devices.base import RunAnswer
from pocketforge.devices.environments import MEDIAPIPE
from pocketforge.devices.web import WEB
from pocketforge.errors import ModelError
from pocketforge.facts.gather import gather
from pocketforge.measure.browser import Page, run_pages
from pocketforge.measure.consumed_boxes import rows_of_boxes
from pocketforge.measure.consumers import Answers, try_mediapipe
from pocketforge.measure.score_calibration import calibrated
from pocketforge.measure.web_consumers import Ran, page_of
from pocketforge.metrics import compare
from pocketforge.model import load
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Counts, Preprocessing, Sampled
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.package import Packed
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.verify import Verdict, Verified
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Lane, Plan, Step
from pocketforge.recipe.image_steps import Color, Layout, Normalize, Resize, Scale
from pocketforge.recipe.packed import Inside, cut
from pocketforge.recipe.preprocess import InputSteps
from pocketforge.recipe.preprocess import Step as Done
from pocketforge.recipe.score_calibration import ScoreCalibration
from pocketforge.recipe.toml import parse_recipe
from pocketforge.registries import STAGES
from pocketforge.rewrites import graph_files
from pocketforge.rewrites.packing import ANSWERS, packed_program
from pocketforge.specs.verify import VerifySpec
from pocketforge.stages.package import check_masks, check_scores, settled
from pocketforge.why.taps import taps_of

pytestmark = pytest.mark.usefixtures("runtimes_of_all_workers")
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
HEARD = (RNG.integers(-32768, 32768, 40) / 32768).astype(np.float32)
MEANS = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Same(nn.Module):
    """Gives what it gets: what was put before it is seen to the bit."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 1.0


@pytest.mark.parametrize(
    ("steps", "raw", "layout", "taken"),
    [
        ((Color("bgr"), Scale(by=255.0), MEANS, Layout("NCHW")), RGB, "NHWC", (1, 6, 5, 3)),
        ((Color("bgr"), Scale(by=255.0), MEANS, Layout("NCHW")), RGB, "NCHW", (1, 3, 6, 5)),
        ((Normalize((127.5,), (127.5,)), Layout("NHWC")), RGB, "NHWC", (1, 6, 5, 3)),
        ((Color("grayscale"), Scale(by=16.0), Layout("NCHW")), RGB.astype(np.float32) / 3, "NHWC", (1, 6, 5, 1)),
        ((Scale(by=2.0), Layout("NCT")), HEARD, "NCHW", (1, 40)),
    ],
)
def test_what_is_inside_is_what_the_data_stage_does_to_the_bit(
    steps: tuple[Done, ...], raw: np.ndarray, layout: str, taken: tuple[int, ...]
) -> None:
    lists = (InputSteps(steps),)
    about = About()
    (wanted,) = prepare(lists, (raw,), about).inputs
    parts = cut(lists, layout, images=False)
    (fed,) = prepare(parts.outside, (raw,), about).inputs
    given = torch.from_numpy(fed[None])
    assert tuple(given.shape) == taken and given.dtype == {"u": torch.uint8, "f": torch.float32}.get(
        raw.dtype.kind if raw.ndim == 3 else "", torch.int16
    )
    program = load.trace(Same(), (torch.from_numpy(wanted[None]),))
    found = packed_program(program, parts.inside, (given,)).module()(given)
    assert np.array_equal(found[0].numpy()[0] if isinstance(found, tuple) else found.numpy()[0], wanted)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_a_model_of_bytes_gets_bytes(color: Literal["rgb", "bgr"]) -> None:
    class Thirds(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x // 3

    lists = (InputSteps((Color(color), Layout("NCHW"))),)
    parts = cut(lists, "NHWC", images=False)
    wanted, fed = (prepare(each, (RGB,), About()).inputs[0][None] for each in (lists, parts.outside))
    program = load.trace(Thirds(), (torch.from_numpy(wanted),))
    packed = packed_program(program, parts.inside, (torch.from_numpy(fed),)).module()
    found = packed(torch.from_numpy(fed))
    found = found[0] if isinstance(found, tuple) else found
    assert found.dtype == torch.uint8 and np.array_equal(found.numpy(), wanted // 3)


def test_each_division_by_the_sources_own_white_is_its_own() -> None:
    steps: tuple[dict[str, object], ...] = ({"step": "divide", "by": 2.0}, {"step": "divide", "by": 255.0})
    words = Preprocessing("HWC", "NHWC", steps)
    sampled = Sampled("s", "regression", (), Counts(1, 1, 1, 1, 0, 0), {}, (), None, words, None, ())
    inside = Inside("image", (Scale(by=2.0), Scale()), layout="NHWC", model_layout="NHWC")
    assert settled(inside, 0, sampled, RGB[None]).steps == (Scale(by=2.0), Scale(by=255.0))


@pytest.mark.parametrize("answer", sorted({*ANSWERS} - {"masks"}))
def test_an_output_is_finished_and_the_others_are_as_they_were(answer: str) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x + 1, x * 2

    x = torch.randn(1, 5)
    one, two = packed_program(load.trace(Two(), (x,)), (), (x,), ANSWERS[answer], 1).module()(x)
    done = {"softmax": lambda v: v.softmax(1), "sigmoid": torch.sigmoid, "argmax": lambda v: v.argmax(1)}[answer]
    assert torch.equal(one, x + 1) and torch.equal(two, done(x * 2))


@pytest.mark.parametrize(("last", "layer"), [(nn.Softmax(1), "softmax"), (nn.Sigmoid(), "sigmoid")])
def test_shares_are_not_taken_of_shares(last: nn.Module, layer: str) -> None:
    program = load.trace(nn.Sequential(nn.Linear(3, 4), last), (torch.randn(1, 3),))
    with pytest.raises(ModelError, match=f"output 'y' ends in .*{layer}.* and softmax of it is another answer"):
        check_scores(program, "softmax", 0, "y")
    check_scores(program, "argmax", 0, "y")
    check_scores(load.trace(nn.Linear(3, 4), (torch.randn(1, 3),)), "softmax", 0, "y")


MODEL = """
import torch
from torch import nn

def build():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(144, 10),
    )
"""
DATA = """
import numpy as np
from sklearn.datasets import load_digits

def samples():
    digits = load_digits()
    x = np.rint(digits.images / 16 * 255).astype(np.uint8)[:300]
    return np.stack([x, 255 - x, x // 2 + 40], -1), digits.target[:300]
"""
RECIPE = """
name = "packed"
model = { definition = "model.py" }
[data]
source = "data.py:samples"
labels = "labels.txt"
eval_samples = 24
calibration_samples = 16
[data.preprocess]
step = [
  { type = "color", to = "bgr" },
  { type = "scale", by = 255 },
  { type = "normalize", mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] },
  { type = "layout", to = "NCHW" },
]
"""
TARGET = """
[[target]]
name = "{runtime}-{scheme}"
runtime = "{runtime}"
layout = "{layout}"
quantize = {{ scheme = "{scheme}" }}
package = {{ preprocess = "inside", postprocess = "{post}", metadata = true }}
verify = {{ min_channel_sqnr_db = -20.0{verify} }}
"""
SKIP = ', tflite_runtime = "skip"'
TARGETS = [
    {"runtime": "onnx", "scheme": "fp32", "layout": "NHWC", "post": "softmax", "verify": ""},
    {"runtime": "onnx", "scheme": "static_int8", "layout": "NCHW", "post": "argmax", "verify": ""},
    {"runtime": "tflite", "scheme": "static_int8", "layout": "NHWC", "post": "softmax", "verify": SKIP},
    {"runtime": "executorch", "scheme": "static_int8", "layout": "NHWC", "post": "softmax", "verify": ""},
]


LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Build:
    """A plan whose steps are run here, in this process, when they are asked for."""

    def __init__(self, folder: Path, model: str = MODEL, data: str = DATA, text: str = "") -> None:
        self.folder = folder
        labels = "".join(f"{name}\n" for name in LABELS)
        for name, content in (("model.py", model), ("data.py", data), ("labels.txt", labels)):
            (folder / name).write_text(content)
        text = text or RECIPE + "".join(TARGET.format(**each) for each in TARGETS)
        recipe = parse_recipe(text, folder=str(folder))
        self.plan: Plan = make_plan(recipe, gather(recipe))

    def lane(self, name: str) -> Lane:
        return next(lane for lane in self.plan.lanes if lane.target.name == name)

    def made(self, key: str) -> Path:
        out, step = self.folder / key[:12], self.plan.step(key)
        if not out.exists():
            inputs = self.inputs(step)
            out.mkdir()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
                importlib.import_module(STAGES[step.stage].module).run(inputs, step.spec, out, lambda *_: None)
        return out

    def inputs(self, step: Step) -> dict[str, Path]:
        return {role: self.made(key) for role, key in step.needs.items()} | dict(step.paths)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return Build(tmp_path_factory.mktemp("packed"))


@pytest.mark.parametrize("target", TARGETS, ids=lambda each: f"{each['runtime']}-{each['scheme']}")
def test_a_packed_file_answers_raw_samples_as_pytorch_answers_prepared_ones(
    build: Build, target: dict[str, str]
) -> None:
    lane = build.lane(f"{target['runtime']}-{target['scheme']}")
    verdict = files.read(build.made(lane.verify), Verdict)
    assert verdict.passed, verdict.reasons
    (taken,) = files.read(build.made(lane.export), Exported).inputs
    shape = (1, 8, 8, 3) if target["layout"] == "NHWC" else (1, 3, 8, 8)
    assert (taken.dtype, taken.shape, taken.layout) == ("uint8", shape, target["layout"])
    raw = np.load(build.made(lane.data) / "eval_0.npy")
    assert raw.dtype == np.uint8 and raw.shape[1:] == shape[1:]
    # Held against what the model answers to the samples as the recipe prepares them: not against the packed graph.
    plain = np.load(build.made(lane.traced) / "outputs_0.npy")
    truth = np.load(build.made(lane.reference) / "outputs_0.npy")
    if target["post"] == "argmax":
        assert np.array_equal(truth, plain.argmax(1))
    else:
        assert np.allclose(truth, np.exp(plain) / np.exp(plain).sum(1, keepdims=True), atol=1e-6)
    told = files.read(build.made(lane.reference), Packed)
    assert [step["step"] for step in told.inputs[0].steps] == [
        "reverse_channels", "divide", "normalize", *(["layout"] if target["layout"] == "NHWC" else [])
    ]  # fmt: skip
    assert told.postprocess == target["post"]
    assert files.read(build.made(lane.reference), Reference).inputs[0].dtype == "uint8"


def test_verify_sees_an_app_that_feeds_the_other_order_of_channels(build: Build, tmp_path: Path) -> None:
    step = build.plan.step(build.lane("onnx-fp32").verify)
    data = shutil.copytree(build.made(step.needs["data"]), tmp_path / "data")
    np.save(data / "eval_0.npy", np.load(data / "eval_0.npy")[..., ::-1])
    out = tmp_path / "out"
    out.mkdir()
    importlib.import_module(STAGES["verify"].module).run(
        {**build.inputs(step), "data": data}, step.spec, out, lambda *_: None
    )
    assert not files.read(out, Verdict).passed
    assert (files.read(out, Verified).files["model"].sqnr_db or 0.0) < 40


def test_verify_tells_what_mediapipes_resize_costs_and_judges_nothing_by_it(build: Build, tmp_path: Path) -> None:
    step = build.plan.step(build.lane("onnx-fp32").verify)
    resized = shutil.copytree(build.made(step.needs["data"]), tmp_path / "data")
    np.save(resized / "eval_0.npy", np.roll(np.load(resized / "eval_0.npy"), 5, 1))
    out = tmp_path / "out"
    out.mkdir()
    verify = importlib.import_module(STAGES["verify"].module)
    verify.run({**build.inputs(step), "resized": resized}, step.spec, out, lambda *_: None)
    assert files.read(out, Verdict).passed
    found = files.read(out, Verified)
    one, other = found.files["model"].accuracy, found.files["mediapipe_resize"].accuracy
    assert one["accuracy_top1"] != other["accuracy_top1"]
    assert (
        f"accuracy_top1 {other['accuracy_top1']:.4g}, with the recipe's own {one['accuracy_top1']:.4g}"
        in (found.warnings[-1])
    )


def test_a_quantized_graph_packed_is_the_quantized_graph(build: Build) -> None:
    """Bytes go through one more convolution: what it gives is rounded to the input's own levels, as before."""
    lane = build.lane("tflite-static_int8")
    step = build.plan.step(lane.quantize)
    before = np.load(build.made(step.needs["quantize"]) / "outputs_0.npy")
    after = np.load(build.made(lane.quantize) / "outputs_0.npy")
    shares = np.exp(before) / np.exp(before).sum(1, keepdims=True)
    assert compare(after, shares.astype(np.float32)).sqnr_db > 50
    levels = json.loads((build.made(lane.quantize) / "quantize.json").read_text())["outputs"]
    assert levels == [None], "shares have no levels"


def test_why_looks_at_the_models_layers_and_not_at_what_was_put_around_them(build: Build) -> None:
    """Float and quantized graphs have another convolution first, and two that are not the same would be compared."""
    lane = build.lane("tflite-static_int8")
    plain = build.plan.step(lane.quantize).needs["quantize"]
    for before, after, name in (
        (lane.traced, lane.reference, "model.pt2"),
        (plain, lane.quantize, "folded.pt2"),
        (plain, lane.quantize, "unfolded.pt2"),
    ):
        graphs = [graph_files.load(build.made(key) / name).module().graph for key in (before, after)]
        layers, packed = ([tap.layer for tap in taps_of(graph)] for graph in graphs)
        assert packed == layers and len(layers) == 3, name


def test_quantized_files_begin_with_integers(build: Build) -> None:
    import onnx
    from ai_edge_litert import schema_py_generated as schema

    graph = onnx.load(build.made(build.lane("onnx-static_int8").export) / "model.onnx").graph
    first = [node.op_type for node in graph.node if "input" in node.input]
    assert first == ["DequantizeLinear"] and "Cast" not in {node.op_type for node in graph.node}
    data = (build.made(build.lane("tflite-static_int8").export) / "model.tflite").read_bytes()
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    found = [kinds[model.operatorCodes[op.opcodeIndex].builtinCode] for op in model.subgraphs[0].operators]
    assert found[:3] == ["QUANTIZE", "CONV_2D", "CONV_2D"] and "CAST" not in found
    taken = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]]
    assert taken.type == schema.TensorType.UINT8 and list(taken.quantization.scale) == [1.0]


def test_each_format_says_what_it_takes_in_its_own_place(build: Build) -> None:
    import onnx

    model = onnx.load(build.made(build.lane("onnx-fp32").export) / "model.onnx")
    (about,) = [json.loads(each.value) for each in model.metadata_props if each.key == "about"]
    assert about["labels"] == {"output": list(LABELS)} and about["roles"] == {"output": "logits"}
    assert [step["step"] for step in about["package"]["inputs"][0]["steps"]][:3] == [
        "reverse_channels", "divide", "normalize",
    ]  # fmt: skip
    assert [step["step"] for step in about["preprocessing"]["steps"]] == ["rgb"], "what is left to the app"
    data = (build.made(build.lane("executorch-static_int8").export) / "model.pte").read_bytes()
    told = json.dumps({**about, "name": "executorch-static_int8"}, sort_keys=True)
    assert b"get_about" in data and told.encode() in data


class Reader:
    """A flatbuffer's table by field numbers: of tests alone, beside the one that wrote it."""

    def __init__(self, data: bytes, at: int | None = None) -> None:
        self.data = data
        self.at = int.from_bytes(data[:4], "little") if at is None else at

    def _field(self, number: int) -> int:
        vtable = self.at - int.from_bytes(self.data[self.at : self.at + 4], "little", signed=True)
        size = int.from_bytes(self.data[vtable : vtable + 2], "little")
        place = vtable + 4 + 2 * number
        offset = int.from_bytes(self.data[place : place + 2], "little") if 4 + 2 * number < size else 0
        return self.at + offset if offset else 0

    def _follow(self, at: int) -> int:
        return at + int.from_bytes(self.data[at : at + 4], "little")

    def byte(self, number: int) -> int:
        return self.data[self._field(number)] if self._field(number) else 0

    def table(self, number: int) -> Reader:
        return Reader(self.data, self._follow(self._field(number)))

    def _vector(self, number: int) -> tuple[int, int]:
        at = self._follow(self._field(number))
        return at + 4, int.from_bytes(self.data[at : at + 4], "little")

    def tables(self, number: int) -> list[Reader]:
        at, count = self._vector(number)
        return [Reader(self.data, self._follow(at + 4 * k)) for k in range(count)]

    def text(self, number: int) -> str:
        at, count = self._vector(number)
        return self.data[at : at + count].decode()

    def floats(self, number: int) -> list[float]:
        at, count = self._vector(number)
        return [float(value) for value in np.frombuffer(self.data[at : at + 4 * count], np.float32)]

    def real(self, number: int) -> float:
        at = self._field(number)
        return float(np.frombuffer(self.data[at : at + 4], np.float32)[0]) if at else 0.0

    def has(self, number: int) -> bool:
        return bool(self._field(number))


def test_tflite_metadata_is_the_schemas(build: Build) -> None:
    from ai_edge_litert import schema_py_generated as schema

    from pocketforge.outcomes.about import About, AboutInput, AboutOutput
    from pocketforge.runtimes.tflite_metadata import metadata_of

    path = build.made(build.lane("tflite-static_int8").export) / "model.tflite"
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (entry,) = [each for each in model.metadata if each.name == b"TFLITE_METADATA"]
    data = bytes(model.buffers[entry.buffer].data)
    assert data[4:8] == b"M001"
    root = Reader(data)
    assert root.text(0) == "tflite-static_int8" and root.text(7) == "1.0.0"
    (graph,) = root.tables(3)
    ((taken,), (given,)) = graph.tables(2), graph.tables(3)
    assert (taken.text(0), taken.table(3).byte(0), taken.table(3).table(1).byte(0)) == ("input", 2, 1), "an RGB image"
    assert not taken.has(4), "bytes are fed as they are"
    assert (taken.table(5).floats(0), taken.table(5).floats(1)) == ([255.0], [0.0])
    assert given.text(0) == "output" and given.table(3).byte(0) == 1
    (labels,) = given.tables(6)
    assert labels.byte(2) == 2
    with zipfile.ZipFile(path) as archive:
        (info,) = archive.infolist()
        assert (info.filename, info.compress_type) == (labels.text(0), zipfile.ZIP_STORED)
        assert archive.read(info).decode().splitlines() == list(LABELS)
    floats = Reader(
        metadata_of(
            About(
                "n", (AboutInput("x", 3, 0, (127.5,), (64.0,)),),
                (AboutOutput("y", calibration=ScoreCalibration(((1.0, 2.0, 0.0),), "inverse_logistic", 0.5)),),
                Preprocessing(None, None, ()), {},
            )
        )
    )  # fmt: skip
    (unit,) = floats.tables(3)[0].tables(2)[0].tables(4)
    assert unit.byte(0) == 1 and (unit.table(1).floats(0), unit.table(1).floats(1)) == ([127.5], [64.0])
    (output,) = floats.tables(3)[0].tables(3)
    ((calibrates,), (rows,)) = output.tables(4), output.tables(6)
    assert (calibrates.byte(0), calibrates.table(1).byte(0), calibrates.table(1).real(1)) == (2, 2, 0.5)
    assert (rows.text(0), rows.byte(2)) == ("score_calibration_y.txt", 4)


@pytest.mark.skipif(MEDIAPIPE.python is None, reason="pocketforge device setup mediapipe")
def test_mediapipe_gives_the_files_own_scores_under_the_labels(build: Build) -> None:
    lane = build.lane("tflite-static_int8")
    model = files.read(build.made(lane.export), Exported).model_in(build.made(lane.export))
    pixels = build.made(lane.data) / "eval_0.npy"
    values = np.load(build.made(lane.verify) / "model" / "outputs_0.npy")
    consumed = try_mediapipe(model, pixels, Answers("logits", values, LABELS))
    assert consumed.state == "works" and len(consumed.checks) == 3, consumed
    assert consumed.name == "MediaPipe ImageClassifier 1.2.3"
    turned = try_mediapipe(model, pixels, Answers("logits", np.roll(values, 1, 1), (*LABELS[1:], LABELS[0])))
    assert [check.passed for check in turned.checks] == [False, False, False]
    plain = build.made(build.lane("onnx-fp32").export) / "model.onnx"
    unread = try_mediapipe(plain, pixels, Answers("logits", values, LABELS))
    assert unread.state.startswith("does not work: ") and not unread.checks[0].passed


class Pixels(nn.Module):
    """Gives the bytes that it gets."""

    def forward(self, x: Tensor) -> Tensor:
        return x.to(torch.float32).reshape(1, -1)


@pytest.mark.skipif(MEDIAPIPE.python is None, reason="pocketforge device setup mediapipe")
@pytest.mark.filterwarnings("ignore::FutureWarning")  # the converter's own, of torch
def test_mediapipes_own_resize_is_ours_to_the_bit(tmp_path: Path) -> None:
    import litert_torch

    model = tmp_path / "pixels.tflite"
    litert_torch.convert(Pixels().eval(), (torch.zeros(1, 14, 20, 3, dtype=torch.uint8),)).export(str(model))
    step = Resize(size=(14, 20), like="mediapipe")
    for size in ((31, 45), (50, 13)):
        pictures = RNG.integers(0, 256, (3, *size, 3), dtype=np.uint8)
        np.save(tmp_path / "pictures.npy", pictures)
        ours = np.stack([resize(step, each, (14, 20)) for each in pictures]).reshape(3, -1)
        consumed = try_mediapipe(model, tmp_path / "pictures.npy", Answers("embedding", ours))
        assert consumed.state == "works" and [check.found for check in consumed.checks] == ["0"], consumed
        plain = np.stack([resize(Resize(size=(14, 20)), each, (14, 20)) for each in pictures]).reshape(3, -1)
        assert try_mediapipe(model, tmp_path / "pictures.npy", Answers("embedding", plain)).state.startswith("wrong")


def test_half_as_large_is_every_second_pixel_to_mediapipe() -> None:
    picture = RNG.integers(0, 256, (28, 40, 3), dtype=np.uint8)
    step = Resize(size=(14, 20), like="mediapipe")
    assert np.array_equal(resize(step, picture, (14, 20)), picture[::2, ::2])
    floats = resize(Resize(size=(13, 11), like="mediapipe"), picture.astype(np.float32), (13, 11))
    assert np.abs(floats - resize(Resize(size=(13, 11), like="mediapipe"), picture, (13, 11))).max() <= 0.5001


TONES = """
import numpy as np

def samples():
    labels = np.arange(60) % 3
    t = np.arange(800) / 8000
    rng = np.random.default_rng(0)
    x = [np.sin(1885 * (1 + label) * t + k) * 0.4 + rng.normal(0, 0.05, 800) for k, label in enumerate(labels)]
    return np.float32(x), labels
"""
HEARS = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(800, 3), nn.Softmax(1))
"""
SOUND_RECIPE = """
name = "tones"
model = { definition = "model.py" }
output = [{ name = "output", role = "logits", post = "none" }]
[data]
source = "data.py:samples"
eval_samples = 12
calibration_samples = 8
[data.preprocess]
step = [{ type = "resample", rate_hz = 8000, from_hz = 8000 }, { type = "layout", to = "NT" }]
[[target]]
name = "tones"
runtime = "tflite"
consumers = ["mediapipe"]
verify = { tflite_runtime = "skip" }
[target.package.calibration]
curve = [[1, 2.5, -0.5], [0.9, 1.5, 0.25, 0.34], []]
transformation = "log"
default = 0.01
"""


@pytest.mark.skipif(MEDIAPIPE.python is None, reason="pocketforge device setup mediapipe")
def test_mediapipes_audio_classifier_hears_what_the_file_hears(tmp_path: Path) -> None:
    build = Build(tmp_path, HEARS, TONES, SOUND_RECIPE)
    lane = build.lane("tones")
    assert "pixels" not in build.plan.step(lane.verify).needs
    assert files.read(build.made(lane.verify), Verdict).passed
    verified = files.read(build.made(lane.verify), Verified)
    assert verified.runtimes["MediaPipe AudioClassifier 1.2.3"] == "works"
    names = [check.name for check in verified.checks if check.name.startswith("MediaPipe")]
    assert names == [f"MediaPipe AudioClassifier 1.2.3 {each}" for each in ("values", "top-1")]
    model = build.made(lane.export) / "model.tflite"
    outputs = np.load(build.made(lane.verify) / "model" / "outputs_0.npy")
    with zipfile.ZipFile(model) as archive:
        assert archive.read("score_calibration_output.txt").splitlines() == [b"1.0,2.5,-0.5", b"0.9,1.5,0.25,0.34"]
    # Written out, of what the file gives: a logistic curve over the logarithm, above a least score, and none.
    curved = np.full_like(outputs, 0.01)
    curved[:, 0] = 1 / (1 + np.exp(-(2.5 * np.log(outputs[:, 0]) - 0.5)))
    high = outputs[:, 1] >= 0.34
    assert 0 < high.sum() < len(high), "some below the least score"
    curved[high, 1] = 0.9 / (1 + np.exp(-(1.5 * np.log(outputs[high, 1]) + 0.25)))
    spec = build.plan.step(lane.verify).spec
    assert isinstance(spec, VerifySpec) and spec.calibration
    assert np.allclose(calibrated(outputs, spec.calibration), curved, atol=1e-6), "what the task was held against"
    assert np.abs(curved - outputs).max() > 0.05, "and no task that gives the file's own scores passes"
    kept = (curved.argmax(1) == outputs.argmax(1)).mean()
    assert f"calibrated scores have the file's own top-1 for {kept:.1%} of 12 samples" in verified.warnings[-1]
    quiet = tmp_path / "quiet.npy"
    np.save(quiet, np.load(build.made(lane.data) / "eval_0.npy") / 32768)
    wrong = try_mediapipe(model, quiet, Answers("logits", outputs, rate_hz=8000, kind="sound"))
    assert wrong.state.startswith("wrong: values"), wrong


WORDS = """
import numpy as np

TEXTS = ("a fine film", "a bad film", "no good at all", "good and fine", "bad, bad, bad!", "Fine films are good",
         "it is un-good", "goodness", "what a film: fine!", "no", "a GOOD film", "the worst")
MORE = ()

def samples():
    texts = [*TEXTS * 4, *MORE]
    return np.array(texts), np.arange(len(texts)) % 2
"""
READS = """
import torch
from torch import nn

class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.kinds, self.scores = nn.Embedding(40, 8), nn.Embedding(2, 8), nn.Linear(8, 2)

    def forward(self, ids, mask, type_ids):
        known = (self.words(ids) + self.kinds(type_ids)) * mask.unsqueeze(-1)
        return torch.softmax(self.scores(known.sum(1) / mask.sum(1, keepdim=True)), 1)

def build():
    return Reads()
"""
TEXT_RECIPE = """
name = "films"
model = { definition = "model.py" }
output = [{ name = "output", role = "logits", post = "none" }]
[data]
source = "data.py:samples"
eval_samples = 12
calibration_samples = 8
[[data.preprocess.step]]
type = "tokenize"
file = "tokenizer.json"
max_length = 8
dtype = "int32"
pad_token = "[PAD]"
gives = ["ids", "type_ids", "mask"]
[[target]]
name = "films"
runtime = "tflite"
consumers = ["mediapipe"]
verify = { tflite_runtime = "skip" }
"""


def bert_tokenizer(folder: Path, *, lowercase: bool = True) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = "[PAD] [UNK] [CLS] [SEP] a fine film bad no good at all and , ! are ##s it is un - ##ness what the : worst"
    found = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: number for number, word in enumerate(words.split())}, unk_token="[UNK]")
    )
    found.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    found.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    found.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    found.save(str(folder / "tokenizer.json"))


@pytest.mark.skipif(MEDIAPIPE.python is None, reason="pocketforge device setup mediapipe")
def test_mediapipes_text_tasks_read_what_the_file_reads(tmp_path: Path) -> None:
    bert_tokenizer(tmp_path)
    # The model takes what goes with ids in another order than MediaPipe names it.
    model = READS.replace("ids, mask, type_ids):", "ids, type_ids, mask):")
    build = Build(tmp_path, model, WORDS, TEXT_RECIPE)
    lane = build.lane("films")
    verdict = files.read(build.made(lane.verify), Verdict)
    assert verdict.passed, verdict.reasons
    verified = files.read(build.made(lane.verify), Verified)
    assert verified.runtimes["MediaPipe TextClassifier 1.2.3"] == "works"
    names = [check.name for check in verified.checks if check.name.startswith("MediaPipe")]
    assert names == [f"MediaPipe TextClassifier 1.2.3 {each}" for each in ("values", "top-1")]
    exported = build.made(lane.export) / "model.tflite"
    outputs = np.load(build.made(lane.verify) / "model" / "outputs_0.npy")
    assert np.ptp(outputs[:, 0]) > 0.05, "texts are told apart"
    with zipfile.ZipFile(exported) as archive:
        assert archive.read("vocab.txt").split()[:5] == [b"[PAD]", b"[UNK]", b"[CLS]", b"[SEP]", b"a"]
    texts = build.made(lane.data) / "eval_texts.json"
    embedded = try_mediapipe(exported, texts, Answers("embedding", outputs, kind="text"))
    assert (embedded.name, embedded.state) == ("MediaPipe TextEmbedder 1.2.3", "works")
    # What the same tokenizer makes ids of here and MediaPipe otherwise: capitals beyond ASCII, and accents.
    other = tmp_path / "other.json"
    other.write_text(json.dumps(["fíne film", *json.loads(texts.read_text(encoding="utf-8"))[1:]]), encoding="utf-8")
    wrong = try_mediapipe(exported, other, Answers("logits", outputs, kind="text"))
    assert "1 of 12 otherwise, the first 'fíne film'" in wrong.state, wrong


def test_a_tokenizer_that_mediapipe_has_not_is_told_before_the_file_is_made(tmp_path: Path) -> None:
    bert_tokenizer(tmp_path, lowercase=False)
    build = Build(tmp_path, READS, WORDS, TEXT_RECIPE.replace('"type_ids", "mask"', '"mask", "type_ids"'))
    with pytest.raises(ModelError, match=r"tokenizer\.json is no tokenizer of MediaPipe's .*: it keeps capitals"):
        build.made(build.lane("films").export)


SHAPES = """
import numpy as np

def samples():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 90, (40, 12, 16, 3), dtype=np.uint8)
    masks = np.zeros((40, 12, 16), np.int64)
    for k in range(40):
        top, left = rng.integers(0, 7), rng.integers(0, 9)
        masks[k, top : top + 5, left : left + 7] = 1 + k % 2
    x[masks == 1, 0] += 120
    x[masks == 2, 2] += 120
    return [(one, {"mask": mask}) for one, mask in zip(x, masks)]
"""
SEGMENTS = """
import torch
from torch import nn

def build():
    net = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, 0, 0], [6.0, -1, -1], [-1, -1, 6.0]]).reshape(3, 3, 1, 1))
        net.bias.copy_(torch.tensor([1.0, -1, -1]))
    return net
"""
SEGMENTER_RECIPE = """
name = "shapes"
model = { definition = "model.py" }
output = [{ name = "output", role = "segmentation" }]
[data]
source = "data.py:samples"
eval_samples = 10
calibration_samples = 8
[data.preprocess]
step = [{ type = "scale", by = 255 }, { type = "layout", to = "NCHW" }]
[[target]]
name = "shapes"
runtime = "tflite"
consumers = ["mediapipe"]
package = { preprocess = "inside", postprocess = "masks" }
verify = { tflite_runtime = "skip" }
"""


@pytest.mark.skipif(MEDIAPIPE.python is None, reason="pocketforge device setup mediapipe")
def test_mediapipes_segmenter_sees_the_files_own_masks(tmp_path: Path) -> None:
    build = Build(tmp_path, SEGMENTS, SHAPES, SEGMENTER_RECIPE)
    lane = build.lane("shapes")
    verdict = files.read(build.made(lane.verify), Verdict)
    assert verdict.passed, verdict.reasons
    verified = files.read(build.made(lane.verify), Verified)
    assert verified.runtimes["MediaPipe ImageSegmenter 1.2.3"] == "works"
    assert verified.files["model"].accuracy["miou"] > 0.9
    named = {check.name: check.found for check in verified.checks}
    shares = np.load(build.made(lane.verify) / "model" / "outputs_0.npy")
    assert float(named["MediaPipe ImageSegmenter 1.2.3 values"]) < 1e-6
    assert named["MediaPipe ImageSegmenter 1.2.3 category"] == f"100.0% of {len(shares) * 12 * 16} pixels"
    assert len(shares) > 5 and shares.shape[1:] == (12, 16, 3) and np.allclose(shares.sum(-1), 1, atol=1e-5)
    model = build.made(lane.export) / "model.tflite"
    pixels = build.made(lane.data) / "eval_0.npy"
    other = try_mediapipe(model, pixels, Answers("segmentation", np.roll(shares, 1, -1)))
    assert other.state.startswith("wrong: values") and "category" in other.state
    with pytest.raises(ModelError, match=r"no cube, found output 'y' of \[1, 4, 4, 4\]"):
        check_masks((4, 4, 4), "y")


OBJECTS = """
import numpy as np

def samples():
    rng = np.random.default_rng(0)
    found = []
    for k in range(40):
        x = rng.integers(0, 90, (24, 32, 3), dtype=np.uint8)
        boxes, labels = [], []
        # A red or a green one in the left half, and in every second picture a blue one in the right half.
        for channel, label, side in ((2 * (k % 3 == 0), 0, 0), (1, 1, 16))[: 1 + k % 2]:
            left, top = side + rng.integers(0, 8), rng.integers(0, 14)
            width, height = rng.integers(3, 8), rng.integers(3, 10)
            x[top : top + height, left : left + width, channel] = 250
            boxes.append([left, top, left + width, top + height])
            labels.append(2 if channel == 2 else label)
        found.append((x, {"boxes": np.float32(boxes), "labels": np.int64(labels)}))
    return found
"""
DETECTS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("left", 1 - torch.arange(32.0).reshape(1, 1, 1, 32) / 32)
        self.register_buffer("right", torch.arange(1.0, 33.0).reshape(1, 1, 1, 32) / 32)
        self.register_buffer("top", 1 - torch.arange(24.0).reshape(1, 1, 24, 1) / 24)
        self.register_buffer("bottom", torch.arange(1.0, 25.0).reshape(1, 1, 24, 1) / 24)
        self.register_buffer("class_1", torch.tensor([[0.0, 1.0]]))

    def forward(self, x):
        red, blue, green = torch.clamp((x - 0.6) * 5, 0, 1).split(1, 1)
        seen = torch.cat([torch.maximum(red, green), blue], 1)
        ends = [1 - torch.amax(seen * self.left, (2, 3)), 1 - torch.amax(seen * self.top, (2, 3)),
                torch.amax(seen * self.right, (2, 3)), torch.amax(seen * self.bottom, (2, 3))]
        there = torch.amax(seen, (2, 3))
        scores = there * (0.5 + 0.5 * torch.amax(x, (2, 3))[:, :1])
        classes = there * self.class_1 + torch.cat([2 * torch.amax(green, (2, 3)), torch.zeros_like(there[:, :1])], 1)
        return torch.stack(ends, 2), scores, classes, there.sum(1)

def build():
    return Net()
"""
DETECTOR_RECIPE = """
name = "objects"
model = { definition = "model.py", outputs = ["boxes", "scores", "classes", "count"] }
[[output]]
name = "boxes"
role = "boxes"
post = { type = "none", format = "xyxy", normalized = true }
[[output]]
name = "scores"
role = "scores"
[[output]]
name = "classes"
role = "classes"
[[output]]
name = "count"
role = "count"
[data]
source = "data.py:samples"
labels = "labels.txt"
eval_samples = 10
calibration_samples = 8
[data.preprocess]
step = [{ type = "scale", by = 255 }, { type = "layout", to = "NCHW" }]
[[target]]
name = "objects"
runtime = "tflite"
consumers = ["mediapipe"]
package = { preprocess = "inside" }
verify = { tflite_runtime = "skip" }
"""


@pytest.mark.skipif(MEDIAPIPE.python is None, reason="pocketforge device setup mediapipe")
def test_mediapipes_detector_finds_the_files_own_boxes(tmp_path: Path) -> None:
    build = Build(tmp_path, DETECTS, OBJECTS, DETECTOR_RECIPE)
    lane = build.lane("objects")
    verdict = files.read(build.made(lane.verify), Verdict)
    assert verdict.passed, verdict.reasons
    verified = files.read(build.made(lane.verify), Verified)
    name = "MediaPipe ObjectDetector 1.2.3"
    assert verified.runtimes[name] == "works" and verified.files["model"].accuracy["map_50"] > 0.9
    outputs = [np.load(build.made(lane.verify) / "model" / f"outputs_{number}.npy") for number in range(4)]
    count = int(outputs[3].sum())
    named = {check.name.removeprefix(name).strip(): check.found for check in verified.checks if name in check.name}
    assert set(named) == {"boxes", "values", "classes"} and named["classes"] == f"100.0% of {count} boxes"
    assert 10 < count < 20 and float(named["values"]) < 1e-6
    model, pixels = build.made(lane.export) / "model.tflite", build.made(lane.data) / "eval_0.npy"
    parts = dict(zip(("location", "score", "category", "number of detections"), outputs, strict=True))
    for part, moved, said in (
        ("location", outputs[0] + 0.1, "wrong: boxes"),
        ("score", outputs[1] / 2, "wrong: values"),
        ("category", 1 - outputs[2], "wrong: classes"),
        ("number of detections", 3 - outputs[3], "wrong: boxes"),
    ):
        other = Answers("boxes", rows_of_boxes({**parts, part: moved}), LABELS)
        assert try_mediapipe(model, pixels, other).state.startswith(said), part


needs_web = pytest.mark.skipif(WEB.words == "none", reason="apt-get install chromium; pocketforge device setup web")


@needs_web
@pytest.mark.parametrize(
    ("target", "consumers", "names"),
    [
        ("tflite-static_int8", ("litert_js",), ("LiteRT.js 2.5.3",)),
        (
            "onnx-fp32",
            ("onnxruntime_web", "mobile_checker"),
            ("onnxruntime-web 1.30.0", f"onnxruntime {metadata.version('onnxruntime')} mobile usability checker"),
        ),
    ],
)
def test_verify_runs_the_file_in_a_browser(
    build: Build, tmp_path: Path, target: str, consumers: tuple[str, ...], names: tuple[str, ...]
) -> None:
    step = build.plan.step(build.lane(target).verify)
    assert isinstance(step.spec, VerifySpec)
    spec = dataclasses.replace(step.spec, consumers=dict.fromkeys(consumers, WEB.words))
    importlib.import_module(STAGES["verify"].module).run(build.inputs(step), spec, tmp_path, lambda *_: None)
    found = files.read(tmp_path, Verified)
    assert files.read(tmp_path, Verdict).passed
    assert {name: found.runtimes[name] for name in names} == dict.fromkeys(names, "works")
    there = found.files[consumers[0]]
    assert there.samples == 24 and there.accuracy == found.files["model"].accuracy
    asked = {check.name: check.found for check in found.checks}
    assert asked[f"{names[0]}: asks for"] == "nothing"
    if target == "onnx-fp32":
        assert f"{names[0]}, ort: values of output" in asked, "the .ort file as well"
        assert any("NNAPI" in note and "CoreML MLProgram" in note for note in found.warnings)


@needs_web
def test_what_a_page_cannot_do_is_a_fault_in_its_words(build: Build, tmp_path: Path) -> None:
    import onnx

    lane = build.lane("onnx-fp32")
    model = build.made(lane.export) / "model.onnx"
    newer = onnx.load(model)
    newer.opset_import[0].version = 27
    onnx.save(newer, tmp_path / "newer.onnx")
    samples, answer = (build.made(lane.data) / "eval_0.npy",), files.read(build.made(lane.verify), Verified)
    taken = files.read(build.made(lane.export), Exported).inputs
    told = RunAnswer(taken, answer.outputs, 0, 0, 0, (), "", (), ())
    ran = [
        Ran(path, samples, told, build.made(lane.verify) / "model", is_float=True)
        for path in (model, tmp_path / "newer.onnx")
    ]
    right, unread = (page_of("onnxruntime_web", each, tmp_path) for each in ran)
    bytes_fed = page_of("litert_js", ran[0], tmp_path)
    changed = dataclasses.replace(right, argument={**right.argument, "sha256": "0" * 64})
    (tmp_path / "bad.mjs").write_text(
        "export const main = async ({url}) => (url ? (await fetch(url)).status : new Promise(() => {}));"
    )
    waits = Page("/own/bad.mjs", {}, {"/own": tmp_path}, tmp_path)
    outside, above = (
        dataclasses.replace(waits, argument={"url": url})
        for url in ("http://192.0.2.1/x", "/own/..%2f..%2f..%2fetc/passwd")
    )
    waits = dataclasses.replace(waits, limit_s=3)
    # Two samples of 192 bytes at a time, and ten answers of 40.
    blocks = dataclasses.replace(
        right, argument={**right.argument, "block_bytes": 400}, outputs=tmp_path / "blocks", limit_s=60
    )
    blocks.outputs.mkdir()
    found = run_pages((unread, bytes_fed, changed, outside, above, waits, blocks))
    assert "opset" in found[0].fault.lower() and "27" in found[0].fault
    assert found[1].fault, "an .onnx file is none of LiteRT's"
    assert f"wanted SHA-256 {'0' * 64}, found" in found[2].fault
    assert found[3].refused == ("http://192.0.2.1/x",) and found[3].fault
    assert found[4].answer == 404, "no file but those of the page"
    assert found[5].fault == "no answer in 3 s"
    values = np.fromfile(blocks.outputs / "output_0.bin", np.float32).reshape(24, 10)
    assert np.allclose(values, np.load(build.made(lane.verify) / "model" / "outputs_0.npy"), atol=1e-5)
