"""Sizes of inputs that vary: the recipe's rules, the targets and plans that buckets become, samples at other sizes,
and what a runner feeds. Without torch."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from test_plan import FACTS

from pocketforge.data.resized import resized
from pocketforge.errors import RecipeError
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe import InputSpec, Recipe
from pocketforge.recipe.preprocess import Preprocess
from pocketforge.recipe.sized_preprocess import preprocess_at
from pocketforge.recipe.sizes import SizeRange, tried_sizes
from pocketforge.recipe.toml import parse_recipe
from pocketforge.registries import RUNTIMES
from pocketforge.runtimes.sessions import runner
from pocketforge.specs.reference import ReferenceSpec

RANGES = '[1, 3, "H:32..96:32", "W:32..96:32"]'
BUCKETS = "sizes = [[32, 32], [64, 96]]\n"


def recipe(
    *targets: str, shape: str = RANGES, model: str = "", preprocess: str = "{ resize = [96, 96] }", more: str = ""
) -> Recipe:
    """targets: `runtime` lines and what follows, each of a target a, b …"""
    tables = "".join(f'[[target]]\nname = "{name}"\n{lines}\n' for name, lines in zip("abcd", targets, strict=False))
    return parse_recipe(
        f'name = "r"\n[model]\ndefinition = "model.py"\n{model}\n[[model.input]]\nname = "x"\nshape = {shape}\n'
        f'[data]\nsource = "digits"\npreprocess = {preprocess}\n{tables}{more}'
    )


def faults(*targets: str, **keys: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        recipe(*targets, **keys)  # type: ignore[arg-type]
    return list(caught.value.faults)


ONNX, TFLITE = 'runtime = "onnx"\n', 'runtime = "tflite"\n'


def test_a_range_says_its_name_its_ends_and_its_step() -> None:
    (given,) = recipe(ONNX).model.inputs
    height, width = given.varying
    assert (height.name, height.axis, height.bounds, width.axis) == ("H", 2, (32, 96, 32), 3)
    assert given.shape == (1, 3, 96, 96) and recipe(ONNX).model.eval_sizes == {"H": 96, "W": 96}
    small = recipe(ONNX, model="eval_size = [32, 64]", preprocess="{ resize = [32, 64] }").model
    assert small.eval_inputs[0].shape == (1, 3, 32, 64) and small.fixed_inputs[0].varying == ()


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ('[1, 3, "32..96", 8]', "a size that varies is written"),
        ('[1, 3, "H:96..32", 8]', "must go from 1 or more to more than that"),
        ('[1, 3, "H:0..32", 8]', "must go from 1 or more to more than that"),
        ('[1, 3, "H:30..96:32", 8]', "the ends of H:30..96:32 must be multiples of its step"),
        ('[1, 3, "H:32..96:0", 8]', "must be multiples of its step"),
        ('[1, 3, "H:32..64:32", "H:32..96:32"]', "H:32..96:32 and H:32..64:32 have one name and other bounds"),
        ('["N:1..8", 3, 8, 8]', "shape must begin with a batch of 1"),
    ],
)
def test_a_wrong_range_is_named(shape: str, said: str) -> None:
    (fault,) = faults(ONNX, shape=shape)
    assert said in fault


def test_every_file_is_tried_at_both_ends_the_middle_and_where_names_differ() -> None:
    height, width = SizeRange("H", 2, 32, 96, 32), SizeRange("W", 3, 32, 128, 32)
    assert [tuple(each.values()) for each in tried_sizes([height, width])] == [(32, 32), (64, 64), (96, 128), (32, 128)]
    assert [each["H"] for each in tried_sizes([height, height])] == [32, 64, 96]
    assert [each["T"] for each in tried_sizes([SizeRange("T", 1, 8, 16, 8)])] == [8, 16]


def test_the_page_of_inputs_says_which_runtime_has_which() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "inputs.md").read_text(encoding="utf-8")
    names = ("onnx", "executorch", "tflite")
    assert f"| | {' | '.join(names)} |" in page and set(names) == set(RUNTIMES.ours)
    said = set(re.findall(r"^\| one file, `(\w+)` \|", page, re.MULTILINE))
    assert said == {scheme for name in names for scheme in RUNTIMES[name].varying}
    for scheme in said:
        row = " | ".join("yes" if scheme in RUNTIMES[name].varying else "refused" for name in names)
        assert f"| one file, `{scheme}` | {row} |" in page


def test_what_a_runtime_cannot_vary_is_refused_with_the_way_out() -> None:
    for name, info in RUNTIMES.ours.items():
        for scheme in ("fp32", "static_int8", "dynamic_int8"):
            lines = f'runtime = "{name}"\nquantize = {{ scheme = "{scheme}" }}\n'
            if scheme in info.varying:
                assert recipe(lines).targets[0].name == "a"
            else:
                (fault,) = faults(lines)
                assert f"target[0]: runtime {name} has no {scheme} files whose sizes vary" in fault
                assert "give the target sizes = [[…], […]]" in fault
            assert len(recipe(lines + BUCKETS).targets) == 2
    emulated = '[[device]]\nname = "p"\nvia = "emulator"\nprofile = "pixel4"\n'
    (fault,) = faults(ONNX, more=emulated)
    assert fault.startswith("target[0]: the program on device 'p' gives files one size: give the target sizes")
    (fault,) = faults('runtime = "onnx"\nquantize = { scheme = "static_int8", repairs = ["equalize"] }\n')
    assert "repairs are made at one size" in fault


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ("[[32, 128]]", "sizes[0]: W is 32 to 96, found 128"),
        ("[[64, 64], [32, 40]]", "sizes[1]: W is a multiple of 32, found 40; nearest: 32, 64"),
        ("[[32]]", "sizes[0]: wanted a length for each of H, W, found [32]"),
        ("[[32, 32], [32, 32]]", "sizes[1]: [32, 32] is there twice"),
        ("[]", "sizes is empty: name a length for each size that varies"),
    ],
)
def test_a_bucket_out_of_the_ranges_is_named(sizes: str, said: str) -> None:
    (fault,) = faults(f"{TFLITE}sizes = {sizes}\n")
    assert fault.replace("target[0]: ", "target[0].").startswith(f"target[0].{said}")


def test_sizes_need_a_range_and_samples_that_can_have_them() -> None:
    (fault,) = faults(TFLITE + BUCKETS, shape="[1, 3, 96, 96]")
    assert fault.startswith("target[0].sizes: sizes are lengths of inputs whose sizes vary: write a range")
    (fault,) = faults(ONNX, shape="[1, 3, 96, 96]", model="eval_size = [32, 32]")
    assert fault == "model.eval_size: eval_size is of inputs whose sizes vary, and none does"
    (fault,) = faults(ONNX, model="eval_size = [32, 33]")
    assert fault.startswith("model.eval_size: W is a multiple of 32")
    found = faults(TFLITE + BUCKETS, preprocess="{ resize = [80, 80] }")
    assert [fault.partition(":")[0] for fault in found] == ["target[0].sizes[0]", "target[0].sizes[1]"]
    assert "nothing in data.preprocess makes samples of another size than model.eval_size [96, 96]" in found[0]


def budget(target: str) -> str:
    return f'[[budget]]\nmetric = "size_bytes"\nlimit = 1000\ntarget = "{target}"\n'


def test_a_target_of_buckets_is_a_target_for_each_and_so_are_its_budgets() -> None:
    built = recipe(TFLITE + BUCKETS, ONNX, more=budget("a") + budget("a-64x96") + budget("b"))
    named = [(each.name, each.bucket) for each in built.targets]
    assert named == [("a-32x32", (32, 32)), ("a-64x96", (64, 96)), ("b", ())]
    assert [each.target for each in built.budgets] == ["a-32x32", "a-64x96", "a-64x96", "b"]
    assert dataclasses.replace(built, folder="/x").targets == built.targets
    (fault,) = faults(TFLITE + BUCKETS, more=budget("a-32x64"))
    assert fault.startswith("budget[0].target: no target is named 'a-32x64'")


def test_buckets_of_one_size_share_their_samples_and_their_trace() -> None:
    int8 = f'{TFLITE}quantize = {{ scheme = "static_int8" }}\n{BUCKETS}'
    built = recipe(TFLITE + BUCKETS, int8, ONNX)
    plan = make_plan(built, FACTS)
    lanes = {lane.target.name: lane for lane in plan.lanes}
    assert lanes["a-32x32"].reference == lanes["b-32x32"].reference != lanes["a-64x96"].reference
    assert lanes["c"].reference == plan.reference and lanes["c"].data == plan.data
    assert [s.stage for s in plan.steps].count("reference") == [s.stage for s in plan.steps].count("data") == 3
    (given,) = plan.spec(lanes["a-64x96"].reference, ReferenceSpec).inputs
    assert (given.shape, given.varying) == ((1, 3, 64, 96), ())
    assert plan.spec(plan.reference, ReferenceSpec).inputs[0].varying
    of_trunk = {step.lane for step in plan.steps if step.stage in ("data", "reference")}
    assert of_trunk == {"trunk", "trunk-32x32", "trunk-64x96"}, "each says of which bucket it is"
    # Of buckets alone no graph is of several sizes; and one of the evaluated size is the trunk's own.
    alone = make_plan(recipe(f"{TFLITE}sizes = [[32, 32], [96, 96]]\n"), FACTS)
    assert not alone.spec(alone.reference, ReferenceSpec).inputs[0].varying
    assert [lane.reference == alone.reference for lane in alone.lanes] == [False, True]


@pytest.mark.parametrize(
    ("steps", "made"),
    [
        ('{ type = "resize", size = [96, 96] }', [{"size": (64, 32)}]),
        (
            '{ type = "resize", longest = 96 }, { type = "pad", size = [96, 96] }',
            [{"longest": 0, "fit": (64, 32)}, {"size": (64, 32)}],
        ),
        (
            '{ type = "resize", shorter = 120 }, { type = "center_crop", size = [96, 96] }',
            [{"shorter": 80}, {"size": (64, 32)}],
        ),
        ('{ type = "resize", fit = [96, 96] }, { type = "pad", size = [96, 96] }', [{"fit": (64, 32)}, {}]),
    ],
)
def test_steps_that_make_the_evaluated_size_make_the_bucket_s(steps: str, made: list[dict[str, object]]) -> None:
    built = recipe(ONNX, preprocess=f'{{ step = [{steps}, {{ type = "layout", to = "NCHW" }}] }}')
    found = preprocess_at(built.data.preprocess, built.model, [64, 32])
    assert isinstance(found, tuple)
    for step, wanted in zip(found[0].step, made, strict=False):
        assert {key: getattr(step, key) for key in wanted} == wanted
    assert preprocess_at(built.data.preprocess, built.model, [96, 96]) == built.data.preprocess
    short = recipe(ONNX)
    found = preprocess_at(short.data.preprocess, short.model, [32, 64])
    assert isinstance(found, Preprocess) and found.resize == (32, 64)


def test_samples_of_another_size_are_the_same_pictures() -> None:
    ramp = np.linspace(0, 1, 8, dtype=np.float32)[None, None, None].repeat(4, 2)
    wide = resized(ramp, (1, 4, 16))
    assert wide.shape == (1, 1, 4, 16) and wide.dtype == np.float32 and (np.diff(wide[0, 0, 0]) >= 0).all()
    np.testing.assert_allclose(resized(wide, (1, 2, 8))[0, 0, 0, 1:-1], ramp[0, 0, 0, 1:-1], atol=1e-6)
    words = np.arange(12, dtype=np.int64).reshape(2, 6)
    assert resized(words, (3,)).tolist() == [[0, 2, 4], [6, 8, 10]]


def test_a_runner_feeds_a_file_that_leaves_lengths_open() -> None:
    assert runner.fits((1, 3, 32, 64), (1, 3, "H", "W")) and runner.fits((1, 3), (1, None))
    assert not runner.fits((1, 1, 32, 64), (1, 3, "H", "W")) and not runner.fits((1, 3, 32), (1, 3, None, None))


def test_an_input_of_another_size_keeps_its_fixed_lengths() -> None:
    given = InputSpec((1, 3, 96, 96), varying=(SizeRange("H", 2, 32, 96, 32),))
    assert given.at({"H": 32}).shape == (1, 3, 32, 96) and given.at({"H": 32}).varying == given.varying


def test_a_target_that_has_the_name_of_another_s_bucket_is_refused() -> None:
    (fault,) = faults(ONNX + BUCKETS, more='[[target]]\nname = "a-32x32"\nruntime = "onnx"\n')
    assert "target names must be unique, found 'a-32x32' 2 times" in fault
