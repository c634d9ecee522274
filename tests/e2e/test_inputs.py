"""Nets with inputs and outputs as apps have them, through whole builds on real digits.

Inputs of every type and of ranks 1 to 4, fed by name and in a dict; answers in dicts and lists, with None, an input
passed through and one tensor twice. And a recurrent net, whose states go in and out with their layers first.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import Done, in_process
from onnx import helper
from warm_server import warm_stages

from pocketforge.facts.gather import gather
from pocketforge.model.evaluate import evaluate
from pocketforge.model.structure import leaves, names_of
from pocketforge.outcomes import files
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.reference import StateFed, StepSequence
from pocketforge.outcomes.verify import Verdict, Verified
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe.toml import load_recipe
from pocketforge.run.part import run_part
from pocketforge.run.store import Store
from pocketforge.specs.verify import VerifySpec
from pocketforge.stages import verify

pytestmark = pytest.mark.usefixtures("runtimes_of_all_workers")
RUNTIMES = ("onnx", "tflite", "executorch")

MANY = '''\
import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 12, 3, stride=2, padding=1)
        self.words = nn.Embedding(17, 6)
        self.vector = nn.Linear(4, 16)
        self.head = nn.Linear(12 * 16 + 6 + 16, 10)

    def features(self, image, words, vector, flags, small, tenths):
        maps = torch.relu(self.conv(image.float() / 16)).flatten(1)
        seen = torch.cat([vector, tenths.unsqueeze(1)], 1) + flags.float() + small.float() / 16
        return torch.cat([maps, self.words(words).mean(1), torch.relu(self.vector(seen))], 1)

    def forward(self, *, vector, image, words=None, flags, extra, mask=None):
        features = self.features(image, words, vector, flags, extra["small"], extra["tenths"])
        logits, embedding = self.head(features), features[:, :24]
        return {
            "logits": logits,
            "aux": {"embedding": embedding, "mask": mask, "sum": embedding.sum(1)},
            "top": logits.argmax(1),
            "tenths": extra["tenths"],
            "again": [logits, None],
        }


def samples():
    """An array an input, in the recipe's order, and the labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    image = found.images.astype(np.uint8)[:, None]
    words = found.images[:, 3, :5].astype(np.int64)
    vector = (found.images[:, 4:7, 2] / 16).astype(np.float32)
    flags = found.images[:, 0, 2:6] > 8
    small = found.images[:, 7, 2:6].astype(np.int16)
    tenths = (found.images.mean((1, 2)) / 10).astype(np.float32)
    return (image, words, vector, flags, small, tenths), found.target


def build():
    torch.manual_seed(0)
    net = Net().eval()
    inputs, labels = samples()
    with torch.no_grad():
        solve(net.head, net.features(*map(torch.from_numpy, inputs)), labels)
    return net


def solve(head, features, labels):
    """The best linear head on fixed features, without training."""
    ones = torch.cat([features, torch.ones(len(features), 1)], 1).double()
    wanted = nn.functional.one_hot(torch.from_numpy(labels), 10).double() * 4 - 1
    solved = torch.linalg.solve(ones.T @ ones + 0.3 * torch.eye(ones.shape[1]), ones.T @ wanted).float()
    head.weight.copy_(solved[:-1].T)
    head.bias.copy_(solved[-1])
'''
# name, argument, shape, type
INPUTS = (
    ("image", "image", [1, 1, 8, 8], "uint8"),
    ("words", "words", [1, 5], "int64"),
    ("vector", "vector", [1, 3], "float32"),
    ("flags", "flags", [1, 4], "bool"),
    ("small", "extra.small", [1, 4], "int16"),
    ("tenths", "extra.tenths", [1], "float32"),
)
OUTPUTS = ["logits", "aux_embedding", "aux_sum", "top", "tenths_out", "again_0"]

READER = f'''\
import numpy as np
import torch
from torch import nn

HIDDEN = 48


class Reader(nn.Module):
    """Reads a digit row by row, in two recurrent layers."""

    def __init__(self):
        super().__init__()
        self.take = nn.ModuleList([nn.Linear(8, HIDDEN), nn.Linear(HIDDEN, HIDDEN)])
        self.keep = nn.ModuleList([nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, HIDDEN)])
        self.head = nn.Linear(2 * HIDDEN, 10)

    def forward(self, row, memory, count):
        x, states = row, []
        for layer, (take, keep) in enumerate(zip(self.take, self.keep)):
            x = torch.tanh(take(x) + keep(memory[layer]))
            states.append(x)
        return {{"logits": self.head(torch.cat(states, 1)), "memory": torch.stack(states), "count": count + 1}}


def digits():
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.images / 16).astype(np.float32), found.target


def build():
    torch.manual_seed(0)
    net = Reader().eval()
    rows, labels = digits()
    with torch.no_grad():
        for take, keep in zip(net.take, net.keep):
            nn.init.orthogonal_(keep.weight, 0.9)
            take.weight.mul_(2.0)
        memory = torch.zeros(2, len(rows), HIDDEN)
        for step in range(8):
            memory = net(torch.from_numpy(rows[:, step]), memory, 0)["memory"]
        solve(net.head, torch.cat([memory[0], memory[1]], 1), labels)
    return net


{MANY[MANY.index("def solve") :]}'''

STATES = """\
[[model.input]]
name = "row"
shape = [1, 8]

[[model.input]]
name = "memory"
shape = [2, 1, 48]
state = "memory_out"

[[model.input]]
name = "count"
shape = [1]
dtype = "int32"
state = "count_out"
"""


def recipe(name: str, inputs: str, source: str, more: str = "", runtimes: Sequence[str] = RUNTIMES) -> str:
    targets = "".join(
        f'[[target]]\nname = "{runtime}_{scheme}"\nruntime = "{runtime}"\nquantize = {{ scheme = "{scheme}" }}\n'
        'verify = { tflite_runtime = "skip" }\n\n'
        for runtime in runtimes
        for scheme in ("fp32", "static_int8")
    )
    return f"""\
name = "{name}"

[model]
definition = "model.py"

{inputs}
[data]
source = "model.py:{source}"
eval_samples = 60
calibration_samples = 24

{targets}
{more}
[[device]]
name = "host"
min_samples = 1
min_seconds = 0.0
"""


class Build:
    """A finished build, and its model."""

    def __init__(self, folder: Path, model: str, text: str) -> None:
        folder.mkdir()
        (folder / "model.py").write_text(model, encoding="utf-8")
        (folder / "recipe.toml").write_text(text, encoding="utf-8")
        self.folder = folder
        self.done: Done = in_process(
            "build", "recipe.toml", "--out", "out", "--json", cache=folder / "cache", cwd=folder
        )
        self.report: dict[str, Any] = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
        spec = importlib.util.spec_from_file_location("own_model", folder / "model.py")
        assert spec is not None and spec.loader is not None
        self.model: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.model)

    def sidecar(self, target: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "out" / "release" / f"{target}.json").read_text("utf-8"))
        return content

    def step(self, stage: str, lane: str) -> Path:
        """The folder of a step in the store."""
        (step,) = [s for s in self.report["steps"] if s["stage"] == stage and lane in s["lane"].split("+")]
        return self.folder / "cache" / "v1" / "entries" / step["key"][:2] / step["key"]

    def verdict_of(self, file: Path, lane: str, out: Path) -> tuple[Verdict, Verified]:
        """Stage verify on another model file in the place of a lane's."""
        export = self.step("export", lane) / "files"
        twin = out / "export"
        twin.mkdir(parents=True)
        for path in export.iterdir():
            (twin / path.name).write_bytes((file if path.suffix == file.suffix else path).read_bytes())
        spec = json.loads((self.step("verify", lane) / "manifest.json").read_text("utf-8"))["meta"]["spec"]
        inputs = {stage: self.step(stage, "trunk") / "files" for stage in ("data", "reference")}
        verify.run({**inputs, "export": twin}, files.from_json(spec, VerifySpec), out, lambda fraction, message: None)
        return files.read(out, Verdict), files.read(out, Verified)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Build:
    inputs = "".join(
        f'[[model.input]]\nname = "{name}"\nargument = "{argument}"\nshape = {shape}\ndtype = "{dtype}"\n\n'
        for name, argument, shape, dtype in INPUTS
    )
    return Build(tmp_path_factory.mktemp("many") / "build", MANY, recipe("many", inputs, "samples"))


def test_inputs_of_every_type_and_outputs_by_name_ship_in_all_runtimes(many: Build) -> None:
    assert many.done.code == 0 and many.report["verdict"] == "PASS", many.done.stderr[-3000:]
    for runtime in RUNTIMES:
        narrow = {"int64": "int32"} if runtime == "tflite" else {}
        for scheme in ("fp32", "static_int8"):
            side = many.sidecar(f"{runtime}_{scheme}")
            promised = [(each["name"], each["shape"], each["dtype"]) for each in side["inputs"]]
            assert promised == [(name, shape, narrow.get(dtype, dtype)) for name, _, shape, dtype in INPUTS]
            assert [each["name"] for each in side["outputs"]] == OUTPUTS
            measured = {each["name"]: each for each in side["measured"]["outputs"]}
            assert set(measured) == set(OUTPUTS)
            # What came in goes out as it was, also of an int8 file; and both copies are one tensor.
            assert measured["tenths_out"]["sqnr_db"] >= 100
            assert measured["again_0"]["sqnr_db"] == pytest.approx(measured["logits"]["sqnr_db"], abs=0.5)
    assert {each["output"] for pair in many.report["agreement"] for each in pair["outputs"]} == set(OUTPUTS)


def test_the_shipped_file_answers_as_the_model_called_by_its_own_names(many: Build) -> None:
    import onnxruntime

    path = many.folder / "out" / "release" / "onnx_fp32.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    arrays, _ = many.model.samples()
    given = {name: array[7:8] for (name, *_), array in zip(INPUTS, arrays, strict=True)}
    image, words, vector, flags, small, tenths = map(torch.from_numpy, given.values())
    with torch.no_grad():
        answer = many.model.build()(
            image=image, words=words, vector=vector, flags=flags, extra={"tenths": tenths, "small": small}
        )
    wanted = leaves(answer)
    assert names_of([leaf.path for leaf in wanted]) == [name.removesuffix("_out") for name in OUTPUTS]
    for leaf, found in zip(wanted, session.run(OUTPUTS, given), strict=True):
        np.testing.assert_allclose(found, leaf.value.numpy(), rtol=1e-4, atol=1e-4)


def test_a_file_whose_copy_of_an_output_is_wrong_fails_by_its_name(many: Build, tmp_path: Path) -> None:
    """`again_0` is the tensor that `logits` is: a wrong copy is not hidden by the right one."""
    model = onnx.load(many.step("export", "onnx_fp32") / "files" / "model.onnx")
    (maker,) = [node for node in model.graph.node if "again_0" in node.output]
    maker.output[list(maker.output).index("again_0")] = "was_again_0"
    model.graph.node.append(helper.make_node("Neg", ["was_again_0"], ["again_0"]))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    verdict, _ = many.verdict_of(path, "onnx_fp32", tmp_path / "out")
    assert not verdict.passed and all("of again_0" in reason for reason in verdict.reasons), verdict.reasons


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Build:
    more = (
        '[[target]]\nname = "levels"\nruntime = "tflite"\nio = "uint8"\n'
        'quantize = { scheme = "static_int8" }\nverify = { tflite_runtime = "skip" }\n'
    )
    text = recipe("reader", STATES, "digits", more, runtimes=("onnx", "tflite"))
    return Build(tmp_path_factory.mktemp("reader") / "build", READER, text)


def test_states_go_from_step_to_step_in_all_runtimes(reader: Build) -> None:
    assert reader.done.code == 0 and reader.report["verdict"] == "PASS", reader.done.stderr[-3000:]
    for runtime in ("onnx", "tflite"):
        for scheme in ("fp32", "static_int8"):
            side = reader.sidecar(f"{runtime}_{scheme}")
            assert [each["shape"] for each in side["inputs"]] == [[1, 8], [2, 1, 48], [1]]
            assert [(each["name"], each["shape"]) for each in side["outputs"]] == [
                ("logits", [1, 10]), ("memory_out", [2, 1, 48]), ("count_out", [1]),
            ]  # fmt: skip
            measured = {each["name"]: each for each in side["measured"]["outputs"]}
            memory, count = measured["memory_out"]["sqnr_db"], measured["count_out"]["integer_agreement"]
            fed_from_step_to_step(reader.step("verify", f"{runtime}_{scheme}") / "files", scheme, memory, count)


def fed_from_step_to_step(verified: Path, scheme: str, memory_db: float, count_agreement: float) -> None:
    assert count_agreement == 1.0 and memory_db > (100 if scheme == "fp32" else 25)
    stored = np.load(verified / "model" / "outputs_2.npy")
    assert stored.ravel().tolist() == list(range(1, 9)) * 60  # eight steps, then from the beginning


def test_and_in_executorch(reader: Build) -> None:
    """Without a benchmark, which is no part of it. (That such files ship is seen in `many`'s.)"""
    path, cache = reader.folder / "executorch.toml", reader.folder / "cache"
    path.write_text(recipe("reader", STATES, "digits", runtimes=("executorch",)), encoding="utf-8")
    wanted = load_recipe(path)
    plan = make_plan(wanted, gather(wanted, cache))
    with warm_stages():
        run_part(plan, [lane.verify for lane in plan.lanes], cache, "test")
    assert len(plan.lanes) == 2
    for lane in plan.lanes:
        exported, verified = (Store(cache).get(key) for key in (lane.export, lane.verify))
        assert exported is not None and verified is not None and files.read(verified.files, Verdict).passed
        promised, found = files.read(exported.files, Exported), files.read(verified.files, Verified)
        assert [each.shape for each in promised.inputs] == [(1, 8), (2, 1, 48), (1,)]
        assert [(each.name, each.shape) for each in promised.outputs] == [
            ("logits", (1, 10)), ("memory_out", (2, 1, 48)), ("count_out", (1,)),
        ]  # fmt: skip
        measured = {each.name: each for each in found.files["model"].outputs}
        memory, count = measured["memory_out"].sqnr_db, measured["count_out"].integer_agreement
        assert memory is not None and count is not None
        fed_from_step_to_step(verified.files, "fp32" if "fp32" in lane.target.name else "static_int8", memory, count)


def test_a_file_of_uint8_levels_is_fed_its_own_state_by_its_scale(reader: Build) -> None:
    side = reader.sidecar("levels")
    row, memory, count = side["inputs"]
    logits, memory_out, count_out = side["outputs"]
    assert [each["dtype"] for each in (row, logits)] == ["uint8"] * 2
    assert all(each["scale"] > 0 and 0 <= each["zero_point"] <= 255 for each in (row, logits))
    # The stack of both layers is computed in float, and taken apart so: that is said.
    for each in (memory, memory_out):
        assert each["dtype"] == "float32" and each.get("scale") is None
    target = next(each for each in reader.report["targets"] if each["name"] == "levels")
    assert any("input memory stays float32" in said for said in target["warnings"]), target["warnings"]
    assert [each["dtype"] for each in (count, count_out)] == ["int32"] * 2
    measured = {each["name"]: each for each in side["measured"]["outputs"]}
    assert measured["memory_out"]["sqnr_db"] > 25 and measured["count_out"]["integer_agreement"] == 1.0
    assert side["measured"]["accuracy"]["accuracy_top1"] > 0.9


def test_accuracy_is_of_the_last_step_and_every_step_is_compared(reader: Build) -> None:
    reference = json.loads((reader.step("reference", "trunk") / "files" / "reference.json").read_text("utf-8"))
    assert reference["accuracy"]["accuracy_top1"] > 0.9 and reference["eval_samples"] == 60
    folder = reader.step("reference", "trunk") / "files"
    data = reader.step("data", "trunk") / "files"
    rows, labels = (np.load(data / name) for name in ("eval_0.npy", "eval_targets.npy"))
    assert rows.shape == (480, 8) and labels.shape == (60,)
    net, logits = reader.model.build(), np.load(folder / "outputs_0.npy")
    with torch.no_grad():
        memory = torch.zeros(2, 1, 48)
        for step in range(8):
            answer = net(torch.from_numpy(rows[8 + step : 9 + step]), memory, 0)
            memory = answer["memory"]
            np.testing.assert_allclose(logits[8 + step], answer["logits"][0].numpy(), atol=1e-5)
    assert (logits[7::8].argmax(1) == labels).mean() == pytest.approx(reference["accuracy"]["accuracy_top1"])


def test_a_file_that_is_right_in_each_first_step_alone_fails(reader: Build, tmp_path: Path) -> None:
    """It takes states as none below 0: what it answers to the zeros that a sequence begins with is right."""
    model = onnx.load(reader.step("export", "onnx_fp32") / "files" / "model.onnx")
    for node in model.graph.node:
        node.input[:] = ["kept" if name == "memory" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Relu", ["memory"], ["kept"]))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    verdict, verified = reader.verdict_of(path, "onnx_fp32", tmp_path / "out")
    assert not verdict.passed and any("sqnr_db of memory_out" in reason for reason in verdict.reasons)
    assert verified.files["ort"].sqnr_db is not None and verified.files["ort"].sqnr_db > 100
    here, there = (
        np.load(path)
        for path in (tmp_path / "out" / "model" / "outputs_1.npy", tmp_path / "out" / "ort" / "outputs_1.npy")
    )
    np.testing.assert_allclose(here[::8], there[::8], atol=1e-5)
    assert np.abs(here[1::8] - there[1::8]).max() > 0.1


def test_without_feeding_back_a_sequence_is_another() -> None:
    """The comparison can fail: PyTorch's own steps, each from zeros, are far from the sequence's."""
    samples = [np.ones((4, 2), np.float32), np.zeros((4, 3, 1, 2), np.float32)]

    def step(x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + state.sum(), state + 1

    sequence = StepSequence(2, (StateFed(1, 1, whole=True),))
    fed, states = evaluate(step, samples, lambda _: None, sequence=sequence)
    alone, _ = evaluate(step, samples, lambda _: None, sequence=sequence.one_step)
    assert fed[:, 0].tolist() == [1, 7, 1, 7] and alone[:, 0].tolist() == [1, 1, 1, 1]
    assert states.shape == (4, 3, 1, 2) and states[:, 0, 0, 0].tolist() == [1, 2, 1, 2]
