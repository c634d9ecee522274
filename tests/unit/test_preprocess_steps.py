"""Lists of steps: what is refused before a sample is read, what with a sample, and what comes out of the rest."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_config import to_toml

from pocketforge.data.preprocess import About, Prepared, prepare
from pocketforge.data.preprocess_words import describe
from pocketforge.data.target_geometry import move
from pocketforge.errors import ModelError, RecipeError
from pocketforge.outcomes.data import Preprocessing, PreprocessingOfInputs, layouts_of
from pocketforge.outcomes.files import from_json, to_json
from pocketforge.recipe.image_steps import Cast, CenterCrop, Color, Layout, Normalize, Pad, Resize, Scale
from pocketforge.recipe.preprocess import InputSteps, Step
from pocketforge.recipe.sound_steps import Mfcc, Mono, PadOrTrim, Resample
from pocketforge.recipe.toml import parse_recipe

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)
RECIPE = """
name = "x"
model = { definition = "m.py", %s }
data = { source = "imagefolder:d", preprocess = %s }
target = [{ name = "t", runtime = "onnx" }]
"""


def read(preprocess: str, model: str = 'weights = "w"') -> Any:
    return parse_recipe(RECIPE % (model, preprocess)).data.preprocess


def faults(preprocess: str, model: str = 'weights = "w"') -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        read(preprocess, model)
    return tuple(caught.value.faults)


IMAGE = About(255.0, as_images=True)


def done(image: np.ndarray, *steps: Step, about: About = IMAGE) -> Prepared:
    return prepare((InputSteps(steps),), (image,), about)


def test_a_list_is_read_in_each_of_its_forms() -> None:
    steps = '[{ type = "scale" }, { type = "layout", to = "NCHW" }]'
    wanted = (Scale(), Layout("NCHW"))
    assert read(f"{{ step = {steps} }}") == (InputSteps(wanted),)
    tables = "[[data.preprocess.step]]\ntype = 'scale'\n[[data.preprocess.step]]\ntype = 'layout'\nto = 'NCHW'\n"
    head = 'name = "x"\nmodel = { definition = "m.py" }\ntarget = [{ name = "t", runtime = "onnx" }]\n'
    text = f'{head}[data]\nsource = "imagefolder:d"\n{tables}'
    assert parse_recipe(text).data.preprocess == (InputSteps(wanted),)
    assert read(f'[{{ input = "a", step = {steps} }}, {{ input = "b" }}]') == (
        InputSteps(wanted, "a"),
        InputSteps((), "b"),
    )


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ('{ type = "resise", size = [4, 4] }', "step[0].type: unknown value 'resise'; did you mean 'resize'?"),
        ('{ size = [4, 4] }', "step[0].type: missing: one of 'resize'"),
        ('{ type = "resize", size = [4, 4], filter = "bicubik" }',
         "step[0].filter: unknown value 'bicubik'; did you mean 'bicubic'?"),
        ('{ type = "resize", size = [4, 4], like = "opnecv" }', "did you mean 'opencv'?"),
        ('{ type = "resize" }', "wanted one of size, shorter, longest and fit, found none"),
        ('{ type = "resize", size = [4, 4], shorter = 4 }', "found size and shorter"),
        ('{ type = "resize", size = [4] }', "step[0]: size must be [height, width], found [4]"),
        ('{ type = "resize", size = [4, 4], rounding = "down" }', "rounding is of the side that follows"),
        ('{ type = "resize", size = [4, 4], antialias = false }',
         'like pil always smooths when it shrinks: like = "tf" can do without'),
        ('{ type = "resize", size = [4, 4], antialias = true, like = "opencv" }', "like opencv never smooths"),
        ('{ type = "resize", size = [4, 4], antialias = true, filter = "nearest" }', "has no antialias"),
        ('{ type = "resize", size = [4, 4], like = "mediapipe", filter = "nearest" }',
         "step[0].filter: like mediapipe is bilinear, found filter nearest"),
        ('{ type = "resize", shorter = 4, like = "mediapipe" }', "like mediapipe stretches to size"),
        ('{ type = "resize", size = [4, 4], like = "align_corners", antialias = true }',
         "like align_corners never smooths"),
        ('{ type = "resize", shorter = 5000 }', "wanted sides of at most 4,096 pixels"),
        ('{ type = "layout", to = "NCHW" }, { type = "scale" }',
         "step[0]: layout must be the last step, found scale after it"),
        ('{ type = "resize", size = [100, 100] }, { type = "center_crop", size = [224, 224] }',
         "step[1]: a crop of 224 × 224 is larger than the image, which has 100 × 100 pixels there"),
        ('{ type = "resize", shorter = 100 }, { type = "center_crop", size = [224, 224] }',
         "has a shorter side of 100 pixels there"),
        ('{ type = "center_crop", size = [9, 9] }, { type = "pad", size = [8, 9] }',
         "step[1]: a pad to 8 × 9 is less than the image's 9 × 9"),
        ('{ type = "pad" }', "wanted size or by, one of them"),
        ('{ type = "pad", by = [1, 1] }', "by must be [left, top, right, bottom]"),
        ('{ type = "color", to = "grayscale" }, { type = "normalize", mean = [0.5, 0.5, 0.5], std = [1, 1, 1] }',
         "step[1]: mean and std: wanted 1 value, found 3"),
        ('{ type = "color", to = "rgb" }, { type = "pad", by = [1, 1, 1, 1], value = [0, 0] }',
         "value: wanted 1 value or 3, one a channel, found 2"),
        ('{ type = "normalize", mean = [0.5], std = [1, 1] }',
         "mean and std must be equally long, and not empty, found 1 and 2"),
        ('{ type = "scale", by = 0 }', "by must be more than 0"),
        ('{ type = "scale" }, { type = "normalize", mean = [124], std = [58] }',
         "step[1].mean must be of values scaled to 0..1, found [124.0]; did you mean"),
        ('{ type = "color", to = "rgb" }, { type = "mono" }',
         "step[1]: mono is for sound, and color for image: one list, one kind"),
        ('{ type = "log_mel", rate_hz = 16000, n_fft = 400, hop_length = 160, n_mels = 40 }, '
         '{ type = "resample", rate_hz = 8000 }',
         "resample takes a waveform, not what log_mel gives: put it before"),
        ('{ type = "resample", rate_hz = 8000 }, '
         '{ type = "log_mel", rate_hz = 16000, n_fft = 400, hop_length = 160, n_mels = 40 }',
         "step[1].rate_hz: log_mel is of 16000 Hz, and resample gives 8000 Hz"),
        ('{ type = "log_mel", rate_hz = 16000, n_fft = 400, hop_length = 160, n_mels = 40, f_max = 9000 }',
         "f_max must be at most half of rate_hz (8000)"),
        ('{ type = "mfcc", rate_hz = 16000, n_fft = 400, hop_length = 160, n_mels = 20, n_mfcc = 40 }',
         "n_mfcc must be at most n_mels (20)"),
        ('{ type = "mono" }, { type = "layout", to = "NTF" }', "layout NTF is after log_mel or mfcc"),
        ('{ type = "tokenize", file = "t.json", max_length = 8 }, { type = "cast", to = "int32" }',
         "nothing is done to token ids, found cast after tokenize"),
        ('{ type = "scale" }, { type = "tokenize", file = "t.json", max_length = 8 }',
         "tokenize must be the first step"),
        ('{ type = "tokenize", file = "t.json", max_length = 8, gives = ["ids", "ids"] }',
         "each once, found ['ids', 'ids']"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_a_sample_is_read(steps: str, words: str) -> None:
    found = faults(f"{{ step = [{steps}] }}")
    assert any(words in fault for fault in found), found
    assert all(fault.startswith(("data.preprocess", "data: preprocess")) for fault in found), found


def test_the_layout_is_the_images() -> None:
    def layout(preprocess: str) -> str:
        return parse_recipe(RECIPE % ('weights = "w"', preprocess)).data.layout

    assert layout('{ step = [{ type = "layout", to = "NCHW" }] }') == "NCHW"
    assert layout('{ step = [{ type = "color", to = "rgb" }] }') == "NHWC"
    assert layout('{ step = [{ type = "scale" }] }') == "NHWC"  # an image folder's are images
    assert layout('{ layout = "NHWC" }') == "NHWC"
    both = '[{ input = "a", step = [{ type = "mono" }] }, { input = "b", step = [{ type = "layout", to = "NHWC" }] }]'
    assert layout(both) == "NHWC"
    unlike = both.replace('{ type = "mono" }', '{ type = "layout", to = "NCHW" }')
    assert "wanted one layout for all images of a model, found NCHW and NHWC" in faults(unlike)[0]


def test_lists_are_of_the_models_inputs_in_their_order() -> None:
    model = 'input = [{ shape = [1, 3, 8, 8], name = "image" }, { shape = [1, 4], name = "vector" }]'
    both = '[{ input = "image", step = [{ type = "layout", to = "NCHW" }] }, { input = "vector" }]'
    assert [each.input for each in read(both, model)] == ["image", "vector"]
    assert faults(both.replace('"vector"', '"vectr"'), model) == (
        "data.preprocess[1].input: no input of the model is named 'vectr'; did you mean 'vector'?",
    )
    turned = '[{ input = "vector" }, { input = "image" }]'
    assert "lists stand in the order of the model's inputs: wanted 'image' here" in faults(turned, model)[0]
    assert "its lists make 1 inputs, the model takes 2" in faults('{ input = "image", step = [] }', model)[0]
    assert "each needs input" in faults('[{ input = "image" }, { step = [] }]', model)[0]
    assert (
        "wanted one list for each input, found 2 for 'image'" in faults('[{ input = "image" }, { input = "image" }]')[0]
    )


def test_normalize_before_scale_is_legal_and_counts() -> None:
    found = done(RGB, Cast("float32"), Normalize((100.0,), (2.0,)), Scale(by=4.0)).inputs[0]
    assert np.array_equal(found, (RGB.astype(np.float32) - 100) / 2 / 4)


def test_a_list_is_exactly_what_happens() -> None:
    plain = done(RGB).inputs[0]
    assert plain.dtype == np.uint8 and np.array_equal(plain, RGB)
    moved = done(RGB, Layout("NCHW")).inputs[0]
    assert moved.dtype == np.uint8 and moved.flags.c_contiguous and moved.shape == (3, 9, 7)
    signed = done(RGB, Normalize((128.0,), (1.0,)), Cast("int8"), Layout("NHWC")).inputs[0]
    assert signed.dtype == np.int8 and np.array_equal(signed, RGB.astype(int) - 128)


@pytest.mark.parametrize(
    ("steps", "image", "words"),
    [
        ((CenterCrop((8, 8)),), RGB, "center_crop to 8 × 8 is larger than the image, which has 9 × 7"),
        ((Pad(size=(8, 8)),), RGB, "pad to 8 × 8 is less than the image, which has 9 × 7"),
        ((Pad(by=(9, 0, 0, 0), mode="reflect"),), RGB, "mirrors at most one pixel less"),
        ((Pad(by=(1, 0, 0, 0), value=(0.5,)),), RGB, r"pad's value \[0.5\] is none of the image's type there, uint8"),
        ((Pad(by=(1, 0, 0, 0), value=(1.0, 2.0)),), RGB, "pad has 2 values, the image has 3 channels"),
        ((Normalize((0.5, 0.5), (1.0, 1.0)), Layout("NHWC")), RGB, "2 values, the image has 3 channels"),
        ((Cast("int8"), Layout("NHWC")), RGB, r"cast to int8 \(-128 to 127\) of values from"),
        ((Color("rgb"),), np.zeros((2, 2, 5), np.uint8), "1, 3 or 4 channels, found 5"),
        ((Color("rgb"),), np.zeros((3, 8, 8), np.uint8), "looks like \\(channels, height, width\\)"),
        ((Color("rgb"),), np.zeros((0, 8, 3), np.uint8), "found shape \\(0, 8, 3\\)"),
        ((Resize(shorter=4000),), np.zeros((1, 999, 3), np.uint8), "resize makes 4000 × 3996000 pixels of an image"),
        ((Scale(), Layout("NHWC")), RGB.astype(np.uint16), "nothing says which value of uint16 is white"),
        ((Mono(),), np.zeros((2, 100), np.float32), "looks like \\(channels, samples\\)"),
        ((Mono(),), np.zeros((2, 2, 100), np.float32), "sound \\(samples,\\) or \\(samples, channels\\)"),
        ((Resample(8000),), np.zeros(10, np.float32), "does not know the sound's rate"),
        ((Scale(by=2.0),), np.array("text"), "a text goes to no model as it is"),
    ],
)
def test_what_does_not_fit_a_sample(steps: tuple[Step, ...], image: np.ndarray, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        done(image, *steps, about=About())


def test_sound_of_another_rate_needs_resample() -> None:
    wave = np.zeros(100, np.float32)
    for steps in ((), (Mono(),), (PadOrTrim(10), Layout("NCT"))):
        with pytest.raises(ModelError, match="has 44100 Hz, and nothing says which rate the model takes") as caught:
            done(wave, *steps, about=About(rate_hz=44100))
        assert 'type = "resample"' in caught.value.hint
    with pytest.raises(ModelError, match="44100 Hz"):
        prepare(None, (wave,), About(rate_hz=44100))
    with pytest.raises(ModelError, match="says from_hz = 8000, the source's sound has 44100 Hz"):
        done(wave, Resample(16000, from_hz=8000), about=About(rate_hz=44100))
    assert done(wave, Resample(44100), about=About(rate_hz=44100)).inputs[0].shape == (100,)


def test_sound_is_mixed_cut_padded_and_laid_out() -> None:
    stereo = np.arange(12, dtype=np.float32).reshape(6, 2)
    assert np.array_equal(done(stereo, Mono(), about=About()).inputs[0], stereo.mean(axis=1))
    assert np.array_equal(done(stereo, Layout("NCT"), about=About()).inputs[0], stereo.T)
    with pytest.raises(ModelError, match="layout NT is of one channel, the sound has 2"):
        done(stereo, Layout("NT"), about=About())
    wave = np.arange(5, dtype=np.float32)
    cases: tuple[tuple[Literal["start", "center"], int, list[int]], ...] = (
        ("start", 3, [0, 1, 2]),
        ("center", 3, [1, 2, 3]),
        ("start", 7, [0, 1, 2, 3, 4, 9, 9]),
        ("center", 8, [9, 0, 1, 2, 3, 4, 9, 9]),
    )
    for keep, length, wanted in cases:
        found = done(wave, PadOrTrim(length, keep=keep, value=9.0), Layout("NCT"), about=About()).inputs[0]
        assert found.tolist() == [wanted]


def test_an_image_and_a_vector_each_have_a_list() -> None:
    vector = np.array([1.0, 2.0, 3.0], np.float64)
    lists = (
        InputSteps((Scale(by=255.0), Layout("NCHW")), "image"),
        InputSteps((Normalize((1.0, 2.0, 3.0), (2.0, 2.0, 2.0)),), "vector"),
        InputSteps((), "flag"),
    )
    found = prepare(lists, (RGB, vector, np.array(1, np.int64)), About())
    image, numbers, flag = found.inputs
    assert image.shape == (3, 9, 7) and numbers.tolist() == [0.0, 0.0, 0.0] and numbers.dtype == np.float32
    assert flag.shape == () and flag.dtype == np.int64
    assert found.geometry is not None and found.geometry.is_identity
    said = describe(lists, About(reading=({"step": "orient", "by": "exif"},)))
    assert isinstance(said, PreprocessingOfInputs)
    assert [(each.name, each.input, each.output) for each in said.inputs] == [
        ("image", "HWC", "NCHW"),
        ("vector", "numbers", None),
        ("flag", None, None),
    ]
    assert [step["step"] for step in said.inputs[0].steps] == ["orient", "divide", "transpose"]
    assert layouts_of(said, 3) == ["NCHW", None, None]
    assert from_json(json.loads(json.dumps(to_json(said))), PreprocessingOfInputs) == said
    with pytest.raises(ModelError, match="has 3 lists of steps, this source has 1 inputs"):
        prepare(lists, (RGB,), About())
    with pytest.raises(ModelError, match=r"input 'vector': .*3 values, the input has 2 there"):
        prepare(lists, (RGB, vector[:2], vector), About())


# What tf.image.resize of TensorFlow 2.21.0 gives: the sum, and three values of the result.
TENSORFLOWS = {
    ((3, 4), "nearest", None): (1876.0, 101.0, 29.0, 173.0),
    ((3, 4), "bilinear", False): (1481.333, 62.375, 39.75, 103.542),
    ((3, 4), "bilinear", True): (1480.454, 83.441, 114.676, 105.147),
    ((3, 4), "bicubic", False): (1510.329, 55.698, 27.5, 109.175),
    ((3, 4), "bicubic", True): (1481.042, 75.304, 115.985, 103.647),
    ((3, 4), "area", None): (1461.524, 67.0, 111.698, 100.397),
    ((3, 4), "lanczos", False): (1479.602, 53.42, 21.386, 112.14),
    ((3, 4), "lanczos", True): (1483.065, 72.471, 118.065, 104.254),
    ((10, 5), "nearest", None): (5598.0, 0.0, 37.0, 150.0),
    ((10, 5), "bilinear", False): (6086.96, 21.2, 115.75, 102.4),
    ((10, 5), "bilinear", True): (6113.355, 30.286, 121.774, 100.286),
    ((10, 5), "bicubic", False): (6063.453, 13.787, 113.598, 103.294),
    ((10, 5), "bicubic", True): (6107.359, 20.444, 120.991, 100.618),
    ((10, 5), "area", None): (6089.682, 23.556, 120.127, 97.111),
    ((10, 5), "lanczos", False): (6045.96, 11.87, 116.632, 97.434),
    ((10, 5), "lanczos", True): (6114.305, 16.668, 119.152, 104.357),
}


@pytest.mark.parametrize("case", TENSORFLOWS, ids=str)
def test_tensorflows_resize(case: tuple[tuple[int, int], Any, bool | None]) -> None:
    y, x = np.mgrid[:7, :9]
    image = ((y * 37 + x * 53 + y * x * 11) % 256).astype(np.uint8)[:, :, None]
    size, filter_, antialias = case
    found = done(image, Resize(size=size, filter=filter_, like="tf", antialias=antialias)).inputs[0][:, :, 0]
    some = [found.astype(np.float64).sum(), found[0, 0], found[1, 2], found[-1, -1]]
    np.testing.assert_allclose(some, TENSORFLOWS[case], rtol=0, atol=0.03 if case[0] == (10, 5) else 0.01)


def test_keras_mobile_nets_scale_is_minus_1_to_1() -> None:
    found = done(RGB, Scale(by=127.5), Normalize((1.0,), (1.0,))).inputs[0]
    assert np.array_equal(found, RGB.astype(np.float32) / np.float32(127.5) - np.float32(1.0))


# Steps that images go through, so that every order of them is met.
SIDES = st.integers(1, 40)
RESIZES = st.one_of(
    st.builds(Resize, size=st.tuples(SIDES, SIDES), filter=st.sampled_from(["nearest", "bilinear", "area"])),
    st.builds(Resize, shorter=SIDES, rounding=st.sampled_from([None, "down", "nearest"])),
    st.builds(Resize, longest=SIDES, like=st.sampled_from(["pil", "tf"])),
    st.builds(Resize, fit=st.tuples(SIDES, SIDES)),
)
PADS = st.one_of(
    st.builds(
        Pad,
        size=st.tuples(st.integers(30, 60), st.integers(30, 60)),
        place=st.sampled_from(["center", "top_left"]),
    ),
    st.builds(
        Pad,
        by=st.tuples(*[st.integers(0, 5)] * 4),
        mode=st.sampled_from(["constant", "edge", "reflect"]),
    ),
)
CROPS = st.builds(CenterCrop, size=st.tuples(SIDES, SIDES), rounding=st.sampled_from(["half_even", "down"]))
OTHERS = st.one_of(
    st.builds(Color, to=st.sampled_from(["rgb", "bgr", "grayscale"])),
    st.just(Scale()),
    st.just(Normalize((0.5,), (0.25,))),
    st.just(Cast("float32")),
)
STEPS = st.lists(st.one_of(RESIZES, CROPS, PADS, OTHERS), max_size=6)
IMAGES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 4]))


SOUNDS = st.lists(
    st.one_of(
        st.builds(Resample, rate_hz=st.integers(100, 48_000), from_hz=st.sampled_from([0, 8000])),
        st.just(Mono()),
        st.builds(
            PadOrTrim, length=st.integers(1, 9), value=st.floats(-1, 1), keep=st.sampled_from(["start", "center"])
        ),
        st.builds(
            Mfcc,
            rate_hz=st.just(8000),
            n_fft=st.integers(16, 512),
            hop_length=st.integers(1, 99),
            n_mels=st.integers(13, 40),
            f_min=st.floats(0, 99),
            like=st.sampled_from(["torchaudio", "kaldi"]),
            floor=st.none() | st.floats(1e-12, 1),
        ),
    ),
    max_size=3,
)


@given(st.one_of(STEPS, SOUNDS))
def test_a_good_list_comes_back_from_its_file_unchanged(steps: list[Step]) -> None:
    try:
        lists = (InputSteps(tuple(steps), "x"),)
    except ValueError:
        return
    preprocess = {"input": "x", "step": [_written(step) for step in steps]}
    text = to_toml({"name": "x", "model": {"definition": "m.py"}, "target": [{"name": "t", "runtime": "onnx"}]})
    text += to_toml({"data": {"source": "npz:a.npz", "preprocess": [preprocess]}})
    assert parse_recipe(text).data.preprocess == lists


def _written(step: Step) -> dict[str, object]:
    """As TOML has it: what is None or empty is left out."""
    fields = {key: value for key, value in dataclasses.asdict(step).items() if value not in (None, ())}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}


@settings(max_examples=150, deadline=None)
@given(STEPS, IMAGES, st.booleans())
def test_any_list_is_refused_in_words_or_gives_what_it_says(
    steps: list[Step], shape: tuple[int, int, int], planes: bool
) -> None:
    if planes:
        steps = [*steps, Layout("NCHW")]
    try:
        asked = (InputSteps(tuple(steps)),)
    except ValueError:
        return
    image = RNG.integers(0, 256, shape, dtype=np.uint8)
    try:
        found = prepare(asked, (image,), IMAGE)
    except ModelError:
        return
    (array,) = found.inputs
    assert found.geometry is not None
    assert array.flags.c_contiguous and array.dtype in (np.uint8, np.float32) and np.isfinite(array).all()
    assert (array.shape[1:] if planes else array.shape[:2]) == found.geometry.size
    said = describe(asked, IMAGE)
    assert isinstance(said, Preprocessing)
    assert from_json(json.loads(json.dumps(to_json(said))), Preprocessing) == said
    assert (said.input, said.output) == ("HWC", "NCHW" if planes else "NHWC")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(RESIZES, CROPS, PADS), min_size=1, max_size=4),
    st.tuples(st.integers(24, 60), st.integers(24, 60)),
    st.data(),
)
def test_boxes_of_a_drawn_rectangle_stay_on_it(steps: list[Step], shape: tuple[int, int], data: st.DataObject) -> None:
    """After each step: where the rectangle's pixels are is where the geometry takes its corners."""
    image = np.zeros((*shape, 1), np.uint8)
    top, left = data.draw(st.integers(0, shape[0] - 8)), data.draw(st.integers(0, shape[1] - 8))
    bottom = data.draw(st.integers(top + 4, shape[0]))
    right = data.draw(st.integers(left + 4, shape[1]))
    image[top:bottom, left:right] = 255
    allowed, sides = np.full(4, 0.51), np.tile([right - left, bottom - top], 2)
    for count in range(1, len(steps) + 1):
        if any(isinstance(step, Pad) and step.mode != "constant" for step in steps[:count]):
            return  # mirrors draw more rectangles
        try:
            found = prepare((InputSteps(tuple(steps[:count])),), (image,), About())
        except (ModelError, ValueError):
            return
        assert found.geometry is not None
        (x1, y1), (x2, y2) = found.geometry.points(np.array([[left, top], [right, bottom]]))
        bright = found.inputs[0][:, :, 0] > 127
        a, b, c, d = found.geometry.visible
        seen = [max(x1, a), max(y1, b), min(x2, c), min(y2, d)]
        if seen[2] - seen[0] < 3 or seen[3] - seen[1] < 3:
            return  # too little of it is left to see its edges
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        # Half a pixel, and one more for each resize, whose filter blurs; enlarging enlarges what was off before.
        before, sides = sides, np.tile([x2 - x1, y2 - y1], 2)
        allowed = allowed * np.maximum(sides / before, 1) + isinstance(steps[count - 1], Resize)
        drawn = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert (np.abs(drawn - seen) <= allowed).all(), (drawn, seen, allowed)


@pytest.mark.parametrize("shape", [(60, 45), (45, 60), (31, 64)], ids=str)
@pytest.mark.parametrize(
    "steps",
    [
        (Resize(shorter=52), CenterCrop((46, 46))),
        (Resize(longest=96), Pad(size=(96, 96), value=(0.0,))),
        (Resize(fit=(50, 90), like="tf"), Pad(size=(60, 91), place="top_left")),
        (Pad(by=(3, 5, 7, 2)), Resize(size=(70, 33)), CenterCrop((50, 31), rounding="down")),
    ],
    ids=str,
)
def test_the_usual_steps_keep_boxes_on_their_rectangle(steps: tuple[Step, ...], shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 1), np.uint8)
    image[8:24, 20:37] = 255
    found = prepare((InputSteps(steps),), (image,), About())
    assert found.geometry is not None
    (x1, y1), (x2, y2) = found.geometry.points(np.array([[20, 8], [37, 24]]))
    bright = np.asarray(found.inputs[0][:, :, 0]) > 127
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    a, b, c, d = found.geometry.visible
    wanted = [max(x1, a), max(y1, b), min(x2, c), min(y2, d)]
    np.testing.assert_allclose([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], wanted, rtol=0, atol=1.0)


def test_a_mask_follows_its_images_pixels() -> None:
    """By nearest, each pixel of the result is the raw one that the geometry names."""
    image = RNG.integers(1, 256, (31, 23, 1), dtype=np.uint8)
    steps: tuple[Step, ...] = (
        Resize(size=(62, 46), filter="nearest"),
        CenterCrop((41, 30)),
        Pad(size=(50, 50)),
        Resize(size=(100, 100), filter="nearest"),
    )
    found = prepare((InputSteps(steps),), (image,), About())
    assert found.geometry is not None
    rows, columns = found.geometry.source_pixels()
    mask = image[rows][:, columns, 0]
    mask[rows < 0] = 0
    mask[:, columns < 0] = 0
    assert np.array_equal(mask, found.inputs[0][:, :, 0])


def test_targets_are_clipped_to_what_a_crop_left_before_it_was_padded() -> None:
    steps = (CenterCrop((4, 4)), Pad(size=(8, 8)))
    geometry = prepare((InputSteps(steps),), (np.zeros((8, 8, 1), np.uint8),), About()).geometry
    assert geometry is not None and geometry.visible == (2.0, 2.0, 6.0, 6.0) and not geometry.is_identity
    found: dict[str, np.ndarray] = {
        "mask": np.arange(64).reshape(8, 8),
        "boxes": np.array([[0, 0, 3, 8], [0, 0, 2, 2], [3, 3, 5, 5]], np.float32),
        "classes": np.array([0, 1, 2]),
        "crowd": np.zeros(3, np.uint8),
        "keypoints": np.array([[[1.5, 4, 2], [2.5, 4, 2]]], np.float32),
        "areas": np.ones(1, np.float32),
    }
    moved = move(
        found,
        {"mask": "mask", "boxes": "boxes", "keypoints": "keypoints"},
        geometry,
        dict.fromkeys(found, "sample 'a'"),
    )
    # The image is where it was: the crop took a frame of two pixels, and the pad put another in its place.
    assert moved["boxes"].tolist() == [[2, 2, 3, 6], [3, 3, 5, 5]] and moved["classes"].tolist() == [0, 2]
    inner = np.zeros((8, 8), bool)
    inner[2:6, 2:6] = True
    assert np.array_equal(moved["mask"], np.where(inner, found["mask"], 255))
    assert moved["keypoints"][0, :, 2].tolist() == [0.0, 2.0]
