"""A model file made elsewhere: which input gets what, what its values may be, and what the command line makes of it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.commands.gate_file import FileRequest, recipe_for
from pocketforge.devices.base import FurtherSamples
from pocketforge.devices.outputs import Output
from pocketforge.errors import ModelError, RecipeError
from pocketforge.measure.again import Again, check_again, write_again
from pocketforge.measure.alive import check_alive, check_compared, dead_channels
from pocketforge.measure.fed_values import check_kind, check_values
from pocketforge.measure.file_fit import Given, check_layout, clean_names, fit_inputs, fit_outputs, layout_in
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.recipe.toml import load_recipe, parse_recipe


def taken(name: str, *shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, shape, dtype)


@given(st.permutations(["image", "mask", "ids"]), st.sampled_from(["{}", "serving_default_{}:0", "main/{}:0"]))
def test_names_decide_whatever_the_order(names: list[str], written: str) -> None:
    samples = [Given(name, (1, 8, 8), "float32", "NCHW") for name in ("image", "mask", "ids")]
    places = fit_inputs("f.tflite", [taken(written.format(name), 1, 8, 8, 1) for name in names], samples)
    assert [samples[place].name for place in places] == names


@given(st.permutations([(3, 8, 8), (7,), (2, 5)]))
def test_else_shapes_that_only_one_has(shapes: list[tuple[int, ...]]) -> None:
    samples = [Given("", shape, "float32") for shape in ((7,), (3, 8, 8), (2, 5))]
    tensors = [taken(f"x{n}", 1, *((8, 8, 3) if len(s) == 3 else s)) for n, s in enumerate(shapes)]
    places = fit_inputs("f.onnx", tensors, samples)
    assert [samples[place].shape for place in places] == list(shapes)


def test_what_does_not_fit_is_one_error_with_what_to_write() -> None:
    image = Given("", (3, 8, 8), "float32", "NCHW")
    for tensor, hint in {
        taken("x", 1, 16, 16, 3): "write in [data.preprocess]: resize = [16, 16]",
        taken("x", 1, 1, 8, 8): 'write in [data.preprocess]: color = "grayscale"',
        taken("x", 1, 4, 4, 1): 'write in [data.preprocess]: resize = [4, 4] and color = "grayscale"',
        taken(
            "x", 4, 3, 8, 8
        ): "files are run on one sample at a time, this takes 4: export it with a batch of 1, or an open one",
        taken("x", 1, 64): "data.preprocess has to make samples of that shape",
    }.items():
        with pytest.raises(ModelError) as error:
            fit_inputs("f.onnx", [tensor], [image])
        assert f"its input is {tensor}, a sample has float32 [3, 8, 8] (NCHW)" in str(error.value)
        assert error.value.hint == hint
    last = Given("", (8, 6, 3), "float32", "NHWC")
    with pytest.raises(ModelError, match=r'write layout = "NCHW" in \[data.preprocess\]'):
        fit_inputs("f.onnx", [taken("x", 1, 3, 8, 6)], [last])
    two = [Given("", (4,), "float32"), Given("", (4,), "float32")]
    with pytest.raises(ModelError, match=r"is not told by names, nor by shapes that only one has"):
        fit_inputs("f.onnx", [taken("a", 1, 4), taken("b", 1, 4)], two)
    with pytest.raises(ModelError, match=r"the file names no inputs: only shapes that differ tell them apart"):
        fit_inputs("f.pte", [taken("", 1, 4), taken("", 1, 4)], two)
    with pytest.raises(ModelError, match=r"it takes 1 inputs \(a float32 \[1, 4\]\)"):
        fit_inputs("f.onnx", [taken("a", 1, 4)], two)


def test_outputs_are_compared_all_or_none() -> None:
    wanted = [Given("boxes", (4, 4), "float32"), Given("scores", (4,), "float32")]
    gives = [taken("StatefulPartitionedCall:1", 1, 4), taken("StatefulPartitionedCall:0", 1, 4, 4)]
    assert fit_outputs("f.tflite", gives, wanted) == (1, 0)
    assert clean_names(gives) == ("StatefulPartitionedCall_1", "StatefulPartitionedCall_0")
    assert clean_names([taken("", 1, 4), taken("", 1, 4)]) == ("output_0", "output_1")
    with pytest.raises(ModelError, match=r"gives 1 outputs .* held against 2 .*: every output is compared"):
        fit_outputs("f.tflite", gives[:1], wanted)
    with pytest.raises(
        ModelError, match=r"gives x float32 \[1, 11\], and what it is held against scores float32 \[4\]"
    ):
        fit_outputs("f.tflite", [taken("x", 1, 11)], wanted[1:])


def test_a_layout_that_is_asked_for() -> None:
    image = Given("", (3, 8, 6), "float32", "NCHW")
    assert layout_in(taken("x", 1, 8, 6, 3), image) == "NHWC" and layout_in(taken("x", -1, 3, 8, 6), image) == "NCHW"
    with pytest.raises(ModelError, match=r'layout = "NCHW" is asked for, and x float32 \[1, 8, 6, 3\] is NHWC'):
        check_layout("f.onnx", taken("x", 1, 8, 6, 3), "NHWC", "NCHW")


def test_values_that_a_type_would_cut_off() -> None:
    values = np.linspace(-1, 1, 400, dtype=np.float32).reshape(4, 100)
    assert check_values("f", taken("x", 1, 100), values) == ""
    fine, narrow = (TensorSpec("x", (1, 100), "int8", scale=scale, zero_point=0) for scale in (1 / 127, 0.5 / 127))
    assert check_values("f", fine, values) == ""
    assert check_values("f", narrow, values).startswith("49.8% of the samples' values lie outside")
    assert check_values("f", taken("x", 1, 100, dtype="uint8"), np.arange(200.0).reshape(2, 100)) == ""
    for dtype, found in {"uint8": "takes uint8 from 0 to 255", "int32": "takes int32", "bool": "from 0 to 1"}.items():
        with pytest.raises(ModelError, match=found):
            check_values("f", taken("x", 1, 100, dtype=dtype), values)
    with pytest.raises(ModelError, match="input x is string, and arrays of numbers are fed"):
        check_values("f", taken("x", 1, 100, dtype="string"), values)
    with pytest.raises(ModelError, match=r"output y is seq\(map\(int64,tensor\(float\)\)\).*\n.*zipmap = False"):
        check_kind("f", "output", TensorSpec("y", (), "seq(map(int64,tensor(float)))"))
    with pytest.raises(ModelError, match="takes levels in int16"):
        check_values("f", TensorSpec("x", (1, 100), "int16", scale=0.1, zero_point=0), values)


def test_a_count_beside_the_answers_may_be_one_number() -> None:
    random = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    random[:, 2] = 5
    outputs = [Output("scores", random), Output("count", np.full((20, 1), 10.0, np.float32))]
    assert all(each.passed for each in check_alive(outputs, ["scores"], (), alone=True))
    failed = [each for each in check_alive(outputs, ["scores", "count"], ["scores"], alone=True) if not each.passed]
    assert [(each.name, each.found) for each in failed] == [
        ("classes answered of scores", "class 2 for all 20 samples"),
        ("answers of count", "one answer to all 20 samples"),
    ]
    # One sample does not show it: what nothing else says of a file is then missing, and no pass.
    one = [outputs[0].first(1)]
    assert all(each.passed for each in check_alive(one, ["scores"], (), alone=False))
    (failed_alone,) = [each for each in check_alive(one, ["scores"], (), alone=True) if not each.passed]
    assert (failed_alone.name, failed_alone.found) == ("answers", "one sample, which cannot show it")
    assert list(dead_channels(outputs)) == ["channels 2 of scores answer one value to all 20 samples"]


def test_what_cannot_be_compared_is_a_failed_check() -> None:
    wanted = [Output("o", np.zeros((5, 3), np.float32)), Output("p", np.zeros((5, 2), np.float32))]
    open_size = [Output("o", np.zeros((5, 4), np.float32)), wanted[1]]
    assert check_compared(wanted, wanted) == []
    (failed,) = check_compared(open_size, wanted)
    assert (failed.name, failed.wanted, failed.found, failed.passed) == ("compared o", "[3]", "[4]", False)


def test_samples_that_are_run_again(tmp_path: Path) -> None:
    """Fewer of large ones; a state that the samples before have left is seen, a runtime's last bits are not."""
    for name, shape, count in (("small", (40, 4), 16), ("large", (5, 2**23), 2), ("one", (1, 4), 1)):
        np.save(tmp_path / f"{name}.npy", np.zeros(shape, np.float32))
        again = write_again([tmp_path / f"{name}.npy"], tmp_path / name)
        assert (again.count, again.mixed) == (count, {}), name
    answers = np.arange(12, dtype=np.float32).reshape(4, 3)
    for differs, failed in ((1e-6, ""), (1.0, "1 of 4 samples are answered otherwise")):
        turned = FurtherSamples((), tmp_path / f"{differs}")
        turned.outputs.mkdir()
        np.save(
            turned.outputs / "outputs_0.npy",
            answers[::-1] + np.float32(differs) * np.eye(4, 3, dtype=np.float32)[[0, 3, 3, 3]],
        )
        (found,) = check_again(Again(4, turned, {}), [Output("o", answers)], [taken("o", 1, 3)])
        assert found.passed is (not failed) and failed in found.found


ALONE = """
name = "r"
[data]
source = "digits"
[[target]]
name = "t"
file = "t.ort"
"""


def test_a_recipe_of_files_needs_no_model() -> None:
    recipe = parse_recipe(ALONE)
    assert not recipe.model.definition and not recipe.model.is_pytorch
    assert (recipe.targets[0].runtime, recipe.targets[0].suffix) == ("onnx", ".ort")
    for more, said in {
        "verify = { min_sqnr_db = 20.0 }\n": "target[0].verify.min_sqnr_db: there is nothing to hold the file against",
        "verify = { min_graph_sqnr_db = 20.0 }\n": "verify.min_graph_sqnr_db: there is no quantized graph of a file",
        'io = "int8"\n': "io is for a file that is exported, and 't.ort' is as it is: leave it out",
        'runtime = "tflite"\n': "file: runtime tflite loads .tflite files, found t.ort",
        '[[target]]\nname = "u"\nruntime = "onnx"\n': "model: missing",
        '[[output]]\nrole = "logits"\nkeep = false\nname = "a"\n[[output]]\nname = "b"\nrole = "logits"\n': "output[0]"
        ".keep: keep = false is for files that are exported",
        '[[compress]]\ntype = "finetune"\n': "compress: every target is a file made elsewhere",
        '[model]\ndefinition = "f.onnx"\nargs = { a = 1 }\n': "args is for a PyTorch model, and f.onnx says itself",
        '[[target]]\nname = "u"\nruntime = "onnx"\n[model]\ndefinition = "f.onnx"\n': "is a file for phones, which is "
        "not made into another (target[1] has no `file`)",
        '[model]\ndefinition = "m.py"\n[[model.input]]\nshape = [1, 3, "H:32..64:32", 9]\n': "sizes of [[model.input]]",
    }.items():
        with pytest.raises(RecipeError) as error:
            parse_recipe(ALONE + more)
        assert said in str(error.value)


def test_what_needs_pytorch_says_so(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(ALONE, encoding="utf-8")
    assert load_recipe(path).name == "r"
    with pytest.raises(RecipeError, match=r"pocketforge train needs a PyTorch model, and .* has none"):
        load_recipe(path, "pocketforge train")


def test_options_become_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.toml").write_text("std = [0.5]\n", encoding="utf-8")
    Path("m.py").touch()
    request = FileRequest(
        Path("my net (1).tflite"),
        "digits",
        preprocess=("resize = [32, 32]", "mean = [0.5]", "p.toml"),
        budgets=("top1 >= 0.97", "size_bytes<=2e5", "latency_ms p90 <= 5 on phone"),
        devices=("host", "adb", "pixel4"),
        reference="m.py:build",
    )
    recipe = recipe_for(request)
    assert (recipe.name, recipe.folder, recipe.targets[0].file) == ("my_net_1", os.getcwd(), "my net (1).tflite")
    assert [(b.metric, b.limit, b.percentile, b.device) for b in recipe.budgets] == [
        ("accuracy_top1", 0.97, "p50", ""), ("size_bytes", 2e5, "p50", ""), ("latency_ms", 5, "p90", "phone"),
    ]  # fmt: skip
    assert [(d.name, d.via) for d in recipe.devices] == [("host", "host"), ("phone", "adb"), ("pixel4", "emulator")]
    assert recipe.model.definition == "m.py"
    assert [t.name for t in recipe_for(request, Path("other/my net (1).onnx")).targets] == ["my_net_1-a", "my_net_1-b"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"budgets": ("top1 <= 0.97",)}, "of accuracy_top1 more is better: a budget on it is >= …"),
        ({"budgets": ("top1 = 0.97",)}, "wanted METRIC >= NUMBER or METRIC <= NUMBER, found 'top1 = 0.97'"),
        ({"budgets": ("top1 >= many",)}, "'many' is no number"),
        ({"budgets": ("size_byte <= 9",)}, "unknown value 'size_byte'; did you mean 'size_bytes'?"),
        ({"preprocess": ("resize = 32]",)}, "--preprocess is not valid TOML"),
        ({"preprocess": ("gone.toml",)}, "--preprocess: cannot read gone.toml"),
        ({"reference": "m.py:make"}, "a model file's build() makes the model, found 'make'"),
        ({"reference": "gone.onnx"}, "--reference: no file gone.onnx"),
    ],
)
def test_words_that_say_nothing(changed: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipe_for(FileRequest(**{"file": Path("n.onnx"), "data": "digits", **changed}))  # type: ignore[arg-type]
    assert said in str(error.value)
