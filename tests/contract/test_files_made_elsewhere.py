"""Model files that others made: taken in as they are, fitted to the samples, judged with and without a reference."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from made_files import Floats, fitted, linear_onnx, linear_tflite
from shared_store import DigitsParts

from pocketforge.errors import ModelError, ToolFailed
from pocketforge.measure.stored_scheme import stored_scheme
from pocketforge.outcomes import files
from pocketforge.outcomes.data import InputPreprocessing, Preprocessing, PreprocessingOfInputs, Sampled
from pocketforge.outcomes.elsewhere import Elsewhere
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.verify import Verdict, Verified
from pocketforge.recipe.target import Verify
from pocketforge.registries import nearest_formats
from pocketforge.runtimes.describe import describe
from pocketforge.specs.adopt import AdoptSpec
from pocketforge.specs.answers import AnswersSpec
from pocketforge.specs.verify_file import VerifyFileSpec
from pocketforge.stages import adopt, answers, verify_file

pytestmark = pytest.mark.usefixtures("runtimes_of_all_workers")
LIMITS = Verify(tflite_runtime="skip")


class Judged:
    """What stages adopt and verify_file make of one file."""

    def __init__(self, folder: Path, inputs: Mapping[str, Path], file: Path) -> None:
        self.runtime, _ = nearest_formats()[file.suffix]
        adopted, verified = folder / f"{file.stem}-adopt", folder / f"{file.stem}-verify"
        for each in (adopted, verified):
            each.mkdir()
        given = {**inputs, "file": file}
        adopt.run(given, AdoptSpec(self.runtime, file.name, ""), adopted, _quiet)
        self.same = file.read_bytes() == (adopted / f"model{file.suffix}").read_bytes()
        spec = VerifyFileSpec(self.runtime, "classification", LIMITS, "test")
        verify_file.run({**inputs, "export": adopted}, spec, verified, _quiet)
        self.exported, self.made = files.read(adopted, Exported), files.read(adopted, Elsewhere)
        self.verified, self.reasons = files.read(verified, Verified), files.read(verified, Verdict).reasons
        self.measured = self.verified.files["model"]
        self.passed = {each.name for each in self.verified.checks if each.passed}


def _quiet(_fraction: float, _text: str = "") -> None:
    pass


@pytest.fixture(scope="module")
def linear(digits_parts: DigitsParts) -> tuple[Floats, Floats]:
    return fitted(digits_parts.data)


@pytest.fixture
def data(digits_parts: DigitsParts) -> dict[str, Path]:
    return {"data": digits_parts.data}


def test_a_float_file_is_judged_by_its_targets_alone(
    data: dict[str, Path], linear: tuple[Floats, Floats], tmp_path: Path
) -> None:
    found = Judged(tmp_path, data, linear_onnx(tmp_path / "net.onnx", *linear))
    assert found.same and found.reasons == ()
    # Batch and channels are as the file has them; a budget can name its output.
    assert [(each.shape, each.layout) for each in found.exported.inputs] == [((-1, 32, 32, 1), "NHWC")]
    assert found.made == Elsewhere("net.onnx", "fp32", "", (0,), ("scores_0",))
    assert "is open: the file is judged at [1, 1, 32, 32] alone" in found.exported.warnings[0]
    assert found.measured.accuracy["accuracy_top1"] > 0.95 and found.measured.sqnr_db is None
    assert found.measured.accuracy_drop is None and not found.verified.limits.common
    assert found.passed == {"inputs", "outputs", "values", "answers", "classes answered", "same again"}
    assert found.verified.warnings == (
        "made elsewhere, and held against no other answers: its targets alone say what it is worth",
    )


def test_a_quantized_file_as_keras_makes_it(
    data: dict[str, Path], linear: tuple[Floats, Floats], tmp_path: Path
) -> None:
    found = Judged(tmp_path, data, linear_tflite(tmp_path / "keras.tflite", *linear))
    assert found.reasons == () and found.made.scheme == "static_int8"
    (taken,) = found.exported.inputs
    assert (taken.dtype, taken.shape, taken.layout) == ("int8", (1, 32, 32, 1), "NHWC")
    assert taken.scale == pytest.approx(0.05)
    assert found.measured.accuracy["accuracy_top1"] > 0.95
    assert "it was not held against it" in found.verified.warnings[1]
    # Held against the float file, by which it was made, and by nothing of a graph.
    float_file, answered = linear_onnx(tmp_path / "float.onnx", *linear), tmp_path / "answers"
    answered.mkdir()
    spec = AnswersSpec("onnx", "float.onnx", "classification", "accuracy_top1")
    answers.run({**data, "file": float_file}, spec, answered, _quiet)
    reference = files.read(answered, Reference)
    assert (reference.file, reference.macs, reference.accuracy["accuracy_top1"] > 0.95) == ("float.onnx", None, True)
    assert [(each.name, each.shape) for each in reference.inputs] == [("pixels", (1, 1, 32, 32))]
    shutil.move(tmp_path / "keras.tflite", tmp_path / "again.tflite")
    again = Judged(tmp_path, {**data, "reference": answered}, tmp_path / "again.tflite")
    assert again.made.against == "float.onnx" and again.made.answers == ("scores_0",) and again.reasons == ()
    assert again.measured.sqnr_db is not None and 15 < again.measured.sqnr_db < 60
    assert "sqnr_db" in again.passed and not any("graph" in limit for limit in again.verified.limits.common)


def test_a_dead_file_and_swapped_classes_are_wrong(
    digits_parts: DigitsParts, data: dict[str, Path], linear: tuple[Floats, Floats], tmp_path: Path
) -> None:
    weights, biases = linear
    dead = Judged(tmp_path, data, linear_onnx(tmp_path / "dead.onnx", 0 * weights, biases))
    assert [reason.partition(":")[0] for reason in dead.reasons] == ["answers", "classes answered"]
    broken = Judged(tmp_path, data, linear_onnx(tmp_path / "nan.onnx", weights, biases * np.float32(np.nan)))
    assert broken.reasons[0].startswith("values: wanted all finite, found 5,")
    assert any(reason.startswith("metrics of scores_0") for reason in broken.reasons)
    # By its own answers it looks alive: the targets say it, and the model that it is said to be of.
    swapped = linear_onnx(tmp_path / "swapped.onnx", np.roll(weights, 1, 1), np.roll(biases, 1))
    alone = Judged(tmp_path, data, swapped)
    assert alone.reasons == () and alone.measured.accuracy["accuracy_top1"] < 0.1
    with_model = Judged(
        tmp_path, {**data, "reference": digits_parts.reference}, swapped.rename(tmp_path / "other.onnx")
    )
    assert with_model.made.against == "the model in PyTorch" and with_model.made.answers == ("output",)
    failed = {reason.partition(":")[0] for reason in with_model.reasons}
    assert {"sqnr_db", "argmax_agreement", "accuracy_drop"} <= failed


def test_noise_and_an_input_that_changes_nothing_are_told(
    data: dict[str, Path], linear: tuple[Floats, Floats], tmp_path: Path
) -> None:
    import onnx

    plain = linear_onnx(tmp_path / "plain.onnx", *linear)
    net = onnx.load(plain)
    net.graph.node[-1].output[0] = "sums"
    net.graph.node.append(onnx.helper.make_node("RandomNormalLike", ["sums"], ["noise"], scale=0.01, seed=1.0))
    net.graph.node.append(onnx.helper.make_node("Add", ["sums", "noise"], [net.graph.output[0].name]))
    onnx.save(net, tmp_path / "noise.onnx")
    found = Judged(tmp_path, data, tmp_path / "noise.onnx")
    assert found.reasons == (
        "same again: wanted the same answer to a sample, whatever came before it, found 16 of 16 samples are answered "
        "otherwise",
    )
    # Two inputs, of which it reads one.
    two = tmp_path / "two"
    shutil.copytree(data["data"], two)
    shutil.copy(two / "eval_0.npy", two / "eval_1.npy")
    sampled = files.read(two, Sampled)
    files.write(two, dataclasses.replace(sampled, inputs=(sampled.inputs[0],) * 2, preprocess=_of_two(sampled)))
    net = onnx.load(plain)
    beside = onnx.helper.make_tensor_value_info("beside", onnx.TensorProto.FLOAT, ["N", 32, 32, 1])
    net.graph.input.append(beside)
    onnx.save(net, tmp_path / "deaf.onnx")
    deaf = Judged(tmp_path, {"data": two}, tmp_path / "deaf.onnx")
    assert deaf.reasons == ()
    assert deaf.verified.warnings[-1].startswith("input beside changes nothing: 16 samples with its values of another")


def _of_two(sampled: Sampled) -> PreprocessingOfInputs:
    """The images' own, of both inputs."""
    own = sampled.preprocess
    assert isinstance(own, Preprocessing)
    names = ("pixels", "beside")
    return PreprocessingOfInputs(tuple(InputPreprocessing(n, 1, own.input, own.output, own.steps) for n in names))


def test_a_file_that_is_held_against_itself_is_held_against_nothing(
    data: dict[str, Path], linear: tuple[Floats, Floats], tmp_path: Path
) -> None:
    file, answered = linear_onnx(tmp_path / "net.onnx", *linear), tmp_path / "answers"
    answered.mkdir()
    answers.run(
        {**data, "file": file}, AnswersSpec("onnx", "copy.onnx", "classification", "accuracy_top1"), answered, _quiet
    )
    found = Judged(tmp_path, {**data, "reference": answered}, file)
    assert found.made.against == "" and found.reasons == ()
    assert found.verified.warnings[0].startswith("what it is held against is this very file, byte for byte")


def test_files_that_are_refused(data: dict[str, Path], linear: tuple[Floats, Floats], tmp_path: Path) -> None:
    import onnx

    weights, biases = linear
    whole = linear_onnx(tmp_path / "whole.onnx", *linear)
    (tmp_path / "cut.tflite").write_bytes(linear_tflite(tmp_path / "net.tflite", *linear).read_bytes()[:9_000])
    shutil.copy(whole, tmp_path / "onnx.tflite")
    onnx.save(
        onnx.load(whole), tmp_path / "beside.onnx", save_as_external_data=True, location="w.bin", size_threshold=64
    )
    linear_tflite(tmp_path / "two.tflite", *linear, signatures=("encode", "decode"))
    linear_onnx(tmp_path / "eleven.onnx", np.hstack([weights, weights[:, :1]]), np.append(biases, biases[:1]))
    linear_onnx(tmp_path / "wide.onnx", *linear, shape=[1, 1, 64, 16])
    linear_onnx(tmp_path / "batch.onnx", *linear, shape=[8, 32, 32, 1])
    linear_onnx(tmp_path / "bytes.onnx", *linear, dtype="UINT8")
    for name, said in {
        "cut.tflite": r"wanted a whole \.tflite file, found one that is truncated or damaged",
        "onnx.tflite": r"onnx\.tflite is a \.onnx file by its content",
        "beside.onnx": r"beside\.onnx has weights in other files \(w\.bin\)",
        "two.tflite": r"two\.tflite has signatures encode \(subgraph 0\), decode \(subgraph 0\): which of them an app "
        "calls is not said",
        "eleven.onnx": r"eleven\.onnx has 11 outputs, there are 10 labels",
        "wide.onnx": r"its input is pixels float32 \[1, 1, 64, 16\], a sample has float32 \[1, 32, 32\] \(NCHW\)"
        r"\n  hint: write in \[data\.preprocess\]: resize = \[64, 16\]\Z",
        "batch.onnx": r"files are run on one sample at a time, this takes 8",
        "bytes.onnx": r"pixels takes uint8 from 0 to 255, and nothing in the file says what a level stands for; the "
        "samples hold float32 such as -",
    }.items():
        with pytest.raises(ModelError) as error:
            Judged(tmp_path, data, tmp_path / name)
        assert_says(said, error.value)
    mine = linear_onnx(tmp_path / "mine.onnx", *linear, domain="my.own")
    with pytest.raises(ToolFailed, match=r"(?s)the onnx runtime on mine\.onnx.*my\.own:Mine") as failed:
        Judged(tmp_path, data, mine)
    assert "pocketforge inspect shows its operators" in failed.value.hint


def assert_says(pattern: str, error: ModelError) -> None:
    import re

    assert re.search(pattern, str(error)), str(error)


@pytest.mark.parametrize("runtime", ["onnx", "tflite", "executorch"])
def test_what_files_of_ours_are_taken_for(digits_parts: DigitsParts, runtime: str) -> None:
    for kind, scheme in {"fp32": "fp32", "int8": "static_int8"}.items():
        described = describe(digits_parts.model(runtime, kind))
        assert stored_scheme(described) == scheme
        if kind == "int8":
            # Weights alone in integers: nothing quantizes what is computed.
            plain = dataclasses.replace(described, ops={"CONV_2D": 1, "DEQUANTIZE": 1, "Cast": 1}, delegation=())
            assert stored_scheme(plain) == "weight_only_int8"
            ranged = dataclasses.replace(plain, metadata={"dynamically_quantized_ops": "2"})
            assert stored_scheme(ranged) == "dynamic_int8"
