"""What verify makes of a file's outputs: which are compared, what is limited by what, and who is named."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketforge.accuracy.post import About
from pocketforge.accuracy.score import Judge, held_against, score
from pocketforge.data.targets_on_disk import HeldTargets
from pocketforge.devices.outputs import Output
from pocketforge.errors import StageFailed
from pocketforge.measure.file_checks import (
    Graph,
    Truth,
    check_limits,
    check_promise,
    empty_drops,
    measure,
    measure_parity,
    truth_of,
)
from pocketforge.measure.weights_check import check_weights
from pocketforge.outcomes import files
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.quantize import Quantized, QuantizedLayer
from pocketforge.outcomes.reference import ModelTensor, Reference
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.outcomes.verify import Measured, OutputFigures, Verified
from pocketforge.recipe.limits import Limits, device_limits, verify_limits
from pocketforge.recipe.output import Output as OutputTable
from pocketforge.recipe.roles import RoleName
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.recipe.target import OutputLimits, Verify
from pocketforge.recipe.toml import parse_recipe

REGRESSION = "regression"


def outputs(**arrays: Any) -> list[Output]:
    return [Output(name, np.asarray(values)) for name, values in arrays.items()]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def measured_of(
    found: list[Output], reference: list[Output], targets: np.ndarray, task: str, graph: Graph | None = None
) -> Measured:
    role: RoleName = "logits" if task == "classification" else "regression"
    name = "label" if task == "classification" else "value"
    judged = OutputTable(role, reference[0].name)
    judge = Judge((judged,), HeldTargets({name: targets}, len(targets)), About(), "", Path)
    return measure(found, truth_of(tuple(reference), judge, task, graph))


def failed(measured: Measured, limits: Limits) -> dict[str, str]:
    return {each.name: each.found for each in check_limits(measured, limits) if not each.passed}


def of_scheme(scheme: str, **limits: Any) -> Limits:
    return verify_limits(scheme, Verify(**limits))


# A limit met exactly is met


@pytest.mark.parametrize(("right", "passes"), [(43, True), (42, False)])
def test_a_drop_of_exactly_the_limit_passes(right: int, passes: bool) -> None:
    """44 of 50 are right in PyTorch, 43 in the file: .88 - .86 is .02, and in floats it is more."""
    targets = np.zeros(50, np.int64)

    def scores(hits: int) -> np.ndarray:
        return np.where(np.arange(50)[:, None] < hits, [[2.0, 1.0]], [[1.0, 2.0]]).astype(np.float32)

    assert 44 / 50 - 43 / 50 > 0.02
    measured = measured_of(outputs(y=scores(right)), outputs(y=scores(44)), targets, "classification")
    limits = Limits({"max_accuracy_drop": 0.02, "min_argmax_agreement": 0.98})
    assert measured.accuracy_drop == (0.02 if passes else 0.04)
    assert ("accuracy_drop" not in failed(measured, limits)) == passes
    assert ("argmax_agreement" not in failed(measured, limits)) == passes


# Every output


def test_the_worst_output_decides_and_is_named() -> None:
    boxes, scores = normal(20, 4, 9), normal(20, 3, 9, seed=1)
    reference = outputs(boxes=boxes, scores=scores)
    measured = measured_of(outputs(boxes=boxes + 1e-3, scores=0 * scores), reference, np.zeros((20, 4, 9)), REGRESSION)
    assert measured.worst_output == "scores" and (measured.sqnr_db or 0) < 1
    wrong = failed(measured, of_scheme("static_int8"))
    named = ("sqnr_db", "max_diff_ratio", "channel_sqnr_db", "dead_channels")
    assert set(wrong) == {f"{name} of scores" for name in named}
    assert wrong["dead_channels of scores"] == "3: channels 0-2 never change where the model's do"


def test_limits_of_one_output_are_its_own() -> None:
    rough = normal(30, 4) + 0.2 * normal(30, 4, seed=2)
    measured = measured_of(
        outputs(a=rough, b=rough), outputs(a=normal(30, 4), b=normal(30, 4)), np.zeros((30, 4)), REGRESSION
    )
    limits = of_scheme("static_int8", min_sqnr_db=30.0, outputs=(OutputLimits("a", min_sqnr_db=5.0),))
    assert set(failed(measured, limits)) == {"sqnr_db of b"}


def test_integers_are_right_or_wrong() -> None:
    top = np.arange(400).reshape(20, 20) % 7
    nearly = top.copy()
    nearly[0, :10] += 1
    measured = measured_of(outputs(top=nearly.astype(np.int32)), outputs(top=top), np.zeros((20, 20)), REGRESSION)
    assert measured.integer_agreement == 390 / 400 and measured.worst_output == "top" and measured.sqnr_db is None
    assert failed(measured, of_scheme("fp32")) == {"integer_agreement": "0.975"}
    assert failed(measured, of_scheme("static_int8")) == {}
    assert failed(measured, of_scheme("static_int8", min_integer_agreement=0.975)) == {}, "a limit met exactly is met"


def test_an_output_of_another_shape_is_not_compared_and_not_passed_over() -> None:
    """What a converter that moves channels leaves: the contract says it, and nothing ends in NumPy's words."""
    reference = outputs(y=normal(20, 5, 8, 8), top=np.zeros((20, 8, 8), np.int64))
    moved = outputs(y=normal(20, 8, 8, 5), top=np.zeros((20, 8, 8), np.int32))
    measured = measured_of(moved, reference, np.zeros((20, 5, 8, 8)), REGRESSION)
    assert not measured.accuracy and [output.name for output in measured.outputs] == ["top"]
    top = ModelTensor("top", (1, 8, 8), "int64")
    promise = Reference(0, 0, {}, 20, (), (ModelTensor("y", (1, 5, 8, 8), "float32"), top))
    seen = TensorSpec("top", (1, 8, 8), "int32")
    (found,) = check_promise(Exported({"model": "m"}, (), (TensorSpec("y", (1, 8, 8, 5), "float32"), seen)), promise)
    assert not found.passed and found.wanted == "y [1, 5, 8, 8]; top [1, 8, 8]"
    assert check_promise(Exported({"model": "m"}, (), (TensorSpec("y", (1, 5, 8, 8), "float32"), seen)), promise) == []


def truth(reference: list[Output], task: str, *judged: OutputTable, count: int = 20) -> Truth:
    """What classes are held against, all of them 0."""
    targets = HeldTargets({"label": np.zeros(count, np.int64)}, count)
    return truth_of(tuple(reference), Judge(judged, targets, About(), "", Path), task)


def test_a_device_is_held_to_the_host_in_every_output() -> None:
    host = outputs(a=normal(20, 4), top=np.zeros((20, 6), np.int64))
    there = outputs(a=host[0].values, top=np.ones((20, 6), np.int64))
    measured = measure_parity(there, host, truth(host, "classification", OutputTable("logits", "a")))
    assert measured.argmax_agreement == 1.0
    assert failed(measured, device_limits("static_int8")) == {"integer_agreement of top": "0"}


def test_each_output_of_class_scores_is_held_to_the_host_s_classes() -> None:
    """Near in dB and of another class: of several outputs too the default limit is judged, for each by its name."""
    scores = 50 * normal(20, 1) + np.tile(np.asarray([0.01, 0.0, -1000], np.float32), (20, 1))
    host = outputs(a=scores, b=normal(20, 4))
    there = outputs(a=scores + np.asarray([-0.02, 0.0, 0.0], np.float32), b=host[1].values)
    both = truth(host, "outputs", OutputTable("logits", "a"), OutputTable("logits", "b"))
    limits = device_limits("fp32")
    assert failed(measure_parity(there, host, both), limits) == {"argmax_agreement of a": "0"}
    assert failed(measure_parity(host, host, both), limits) == {}


def test_of_a_sequence_the_last_step_s_class_is_held_to_the_host_s() -> None:
    host = outputs(a=np.tile(np.asarray([[1, 0], [2, 0], [3, 0]], np.float32), (20, 1)))
    first, last = (host[0].values.copy() for _ in range(2))
    first[0::3], last[2::3] = [[0, 1]], [[0, 1]]
    judged = truth(host, "classification", OutputTable("logits", "a"))
    assert measure_parity(outputs(a=first), host, judged).argmax_agreement == 1.0
    assert measure_parity(outputs(a=last), host, judged).argmax_agreement == 0.0
    assert measure(outputs(a=first), judged).argmax_agreement == 1.0
    simulated = dataclasses.replace(judged, graph=Graph(outputs(a=host[0].values[:12])))  # the first four samples
    assert measure(outputs(a=first), simulated).graph_argmax_agreement == 1.0
    assert measure(outputs(a=last), simulated).graph_argmax_agreement == 0.0


# A drop from nothing


def test_a_model_that_scores_0_itself_cannot_lose_and_verify_says_so() -> None:
    wrong, right = outputs(a=np.tile([[0.0, 1.0]], (20, 1))), outputs(a=np.tile([[1.0, 0.0]], (20, 1)))
    limits = Limits({"max_accuracy_drop": 0.02})
    (said,) = empty_drops(truth(wrong, "classification", OutputTable("logits", "a")), limits)
    assert said.startswith("accuracy_top1 of a is 0 in PyTorch: max_accuracy_drop holds whatever a file answers")
    assert empty_drops(truth(right, "classification", OutputTable("logits", "a")), limits) == ()
    assert empty_drops(truth(wrong, "classification", OutputTable("logits", "a")), Limits({})) == ()


# What cannot be scored fails by its output's name


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.full((20, 4), np.nan, np.float32), "values that are NaN or infinite"),
        (np.full((20, 4), np.inf, np.float32), "values that are NaN or infinite"),
        (normal(20, 4, 1), "no output of this name and the model's shape"),
    ],
)
@pytest.mark.parametrize("task", ["classification", "outputs"])
def test_an_output_that_has_no_metrics_fails_by_its_name(values: np.ndarray, why: str, task: str) -> None:
    reference = outputs(a=normal(20, 4), b=normal(20, 4))
    judged = [OutputTable("logits", name) for name in ("a", "b")]
    against = truth(reference, task, *(judged[:1] if task == "classification" else judged))
    measured = measure(outputs(a=values, b=reference[1].values), against)
    assert failed(measured, Limits({}))["metrics of a"] == why
    assert [each.output for each in measured.scores] == (["b"] if task == "outputs" else [])


def test_boxes_without_their_classes_are_not_judged_as_all_of_class_0() -> None:
    """It would be a perfect detector of one class."""
    corners = np.tile(np.asarray([[1, 1, 5, 5]], np.float32), (4, 1, 1))
    scores, classes = np.ones((4, 1), np.float32), np.zeros((4, 1), np.float32)
    reference = outputs(boxes=corners, scores=scores, classes=classes)
    targets = {
        "boxes": list(corners),
        "classes": [np.zeros(1, np.int64)] * 4,
        "crowd": [np.zeros(1, np.uint8)] * 4,
    }
    roles: tuple[RoleName, ...] = ("boxes", "scores", "classes")
    judge = Judge(tuple(OutputTable(role, role) for role in roles), HeldTargets(targets, 4), About(), "", Path)
    found = outputs(boxes=corners, scores=scores, classes=np.full((4, 1), np.nan, np.float32))
    measured = measure(found, truth_of(tuple(reference), judge, "outputs"))
    assert failed(measured, Limits({})) == {"metrics of boxes": "its classes cannot be judged"}


# Its own quantized graph


def near_graph(steps: float, cost_steps: float, scheme: str = "static_int8", **limits: Any) -> dict[str, str]:
    """A file that is `steps` of its scale from its graph in places, which quantizing took `cost_steps` from PyTorch."""
    reference = normal(200, 6)
    scale = 0.02
    where = np.random.default_rng(3).random((200, 6))
    graph = reference + np.where(where < 0.2, cost_steps * scale, 0).astype(np.float32)
    file = graph + np.where(where > 0.95, steps * scale, 0).astype(np.float32)
    held = Graph(outputs(y=graph[:100]), {"y": scale})
    measured = measured_of(outputs(y=file), outputs(y=reference), np.zeros((200, 6)), REGRESSION, held)
    assert measured.max_steps_from_graph == pytest.approx(steps, abs=0.01)
    return failed(measured, of_scheme(scheme, **limits))


def test_a_few_steps_are_rounding_and_more_are_not() -> None:
    assert near_graph(3, 1) == {}
    assert set(near_graph(9, 1)) == {"max_steps_from_graph"}
    assert set(near_graph(33, 1)) >= {"max_steps_from_graph", "graph_sqnr_db"}


def test_a_net_that_amplifies_roundings_may_be_as_far_as_quantizing_took_it() -> None:
    assert near_graph(9, 12) == {}
    # After training the graph is another model: what lies between it and the reference allows nothing.
    assert set(near_graph(9, 12, "qat_int8")) == {"max_steps_from_graph"}


def test_what_the_recipe_says_is_taken_as_it_is() -> None:
    assert set(near_graph(9, 12, max_steps_from_graph=4.0)) == {"max_steps_from_graph"}
    assert near_graph(9, 1, max_steps_from_graph=9.5) == {}


def test_outputs_have_limits_in_a_recipe() -> None:
    text = """
name = "r"
task = "regression"
[model]
definition = "model.py"
outputs = ["boxes", "scores"]
[data]
source = "data.py:f"
[[target]]
name = "t"
runtime = "onnx"
verify = { max_dead_channels = 2, outputs = [{ name = "scores", min_sqnr_db = 8 }] }
"""
    verify = parse_recipe(text).targets[0].verify
    assert verify.max_dead_channels == 2 and verify.outputs[0].min_sqnr_db == 8.0
    twice = text.replace("{ name", '{ name = "scores" }, { name')
    with pytest.raises(Exception, match="scores is named twice"):
        parse_recipe(twice)
    with pytest.raises(Exception, match="outputs need names of their own"):
        parse_recipe(text.replace('"boxes", "scores"', '"boxes", "boxes"'))


def test_every_limit_of_every_scheme_is_a_key_of_a_recipe_and_of_a_figure_that_there_is() -> None:
    for info in SCHEMES.values():
        assert set(info.limits) <= set(Verify.RANGES) and info.limits.keys() >= {"min_sqnr_db", "max_diff_ratio"}
        assert set(info.on_device) | set(info.on_x86) <= {*Verify.RANGES, "max_steps"}
    every = dict.fromkeys([*Verify.RANGES, "max_steps"], 0.0)
    names = {field.name for field in dataclasses.fields(OutputFigures)} - {"name", "dtype", "where"}
    figures: dict[str, Any] = dict.fromkeys(names, 1.0)
    output = OutputFigures("y", "float32", {}, **figures)
    checks = check_limits(Measured((output,), argmax_agreement=1.0, accuracy_drop=1.0), Limits(every))
    further = "integers are also held against the graph's, argmax is also one of several outputs'"
    assert len(checks) == len(every) + 2, further


def test_what_is_written_comes_back_without_what_there_is_not(tmp_path: Path) -> None:
    """JSON has no infinity; a file that answers it has failed its checks anyway."""
    near = OutputFigures("y", "float32", {}, sqnr_db=-np.inf, dead_channels=0)
    verified = Verified({"model": Measured((near,), 4)}, {"r": "works"}, Limits({"min_sqnr_db": 3.0}), (), "AVX2", ())
    files.write(tmp_path, verified)
    stored = json.loads((tmp_path / "verify.json").read_text("utf-8"))
    assert stored["files"]["model"]["outputs"] == [
        {"name": "y", "dtype": "float32", "where": {}, "sqnr_db": -1e308, "dead_channels": 0}
    ]
    again = files.read(tmp_path, Verified)
    assert again.files["model"].outputs[0].sqnr_db == -1e308 and again.limits == verified.limits
    (tmp_path / "verify.json").write_text(json.dumps({**stored, "kernel": ""}), "utf-8")
    with pytest.raises(StageFailed, match="kernel"):
        files.read(tmp_path, Verified)


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        (Verified, {"files": {}}, "verify.json does not hold what a stage writes: files must have the model"),
        (Verified, {"files": {"legacy": {"outputs": []}}}, "files must have the model, found legacy"),
        (Verified, {"runtimes": {}}, "runtimes must have the one that ran the model"),
        (Exported, {"files": {}}, "export.json does not hold what a stage writes: files must name the model"),
        (Exported, {"files": {"ort": "model.ort"}}, "files must name the model, found ort"),
    ],
)
def test_an_outcome_without_the_model_s_file_is_none(
    tmp_path: Path, kind: type[Verified] | type[Exported], change: dict[str, Any], said: str
) -> None:
    """What reads it would take the first of nothing, or find nothing wrong in nothing."""
    whole = (
        Verified({"model": Measured(())}, {"r": "works"}, Limits({}), (), "AVX2", ())
        if kind is Verified
        else Exported({"model": "model.onnx"}, (), ())
    )
    files.write(tmp_path, whole)
    assert files.read(tmp_path, kind) == whole
    path = tmp_path / kind.FILE
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **change}), "utf-8")
    with pytest.raises(StageFailed, match=re.escape(said)):
        files.read(tmp_path, kind)


# Int8 weights


def onnx_file(path: Path, **weights: np.ndarray) -> Path:
    """A file that holds these."""
    onnx = pytest.importorskip("onnx")
    kept = [onnx.numpy_helper.from_array(v, k) for k, v in weights.items() if v.size]
    name, value = next(iter(weights.items()))
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, value.shape)
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", [name], ["y"])], "g", [], [y], kept)
    onnx.save(onnx.helper.make_model(graph), path)
    return path


@pytest.mark.parametrize(("stored", "passes"), [(1000, True), (900, True), (600, False), (0, False)])
@pytest.mark.parametrize("op", ["linear", "embedding"])
def test_what_stayed_float_neither_excuses_another_layer_nor_counts_against_it(
    tmp_path: Path, op: str, stored: int, passes: bool
) -> None:
    """A large layer that stayed float hides the others in the whole file's share."""
    big, rest = np.zeros((4, 1000), np.float32), np.zeros((1000 - stored, 1), np.float32)
    path = onnx_file(tmp_path / "model.onnx", big=big, int=np.zeros(stored, np.int8), rest=rest)
    layers = (QuantizedLayer("big", op, "fp32", 4000), QuantizedLayer("int", "linear", "static_int8", 1000))
    files.write(tmp_path, Quantized("static_int8", "", layers, (None,)))
    (found,) = check_weights(path, "onnx", "static_int8", tmp_path)
    assert found.passed == passes
    share = stored / (stored + 4 * (5000 - stored))
    told = f"(float: big; {share:.1%} of the whole file's; the largest other: big [4, 1000] float32)"
    assert found.found == f"{stored / 1000:.1%} {told}"
    # What is in no list of layers (a parameter that is added) is told of all the same.
    files.write(tmp_path, Quantized("static_int8", "", layers[1:], (None,)))
    (found,) = check_weights(path, "onnx", "static_int8", tmp_path)
    assert found.passed == passes and found.found.endswith("; the largest other: big [4, 1000] float32)")


def test_layers_with_equal_weights_share_what_is_stored(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "model.onnx", one=np.zeros((20, 50), np.int8), bias=np.zeros(50, np.float32))
    layers = tuple(QuantizedLayer(name, "linear", "static_int8", 1000) for name in ("one", "two"))
    files.write(tmp_path, Quantized("static_int8", "", layers, (None,)))
    (found,) = check_weights(path, "onnx", "static_int8", tmp_path)
    assert (found.passed, found.found) == (True, "50.0%")


def test_a_layer_that_should_be_int8_is_missed_in_a_file_that_is_mostly_int8(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "model.onnx", one=np.zeros((4, 50), np.float32), two=np.zeros(1000, np.int8))
    layers = tuple(QuantizedLayer(name, "linear", "dynamic_int8", n) for name, n in (("one", 200), ("two", 1000)))
    files.write(tmp_path, Quantized("dynamic_int8", "", layers, (None,)))
    (found,) = check_weights(path, "onnx", "dynamic_int8", tmp_path)
    assert (found.passed, found.found) == (False, "83.3% (the largest other: one [4, 50] float32)")


def test_the_first_five_of_five_classes_say_nothing() -> None:
    """Whatever a file answers, it would keep a budget on it: there is no value, and the budget is MISSING."""
    for classes, said in {5: set[str](), 6: {"accuracy_top5"}}.items():
        judged = OutputTable("logits", "logits", metrics=("accuracy_top1", "accuracy_top5"))
        judge = Judge((judged,), HeldTargets({"label": np.arange(8) % classes}, 8), About(), "", Path)
        scores = np.eye(classes)[(np.arange(8) + 1) % classes].astype(np.float32)
        (scored,) = score(judge, {"logits": scores}, "the file")
        told = held_against(scored, scored, judge)
        assert {*told.metrics} & {"accuracy_top5"} == {*told.drops} & {"accuracy_top5"} == said
        assert told.metrics["accuracy_top1"] == 0
