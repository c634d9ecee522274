"""Files that load and run and are wrong: each is a real exported file, tampered with, and `verify` says what is wrong.

A file like these is what a broken exporter, a mixed-up upload or a bad edit would leave; it opens without an error.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketforge.devices.environments import TFLITE_RUNTIME
from pocketforge.errors import ToolFailed
from pocketforge.outcomes import files
from pocketforge.outcomes.verify import FileCheck, Measured, Verdict, Verified
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.specs.verify import VerifySpec
from pocketforge.stages import verify

pytestmark = pytest.mark.usefixtures("runtimes_of_all_workers")
WEIGHTS = Path(__file__).parents[2] / "models" / "digits_cnn" / "weights.safetensors"


class Lane:
    """One target's stored results, with a copy of its export to tamper with."""

    def __init__(self, release: Any, target: str, folder: Path) -> None:
        self.out = folder / "verify"
        self.inputs = {}
        for step in release.report["steps"]:
            if target in step["lane"].split("+") or step["lane"] == "trunk":
                entry = release.cache / "v1" / "entries" / step["key"][:2] / step["key"]
                self.inputs[step["stage"]] = entry / "files"
                if step["stage"] == "verify":
                    self.untouched = files.read(entry / "files", Verified).files
                    spec = json.loads((entry / "manifest.json").read_text(encoding="utf-8"))["meta"]["spec"]
        self.spec = files.from_json({**spec, "legacy": ""}, VerifySpec)
        self.inputs = {k: v for k, v in self.inputs.items() if k in ("data", "reference", "quantize", "export")}
        self.export = folder / "export"
        shutil.copytree(self.inputs["export"], self.export)
        self.inputs["export"] = self.export

    def file(self, suffix: str) -> Path:
        return self.export / f"model{suffix}"

    def verify(self) -> dict[str, FileCheck]:
        """Run the stage; the failed checks by name. What verdict.json and verify.json say agrees."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        verify.run(self.inputs, self.spec, self.out, lambda fraction, message: None)
        verdict = files.read(self.out, Verdict)
        failed = {each.name: each for each in self.verified.checks if not each.passed}
        assert verdict.passed == (not failed)
        assert list(verdict.reasons) == [f"{n}: wanted {c.wanted}, found {c.found}" for n, c in failed.items()]
        return failed

    @property
    def verified(self) -> Verified:
        return files.read(self.out, Verified)

    def limit(self, **limits: Any) -> None:
        """What the target's `verify` table says besides."""
        self.spec = dataclasses.replace(self.spec, limits=dataclasses.replace(self.spec.limits, **limits))

    def measured(self, role: str = "model") -> Measured:
        return self.verified.files[role]


@pytest.fixture
def lane(release: Any, tmp_path: Path) -> Callable[[str], Lane]:
    return lambda target: Lane(release, target, tmp_path / target)


def edit_onnx(path: Path, edit: Callable[[Any], None]) -> None:
    import onnx

    model = onnx.load(path)
    edit(model)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def edit_tflite(path: Path, edit: Callable[[Any], None]) -> None:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(path.read_bytes()), 0))
    edit(model)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def patch(path: Path, old: bytes, new: bytes) -> None:
    """Replace bytes by as many others: offsets inside of the file stay right."""
    data = path.read_bytes()
    assert data.count(old) == 1 and len(old) == len(new), data.count(old)
    path.write_bytes(data.replace(old, new))


def edit_json(path: Path, edit: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("target", ["digits_onnx_int8", "digits_tflite_int8", "digits_executorch_fp32"])
def test_files_that_nobody_touched_pass(lane, target):
    """Also through the editors used below: what they write back unchanged is still right."""
    found = lane(target)
    if found.file(".onnx").exists():
        edit_onnx(found.file(".onnx"), lambda model: None)
    if found.file(".tflite").exists():
        edit_tflite(found.file(".tflite"), lambda model: None)
    assert found.verify() == {}
    # Each limit is a check that was made: none is passed over because of its name.
    limits = {"sqnr_db", "max_diff_ratio", "channel_sqnr_db", "dead_channels", "argmax_agreement", "accuracy_drop"}
    limits |= {"graph_sqnr_db", "max_steps_from_graph"} if target.endswith("int8") else set()
    always = {"inputs", "outputs", "layout"} | ({"int8 weights"} if target.endswith("int8") else set())
    assert {each.name.removeprefix("ort: ") for each in found.verified.checks} == always | limits
    # One output of ten scores: it is no map, and holds no integers.
    assert len(limits) == len(
        SCHEMES[found.spec.scheme].limits.keys() - {"min_region_sqnr_db", "min_integer_agreement"}
    )


# Wrong numbers


@pytest.mark.parametrize("target", ["digits_onnx_int8", "digits_tflite_int8", "digits_executorch_int8"])
def test_a_float_file_in_an_int8_lane(lane, target):
    """It is nearer to PyTorch than any int8 file: only its weights tell."""
    found, other = lane(target), lane(target.replace("int8", "fp32"))
    for suffix in (".onnx", ".ort", ".tflite", ".pte"):
        if found.file(suffix).exists():
            found.file(suffix).write_bytes(other.file(suffix).read_bytes())
    failed = found.verify()
    assert "int8 weights" in failed
    found_weights = failed["int8 weights"].found
    assert found_weights.startswith("0.0% (") and "; the largest other: " in found_weights


def test_onnx_with_one_perturbed_weight(lane):
    """One of 9216 weights of a layer, changed by a third of the largest: accuracy hardly moves, parity does."""
    found = lane("digits_onnx_fp32")

    def perturb(model: Any) -> None:
        from onnx import numpy_helper

        initializer = next(i for i in model.graph.initializer if list(i.dims) == [32, 32, 3, 3])
        weight = numpy_helper.to_array(initializer).copy()
        weight[3, 5, 1, 1] += 0.3 * np.abs(weight).max()
        initializer.CopyFrom(numpy_helper.from_array(weight, initializer.name))

    edit_onnx(found.file(".onnx"), perturb)
    failed = found.verify()
    assert {"sqnr_db", "max_diff_ratio"} <= set(failed)
    assert failed["sqnr_db"].wanted == "at least 60" and float(failed["sqnr_db"].found) < 60
    assert (found.measured().accuracy_drop or 0.0) < 0.005, "accuracy alone would not have seen it"


def test_onnx_with_a_wrong_output_scale(lane):
    """Every answer 1.5 times too large: the same classes, so accuracy is untouched."""
    found = lane("digits_onnx_int8")

    def scale_up(model: Any) -> None:
        from onnx import numpy_helper

        output = model.graph.output[0].name
        node = next(n for n in model.graph.node if output in n.output)
        assert node.op_type == "DequantizeLinear"
        values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        values |= {
            n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in model.graph.node if n.op_type == "Constant"
        }
        model.graph.initializer.append(numpy_helper.from_array(values[node.input[1]] * np.float32(1.5), "too_large"))
        node.input[1] = "too_large"

    edit_onnx(found.file(".onnx"), scale_up)
    failed = found.verify()
    assert set(failed) == {"sqnr_db", "max_diff_ratio", "graph_sqnr_db", "max_steps_from_graph"}
    for same in ("accuracy_drop", "argmax_agreement"):
        assert getattr(found.measured(), same) == getattr(found.untouched["model"], same)
    assert (found.measured().max_steps_from_graph or 0) > 10


def test_a_wrong_ort_beside_a_right_onnx(lane):
    """Each file that ships is verified, not only the first; a check on the other one carries its name."""
    import onnxruntime

    found = lane("digits_onnx_fp32")

    def negate(model: Any) -> None:
        from onnx import numpy_helper

        bias = next(i for i in model.graph.initializer if list(i.dims) == [10])
        bias.CopyFrom(numpy_helper.from_array(-5 * numpy_helper.to_array(bias) - 1, bias.name))

    wrong = found.export.parent / "wrong.onnx"
    shutil.copyfile(found.file(".onnx"), wrong)
    edit_onnx(wrong, negate)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(found.file(".ort"))
    options.add_session_config_entry("session.save_model_format", "ORT")
    found.file(".ort").unlink()
    onnxruntime.InferenceSession(str(wrong), options, providers=["CPUExecutionProvider"])
    failed = found.verify()
    assert "ort: sqnr_db" in failed and all(name.startswith("ort: ") for name in failed)
    assert (found.measured().sqnr_db or 0) > 100 > (found.measured("ort").sqnr_db or 100)


def test_tflite_with_a_wrong_weight_scale(lane):
    found = lane("digits_tflite_int8")

    def double(model: Any) -> None:
        graph = model.subgraphs[0]
        weights = [t for t in graph.tensors if t.shape is not None and list(t.shape) == [32, 3, 3, 32]]
        assert len(weights) == 2 and len(weights[0].quantization.scale) == 32
        weights[0].quantization.scale = np.asarray(weights[0].quantization.scale) * 2

    edit_tflite(found.file(".tflite"), double)
    failed = found.verify()
    assert {"sqnr_db", "max_diff_ratio"} <= set(failed)
    assert float(failed["sqnr_db"].found) < 15


@pytest.mark.skipif(TFLITE_RUNTIME.python is None, reason="pocketforge device setup tflite-runtime was not run")
@pytest.mark.parametrize("required", [False, True])
def test_tflite_that_is_wrong_is_wrong_in_the_old_runtime_too(lane, required):
    """Where the recipe requires the old runtime its checks fail as well, under its name; else it is only said."""
    found = lane("digits_tflite_fp32")
    found.spec = dataclasses.replace(found.spec, legacy="tflite-runtime 2.14.0")
    found.limit(tflite_runtime="require" if required else "report")

    def shift(model: Any) -> None:
        graph = model.subgraphs[0]
        bias = next(t for t in graph.tensors if t.shape is not None and list(t.shape) == [10])
        data = np.frombuffer(bytes(bytearray(model.buffers[bias.buffer].data)), np.float32)
        model.buffers[bias.buffer].data = np.frombuffer((data + np.arange(10, dtype=np.float32)).tobytes(), np.uint8)

    edit_tflite(found.file(".tflite"), shift)
    failed = found.verify()
    assert "sqnr_db" in failed
    assert ("tflite-runtime 2.14.0: sqnr_db" in failed) == required
    assert found.verified.runtimes["tflite-runtime 2.14.0"].startswith("wrong: ")


def test_a_pte_of_other_weights(lane):
    """The same program with other numbers inside: nothing in its interface says so."""
    from safetensors.numpy import load_file

    found = lane("digits_executorch_fp32")
    weight = load_file(WEIGHTS)["classifier.weight"]
    patch(found.file(".pte"), weight.tobytes(), np.roll(weight, 1, axis=0).tobytes())
    failed = found.verify()
    parity = {"sqnr_db", "max_diff_ratio", "channel_sqnr_db"}
    assert set(failed) == parity | {"argmax_agreement", "accuracy_drop"}
    assert found.measured().accuracy["accuracy_top1"] < 0.5


def test_a_pte_of_another_target(lane):
    """The int8 file shipped as the float one: as accurate, and not what was asked for."""
    found = lane("digits_executorch_fp32")
    shutil.copyfile(lane("digits_executorch_int8").file(".pte"), found.file(".pte"))
    failed = found.verify()
    assert set(failed) == {"sqnr_db", "max_diff_ratio", "channel_sqnr_db"}
    assert 25 < float(failed["sqnr_db"].found) < 60


def test_a_file_that_answers_nan(lane):
    found = lane("digits_onnx_fp32")

    def poison(model: Any) -> None:
        from onnx import numpy_helper

        bias = next(i for i in model.graph.initializer if list(i.dims) == [10])
        value = numpy_helper.to_array(bias).copy()
        value[9] = np.nan
        bias.CopyFrom(numpy_helper.from_array(value, bias.name))

    edit_onnx(found.file(".onnx"), poison)
    failed = found.verify()
    assert {"sqnr_db", "max_diff_ratio", "argmax_agreement"} <= set(failed)
    assert found.measured().argmax_agreement == 0
    # and the evidence is still JSON that every reader takes
    json.loads((found.out / "verify.json").read_text(encoding="utf-8"), parse_constant=lambda c: pytest.fail(c))


# Wrong promises


def test_a_layout_that_is_not_the_files(lane):
    """export.json (and so the sidecar) calls the input NHWC: an app would feed transposed images."""
    found = lane("digits_onnx_fp32")
    edit_json(found.export / "export.json", lambda e: e["inputs"][0].update(layout="NHWC"))
    failed = found.verify()
    assert set(failed) == {"layout"}
    assert (failed["layout"].wanted, failed["layout"].found) == ("NHWC", "NCHW")


def test_a_layout_and_shape_that_are_not_the_files(lane):
    found = lane("digits_tflite_fp32")
    edit_json(found.export / "export.json", lambda e: e["inputs"][0].update(layout="NHWC", shape=[1, 32, 32, 1]))
    failed = found.verify()
    assert set(failed) == {"inputs"}
    assert failed["inputs"].wanted == "input float32 [1, 32, 32, 1]"
    assert failed["inputs"].found == "input float32 [1, 1, 32, 32]"


def _rename_onnx(folder: Path) -> None:
    def rename(model: Any) -> None:
        model.graph.input[0].name = "pixels"
        for node in model.graph.node:
            node.input[:] = ["pixels" if name == "input" else name for name in node.input]

    edit_onnx(folder / "model.onnx", rename)


def _rename_tflite(folder: Path) -> None:
    def rename(model: Any) -> None:
        model.signatureDefs[0].inputs[0].name = b"pixels"
        model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].name = b"pixels"

    edit_tflite(folder / "model.tflite", rename)


def _rename_pte(folder: Path) -> None:
    patch(folder / "model.pte", b'{"name": "input"}', b'{"name": "pixel"}')


@pytest.mark.parametrize(
    ("target", "rename"),
    [
        ("digits_onnx_int8", _rename_onnx),
        ("digits_tflite_int8", _rename_tflite),
        ("digits_executorch_int8", _rename_pte),
    ],
)
def test_a_renamed_input(lane, target, rename):
    """Apps feed inputs by name: a file with other names than its sidecar's is of no use, however right it computes."""
    found = lane(target)
    rename(found.export)
    failed = found.verify()
    assert set(failed) == {"inputs"}
    assert failed["inputs"].wanted.startswith("input float32") and "pixel" in failed["inputs"].found


def test_a_scale_that_is_not_the_files(lane):
    """An int8 output promised where the file gives floats."""
    found = lane("digits_onnx_int8")
    edit_json(found.export / "export.json", lambda e: e["outputs"][0].update(dtype="uint8", scale=0.1, zero_point=3))
    failed = found.verify()
    assert set(failed) == {"outputs", "ort: outputs"}
    assert failed["outputs"].wanted.endswith("scale 0.1 zero point 3")


# Files that do not run at all are not a verdict


def test_a_truncated_file_ends_the_stage(lane):
    found = lane("digits_onnx_int8")
    data = found.file(".onnx").read_bytes()
    found.file(".onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(ToolFailed, match=r"the onnx runtime on model\.onnx ended with"):
        found.verify()
    assert not (found.out / "verdict.json").exists()


# Limits


def test_default_limits_give_way_to_the_recipes(lane):
    found = lane("digits_executorch_fp32")
    shutil.copyfile(lane("digits_executorch_int8").file(".pte"), found.file(".pte"))
    found.limit(min_sqnr_db=20.0, max_diff_ratio=0.25, min_channel_sqnr_db=20.0)
    assert found.verify() == {}


def test_a_right_file_fails_stricter_limits(lane):
    found = lane("digits_onnx_int8")
    # Stricter than the defaults, and kept by these very files on this processor.
    agreement = min(measured.argmax_agreement or 0.0 for measured in found.untouched.values())
    strict = {"min_sqnr_db": 60.0, "min_argmax_agreement": agreement}
    assert strict["min_argmax_agreement"] > SCHEMES["static_int8"].limits["min_argmax_agreement"]
    found.limit(**strict)
    failed = found.verify()
    assert set(failed) == {"sqnr_db", "ort: sqnr_db"}
    assert failed["sqnr_db"].wanted == "at least 60"
    # What was not set keeps its default.
    assert found.verified.limits.common == {**SCHEMES["static_int8"].limits, **strict}
