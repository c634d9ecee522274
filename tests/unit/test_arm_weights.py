"""`onnx_weights = "int8"`: which recipes may ask for it, which constants stay int8, and who judges the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketforge.devices import adb
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.errors import RecipeError
from pocketforge.measure import saturation
from pocketforge.measure.saturation import in_words
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Counts, Preprocessing, Sampled, SampleTensor
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.quantize import Quantized
from pocketforge.outcomes.reference import ModelTensor, Reference
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.outcomes.verify import FileCheck, Measured, Verdict, Verified
from pocketforge.outcomes.verify_device import VerifiedThere
from pocketforge.package.generators import generate
from pocketforge.recipe.limits import DeviceLimits, Limits
from pocketforge.recipe.output import Output
from pocketforge.recipe.target import Verify
from pocketforge.recipe.toml import parse_recipe
from pocketforge.specs.export import ExportSpec
from pocketforge.specs.places import PhonePlace
from pocketforge.specs.verify_device import VerifyDeviceSpec
from pocketforge.stages import verify_device

RECIPE = """
name = "arm"
[model]
definition = "model.py"
[data]
source = "digits"
[[target]]
name = "arm"
runtime = "onnx"
quantize = { scheme = "static_int8" }
onnx_weights = "int8"
"""
PIXEL = '[[device]]\nvia = "emulator"\nprofile = "pixel4"\n'
PHONE = '[[device]]\nvia = "adb"\nname = "phone"\n'
X86 = '[[device]]\nvia = "emulator"\nprofile = "x86-avx2"\n'
STATES = '[[model.input]]\nname = "x"\nshape = [1]\n[[model.input]]\nname = "h"\nshape = [1]\nstate = "h_out"\n'


@pytest.mark.parametrize("devices", [PIXEL, PHONE, PIXEL + '[[device]]\nvia = "host"\n'])
def test_arm_cores_may_judge_it(devices: str) -> None:
    (target,) = parse_recipe(RECIPE + devices).targets
    assert target.has_int8_weights and parse_recipe(RECIPE.replace('"int8"\n', '"uint8"\n')).targets[0].opset is None


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (RECIPE, "no [[device]] of the recipe has ARM kernels to judge the file"),
        (RECIPE + X86, "no [[device]] of the recipe has ARM kernels to judge the file"),
        (RECIPE + PIXEL + X86, "device 'x86-avx2' is an x86 host"),
        (RECIPE.replace("[data]", STATES + "[data]") + PIXEL, "leave onnx_weights out for a model with states"),
        (RECIPE.replace('"static_int8"', '"dynamic_int8"') + PIXEL, "found dynamic_int8"),
        (RECIPE.replace('"int8"\n', '"int8"\nconsumers = ["onnxruntime_web"]\n') + PIXEL, "opened on any processor"),
        (RECIPE.replace('"int8"\n', '"int4"\n') + PIXEL, "unknown value 'int4'"),
        (
            RECIPE
            + PIXEL
            + '[fit]\n[[fit.objective]]\nmetric = "accuracy_top1"\n[fit.space]\nresize = [[8, 8], [9, 9]]\n',
            "trials are judged on this machine",
        ),
    ],
)
def test_what_nothing_could_judge_is_one_clear_fault(recipe: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(recipe)
    assert any(said in fault for fault in caught.value.faults), caught.value.faults


def test_keys_of_other_targets_are_as_they_were() -> None:
    """A spec that does not ask for them says nothing of them."""
    plain = ExportSpec("onnx", "static_int8", "NCHW", "NCHW", "float32", None)
    assert "int8_weights" not in plain.to_json()
    asked = ExportSpec("onnx", "static_int8", "NCHW", "NCHW", "float32", None, int8_weights=True)
    assert asked.to_json()["int8_weights"] is True


def test_layers_weights_stay_int8_and_what_is_added_does_not() -> None:
    from onnx import TensorProto, helper, numpy_helper

    from pocketforge.runtimes.onnx_levels import constant, to_uint8

    constants = {"w": np.full((2, 2), -3, np.int8), "b": np.full((1, 2), 5, np.int8), "zero": np.array(0, np.int8),
                 "scale": np.array(1, np.float32)}  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["wd"]),
        helper.make_node("Transpose", ["wd"], ["wt"]),
        helper.make_node("MatMul", ["xd", "wt"], ["y"]),
        helper.make_node("DequantizeLinear", ["b", "scale", "zero"], ["bd"]),
        helper.make_node("Add", ["y", "bd"], ["z"]),
    ]
    sides = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2])] for name in ("x", "z")]
    for weights, wanted in ((True, {"uint8"}), (False, {"uint8", "int8"})):
        kept = [numpy_helper.from_array(value, name) for name, value in constants.items()]
        graph = helper.make_graph(nodes, "g", *sides, kept)
        to_uint8(graph, weights=weights)
        levels = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
        found: dict[str, list[Any]] = {n.output[0]: [constant(graph, name) for name in n.input[::2]] for n in levels}
        w, zero_of_w = found["wd"]
        assert w is not None and zero_of_w is not None and (w.astype(int) - zero_of_w == -3).all()
        assert {str(w.dtype), str(found["bd"][0].dtype), str(found["xq"][1].dtype)} == wanted
        assert found["bd"][0].dtype == np.uint8 and w.dtype == (np.uint8 if weights else np.int8)


def test_a_sum_that_is_not_exact_is_said_with_both_numbers() -> None:
    exact: list[np.ndarray] = [np.full((1, 4), 1_920_000, np.int32), np.full((1, 2), 200, np.uint8)]
    assert in_words((1_920_000, 200), exact, "onnxruntime 1") == ""
    exact[1][0, 1] = 109
    assert "a sum of uint8 × int8 products is 109 and should be 200" in in_words((1_920_000, 200), exact, "r")
    wrong = [np.full((1, 4), 1_048_544, np.int32), exact[1]]
    said = in_words((1_920_000, 200), wrong, "onnxruntime 1.32.0")
    assert said.startswith("kernels saturate (onnxruntime 1.32.0, ")
    assert said.endswith("a sum of uint8 × int8 products is 1,048,544 and should be 1,920,000)")


def test_a_file_made_elsewhere_whose_weights_saturate_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pocketforge.runtimes.onnx_sums import write_sums

    path = tmp_path / "sums.onnx"
    write_sums(path)
    monkeypatch.setattr(saturation, "saturates_here", lambda: "kernels saturate (r)")
    (said,) = saturation.note_of_elsewhere(path, "onnx", "static_int8")
    assert said.startswith("its weights are int8: kernels saturate (r); figures and verdict are of such kernels")
    assert saturation.not_judged_here() == "not judged here: kernels saturate (r)"
    assert saturation.note_of_elsewhere(path, "onnx", "weight_only_int8") == ()
    assert saturation.note_of_elsewhere(path, "tflite", "static_int8") == ()
    monkeypatch.setattr(saturation, "saturates_here", lambda: "")
    assert saturation.note_of_elsewhere(path, "onnx", "static_int8") == () and not saturation.not_judged_here()


TAKES, GIVES = (TensorSpec("x", (1, 4), "float32"),), (TensorSpec("y", (1, 4), "float32"),)
SAMPLES = 20


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """Folders of the steps before: the host's answers are what no kernels should give."""
    folders = {name: tmp_path / name for name in ("data", "reference", "export", "verify", "quantize")}
    for folder in (*folders.values(), folders["verify"] / "model"):
        folder.mkdir()
    x = np.random.default_rng(0).normal(size=(SAMPLES, 4)).astype(np.float32)
    for folder in (folders["reference"], folders["quantize"]):
        np.save(folder / "outputs_0.npy", x)
    np.save(folders["verify"] / "model" / "outputs_0.npy", -x)
    np.save(folders["data"] / "eval_0.npy", x)
    np.save(folders["data"] / "eval_targets.npy", x.argmax(1))
    counts = Counts(SAMPLES, 0, 0, SAMPLES, 0, 0)
    steps = Preprocessing(None, None, ())
    tensors = (SampleTensor((4,), "float32"),)
    sampled = Sampled("f", "classification", (), counts, {}, tensors, SampleTensor((), "int64"), steps, None, ())
    files.write(folders["data"], sampled)
    for name in ("model.onnx", "model.ort"):
        (folders["export"] / name).write_bytes(name.encode())
    files.write(folders["export"], Exported({"model": "model.onnx", "ort": "model.ort"}, TAKES, GIVES))
    takes, gives = (tuple(ModelTensor(t.name, t.shape, t.dtype) for t in side) for side in (TAKES, GIVES))
    files.write(folders["reference"], Reference(1, 1, {}, SAMPLES, takes, gives))
    files.write(folders["quantize"], Quantized("static_int8", "int8", (), (None,)))
    return {**folders, "data_root": tmp_path}


def write_verified(inputs: dict[str, Path], not_judged: str) -> None:
    checks = (FileCheck("a", "", "", True),)
    found = Verified({"model": Measured(())}, {"r": "works"}, Limits({}), checks, "AVX2", GIVES, not_judged=not_judged)
    files.write(inputs["verify"], found)


@pytest.fixture
def judge(inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(not_judged: str, wrong: str = "") -> tuple[Verdict, VerifiedThere]:
        def device(request: RunRequest) -> RunAnswer:
            x = np.load(request.inputs[0])
            request.outputs.mkdir(exist_ok=True)
            np.save(request.outputs / "outputs_0.npy", -x if request.model.name == wrong else x)
            return RunAnswer(TAKES, GIVES, 1.0, 1, 1, (), "r 1", (), ())

        monkeypatch.setattr(adb, "run", device)
        write_verified(inputs, not_judged)
        place = PhonePlace("adb", "all", 60.0, "phone")
        judged = (Output("logits"),)
        spec = VerifyDeviceSpec(
            "onnx", "static_int8", "classification", place, 8, DeviceLimits(), judged=judged, verify=Verify()
        )
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        verify_device.run(inputs, spec, out, lambda fraction, message: None)
        return files.read(out, Verdict), files.read(out, VerifiedThere)

    return run


def test_a_device_judges_each_file_where_the_host_cannot(judge: Any) -> None:
    verdict, there = judge("not judged here: kernels saturate")
    assert verdict.passed, verdict.reasons
    assert there.host.outputs == () and set(there.judged) == {"model", "ort"}
    assert there.judged["ort"].accuracy["accuracy_top1"] == 1 and there.judged["ort"].samples == 8
    assert {"sqnr_db", "graph_sqnr_db", "ort: graph_sqnr_db"} <= {check.name for check in there.own_checks}


@pytest.mark.parametrize("wrong", ["model.onnx", "model.ort"])
def test_a_file_that_is_wrong_there_fails_by_name(judge: Any, wrong: str) -> None:
    verdict, _ = judge("not judged here: kernels saturate", wrong)
    named = "ort: graph_sqnr_db" if wrong.endswith("ort") else ": graph_sqnr_db"
    assert not verdict.passed and any(named in reason for reason in verdict.reasons), verdict.reasons
    assert not any("against the host" in reason for reason in verdict.reasons)


def test_a_host_whose_kernels_are_exact_counts_too(judge: Any) -> None:
    """Its answers are wrong here, and so the two differ."""
    verdict, there = judge("")
    assert not verdict.passed and all("against the host" in reason for reason in verdict.reasons)
    assert there.host.outputs and there.judged


def test_no_page_gets_such_a_file() -> None:
    from types import SimpleNamespace

    model: Any = SimpleNamespace(runtime="onnx", path=Path("m.onnx"), arm_alone=True)
    with pytest.raises(RecipeError, match="a page is opened on any processor"):
        generate("web", model, None)
