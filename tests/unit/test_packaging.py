"""What of the app's side goes into a file: how a recipe's preprocessing is cut, and what cannot be."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from pocketforge.accuracy.classes import LogitsTally
from pocketforge.data.preprocess import About, prepare
from pocketforge.data.preprocess_words import describe
from pocketforge.errors import ModelError, RecipeError
from pocketforge.facts.calibration_rows import check_calibration_rows
from pocketforge.facts.gather import gather
from pocketforge.measure.score_calibration import calibrated
from pocketforge.metrics import argmax_agreement
from pocketforge.outcomes.about import AboutInput, AboutOutput, detection_outputs
from pocketforge.outcomes.data import Counts, Preprocessing, Sampled
from pocketforge.outcomes.for_file import make_preprocessing
from pocketforge.outcomes.package import Packed, PackedInput
from pocketforge.outcomes.reference import ModelTensor, Reference
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Facts, Plan
from pocketforge.recipe import Data, Model, Recipe, Target
from pocketforge.recipe.consumers import as_mediapipe_resizes, faults_of_consumers
from pocketforge.recipe.image_steps import Cast, CenterCrop, Color, Layout, Normalize, Pad, Resize, Scale
from pocketforge.recipe.model import InputSpec
from pocketforge.recipe.package import Package
from pocketforge.recipe.packed import cut, judged_as_packed
from pocketforge.recipe.preprocess import InputSteps, Preprocess, Step, lists_of
from pocketforge.recipe.preprocess import Preprocessing as Asked
from pocketforge.recipe.score_calibration import ScoreCalibration
from pocketforge.recipe.sound_steps import Mono, Pcm
from pocketforge.recipe.toml import parse_recipe
from pocketforge.registries import RUNTIMES, STAGES
from pocketforge.runtimes.about_file import about_file, pixels_to_floats
from pocketforge.specs.data import DataSpec
from pocketforge.specs.export import AboutSpec, ExportSpec
from pocketforge.specs.package import PackageSpec
from pocketforge.specs.verify import VerifySpec

RGB = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
STEPS = """step = [
  { type = "color", to = "bgr" }, { type = "pad", size = [12, 12], value = [1, 2, 3] },
  { type = "scale", by = 255 }, { type = "normalize", mean = [0.4, 0.5, 0.6], std = [0.1, 0.2, 0.3] },
  { type = "layout", to = "NCHW" },
]"""
OUTPUT = '[[output]]\nname = "y"\nrole = "%s"\n'
CALIBRATED = "{ metadata = true, calibration = { curve = %s } }"
RECIPE = """
name = "x"
%(more)s
[model]
definition = "m.py"
%(model)s
[data]
source = "%(source)s"
[data.preprocess]
%(steps)s
[[target]]
name = "t"
runtime = "%(runtime)s"
package = %(package)s
%(target)s
"""


def text(package: str = '{ preprocess = "inside" }', **given: str) -> str:
    words = {"more": "", "model": "", "source": "imagefolder:d", "steps": STEPS, "runtime": "onnx", "target": ""}
    return RECIPE % {**words, "package": package, **given}


def fault(package: str = '{ preprocess = "inside" }', **given: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text(package, **given))
    (found,) = caught.value.faults
    return found


def test_outside_stays_what_makes_pixels_and_inside_goes_the_rest() -> None:
    (each,) = lists_of(parse_recipe(text()).data.preprocess)
    parts = cut((each,), "NHWC", images=True)
    # The app's pixels are RGB: the pad's values are turned with them, and the file turns them round.
    assert parts.outside == (InputSteps((Color("rgb"), Pad(size=(12, 12), value=(3, 2, 1)), Layout("NHWC"))),)
    (inside,) = parts.inside
    assert inside.steps == (Scale(by=255.0), Normalize((0.4, 0.5, 0.6), (0.1, 0.2, 0.3)))
    assert (inside.reverses_channels, inside.layout, inside.model_layout) == (True, "NHWC", "NCHW")
    raw = prepare(parts.outside, (RGB,), About(255.0, as_images=True)).inputs[0]
    whole = prepare((each,), (RGB,), About(255.0, as_images=True)).inputs[0]
    assert raw.dtype == np.uint8 and raw.shape == (12, 12, 3)
    turned = raw[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in ((0.4, 0.5, 0.6), (0.1, 0.2, 0.3)))
    assert np.array_equal((turned - mean) / std, whole)


def test_a_short_table_is_cut_like_the_list_that_it_stands_for() -> None:
    parts = cut(Preprocess(resize=(4, 5), color="rgb", mean=(0.5,), std=(0.5,)), "NCHW", images=False)
    assert parts.outside == (InputSteps((Color("rgb"), Resize(size=(4, 5)), Layout("NCHW"))),)
    # Its scale is the source's own: the stage has it from the samples' own words.
    assert [type(step).__name__ for step in parts.inside[0].steps] == ["Cast", "Scale", "Normalize"]
    assert parts.inside[0].steps[1] == Scale(by=None)
    assert cut(None, "NHWC", images=True).inside[0].steps[1] == Scale(by=None)
    unscaled = cut(Preprocess(scale=0), "NHWC", images=True).inside[0].steps
    assert Scale not in {type(step) for step in unscaled}
    assert cut(Preprocess(layout="NHWC"), "NCHW", images=True).inside[0].layout == "NHWC", "the model's own"


def test_sound_is_taken_as_16_bit_pcm() -> None:
    each = InputSteps((Mono(), Scale(by=2.0), Layout("NCT")))
    parts = cut((each,), "NCHW", images=False)
    assert parts.outside == (InputSteps((Mono(), Pcm())),)
    assert parts.inside[0].steps == (Scale(by=32768.0), Scale(by=2.0))
    heard = np.array([[0.25, 0.25], [-1.0, -1.0], [1.5, 1.5], [1.5 / 32768, 1.5 / 32768]], np.float32)
    about = About()
    (raw,) = prepare(parts.outside, (np.repeat(heard, 2, 0),), about).inputs
    assert raw.dtype == np.int16 and raw.tolist()[::2] == [8192, -32768, 32767, 2]
    described = describe(parts.outside, about)
    assert isinstance(described, Preprocessing) and described.steps[-1]["full_scale"] == 32768


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": 'step = [{ type = "scale" }, { type = "resize", size = [4, 4] }]'},
         "target[0].package.preprocess: data.preprocess.step[1]: resize cannot go inside (an app does it: runtimes do "
         "it otherwise), and it comes after scale, which does: put resize before it, or leave preprocess outside"),
        ({"steps": 'step = [{ type = "log_mel", rate_hz = 16000, n_fft = 512, hop_length = 160, n_mels = 40 }]',
          "source": "audiofolder:d"}, "step[0]: log_mel cannot go inside: it makes other numbers than an app decodes"),
        ({"steps": 'step = [{ type = "tokenize", file = "words.json", max_length = 4, gives = ["ids"] }]',
          "source": "data.py:f"}, "step[0]: tokenize cannot go inside: no runtime reads texts"),
        ({"target": 'quantize = { scheme = "static_int8" }\nio = "uint8"'}, "io uint8 cannot go with package"),
        ({"package": '{ preprocess = "inside", postprocess = "sigmoid" }'},
         "target[0].package.postprocess: sigmoid is for an output of role multilabel or binary, found the only one of "
         "role logits"),
        ({"package": '{ postprocess = "softmax", output = "b" }'}, "of the name 'b', found the only one"),
        ({"package": '{ postprocess = "masks" }'}, "masks is for an output of role segmentation, found the only one"),
        ({"package": '{ postprocess = "masks" }', "more": OUTPUT % "segmentation" + 'post = "sigmoid"\n'},
         "the output is judged after post 'sigmoid', and the file would give it after 'masks'"),
        ({"package": '{ output = "b" }'}, "names whose postprocess is meant, and there is none"),
        ({"package": '{ postprocess = "nms" }'}, "target[0].package.postprocess: boxes that are left"),
        ({"package": '{ postprocess = "top_k" }'}, "use softmax, and sort in the app"),
        ({"package": '{ postprocess = "softmaks" }'}, "did you mean 'softmax'?"),
        ({"package": '{ postprocess = "argmax" }', "target": '[[budget]]\nmetric = "accuracy_top5"\nlimit = 0.9'},
         "budget[0]: target 't' gives class numbers (argmax), which accuracy_top5 cannot be taken of: use softmax"),
        ({"package": '{ postprocess = "argmax" }',
          "target": '[[budget]]\nmetric = "accuracy_top5_drop"\nlimit = 0.1\ntarget = "t"'},
         "which accuracy_top5 cannot"),
        ({"package": '{ postprocess = "argmax" }', "more": 'metric = "auroc"'},
         "argmax gives class numbers, which auroc cannot be taken of: use softmax"),
        ({"package": "{ metadata = true, calibration = { curve = [[1, 2, 3]] } }"},
         "target[0].package.calibration: is a part of TFLite Metadata: it wants runtime tflite and metadata = true, "
         "found runtime 'onnx', metadata true"),
        ({"package": CALIBRATED % "[[1, 2, 3]]", "runtime": "tflite", "more": 'task = "regression"'},
         "wanted an output of role logits, found regression"),
        ({"package": CALIBRATED % "[[1, 2]]"}, "calibration.curve: wanted [scale, slope, offset] with or without"),
        ({"package": CALIBRATED % "[[-1, 2, 3]]"}, "row 0: a scale is no less than 0, found -1"),
        ({"package": CALIBRATED % "[]"}, "wanted a row a class, or one for all, found 0 rows"),
        ({"package": CALIBRATED % "[[], []]"}, "no row has a curve"),
        ({"package": CALIBRATED % "[[1.0, 1e39, 0.0]]"}, "a number is none of float32's"),
        ({"model": 'input = [{ shape = [1, 3, "H:8..16", 8] }]'},
         "what is inside is of fixed shapes, and sizes of the model's inputs vary: give the target sizes = "),
    ],
)  # fmt: skip
def test_what_cannot_go_inside_is_said_with_the_way_out(given: dict[str, str], words: str) -> None:
    assert words in fault(**given)


def test_nothing_to_put_inside_is_a_fault() -> None:
    bare = text().replace("[data.preprocess]\n" + STEPS, "").replace("imagefolder:d", "data.py:f")
    with pytest.raises(RecipeError, match=r"nothing to put inside: write \[data.preprocess\]"):
        parse_recipe(bare)


def test_what_the_file_has_done_is_not_done_again_before_it_is_judged() -> None:
    output = '[[output]]\nrole = "multilabel"'
    recipe = parse_recipe(text('{ postprocess = "sigmoid" }') + output)
    (judged,) = judged_as_packed(recipe.targets[0].package, recipe.judged)
    assert recipe.judged[0].processed == "sigmoid" and judged.processed == "none"
    recipe = parse_recipe(text('{ postprocess = "argmax" }'))
    (judged,) = judged_as_packed(recipe.targets[0].package, recipe.judged)
    assert judged.metric_names == ("accuracy_top1", "macro_f1"), "class numbers have no second guess"
    assert (
        judged_as_packed(dataclasses.replace(recipe.targets[0].package, postprocess="none"), recipe.judged)
        == recipe.judged
    )
    threshold = output + '\npost = { type = "sigmoid", threshold = 0.4 }'
    with pytest.raises(RecipeError, match=r"judged from 0\.5 on, found post\.threshold = 0\.4"):
        parse_recipe(text('{ postprocess = "sigmoid" }') + threshold)


def test_the_page_has_a_recipe_that_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "packaging.md").read_text(encoding="utf-8")
    (given,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    head = 'name = "x"\nmodel = { definition = "m.py" }\n[data]\nsource = "imagefolder:d"\n'
    assert parse_recipe(head + given).targets[0].package.packs
    fields = {field.name for field in dataclasses.fields(Package)}
    assert fields == set(re.findall(r"^\| `(\w+)` \| `?\"?\w", page, re.MULTILINE))


def planned(recipe: Recipe) -> Plan:
    libraries = {n for stage in STAGES.values() for n in stage.libraries}
    libraries |= {n for r in RUNTIMES.values() for n in (*r.export_libraries, *r.run_libraries)}
    return make_plan(recipe, Facts({}, dict.fromkeys(libraries, "1"), "host", "none"))


def test_a_packed_lane_goes_on_from_packed_steps_and_shares_the_rest() -> None:
    both = text(
        '{ preprocess = "inside", postprocess = "softmax" }',
        target='layout = "NHWC"\nquantize = { scheme = "static_int8" }',
    )
    both += '[[target]]\nname = "plain"\nruntime = "onnx"\nquantize = { scheme = "static_int8" }\n'
    plan = planned(parse_recipe(both))
    packed, plain = plan.lanes
    assert plain.data == packed.prepared == plan.data != packed.data
    assert plain.reference == packed.traced == plan.reference != packed.reference
    assert plan.step(packed.reference).stage == plan.step(packed.quantize).stage == "package"
    # One quantize step: what is inside is put before what was quantized.
    assert plan.step(packed.quantize).needs["quantize"] == plain.quantize
    export = plan.spec(packed.export, ExportSpec)
    assert (export.layout, export.model_layout) == ("NHWC", "NHWC"), "the packed graph moves the channels itself"
    assert plan.step(packed.verify).needs["data"] == packed.data
    assert plan.spec(packed.verify, VerifySpec).judged[0].post.type == "none"
    spec = plan.spec(packed.reference, PackageSpec)
    assert spec.package.postprocess == "softmax" and spec.inside[0].layout == "NHWC"


def test_an_app_does_nothing_to_bytes_that_are_levels_themselves() -> None:
    prepared = Preprocessing("HWC", "NHWC", ({"step": "orient"},))
    bytes_taken = TensorSpec("x", (1, 4, 4, 3), "uint8", "NHWC", 1.0, 0)
    assert make_preprocessing(prepared, [bytes_taken])["steps"] == [{"step": "orient"}]
    levels = dataclasses.replace(bytes_taken, scale=0.5, zero_point=3)
    assert make_preprocessing(prepared, [levels])["steps"] == [
        {"step": "orient"},
        {"step": "quantize", "round": "half_to_even", "scale": 0.5, "zero_point": 3, "dtype": "uint8"},
    ]


def test_class_numbers_are_judged_as_such() -> None:
    tally = LogitsTally("label", ranked=False)
    tally.add(np.array([2, 0, 1, 1]), {"label": np.array([2, 0, 0, 1])})
    figures = tally.figures(["accuracy_top1"])
    assert float(figures.values["accuracy_top1"]) == 0.75 and "accuracy_top5" not in figures.values
    assert argmax_agreement(np.array([2, 0, 1, 1]), np.array([2, 0, 0, 1])) == 0.75


DETECTOR = """[[output]]
name = "boxes"
role = "boxes"
post = { type = "%s", format = "%s", normalized = %s }
[[output]]
name = "scores"
role = "scores"
"""
CLASSES = '[[output]]\nname = "classes"\nrole = "classes"\n'
COUNTED = CLASSES + '[[output]]\nname = "count"\nrole = "count"\n'
MONO = "step = [{ type = 'resample', rate_hz = 8000 }, { type = 'mono' }, { type = 'layout', to = 'NT' }]"
TOKENS = "step = [{ type = 'tokenize', file = 'words.json', max_length = 8, dtype = 'int32'%s }]"
THREE = ", gives = ['ids', 'mask', 'type_ids']"
TEXT = {"source": "csv:table.csv", "steps": TOKENS % THREE, "package": "{}"}
SOUND = {"source": "audiofolder:d", "steps": MONO, "package": "{}"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"runtime": "onnx"}, "consumers mediapipe reads .tflite files, found runtime 'onnx'"),
        ({"target": 'layout = "NCHW"'}, 'layout = "NHWC", found \'NCHW\''),
        ({"target": 'io = "int8"\nquantize = { scheme = "static_int8" }', "package": "{}"}, "refuses int8 inputs"),
        ({"package": "{}"}, 'target[0].consumers: mediapipe takes one mean and std for all channels: package = '
         '{ preprocess = "inside" } has the file do the rest'),
        ({"package": '{ postprocess = "argmax", preprocess = "inside" }'}, "argmax gives their numbers: use softmax"),
        ({"more": 'task = "regression"'},
         "an output of role logits or embedding or segmentation or boxes, found regression"),
        ({"consumer": "litert"}, "unknown value 'litert'"),
        ({"more": OUTPUT % "segmentation"}, "mediapipe reads masks channels last, and others wrongly without a word; "
         'the model\'s are first: package = { postprocess = "masks" }'),
        ({"more": DETECTOR % ("none", "xyxy", "true") + CLASSES}, "takes four outputs with post none: of roles "
         "boxes, scores, classes and count, after non-maximum suppression (of raw boxes and anchors it wants metadata "
         "that is not written); found boxes (post none), scores (post none), classes (post none)"),
        ({"more": DETECTOR % ("nms", "xyxy", "true") + COUNTED}, "takes four outputs with post none"),
        ({"more": DETECTOR % ("none", "cxcywh", "true") + COUNTED}, "takes corners as shares of the image's width and "
         'height: post = { type = "none", format = "xyxy", normalized = true }, found format cxcywh, normalized true'),
        ({"more": DETECTOR % ("none", "xyxy", "false") + COUNTED}, "found format xyxy, normalized false"),
        ({**SOUND, "package": '{ preprocess = "inside" }'}, "mediapipe feeds sound in floats: leave preprocess"),
        ({**SOUND, "steps": MONO.replace("'mono' }", "'mono' }, { type = 'normalize', mean = [1], std = [2] }")},
         "mediapipe feeds sound of -1 to 1, and normalize comes after: do it in the model"),
        ({**SOUND, "steps": MONO.replace("{ type = 'resample', rate_hz = 8000 }, ", "")}, "has to be told the rate"),
        ({**SOUND, "steps": MONO.replace("NT", "NCT")}, "layout NT, found NCT"),
        ({**SOUND, "more": OUTPUT % "embedding"}, "an output of role logits, found embedding"),
        ({**TEXT, "steps": TOKENS % ", gives = ['ids', 'mask']"}, "mediapipe's text tasks feed three inputs: gives = "
         '["ids", "mask", "type_ids"], found ids, mask'),
        ({**TEXT, "steps": TOKENS.replace("int32", "int64") % THREE}, 'feed int32: dtype = "int32" in the step'),
        ({**TEXT, "steps": TOKENS % (THREE + ", special_tokens = false")}, "special_tokens = true, found false"),
        ({**TEXT, "steps": TOKENS % (THREE + ", pad_side = 'left'")}, 'pad_side = "right", found "left"'),
        ({**TEXT, "more": OUTPUT % "tokens"}, "an output of role logits or embedding, found tokens: it has no task "
         "that tags tokens: run the file with LiteRT (pocketforge package)"),
        ({"consumer": "litert_js", "runtime": "onnx"}, "consumers litert_js reads .tflite files, found runtime 'onnx'"),
        ({"consumer": "onnxruntime_web"}, "consumers onnxruntime_web reads .onnx files, found runtime 'tflite'"),
        ({"consumer": "mobile_checker"}, "consumers mobile_checker reads .onnx files, found runtime 'tflite'"),
        ({"consumer": "litert_js", "target": 'io = "int8"\nquantize = { scheme = "static_int8" }', "package": "{}"},
         "consumers litert_js refuses int8 inputs and outputs"),
    ],
)  # fmt: skip
def test_what_a_consumer_cannot_read_is_said_before_anything_runs(given: dict[str, str], words: str) -> None:
    consumer = f'consumers = ["{given.pop("consumer", "mediapipe")}"]\n'
    given = {"runtime": "tflite", **given, "target": consumer + given.get("target", "")}
    assert words in fault(**given)


def test_a_file_for_consumers_takes_channels_last_unless_the_recipe_says_otherwise() -> None:
    read = parse_recipe(text(runtime="tflite", target='consumers = ["mediapipe"]')).targets[0]
    assert (read.layout, read.has_metadata) == ("NHWC", True)
    assert parse_recipe(text(runtime="tflite")).targets[0].layout == "NCHW"
    plan = planned(parse_recipe(text("{}", runtime="tflite", target='consumers = ["mediapipe"]', steps="scale = 255")))
    (lane,) = plan.lanes
    verify = plan.step(lane.verify)
    # Prepared samples are fed to the file here, pixels to MediaPipe.
    assert verify.needs["data"] == plan.data != verify.needs["pixels"]
    assert plan.spec(lane.verify, VerifySpec).consumers == {"mediapipe": "none"}


SIZED = (Resize(shorter=256), CenterCrop((224, 224)), Color("rgb"), Scale(by=255.0), Layout("NHWC"))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((InputSteps(SIZED),), (Resize(size=(224, 224), like="mediapipe"), *SIZED[2:])),
        ((InputSteps((*SIZED[2:3], Resize(longest=64), Pad(size=(64, 32)), *SIZED[3:])),),
         (SIZED[2], Resize(size=(64, 32), like="mediapipe"), *SIZED[3:])),
        (Preprocess(resize=(32, 48), scale=255.0, layout="NHWC"),
         (Resize(size=(32, 48), like="mediapipe"), Cast("float32"), Scale(by=255.0), Layout("NHWC"))),
        ((InputSteps(SIZED[2:]),), None),  # pictures have the model's size
        ((InputSteps((Resize(shorter=256), Layout("NHWC"))),), None),  # theirs are of many
        ((InputSteps((Resize(size=(8, 8), like="mediapipe"), Layout("NHWC"))),), None),  # it is trained so
        ((InputSteps(SIZED, "a"), InputSteps((), "b")), None),
        (None, None),
    ],
)  # fmt: skip
def test_whole_pictures_are_stretched_by_mediapipe_whatever_the_recipe_does(
    given: Asked, wanted: tuple[Step, ...] | None
) -> None:
    found = as_mediapipe_resizes(given, images=False)
    assert found == (None if wanted is None else (InputSteps(wanted),))


def test_a_target_for_mediapipe_is_evaluated_with_its_resize_too() -> None:
    for steps, package in (("resize = [4, 4]\nscale = 255", "{}"), ("resize = [4, 4]", '{ preprocess = "inside" }')):
        read = parse_recipe(text(package, runtime="tflite", target='consumers = ["mediapipe"]', steps=steps))
        plan = planned(read)
        needs = plan.step(plan.lanes[0].verify).needs
        resized = plan.spec(needs["resized"], DataSpec).preprocess
        assert isinstance(resized, tuple) and Resize(size=(4, 4), like="mediapipe") in resized[0].step
        assert ("Scale" in str(resized)) == (package == "{}"), "what is fed to the file, as the file takes it"


def test_web_consumers_are_fed_what_the_file_takes_and_ask_for_no_metadata() -> None:
    asked = 'consumers = ["onnxruntime_web", "mobile_checker"]'
    plan = planned(parse_recipe(text("{}", runtime="onnx", target=asked, steps="scale = 255")))
    (lane,) = plan.lanes
    assert not lane.target.has_metadata and lane.target.layout == "NCHW"
    assert "pixels" not in plan.step(lane.verify).needs
    assert set(plan.spec(lane.verify, VerifySpec).consumers) == {"onnxruntime_web", "mobile_checker"}


def test_a_model_with_states_is_tried_in_no_browser() -> None:
    model = Model(
        definition="m.py",
        inputs=(InputSpec((1, 4), "x"), InputSpec((1, 4), "h", state="new_h")),
        outputs=("y", "new_h"),
    )
    target = Target("t", "onnx", consumers=("onnxruntime_web", "mobile_checker"))
    (fault,) = faults_of_consumers(target, model, Data("digits"), ())
    assert "onnxruntime_web is tried sample by sample, and the model has states: new_h" in str(fault)


def test_mean_and_deviation_in_units_of_pixels() -> None:
    divide = {"step": "divide", "by": 255.0}
    one = {"step": "normalize", "mean": [0.5], "std": [0.25]}
    three = {"step": "normalize", "mean": [0.25, 0.5, 0.75], "std": [0.5, 0.25, 1.0]}
    assert pixels_to_floats([{"step": "orient"}, divide, one, {"step": "transpose"}]) == ((127.5,), (63.75,))
    assert pixels_to_floats([divide, three]) == ((63.75, 127.5, 191.25), (127.5, 63.75, 255.0))
    assert pixels_to_floats([one]) == ((0.5,), (0.25,)) and pixels_to_floats([]) == ((0.0,), (1.0,))
    assert pixels_to_floats([divide, {"step": "cast"}]) is None


@pytest.mark.parametrize(
    ("transformation", "given"),
    [
        ("identity", [0.16830276, 0.45441657, 0.7016127]),
        ("log", [0.0, 0.01502352, 0.2177704]),
        ("inverse_logistic", [0.0, 0.02108932, 0.7280129]),
    ],
)
def test_calibrated_scores_are_mediapipes(
    transformation: Literal["identity", "log", "inverse_logistic"], given: list[float]
) -> None:
    """Written down from MediaPipe Tasks 1.2.3, with a score below 0, which has no logarithm."""
    scores = np.array([[-0.548852, 0.15857932, 0.6774947]], np.float32)
    one = ScoreCalibration(((1.0, 2.0, -0.5),), transformation, 0.05)
    assert np.allclose(calibrated(scores, one), [given], rtol=0, atol=1e-7)
    some = ScoreCalibration(((1.0, 2.0, -0.5), (1.0, 2.0, -0.5, 0.3), ()), transformation, 0.05)
    assert np.allclose(calibrated(scores, some), [[given[0], 0.05, 0.05]], rtol=0, atol=1e-7)
    with pytest.raises(ValueError, match="3 rows for 2 classes"):
        calibrated(scores[:, :2], some)


def test_what_a_file_says_is_of_what_it_is_fed() -> None:
    words = Preprocessing(
        "HWC", "NHWC", ({"step": "divide", "by": 255.0}, {"step": "normalize", "mean": [0.5], "std": [0.5]})
    )
    counts = Counts(2, 1, 1, 1, 0, 0)
    sampled = Sampled("s", "classification", ("a", "b"), counts, {}, (), None, words, None, ())
    tensors = (ModelTensor("x", (1, 4, 4, 3), "float32"),), (ModelTensor("y", (1, 2), "float32"),)
    reference = Reference(1, 1, {}, 1, *tensors)
    spec = AboutSpec("t", parse_recipe(text()).judged)
    about = about_file(spec, sampled, reference, None)
    (taken,) = about.inputs
    assert (taken.channels, taken.mean, taken.std) == (3, (127.5,), (127.5,))
    assert (taken.low, taken.high) == ((-1.0,), (1.0,))
    assert about.outputs == (AboutOutput("y", "logits", ("a", "b"), labelled="axis"),)
    one = dataclasses.replace(spec, calibration=ScoreCalibration(((1.0, 2.0, 0.5),)))
    (output,) = about_file(one, sampled, reference, None).outputs
    assert output.calibration == ScoreCalibration(((1.0, 2.0, 0.5),) * 2), "a row for each of two classes"
    three = dataclasses.replace(spec, calibration=ScoreCalibration(((1.0, 2.0, 0.5),) * 3))
    with pytest.raises(ModelError, match=r"calibration has 3 rows, output 'y' is float32 \[1, 2\]"):
        about_file(three, sampled, reference, None)
    assert "package" not in about.to_json([TensorSpec("x", (1, 4, 4, 3), "float32", "NHWC")])
    packed = Packed((PackedInput("x", "uint8", (1, 4, 4, 3), "NHWC", ()),), "softmax", "y")
    about = about_file(spec, sampled, reference, packed)
    assert about.inputs == (AboutInput("x", 3, low=(0.0,), high=(255.0,), color="rgb"),) and about.outputs[0].shares


def test_a_detector_s_four_outputs_are_told_by_their_roles() -> None:
    roles = {"a": "scores", "b": "count", "c": "boxes", "d": "classes"}
    shapes: dict[str, tuple[int | str, ...]] = {"a": (1, 9), "b": (1,), "c": (1, 9, 4), "d": (1, 9)}
    named = {"a": "score", "b": "number of detections", "c": "location", "d": "category"}
    assert detection_outputs(roles, shapes) == named
    assert detection_outputs(roles, {**shapes, "b": (1, 1)}) == {}
    assert detection_outputs(roles, {**shapes, "e": (1,)}) == {}
    assert detection_outputs({**roles, "b": "state"}, shapes) == {}


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        ("[[1, 2, 3]]", ""),
        ("[[1, 2, 3], [], [4, 5, 6]]", ""),
        ("[[1, 2, 3], [4, 5, 6]]", "target[0].package.calibration.curve: wanted a row a class (3, by data.labels), or "
         "one for all, found 2 rows"),
    ],
)  # fmt: skip
def test_a_calibration_s_rows_are_counted_before_anything_runs(tmp_path: Path, curve: str, said: str) -> None:
    (tmp_path / "m.py").write_text("def build(): ...\n")
    (tmp_path / "labels.txt").write_text("one\ntwo\nthree\n")
    content = text(CALIBRATED % curve, runtime="tflite").replace("[data]", '[data]\nlabels = "labels.txt"')
    recipe = parse_recipe(content, "r.toml", str(tmp_path))
    if said:
        (tmp_path / "d").mkdir()
        with pytest.raises(RecipeError) as caught:
            gather(recipe)
        assert list(caught.value.faults) == [said]
    else:
        check_calibration_rows(recipe)
