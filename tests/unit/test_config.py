"""Every fault a recipe file can have is reported, all at once, each with its path and what to try."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from quantizations import quantizations

from pocketforge.errors import EXIT_USAGE, RecipeError
from pocketforge.recipe import Budget, Data, InputSpec, Model, Output, Post, Preprocess, Recipe, Target, Verify
from pocketforge.recipe.compress import Finetune
from pocketforge.recipe.device import HostDevice
from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.output import OwnLimits
from pocketforge.recipe.quantize import Quantize
from pocketforge.recipe.toml import load_recipe, parse_recipe

GOOD: dict[str, Any] = {
    "name": "full",
    "seed": 7,
    "task": "classification",
    "metric": "macro_f1",
    "model": {
        "definition": "model.py",
        "weights": "weights.safetensors",
        "args": {"width": 0.5, "blocks": [1, 2], "deep": {"norm": True}},
        "input": [{"shape": [1, 3, 32, 32], "name": "image", "dtype": "float32"}],
        "outputs": ["scores"],
    },
    "data": {
        "source": "digits",
        "labels": "labels.txt",
        "eval_fraction": 0.25,
        "eval_samples": 200,
        "calibration_samples": 50,
        "preprocess": {
            "resize": [32, 32],
            "color": "rgb",
            "scale": 16.0,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "layout": "NCHW",
        },
    },
    "compress": [{"type": "finetune", "epochs": 2, "optimizer": "sgd", "lr": 0.1, "batch_size": 16}],
    "target": [
        {"name": "a", "runtime": "executorch"},
        {
            "name": "b",
            "runtime": "tflite",
            "quantize": {"scheme": "static_int8", "per_channel": False, "calibration": "minmax"},
            "layout": "NHWC",
            "io": "int8",
            "verify": {"min_sqnr_db": 20, "tflite_runtime": "require"},
        },
        {"name": "c", "runtime": "onnx", "opset": 20},
    ],
    "device": [{"name": "here", "via": "host", "threads": 2, "warmup": 0, "min_samples": 30, "min_seconds": 0.5}],
    "budget": [
        {"metric": "size_bytes", "limit": 100000, "target": "a"},
        {"metric": "latency_ms", "limit": 5.5, "device": "here", "percentile": "p90", "severity": "warning"},
    ],
}


KNOWN = (
    "app, budget, compress, data, device, fit, metric, model, name, output, release, seed, target, task, training, "
    "waiver"
)


def to_toml(value: Any) -> str:
    """TOML of plain data, all tables in line but the first: enough for recipes."""

    def inline(item: Any) -> str:
        if isinstance(item, bool):
            return "true" if item else "false"
        if isinstance(item, str):
            return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in item) + '"'
        if isinstance(item, float) and not math.isfinite(item):
            return str(item)
        if isinstance(item, dict):
            return "{" + ", ".join(f"{inline(str(k))} = {inline(v)}" for k, v in item.items()) + "}"
        if isinstance(item, list):
            return "[" + ", ".join(map(inline, item)) + "]"
        return repr(item)

    return "".join(f"{inline(str(key))} = {inline(item)}\n" for key, item in value.items())


def changed(path: str, value: Any) -> str:
    """The good recipe with one value changed; `...` takes the key out. A path is as in a fault: target[0].io."""
    recipe = copy.deepcopy(GOOD)
    *parents, last = [int(k) if k.isdigit() else k for k in path.replace("]", "").replace("[", ".").split(".")]
    place: Any = recipe
    for key in parents:
        place = place[key] if isinstance(key, int) else place.setdefault(key, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return to_toml(recipe)


def faults_of(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text)
    assert caught.value.exit_code == EXIT_USAGE
    return list(caught.value.faults)


def test_a_full_recipe_is_read_as_written() -> None:
    assert parse_recipe(to_toml(GOOD), folder="/somewhere") == Recipe(
        name="full",
        seed=7,
        metric="macro_f1",
        model=Model(
            "model.py",
            "weights.safetensors",
            {"width": 0.5, "blocks": [1, 2], "deep": {"norm": True}},
            (InputSpec((1, 3, 32, 32), "image"),),
            ("scores",),
        ),
        data=Data(
            "digits", "labels.txt", 0.25, 200, 50, Preprocess((32, 32), "rgb", 16.0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        ),
        compress=(Finetune(epochs=2, optimizer="sgd", lr=0.1, batch_size=16),),
        targets=(
            Target("a", "executorch"),
            Target(
                "b",
                "tflite",
                Quantize("static_int8", False, "minmax"),
                "NHWC",
                "int8",
                verify=Verify(min_sqnr_db=20.0, tflite_runtime="require"),
            ),
            Target("c", "onnx", opset=20),
        ),
        devices=(HostDevice("here", threads=2, warmup=0, min_samples=30, min_seconds=0.5),),
        budgets=(
            Budget("size_bytes", 100000.0, "a"),
            Budget("latency_ms", 5.5, device="here", percentile="p90", severity="warning"),
        ),
        folder="/somewhere",
    )


def test_a_short_recipe_takes_the_defaults(small_recipe_text: str) -> None:
    recipe = parse_recipe(small_recipe_text)
    assert recipe.devices == (HostDevice(),)
    assert recipe.budgets == ()
    assert recipe.data.preprocess is None
    assert (recipe.seed, recipe.task, recipe.task_metric) == (0, "classification", "accuracy_top1")


def test_a_whole_number_will_do_for_a_number_and_becomes_one() -> None:
    limit = parse_recipe(changed("budget[0].limit", 3)).budgets[0].limit
    assert (limit, type(limit)) == (3.0, float)


TYPE_FAULTS = [
    ("seed", True, "seed: wanted an integer, found true or false True"),
    ("seed", 1.0, "seed: wanted an integer, found a number 1.0"),
    ("seed", "1", "seed: wanted an integer, found a string '1'"),
    ("name", 3, "name: wanted a string, found an integer 3"),
    ("model", 3, "model: wanted a table, found an integer 3"),
    ("model.weights", ["a"], "model.weights: wanted a string, found a list"),
    ("model.args", "x", "model.args: wanted a table, found a string 'x'"),
    ("model.input", {}, "model.input: wanted an array, found a table"),
    ("model.input[0].shape", 3, "model.input[0].shape: wanted an array, found an integer 3"),
    ("model.input[0].shape[2]", True, "model.input[0].shape[2]: wanted an integer, found true or false True"),
    ("model.input[0].shape[1]", 3.0, "model.input[0].shape[1]: wanted an integer, found a number 3.0"),
    ("model.outputs[0]", 0, "model.outputs[0]: wanted a string, found an integer 0"),
    ("data.eval_fraction", "0.3", "data.eval_fraction: wanted a number, found a string '0.3'"),
    ("data.eval_fraction", True, "data.eval_fraction: wanted a number, found true or false True"),
    ("data.preprocess", [], "data.preprocess: wanted a table, found a list"),
    ("data.preprocess.mean[1]", "0.5", "data.preprocess.mean[1]: wanted a number, found a string '0.5'"),
    ("data.preprocess.scale", False, "data.preprocess.scale: wanted a number, found true or false False"),
    ("target", {"name": "x"}, "target: wanted an array, found a table"),
    ("target[1].quantize.per_channel", 1, "target[1].quantize.per_channel: wanted true or false, found an integer 1"),
    (
        "target[1].quantize.per_channel",
        "false",
        "target[1].quantize.per_channel: wanted true or false, found a string 'false'",
    ),
    ("target[1].verify.min_sqnr_db", "20", "target[1].verify.min_sqnr_db: wanted a number, found a string '20'"),
    ("target[2].opset", "20", "target[2].opset: wanted an integer, found a string '20'"),
    ("target[2].opset", 20.0, "target[2].opset: wanted an integer, found a number 20.0"),
    ("device[0].threads", 2.0, "device[0].threads: wanted an integer, found a number 2.0"),
    ("budget[1].limit", "8.7", "budget[1].limit: wanted a number, found a string '8.7'"),
    ("budget[1].limit", True, "budget[1].limit: wanted a number, found true or false True"),
    (
        "target[0].runtime",
        1,
        "target[0].runtime: wanted one of 'executorch', 'tflite', 'onnx', found an integer 1",
    ),
]


@pytest.mark.parametrize(("path", "value", "fault"), TYPE_FAULTS, ids=[f"{p}={v!r}" for p, v, _ in TYPE_FAULTS])
def test_types_are_exact(path: str, value: Any, fault: str) -> None:
    assert faults_of(changed(path, value)) == [fault]


@pytest.mark.parametrize(
    "path", ["budget[0].limit", "compress[0].lr", "data.preprocess.scale", "data.preprocess.mean[0]"]
)
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_numbers_are_finite(path: str, value: float) -> None:
    assert faults_of(changed(path, value)) == [f"{path}: wanted a finite number, found {value}"]


def test_an_integer_too_large_for_a_number_is_a_fault_of_its_place() -> None:
    assert faults_of(changed("budget[0].limit", 10**400)) == [
        "budget[0].limit: wanted a finite number, found an integer too large for one"
    ]


SOURCE_FORMS = (
    "digits, cifar10:DIR, imagefolder:DIR, audiofolder:DIR, coco:PATH, yolo:PATH, voc:DIR, masks:DIR, csv:PATH, "
    "parquet:PATH, jsonl:PATH, webdataset:PATH, huggingface:DIR, npz:FILE or module.py:function"
)
UNKNOWN = [
    ("sed", 1, "sed: unknown key; did you mean 'seed'?"),
    ("targets", [], "targets: unknown key; did you mean 'target'?"),
    (
        "folder",
        "/",
        f"folder: unknown key; known: {KNOWN}",
    ),
    ("model.weight", "x", "model.weight: unknown key; did you mean 'weights'?"),
    ("model.inputs", [], "model.inputs: unknown key; did you mean 'input'?"),
    ("data.preprocess.sclae", 1, "data.preprocess.sclae: unknown key; did you mean 'scale'?"),
    ("target[1].quantize.perchannel", True, "target[1].quantize.perchannel: unknown key; did you mean 'per_channel'?"),
    (
        "target[0].zzz",
        1,
        "target[0].zzz: unknown key; known: consumers, file, io, layout, name, onnx_weights, opset, package, quantize, "
        "runtime, sizes, verify",
    ),
    ("device[0].thread", 1, "device[0].thread: unknown key; did you mean 'threads'?"),
    ("budget[1].limits", 1, "budget[1].limits: unknown key; did you mean 'limit'?"),
    ("compress[0].epoch", 1, "compress[0].epoch: unknown key; did you mean 'epochs'?"),
    ("task", "clasification", "task: unknown value 'clasification'; did you mean 'classification'?"),
    ("target[0].runtime", "onxx", "target[0].runtime: unknown value 'onxx'; did you mean 'onnx'?"),
    ("target[0].runtime", "coreml", "target[0].runtime: unknown value 'coreml'; known: executorch, onnx, tflite"),
    (
        "target[1].quantize.scheme",
        "static_int",
        "target[1].quantize.scheme: unknown value 'static_int'; did you mean 'static_int8'?",
    ),
    ("budget[0].metric", "size_byte", "budget[0].metric: unknown value 'size_byte'; did you mean 'size_bytes'?"),
    ("budget[1].percentile", "p95", "budget[1].percentile: unknown value 'p95'; did you mean 'p99'?"),
    ("compress[0].type", "finetun", "compress[0].type: unknown value 'finetun'; did you mean 'finetune'?"),
]


@pytest.mark.parametrize(("path", "value", "fault"), UNKNOWN, ids=[f"{p}={v!r}" for p, v, _ in UNKNOWN])
def test_an_unknown_name_gets_the_nearest_known_one(path: str, value: Any, fault: str) -> None:
    (found,) = faults_of(changed(path, value))
    if path == "budget[1].percentile":  # p90 and p99 are equally near
        assert found.startswith("budget[1].percentile: unknown value 'p95'; did you mean 'p9")
    else:
        assert found == fault


@pytest.mark.parametrize(
    "path",
    ["name", "model", "data", "target", "model.definition", "data.source", "target[1].name", "target[2].runtime",
     "model.input[0].shape", "budget[0].metric", "budget[1].limit"],
)  # fmt: skip
def test_a_missing_key_is_named_with_its_path(path: str) -> None:
    assert faults_of(changed(path, ...)) == [f"{path}: missing"]


RULES = [
    ("name", "a b", "name must be letters, digits, '.', '_' or '-' (it names files), found 'a b'"),
    ("name", "", "name must be letters, digits, '.', '_' or '-' (it names files), found ''"),
    ("name", "../up", "name must be letters, digits, '.', '_' or '-' (it names files), found '../up'"),
    (
        "target[0].name",
        "a/b",
        "target[0]: name must be letters, digits, '.', '_' or '-' (it names files), found 'a/b'",
    ),
    (
        "target[0].name",
        "a\n",
        "target[0]: name must be letters, digits, '.', '_' or '-' (it names files), found 'a\\n'",
    ),
    ("seed", -1, "seed must be 0 to 2^32 - 1, found -1"),
    ("seed", 2**32, "seed must be 0 to 2^32 - 1, found 4294967296"),
    ("target", [], "a recipe needs at least one [[target]]"),
    ("device", [], "a recipe needs at least one [[device]] (leave the table out for the host)"),
    ("target[0].onnx_weights", "int8", "target[0]: onnx_weights is for runtime onnx, found runtime 'executorch'"),
    (
        "target[2].onnx_weights",
        "int8",
        "target[2]: onnx_weights int8 is for the static int8 schemes, found fp32: kernels of other schemes are not "
        "faster by it",
    ),
    ("target[0].opset", 20, "target[0]: opset is for runtime onnx, found runtime 'executorch'"),
    ("target[2].opset", 17, "target[2]: opset must be 18 to 23 (what the exporter honours), found 17"),
    ("target[2].opset", 24, "target[2]: opset must be 18 to 23 (what the exporter honours), found 24"),
    ("target[0].layout", "NHWC", "target[0]: layout NHWC is for runtime tflite; executorch files keep the model's "
     "NCHW"),
    ("target[2].io", "int8", "target[2]: io int8 needs a static int8 scheme: files of fp32 take and give float32"),
    (
        "target[0]",
        {"name": "a", "runtime": "onnx", "io": "int8", "quantize": {"scheme": "dynamic_int8"}},
        "target[0]: io int8 needs a static int8 scheme: files of dynamic_int8 take and give float32",
    ),
    (
        "target[0].quantize",
        {"scheme": "dynamic_int8", "calibration": "minmax"},
        "target[0].quantize: calibration is for scheme mixed or static_int8, found calibration 'minmax' with scheme "
        "'dynamic_int8'",
    ),
    (
        "target[0].verify",
        {"tflite_runtime": "require"},
        "target[0]: verify.tflite_runtime is for runtime tflite, found runtime 'executorch'",
    ),
    ("budget[0].target", "aa", "budget[0].target: no target is named 'aa'; did you mean 'a'?"),
    ("budget[0].target", "phone", "budget[0].target: no target is named 'phone'; known: a, b, c"),
    ("budget[1].device", "hre", "budget[1].device: no device is named 'hre'; did you mean 'here'?"),
    ("budget[0].device", "here", "budget[0]: size_bytes does not depend on a device: leave out device = 'here'"),
    ("budget[0].percentile", "p90", "budget[0]: percentile is for latency_ms, found metric 'size_bytes'"),
    ("metric", "mean_absolute_error", "metric 'mean_absolute_error' is not a metric of task 'classification'"),
    ("data.source", "digitz", f"data: source must be {SOURCE_FORMS}, found 'digitz'"),
    ("data.source", "npz:", "data: source 'npz' needs a place after a colon, as in npz:NAME"),
    ("data.source", "npz", "data: source 'npz' needs a place after a colon, as in npz:NAME"),
    ("data.eval_fraction", 1.0, "data: eval_fraction must be more than 0 and less than 1, found 1.0"),
    ("data.eval_fraction", 0, "data: eval_fraction must be more than 0 and less than 1, found 0.0"),
    ("data.eval_samples", 0, "data: eval_samples must be 1 to 10,000,000, found 0"),
    ("data.calibration_samples", -1, "data: calibration_samples must be 1 to 10,000,000, found -1"),
    ("data.preprocess.resize", [32], "data.preprocess: resize must be [height, width], found [32]"),
    ("data.preprocess.std", [0.5], "data.preprocess: mean and std must be equally long, found 3 and 1"),
    ("data.preprocess.std[0]", 0, "data.preprocess: std must be more than 0, found [0.0, 0.5, 0.5]"),
    ("data.preprocess.scale", -1, "data.preprocess: scale must be 0 (leave as is) or more, found -1.0"),
    ("model.definition", "net.onnx", "model: weights is for a PyTorch model, and net.onnx says itself what it takes "
     "and gives"),
    ("model.definition", "net.jit", "model: definition must be a .py file, a .pt2 file, torchvision:NAME, timm:NAME "
     "or transformers:DIR, found 'net.jit': weights go into model.weights, beside a .py whose build() makes the module "
     "that they belong to (also TorchScript's, whose graph cannot be traced again)"),
    ("model.definition", "net.pt2", "model: a .pt2 definition holds its own weights and arguments: leave out weights "
     "and args"),
    ("model.outputs[0]", "a b", "model: an output's name must be letters, digits, '.', '_' or '-' (it names files), "
     "found 'a b'"),
    ("model.input[0].shape[0]", 2, "model.input[0]: shape must begin with a batch of 1 (files are batch-1), "
     "found [2, 3, 32, 32]"),
    ("model.input[0].shape", [], "model.input[0]: shape must begin with a batch of 1 (files are batch-1), found []"),
    ("model.input[0].shape[3]", 0, "model.input[0]: shape must have no empty dimension, found [1, 3, 32, 0]"),
    ("compress[0].epochs", 0, "compress[0]: epochs must be 1 to 10,000, found 0"),
    ("compress[0].lr", 0, "compress[0]: lr must be more than 0 and at most 100, found 0.0"),
    (
        "compress[0].batch_size",
        1,
        "compress[0]: batch_size must be 2 or more (batch norm needs 2 samples in each process), found 1",
    ),
    ("compress[0].label_smoothing", 1, "compress[0]: label_smoothing must be 0 or more and less than 1, found 1.0"),
    ("compress[0].weight_decay", -1, "compress[0]: weight_decay must be 0 to 10, found -1.0"),
    ("device[0].threads", 0, "device[0]: threads must be 1 to 1,024, found 0"),
    ("device[0].min_samples", 0, "device[0]: min_samples must be 1 to 10,000,000, found 0"),
    ("device[0].warmup", -1, "device[0]: warmup must be 0 to 100,000, found -1"),
    ("device[0].spacing_seconds", -0.5, "device[0]: spacing_seconds must be 0 to 86,400 seconds, found -0.5"),
    ("device[0].processes", 2, "device[0]: processes must be 3 or more, to see how far they lie apart, found 2"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "fault"), RULES, ids=[f"{p}={v!r}" for p, v, _ in RULES])
def test_a_broken_rule_says_what_it_wanted_and_found(path: str, value: Any, fault: str) -> None:
    found = faults_of(changed(path, value))
    if path in ("target", "device"):  # the budgets that name one are at fault then as well
        assert fault in found
        assert all(f == fault or f.startswith("budget[") for f in found)
    else:
        assert found == [fault]


@pytest.mark.parametrize("opset", [18, 23])
def test_the_ends_of_the_opset_range_are_in_it(opset: int) -> None:
    assert parse_recipe(changed("target[2].opset", opset)).targets[2].opset == opset


def test_names_of_targets_and_devices_are_unique() -> None:
    recipe = copy.deepcopy(GOOD)
    recipe["target"][2]["name"] = "a"
    recipe["device"].append({"name": "here"})
    assert faults_of(to_toml(recipe)) == [
        "device names must be unique, found 'here' 2 times",
        "target names must be unique, found 'a' 2 times",
    ]


def test_a_regression_recipe_takes_no_budget_of_classification() -> None:
    recipe = copy.deepcopy(GOOD)
    recipe |= {"task": "regression", "metric": "macro_f1"}
    recipe["budget"] = [{"metric": "accuracy_top1", "limit": 0.9}, {"metric": "metric", "limit": 1}]
    assert faults_of(to_toml(recipe)) == [
        "budget[0].metric: accuracy_top1 needs task classification; use metric",
        "metric 'macro_f1' is not a metric of task 'regression'",
    ]


def test_a_traced_graph_cannot_be_compressed() -> None:
    recipe = copy.deepcopy(GOOD)
    recipe["model"] = {"definition": "net.pt2"}
    assert faults_of(to_toml(recipe)) == [
        "compress: a .pt2 is a traced graph and cannot be changed: give the .py definition"
    ]


def test_all_faults_of_a_file_are_reported_at_once() -> None:
    recipe = copy.deepcopy(GOOD)
    recipe["seed"] = "7"
    recipe["extra"] = 1
    del recipe["data"]["source"]
    recipe["model"]["input"][0]["shape"] = [1, "3"]
    recipe["target"][0]["runtime"] = "tfl1te"
    recipe["target"][1]["io"] = 8
    recipe["target"][2]["opset"] = 99
    recipe["budget"][0] = {"limit": math.nan, "metrik": "size_bytes"}
    with pytest.raises(RecipeError) as caught:
        parse_recipe(to_toml(recipe), "recipe.toml")
    assert caught.value.faults == (
        "budget[0].limit: wanted a finite number, found nan",
        "budget[0].metric: missing",
        "budget[0].metrik: unknown key; did you mean 'metric'?",
        "data.source: missing",
        f"extra: unknown key; known: {KNOWN}",
        "model.input[0].shape[1]: wanted an integer, found a string '3'",
        "seed: wanted an integer, found a string '7'",
        "target[0].runtime: unknown value 'tfl1te'; did you mean 'tflite'?",
        "target[1].io: wanted one of 'float32', 'int8', 'uint8', found an integer 8",
        "target[2]: opset must be 18 to 23 (what the exporter honours), found 99",
    )
    assert caught.value.message == "recipe.toml has 10 faults:"
    assert all(f"\n  {fault}" in str(caught.value) for fault in caught.value.faults)


def test_one_fault_is_said_in_the_singular() -> None:
    with pytest.raises(RecipeError, match=r"^recipe has 1 fault:\n  seed: "):
        parse_recipe(changed("seed", True))


def test_all_broken_rules_between_tables_are_reported_at_once() -> None:
    recipe = copy.deepcopy(GOOD)
    recipe |= {"name": "no good", "seed": -1}
    recipe["budget"][0]["target"] = "z"
    recipe["budget"][1]["device"] = "there"
    assert len(faults_of(to_toml(recipe))) == 4


@pytest.mark.parametrize(
    "text",
    ["name = ", "[[target]", 'a = "x\n"', "seed = 1\nseed = 2", "x = " + "[" * 5000, "seed = " + "9" * 5000, "\0"],
    ids=["no value", "open bracket", "open string", "twice", "nested", "endless number", "nul"],
)
def test_what_is_not_toml_is_said_to_be_so(text: str) -> None:
    with pytest.raises(RecipeError, match=r"^my\.toml is not valid TOML: "):
        parse_recipe(text, "my.toml")


def test_a_date_in_the_model_arguments_is_refused() -> None:
    text = 'name = "x"\ndata = {source = "digits"}\ntarget = [{name = "a", runtime = "onnx"}]\n'
    (fault,) = faults_of(text + '[model]\ndefinition = "m.py"\nargs = {since = 2020-01-01}\n')
    assert fault.startswith("model: args must be plain strings, numbers, booleans, arrays and tables")


def test_infinite_model_arguments_are_refused() -> None:
    (fault,) = faults_of(changed("model.args", {"x": math.inf}))
    assert fault.startswith("model: args must be plain strings")


def test_no_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "recipe.toml")
    assert caught.value.message == f"no recipe file at {tmp_path / 'recipe.toml'}"
    assert "init" in caught.value.hint


def test_a_folder_or_bytes_in_place_of_a_recipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        load_recipe(tmp_path)
    (tmp_path / "model.pte").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        load_recipe(tmp_path / "model.pte")


def test_paths_are_relative_to_the_folder_of_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "recipe.toml").write_text(to_toml(GOOD))
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(Path("sub/recipe.toml"))
    assert recipe.resolve("weights.safetensors") == tmp_path / "sub" / "weights.safetensors"
    assert recipe.resolve("../w") == tmp_path / "w"
    assert recipe.resolve("/abs/w") == Path("/abs/w")


# Whatever is in the file, the answer is a recipe or a RecipeError.

scalars = (
    st.none().map(lambda _: "")
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["onnx", "tflite", "static_int8", "a", "here", "npz:x", "m.py", "accuracy_top1", 10**400, -1, 0])
)
keys = st.sampled_from(["name", "runtime", "metric", "limit", "shape", "target", "folder", "x"]) | st.text(max_size=4)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in nested plain data."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in list(items) for place in ((value, key), *places(inner))]


@st.composite
def spoilt_recipes(draw: Callable[[st.SearchStrategy[Any]], Any]) -> dict[str, Any]:
    recipe = copy.deepcopy(GOOD)
    for _ in range(draw(st.integers(1, 4))):
        container, key = draw(st.sampled_from(places(recipe)))
        kind = draw(st.sampled_from(["replace", "remove", "add"]))
        if kind == "replace":
            container[key] = draw(values)
        elif kind == "remove":
            del container[key]
        elif isinstance(container, dict):
            container[draw(keys)] = draw(values)
        else:
            container.append(draw(values))
        if not places(recipe):
            break
    return recipe


def read_or_refuse(text: str) -> None:
    refused: list[RecipeError] = []
    try:
        recipe = parse_recipe(text)
    except RecipeError as error:
        refused.append(error)
    else:
        assert isinstance(recipe, Recipe)
    for refusal in refused:
        assert refusal.faults or "not valid TOML" in refusal.message
        assert all(fault.strip() for fault in refusal.faults)


@given(spoilt_recipes())
def test_a_spoilt_recipe_is_read_or_refused_and_nothing_else(recipe: dict[str, Any]) -> None:
    read_or_refuse(to_toml(recipe))


@given(st.integers(0, len(to_toml(GOOD))), st.integers(0, 20), st.text(max_size=12))
@example(0, 0, "seed = " + "9" * 5000 + "\n")
def test_a_recipe_cut_and_scribbled_on_is_read_or_refused_and_nothing_else(at: int, length: int, text: str) -> None:
    good = to_toml(GOOD)
    read_or_refuse(good[:at] + text + good[at + length :])


def plain(recipe: Recipe) -> dict[str, Any]:
    """A recipe back as the data of its file."""
    names = {
        "targets": "target",
        "devices": "device",
        "budgets": "budget",
        "inputs": "input",
        "libraries": "library",
        "waivers": "waiver",
    }

    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            return {names.get(k, k): convert(v) for k, v in value.items() if v is not None}
        return [convert(v) for v in value] if isinstance(value, list | tuple) else value

    data: dict[str, Any] = convert(dataclasses.asdict(recipe))
    data["output"] = data.pop("outputs")
    del data["folder"]
    for table in (*data["target"], *data["model"]["input"]):  # what is set where a recipe is read
        table.pop("bucket", None), table.pop("varying", None)
    return data


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,6}", fullmatch=True)
decibels = st.floats(-200, 300).map(lambda value: value + 0.0)
bytes_ = st.floats(0, 2**50, exclude_min=True)
# No path has a NUL.
paths = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)


OUTPUTS: tuple[tuple[Output, ...], ...] = (
    (),
    (Output("logits", metrics=("auroc",)),),
    (Output("segmentation", "m", post=Post("sigmoid", threshold=0.3)), Output("state", "s", keep=False)),
    (Output("boxes", "b", post=Post("nms", format="cxcywh")), Output("scores", "s", limits=OwnLimits(min_sqnr_db=3.0))),
)


@st.composite
def good_recipes(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Recipe:
    def target(name: str) -> Target:
        runtime = draw(st.sampled_from(["executorch", "tflite", "onnx"]))
        quantize = draw(quantizations(runtime))
        return Target(
            name,
            runtime,
            quantize,
            layout=draw(st.sampled_from(["NCHW", "NHWC"])) if runtime == "tflite" else "NCHW",
            io=draw(st.sampled_from(["float32", "int8"])) if quantize.is_static else "float32",
            opset=draw(st.none() | st.integers(18, 23)) if runtime == "onnx" else None,
            verify=Verify(min_sqnr_db=draw(st.none() | decibels)),
        )

    targets = tuple(target(n) for n in draw(st.lists(names, min_size=1, max_size=4, unique_by=str.lower)))
    asked = [t.quantize for t in targets]
    one_task = any(q.info.is_trained or q.info.studies_layers or q.finetune is not None for q in asked)
    return Recipe(
        name=draw(names),
        model=Model(
            draw(st.sampled_from(["m.py", "timm:x"])), args=draw(st.dictionaries(st.text(), st.text(), max_size=2))
        ),
        data=Data("digits", labels=draw(paths), eval_samples=draw(st.integers(1, 9999))),
        targets=targets,
        seed=draw(st.integers(0, 2**32 - 1)),
        outputs=draw(st.sampled_from(OUTPUTS[:2] if one_task else OUTPUTS)),
        budgets=tuple(
            Budget("size_bytes", limit, draw(st.sampled_from(["", *(t.name for t in targets)])))
            for limit in draw(st.lists(bytes_, max_size=3))
        ),
    )


@given(good_recipes())
def test_a_good_recipe_comes_back_from_its_file_unchanged(recipe: Recipe) -> None:
    assert parse_recipe(to_toml(plain(recipe))) == recipe


def test_a_weights_key_needs_the_file_that_it_is_in() -> None:
    with pytest.raises(ValueError, match="weights_key says which weights of a file, and weights names none: 'ema'"):
        Model("model.py", weights_key="ema")


def test_a_fault_s_place_is_a_path_whatever_the_user_s_text_looks_like() -> None:
    """No message is taken apart: text with a newline, or that looks like another table's fault, stays one fault."""
    assert str(Fault("wanted 1").inside("limit").inside("budget[0]")) == "budget[0].limit: wanted 1"
    assert str(Fault("missing", "[1]").inside("shape").inside("[0]").inside("input")) == "input[0].shape[1]: missing"
    assert str(WrongTable(Fault("a", "x"), Fault("b"))) == "x: a\nb"
    assert faults_of(changed("data.source", "budget[0]: x\nseed: y")) == [
        f"data: source must be {SOURCE_FORMS}, found " + r"'budget[0]: x\nseed: y'"
    ]


def test_every_number_that_is_out_of_its_range_is_a_fault_of_its_own() -> None:
    recipe = copy.deepcopy(GOOD)
    recipe["compress"][0] |= {"epochs": 0, "lr": 0}
    assert faults_of(to_toml(recipe)) == [
        "compress[0]: epochs must be 1 to 10,000, found 0",
        "compress[0]: lr must be more than 0 and at most 100, found 0.0",
    ]
