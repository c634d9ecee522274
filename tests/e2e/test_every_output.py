"""Nets with several outputs through whole builds: each output is judged, by its name, and none is hidden by another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Done, in_process

from pocketforge.outcomes import files
from pocketforge.outcomes.verify import Verdict
from pocketforge.outcomes.verify_device import VerifiedThere
from pocketforge.recipe.limits import DeviceLimits
from pocketforge.specs.places import Place
from pocketforge.specs.verify_device import VerifyDeviceSpec
from pocketforge.stages import verify_device

# A detector's head: coordinates up to 640 and scores under a quarter, joined and cut apart again. In one scale for both
# (an override asks for it) a step is larger than any score; by itself the joined tensor stays float.
MODEL = """\
import torch
from torch import nn


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 16, 3, padding=1)
        self.b = nn.Conv2d(16, 4, 1)
        self.k = nn.Conv2d(16, 3, 1)

    def forward(self, x):
        f = torch.relu(self.c(x))
        y = torch.cat([torch.sigmoid(self.b(f)) * 640.0, torch.sigmoid(self.k(f) - 2.0)], 1).flatten(2)
        return y[:, :4], y[:, 4:]


class Segments(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x):
        y = self.c(x)
        top = y.argmax(1)
        return y, top, y.amax(1) > 0.5, top.to(torch.int32), top.to(torch.uint8)


def build(net):
    torch.manual_seed(0)
    return {"detector": Detector, "segments": Segments}[net]().eval()
"""
DATA = """\
import numpy as np


def samples(shape, scale):
    x = scale * np.random.default_rng(0).normal(size=(40, 3, 8, 8))
    return x.astype(np.float32), np.zeros((40, *shape), np.float32)


def boxes():
    return samples((4, 64), 2.0)


def maps():
    return samples((5, 8, 8), 1.0)
"""


def recipe(net: str, data: str, outputs: str, targets: str) -> str:
    return f"""\
name = "{net}"
task = "regression"

[model]
definition = "model.py"
args = {{ net = "{net}" }}
outputs = {outputs}

[data]
source = "data.py:{data}"
eval_fraction = 0.5
calibration_samples = 16

{targets}
[[device]]
name = "host"
min_samples = 1
min_seconds = 0.0
"""


def target(name: str, runtime: str, scheme: str, more: str = "", how: str = "") -> str:
    return (
        f'[[target]]\nname = "{name}"\nruntime = "{runtime}"\nquantize = {{ scheme = "{scheme}"{how} }}\n'
        f'verify = {{ tflite_runtime = "skip"{more} }}\n\n'
    )


def build(folder: Path, text: str) -> tuple[Done, dict[str, Any]]:
    folder.mkdir()
    for name, content in (("model.py", MODEL), ("data.py", DATA), ("recipe.toml", text)):
        (folder / name).write_text(content, encoding="utf-8")
    done = in_process("build", "recipe.toml", "--out", "out", "--json", cache=folder / "cache", cwd=folder)
    return done, json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))


def failed(report: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    found = next(t for t in report["targets"] if t["name"] == name)
    return {c["name"]: c for c in found["checks"] if not c["passed"]}


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, dict[str, Any]]:
    one_scale = ', overrides = [{ ops = ["cat@."], scheme = "static_int8" }]'
    targets = target("int8", "onnx", "static_int8", how=one_scale) + target("float", "onnx", "fp32")
    targets += target("apart", "onnx", "static_int8")
    folder = tmp_path_factory.mktemp("detector") / "build"
    return build(folder, recipe("detector", "boxes", '["boxes", "scores"]', targets))


def test_a_second_output_that_is_all_zero_fails_by_its_name(detector: tuple[Done, dict[str, Any]]) -> None:
    done, report = detector
    assert done.code == 1 and report["verdict"] == "FAIL"
    wrong = failed(report, "int8")
    assert {"sqnr_db of scores", "dead_channels of scores", "channel_sqnr_db of scores"} <= set(wrong)
    assert not any(name.endswith("of boxes") for name in wrong), wrong
    assert wrong["dead_channels of scores"]["found"].startswith("3: channels 0-2 never change")
    files = {t["name"]: t["facts"]["files"]["model"] for t in report["targets"]}
    assert files["int8"]["worst_output"] == "scores" and files["int8"]["sqnr_db"] < 15
    assert [o["name"] for o in files["int8"]["outputs"]] == ["boxes", "scores"]
    # It is the scale, not the file: this is what its own graph answers.
    assert all(o["max_steps_from_graph"] <= 3 for o in files["int8"]["outputs"])
    assert failed(report, "float") == {} and files["float"]["sqnr_db"] > 100


def test_parts_of_unlike_range_ship_right_and_are_told(detector: tuple[Done, dict[str, Any]]) -> None:
    _, report = detector
    (apart,) = (t for t in report["targets"] if t["name"] == "apart")
    assert failed(report, "apart") == {}
    assert all(o["sqnr_db"] > 30 for o in apart["facts"]["files"]["model"]["outputs"])
    (told,) = (w for w in apart["warnings"] if w.startswith("cat@. stays float"))
    assert "sigmoid@.#2 (0 to " in told and " 0.0 dB in one scale for all" in told


def test_its_explanation_is_of_that_output(detector: tuple[Done, dict[str, Any]]) -> None:
    _, report = detector
    sentence = next(t for t in report["targets"] if t["name"] == "int8")["facts"]["why"]["sentence"]
    assert "output scores" in sentence and "output boxes" not in sentence
    # The concatenation, or what gives its scores into it: they have one scale.
    assert "first bad layer: sigmoid_1 (sigmoid)" in sentence or "first bad layer: cat (cat)" in sentence, sentence
    assert "outputs of their own" in sentence or "an output of its own" in sentence


def test_the_measurement_says_whose_it_is(detector: tuple[Done, dict[str, Any]]) -> None:
    _, report = detector
    (measured,) = (m for m in report["measurements"] if m["metric"] == "parity_sqnr_db" and m["target"] == "int8")
    assert measured["how"]["output"] == "scores" and measured["value"] < 15


RUNTIMES = ("onnx", "tflite", "executorch")


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, dict[str, Any], Path]:
    targets = "".join(target(f"{runtime}_int8", runtime, "static_int8") for runtime in RUNTIMES)
    targets += target("float", "onnx", "fp32")
    folder = tmp_path_factory.mktemp("segments") / "build"
    names = '["y", "top", "mask", "top32", "top8"]'
    done, report = build(folder, recipe("segments", "maps", names, targets))
    return done, report, folder / "out"


def test_integers_and_booleans_ship_in_all_three_runtimes(segments: tuple[Done, dict[str, Any], Path]) -> None:
    done, report, out = segments
    assert done.code == 0 and report["verdict"] == "PASS", done.stderr[-2000:]
    for runtime in RUNTIMES:
        side = json.loads((out / "release" / f"{runtime}_int8.json").read_text(encoding="utf-8"))
        wide = "int32" if runtime == "tflite" else "int64"
        assert [(o["name"], o["dtype"]) for o in side["outputs"]] == [
            ("y", "float32"), ("top", wide), ("mask", "bool"), ("top32", "int32"), ("top8", "uint8"),
        ]  # fmt: skip
        # litert-torch left the channels of an output last where something else reads it too.
        assert [o["shape"] for o in side["outputs"]] == [[1, 5, 8, 8], *([[1, 8, 8]] * 4)]
        exact = {o["name"]: o for o in side["measured"]["outputs"] if "integer_agreement" in o}
        assert set(exact) == {"top", "mask", "top32", "top8"}
        assert all(o["integer_agreement"] >= 0.95 and o["graph_integer_agreement"] >= 0.95 for o in exact.values())
        assert exact["top"]["integer_agreement"] == exact["top8"]["integer_agreement"] < 1
    side = json.loads((out / "release" / "float.json").read_text(encoding="utf-8"))
    assert [o["integer_agreement"] for o in side["measured"]["outputs"][1:]] == [1.0] * 4


def test_files_of_one_quantization_are_compared_in_every_output(segments: tuple[Done, dict[str, Any], Path]) -> None:
    _, report, _ = segments
    assert len(report["agreement"]) == 3
    for pair in report["agreement"]:
        assert [o["output"] for o in pair["outputs"]] == ["y", "top", "mask", "top32", "top8"]
        assert pair["output"] == "y" and pair["max_steps"] <= 2 and pair["integer_agreement"] >= 0.95


def test_one_outputs_limits_are_its_own(segments: tuple[Done, dict[str, Any], Path]) -> None:
    """Stricter for one output than for the others: it alone fails, and the build of everything else is reused."""
    _, _, out = segments
    folder = out.parent
    more = ', outputs = [{ name = "top", min_integer_agreement = 1.0 }]'
    text = recipe(
        "segments", "maps", '["y", "top", "mask", "top32", "top8"]', target("onnx_int8", "onnx", "static_int8", more)
    )
    (folder / "strict.toml").write_text(text, encoding="utf-8")
    done = in_process("build", "strict.toml", "--out", "strict", cache=folder / "cache", cwd=folder)
    report = json.loads((folder / "strict" / "report.json").read_text(encoding="utf-8"))
    assert done.code == 1
    wrong = {name.removeprefix("ort: ") for name in failed(report, "onnx_int8")}
    assert wrong == {"integer_agreement of top"}
    assert "output top" in report["targets"][0]["facts"]["why"]["sentence"]
    assert (
        "onnx_int8: worst output y (y " in done.stdout and "integer_agreement of top: wanted at least 1" in done.stdout
    )


def test_the_shipped_integers_are_the_graphs(segments: tuple[Done, dict[str, Any], Path]) -> None:
    """What an app gets from the shipped .onnx: the argmax of the y that it gets, to the last value."""
    import onnxruntime

    _, _, out = segments
    session = onnxruntime.InferenceSession(str(out / "release" / "onnx_int8.onnx"), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(5).normal(size=(1, 3, 8, 8)).astype(np.float32)
    y, top, mask, top32, top8 = session.run(None, {session.get_inputs()[0].name: x})
    assert (top == y.argmax(1)).all() and (top32 == top).all() and (top8 == top).all()
    assert (mask == (y.max(1) > 0.5)).all()


def test_a_device_is_compared_with_the_host_in_every_output(
    segments: tuple[Done, dict[str, Any], Path], tmp_path: Path
) -> None:
    """Stage verify_device, with this machine as the device: its own outputs pass, others in one mask do not."""
    _, report, out = segments
    entries = out.parent / "cache" / "v1" / "entries"
    inputs = {
        step["stage"]: entries / step["key"][:2] / step["key"] / "files"
        for step in report["steps"]
        if step["lane"] in ("trunk", "onnx_int8") and step["stage"] in ("data", "reference", "export", "verify")
    }
    place = Place("host", "", 60.0)
    spec = VerifyDeviceSpec("onnx", "static_int8", "regression", place, 12, DeviceLimits())

    def judged(name: str) -> tuple[Verdict, VerifiedThere]:
        folder = tmp_path / name
        folder.mkdir()
        verify_device.run(inputs, spec, folder, lambda fraction, message: None)
        return files.read(folder, Verdict), files.read(folder, VerifiedThere)

    verdict, found = judged("same")
    assert verdict.passed, verdict
    assert [output.name for output in found.host.outputs] == ["y", "top", "mask", "top32", "top8"]
    assert found.host.sqnr_db == 200.0 and found.device.samples == 12
    inputs["verify"] = Path(shutil.copytree(inputs["verify"], tmp_path / "verify"))
    mask = inputs["verify"] / "model" / "outputs_2.npy"
    np.save(mask, ~np.load(mask))
    verdict, _ = judged("other")
    assert verdict.reasons == ("on host, against the host: integer_agreement of mask: wanted at least 0.97, found 0",)
