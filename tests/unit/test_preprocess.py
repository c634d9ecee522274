"""Preprocessing against Pillow and plain arithmetic, and its description against itself."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from pocketforge.data.preprocess import About, prepare
from pocketforge.data.preprocess_words import describe
from pocketforge.errors import ModelError
from pocketforge.outcomes.files import to_json
from pocketforge.recipe import Data, InputSteps, Preprocess
from pocketforge.recipe.image_steps import Cast, CenterCrop, Color, Layout, Normalize, Pad, Resize, Scale
from pocketforge.specs.data import data_spec

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)


def apply(preprocess, value_max, inputs):
    return prepare(preprocess, inputs, About(value_max)).inputs


def follow(description, image):
    """An app's own reading of the description, written apart from `apply`: the sidecar has to be enough."""
    x = image
    for step in description["steps"]:
        match step["step"]:
            case "grayscale":
                x = np.rint(x[..., :3].astype(np.float64) @ step["weights"]).astype(np.uint8)[..., None]
            case "rgb":
                x = np.repeat(x, 3, axis=2) if x.shape[2] == 1 else x[..., :3]
            case "orient":
                pass  # the raw sample here is an array
            case "resize":
                assert (step["filter"], step["antialias"], step.get("like", "pil")) == ("bilinear", True, "pil")
                size = resized(step, *x.shape[:2])
                planes = [Image.fromarray(x[..., c]).resize(size, Image.Resampling.BILINEAR) for c in range(x.shape[2])]
                x = np.stack([np.asarray(plane) for plane in planes], axis=2)
            case "divide":
                x = x.astype(np.float32) / np.float32(step["by"])
            case "normalize":
                x = (x - np.float32(step["mean"])) / np.float32(step["std"])
            case "center_crop":
                assert step["rounding"] == "half_even"
                over = (x.shape[0] - step["height"], x.shape[1] - step["width"])
                top, left = (round(pixels / 2) for pixels in over)
                x = x[top : top + step["height"], left : left + step["width"]]
            case "pad":
                assert (step["mode"], step["place"]) == ("constant", "center")
                high, wide = step["height"] - x.shape[0], step["width"] - x.shape[1]
                sides = ((high // 2, high - high // 2), (wide // 2, wide - wide // 2), (0, 0))
                x = np.pad(x, sides, constant_values=np.uint8(step["value"][0]))
            case "reverse_channels":
                x = x[..., ::-1]
            case "cast":
                x = np.rint(x).astype(step["dtype"])
            case "transpose":
                assert (step["from"], step["to"]) == ("HWC", "CHW")
                x = x.transpose(2, 0, 1)
            case other:
                raise AssertionError(other)
    return x


def resized(step, height, width):
    """Width and height, as Pillow takes them."""
    if "height" in step:
        return step["width"], step["height"]
    if "shorter" in step:
        assert step["rounding"] == "down"
        longer = int(step["shorter"] * max(height, width) / min(height, width))
        return (step["shorter"], longer) if width < height else (longer, step["shorter"])
    assert step["rounding"] == "nearest"
    ratio = min(step["fit_height"] / height, step["fit_width"] / width)
    return round(width * ratio), round(height * ratio)


def steps(*several):
    return (InputSteps(several),)


@pytest.mark.parametrize(
    "preprocess",
    [
        None,
        steps(Resize(shorter=6), CenterCrop((5, 4)), Scale(), Normalize((0.5,), (0.25,)), Layout("NCHW")),
        steps(Color("bgr"), Resize(longest=20), Pad(size=(20, 21), value=(114.0,)), Scale(by=255.0), Layout("NHWC")),
        steps(Resize(fit=(7, 5)), Normalize((128.0,), (1.0,)), Cast("float32")),
        steps(Color("rgb"), Cast("float32"), Layout("NCHW")),
        Preprocess(),
        Preprocess(resize=(5, 6), mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3)),
        Preprocess(color="grayscale", mean=(0.5,), std=(0.5,)),
        Preprocess(color="grayscale", resize=(20, 3), layout="NHWC"),
        Preprocess(color="rgb", scale=128.0),
        Preprocess(scale=0, layout="NHWC"),
    ],
)
def test_the_description_is_enough_to_do_it_again(preprocess):
    description = to_json(describe(preprocess, About(255.0)))
    assert json.loads(json.dumps(description)) == description
    (result,) = apply(preprocess, 255.0, (RGB,))
    assert result.dtype == np.float32 and result.flags.c_contiguous
    # Pillow's integer luma rounds some values to the neighbouring gray level: one level (of std 0.5) is allowed there.
    gray = isinstance(preprocess, Preprocess) and preprocess.color == "grayscale"
    np.testing.assert_allclose(result, follow(description, RGB), atol=2.1 / 255 if gray else 1e-6)


def test_numbers():
    image = np.array([[[0], [128]], [[255], [51]]], np.uint8)
    (result,) = apply(Preprocess(mean=(0.5,), std=(0.25,)), 255.0, (image,))
    assert result.shape == (1, 2, 2)
    np.testing.assert_allclose(result[0], (np.array([[0, 128], [255, 51]]) / 255 - 0.5) / 0.25, atol=1e-6)


def test_grayscale_is_pillows():
    (result,) = apply(Preprocess(color="grayscale", scale=0), 255.0, (RGB,))
    assert np.array_equal(result[0], np.asarray(Image.fromarray(RGB).convert("L"), np.float32))


def test_resize_is_pillows_in_8_bits():
    (result,) = apply(Preprocess(resize=(4, 3), scale=0, layout="NHWC"), 255.0, (RGB,))
    assert np.array_equal(result, np.asarray(Image.fromarray(RGB).resize((3, 4), Image.Resampling.BILINEAR)))


def test_float_sources_are_resized_in_floats():
    digit = np.arange(64, dtype=np.float32).reshape(8, 8, 1) / 4
    (result,) = apply(Preprocess(resize=(32, 32)), 16.0, (digit,))
    wanted = np.asarray(Image.fromarray(digit[:, :, 0]).resize((32, 32), Image.Resampling.BILINEAR)) / 16
    assert np.array_equal(result[0], wanted)
    assert len(np.unique(result)) > 64  # not rounded to whole values on the way


def test_alpha_is_dropped_and_gray_repeated_for_rgb():
    rgba = np.concatenate([RGB, np.full((9, 7, 1), 7, np.uint8)], axis=2)
    plan = Preprocess(color="rgb", scale=0, layout="NHWC")
    assert np.array_equal(apply(plan, 255.0, (rgba,))[0], RGB)
    assert apply(plan, 255.0, (RGB[:, :, :1],))[0].shape == (9, 7, 3)
    assert apply(plan, 255.0, (RGB[:, :, 0],))[0].shape == (9, 7, 3)


def test_without_preprocessing_numbers_pass_as_they_are():
    tokens, floats = np.array([3, 4], np.int64), np.array([0.5], np.float64)
    result = apply(None, 0.0, (tokens, floats))
    assert result[0].dtype == np.int64 and np.array_equal(result[0], tokens)
    assert result[1].dtype == np.float32
    assert to_json(describe(None, About())) == {"input": None, "output": None, "steps": []}


@pytest.mark.parametrize(
    ("plan", "inputs", "words"),
    [
        (Preprocess(mean=(0.5, 0.5), std=(1.0, 1.0)), (RGB,), "2 values, the image has 3 channels"),
        (Preprocess(), (RGB, RGB), "one image input, this source has 2"),
        (Preprocess(), (np.zeros(4),), "found shape \\(4,\\)"),
        (Preprocess(color="rgb"), (np.zeros((2, 2, 5)),), "1, 3 or 4 channels, found 5"),
    ],
)
def test_what_does_not_fit(plan, inputs, words):
    with pytest.raises(ModelError, match=words):
        apply(plan, 255.0, inputs)


def test_preprocess_goes_to_a_stage_as_it_is_and_into_keys_as_json():
    plan = Preprocess(resize=(4, 3), mean=(0.5,), std=(0.2,), color="grayscale")
    spec = data_spec(Data("digits", preprocess=plan), 0, "classification")
    assert pickle.loads(pickle.dumps(spec)) == spec and spec.preprocess == plan
    assert json.loads(json.dumps(spec.to_json()))["preprocess"]["resize"] == [4, 3]
