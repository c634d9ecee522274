"""From a raw sample to the model's inputs, step by step (preprocess_words.py tells the same in words)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from pocketforge.data import preprocess_image, preprocess_sound
from pocketforge.data.base import Array, PreprocessStep
from pocketforge.data.geometry import Geometry, stretched
from pocketforge.data.preprocess_image import Picture, picture, planes_first
from pocketforge.data.preprocess_sound import Sound, check_rate, sound
from pocketforge.data.preprocess_text import tokenize
from pocketforge.errors import ModelError
from pocketforge.files import Resolve
from pocketforge.recipe.image_steps import Cast, Normalize, Scale
from pocketforge.recipe.preprocess import InputSteps, Preprocess, Preprocessing, Step
from pocketforge.recipe.sound_steps import Tokenize


@dataclass(frozen=True, slots=True)
class About:
    """What a source says of its raw samples.

    Attributes:
        value_max: The raw value that becomes 1.0; 0 where nothing says one.
        rate_hz: Of sound; 0 where there is none, or nothing says it.
        reading: Steps that made the raw samples from their files.
        resolve: Makes a path written in the recipe absolute.
        as_images: Whether its samples are images, which steps for any numbers are then for.
    """

    value_max: float = 0.0
    rate_hz: int = 0
    reading: tuple[PreprocessStep, ...] = ()
    resolve: Resolve = Path
    as_images: bool = False

    def kind(self, steps: InputSteps) -> str:
        """What a list is done to: image, sound or text; empty for any other numbers."""
        return steps.kind or ("image" if self.as_images else "")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the model gets of a sample.

    Attributes:
        inputs: Without a batch dimension, in the model's order.
        geometry: Where the first image's raw pixels are in it; None where there is no image.
    """

    inputs: tuple[Array, ...]
    geometry: Geometry | None = None


@dataclass(frozen=True, slots=True)
class Numbers:
    """Neither image nor sound: a vector, a table, on its way to the model.

    Attributes:
        values: Of any shape.
    """

    values: Array


Work = TypeVar("Work", Picture, Sound, Numbers)


def effective(preprocess: Preprocessing, value_max: float) -> Preprocessing:
    """The preprocessing that happens: image sources (value_max > 0) are scaled and laid out even when none is asked."""
    return Preprocess() if preprocess is None and value_max > 0 else preprocess


def prepare(preprocess: Preprocessing, inputs: tuple[Array, ...], about: About) -> Prepared:
    """One sample's raw inputs → the model's inputs.

    By a short table: one H×W×C or H×W image → float32 (C, H, W), or (H, W, C) for layout NHWC. Where nothing says the
    largest value, floats stay as they are, and integers are refused without a scale. By lists: one for each raw input.
    Without either: floats become float32, integers (token ids) keep their type. Raises ModelError when the sample does
    not fit.
    """
    plan = effective(preprocess, about.value_max)
    if plan is None:
        for raw in inputs:
            _check_plain(raw, about)
        geometry = _plain_geometry(inputs[0]) if len(inputs) == 1 else None
        return Prepared(tuple(_as_it_is(raw) for raw in inputs), geometry)
    if isinstance(plan, Preprocess):
        return _one_image(plan, inputs, about)
    if len(plan) != len(inputs):
        raise ModelError(
            f"data.preprocess has {len(plan)} lists of steps, this source has {len(inputs)} inputs",
            'write one [[data.preprocess]] for each input, in the source\'s order, each with input = "name" and step; '
            "step = [] feeds one as it is",
        )
    alone = len(plan) == 1
    about = about if alone else dataclasses.replace(about, as_images=False)
    made: list[Array] = []
    geometry = None
    for each, raw in zip(plan, inputs, strict=True):
        try:
            if alone and not about.kind(each):
                _check_plain(raw, about)
            values, placed = _one_input(each, raw, about)
        except ModelError as error:
            if alone or not each.input:
                raise
            raise ModelError(f"input {each.input!r}: {error.message}", error.hint) from error
        made += values
        geometry = geometry or placed
    return Prepared(tuple(made), geometry)


def _one_image(plan: Preprocess, inputs: tuple[Array, ...], about: About) -> Prepared:
    if len(inputs) != 1:
        raise ModelError(
            f"data.preprocess is for one image input, this source has {len(inputs)} inputs",
            "write one [[data.preprocess]] for each input, with input and step (pocketforge docs preprocessing); or "
            "leave out data.preprocess and prepare the inputs in a module.py:function source",
        )
    image = picture(inputs[0])
    if plan.scale is None and not about.value_max and image.values.dtype.kind in "iu":
        raise ModelError(
            f"data.preprocess: images are {image.values.dtype}, and nothing says which value is white",
            "write data.preprocess.scale: the value that becomes 1.0 (255, 65535), or 0 to leave values as they are; "
            "uint8 images are divided by 255 without",
        )
    for step in plan.steps(about.value_max):
        image = _done(step, image, about)
    return Prepared((np.ascontiguousarray(image.values),), image.geometry)


def _one_input(each: InputSteps, raw: Array, about: About) -> tuple[tuple[Array, ...], Geometry | None]:
    """By a list: what it makes, and where an image's pixels went."""
    kind = about.kind(each)
    if kind == "text":
        (step,) = each.step
        assert isinstance(step, Tokenize)
        return tokenize(step, about.resolve(step.file), raw), None
    if not kind:
        _check_plain(raw, About())
    return _through(each.step, kind, raw, about)


def through(steps: Sequence[Step], kind: str, raw: Array, about: About) -> Array:
    """One raw input by steps that need be no list of a recipe's: for who asks what another list would have given.

    kind: image, sound, or empty for any other numbers. Raises ModelError where the input does not fit.
    """
    return _through(steps, kind, raw, about)[0][0]


def _through(steps: Sequence[Step], kind: str, raw: Array, about: About) -> tuple[tuple[Array, ...], Geometry | None]:
    if kind == "image":
        image = picture(raw)
        for step in steps:
            image = _done(step, image, about)
        return (_as_it_is(image.values),), image.geometry
    if kind == "sound":
        heard = sound(raw, about.rate_hz)
        for step in steps:
            heard = _done(step, heard, about)
        if not any(hasattr(step, "rate_hz") for step in steps):
            check_rate(heard)
        return (_as_it_is(heard.values),), None
    numbers = Numbers(_as_it_is(raw))
    for step in steps:
        numbers = _done(step, numbers, about)
    return (_as_it_is(numbers.values),), None


def _plain_geometry(raw: Array) -> Geometry | None:
    """Of what is fed as it is: a mask's size has to be the image's. Planes come first or last; None for no image."""
    if raw.ndim not in (2, 3):
        return None
    height, width = raw.shape[1:] if raw.ndim == 3 and planes_first(raw) else raw.shape[:2]
    return stretched((height, width), (height, width))


def _check_plain(raw: Array, about: About) -> None:
    """Before a raw input goes to the model as it is."""
    if raw.dtype.kind == "U":
        raise ModelError("data.preprocess: a text goes to no model as it is", "write a step tokenize")
    if about.rate_hz:
        check_rate(Sound(raw, about.rate_hz))


def _done(step: object, work: Work, about: About) -> Work:
    if isinstance(step, Scale):
        return dataclasses.replace(work, values=_scaled(step, work.values, about))
    if isinstance(step, Normalize):
        return dataclasses.replace(work, values=_normalized(step, work))
    if isinstance(step, Cast):
        return dataclasses.replace(work, values=_cast(step, work.values))
    if isinstance(work, Picture):
        return preprocess_image.do(step, work)
    assert isinstance(work, Sound)  # numbers have no steps of their own
    return preprocess_sound.do(step, work)


def _scaled(step: Scale, values: Array, about: About) -> Array:
    by = step.by or about.value_max
    if not by:
        raise ModelError(
            f"data.preprocess: scale does not say by what, and nothing says which value of {values.dtype} is white",
            "write by: the value that becomes 1.0 (255, 65535)",
        )
    return np.asarray(values, np.float32) / np.float32(by)


def _normalized(step: Normalize, work: Picture | Sound | Numbers) -> Array:
    values = np.asarray(work.values, np.float32)
    waveform = isinstance(work, Sound) and values.ndim == 1
    last = values.shape[-1] if values.ndim and not waveform else 1
    if len(step.mean) not in (1, last):
        has = "the image has {} channels" if isinstance(work, Picture) else "the input has {} there"
        raise ModelError(
            f"data.preprocess: mean and std have {len(step.mean)} values, {has.format(last)}",
            'set data.preprocess.color to "rgb" or "grayscale", or give one value a channel'
            if isinstance(work, Picture)
            else "give one value, or one for each",
        )
    return (values - np.asarray(step.mean, np.float32)) / np.asarray(step.std, np.float32)


def _cast(step: Cast, values: Array) -> Array:
    if step.to == "float32" or values.dtype == step.to:
        return np.asarray(values, step.to)
    limits = np.iinfo(step.to)
    whole = np.rint(values) if values.dtype.kind == "f" else values
    if whole.size and not (limits.min <= whole.min() and whole.max() <= limits.max):
        raise ModelError(
            f"data.preprocess: cast to {step.to} ({limits.min} to {limits.max}) of values from {values.min():g} to "
            f"{values.max():g}",
            "scale or normalize them into that range before",
        )
    return whole.astype(step.to)


def _as_it_is(array: Array) -> Array:
    """Floats in single precision, in this machine's byte order: torch knows no other."""
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # an infinity is refused with the sample's name
            return np.asarray(array, np.float32, order="C")
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")
