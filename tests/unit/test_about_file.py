"""What a file says of itself is true of what it takes and gives, or is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from pocketforge.errors import ModelError
from pocketforge.outcomes.about import About, AboutInput, AboutOutput
from pocketforge.outcomes.data import Counts, Preprocessing, Sampled
from pocketforge.outcomes.package import Packed, PackedInput
from pocketforge.outcomes.reference import ModelTensor, Reference
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.recipe.output import Output
from pocketforge.runtimes.about_file import about_file
from pocketforge.runtimes.tflite_metadata import metadata_of
from pocketforge.specs.export import AboutSpec

BY_255: Mapping[str, object] = {"step": "divide", "by": 255.0}
BGR: Mapping[str, object] = {"step": "reverse_channels", "from": "RGB", "to": "BGR"}
IMAGE = ModelTensor("x", (1, 4, 4, 3), "float32")
SCORES = ModelTensor("y", (1, 2), "float32")
AS_IT_IS = Preprocessing(None, None, ())


def told(
    *steps: Mapping[str, object],
    taken: ModelTensor = IMAGE,
    given: ModelTensor = SCORES,
    output: Output = Output("logits"),  # noqa: B008 - frozen
    value_max: float = 255.0,
    labels: tuple[str, ...] = ("a", "b"),
    packed: Packed | None = None,
) -> About:
    words = Preprocessing("HWC", "NHWC", steps)
    counts = Counts(2, 1, 1, 1, 0, 0)
    sampled = Sampled("s", "outputs", labels, counts, {}, (), None, words, None, (), value_max=value_max)
    return about_file(AboutSpec("t", (output,)), sampled, Reference(1, 1, {}, 1, (taken,), (given,)), packed)


def test_mean_and_deviation_are_said_of_pixels_up_to_255_alone() -> None:
    (taken,) = told(BY_255).inputs
    assert (taken.mean, taken.std, taken.high, taken.color) == ((0.0,), (255.0,), (1.0,), "rgb")
    # scikit-learn's digits are 0 to 16; of floats without a largest value nobody knows what they are.
    for steps, value_max in (((({"step": "divide", "by": 16.0}),), 16.0), ((), 0.0)):
        assert told(*steps, value_max=value_max).inputs == (AboutInput("x", 3, color="rgb"),)
    assert told(BY_255, value_max=0.0).inputs == (taken,), "the recipe says what is white"


def test_floats_that_a_file_takes_as_they_are_decoded_are_pixels_only_where_the_source_says_so() -> None:
    packed = Packed((PackedInput("x", "float32", (1, 4, 4, 3), "NHWC", ()),), "none", "")
    assert told(packed=packed).inputs == (AboutInput("x", 3, mean=(0.0,), std=(1.0,), color="rgb"),)
    assert told(packed=packed, value_max=16.0).inputs == (AboutInput("x", 3, color="rgb"),)


def test_channels_in_another_order_or_number_are_not_called_rgb() -> None:
    assert told(BGR, BY_255).inputs == (AboutInput("x", 3),)
    assert told(BY_255, taken=replace(IMAGE, shape=(1, 4, 4, 4))).inputs[0].color == ""
    assert told(BY_255, taken=replace(IMAGE, shape=(1, 4, 4, 1))).inputs[0].color == "gray"


def test_a_waveforms_channels_are_counted() -> None:
    resampled = {"step": "resample", "rate_hz": 16000}
    for shape, channels in (((1, 100), 1), ((1, 100, 2), 2)):
        packed = Packed((PackedInput("x", "int16", shape, "", ()),), "none", "")
        assert told(resampled, packed=packed).inputs == (AboutInput("x", channels, rate_hz=16000),)


def test_levels_have_the_range_of_their_type() -> None:
    about = told(BY_255)
    of_bytes = about.of_levels({"x"}, "uint8").inputs[0]
    assert (of_bytes.low, of_bytes.high, of_bytes.std) == ((0.0,), (255.0,), (255.0,))
    assert about.of_levels({"x"}, "int8").inputs[0].high == ()
    assert about.of_levels(set(), "uint8") == about, "an input that stays float"


def test_levels_are_the_last_step_as_in_a_sidecar() -> None:
    taken = TensorSpec("x", (1, 4, 4, 3), "uint8", "NHWC", 0.5, 3)
    words = told(BY_255).to_json([taken])["preprocessing"]
    assert isinstance(words, dict) and [step["step"] for step in words["steps"]] == ["divide", "quantize"]


@pytest.mark.parametrize(
    ("output", "given", "labels", "labelled"),
    [
        (Output("logits"), SCORES, ("a", "b"), "axis"),
        (Output("logits"), SCORES, ("a", "b", "c"), ""),
        (Output("logits"), ModelTensor("y", (1,), "int64"), ("a", "b"), "values"),
        (Output("segmentation"), ModelTensor("y", (1, 2, 8, 8), "float32"), ("a", "b"), "axis"),
        (Output("tokens"), ModelTensor("y", (1, 9, 2), "float32"), ("a", "b"), "axis"),
        (Output("binary"), ModelTensor("y", (1, 1), "float32"), ("a", "b"), ""),
        (Output("boxes"), ModelTensor("y", (1, 4, 4), "float32"), ("a", "b", "c", "d"), ""),
    ],
)
def test_labels_are_of_an_axis_or_of_values_or_of_neither(
    output: Output, given: ModelTensor, labels: tuple[str, ...], labelled: str
) -> None:
    (found,) = told(output=output, given=given, labels=labels).outputs
    assert (found.labels, found.labelled) == (labels, labelled)


def test_a_label_that_is_no_line_is_refused() -> None:
    from pocketforge.runtimes.tflite_metadata import add_metadata

    for name in ("New\nYork", "a\r", ""):
        about = About("n", (), (AboutOutput("y", "logits", (name, "b"), labelled="axis"),), AS_IT_IS, {})
        with pytest.raises(ModelError, match="is no line of text"):
            add_metadata(b"", about)


def test_what_is_unknown_is_written_as_such_and_sound_asks_for_a_later_reader() -> None:
    rgb, unknown, sound = (
        metadata_of(About("n", (each,), (), AS_IT_IS, {}))
        for each in (AboutInput("x", 3, color="rgb"), AboutInput("x", 3), AboutInput("x", 1, rate_hz=16000))
    )
    assert rgb != unknown and b"1.0.0" in unknown, "a colour space is one field more"
    assert b"1.3.0" in sound and b"1.0.0" not in sound
