"""The steps of preprocessing in words that an app can follow, as a file's sidecar has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

from pocketforge.data.base import PreprocessStep
from pocketforge.data.preprocess import About, effective
from pocketforge.data.preprocess_bands import CONVENTIONS
from pocketforge.data.preprocess_image import LUMA
from pocketforge.data.preprocess_text import open_tokenizer
from pocketforge.outcomes.data import InputPreprocessing, Preprocessing, PreprocessingOfInputs
from pocketforge.recipe.image_steps import Cast, CenterCrop, Color, Layout, Normalize, Pad, Resize, Scale
from pocketforge.recipe.preprocess import InputSteps, Preprocess
from pocketforge.recipe.preprocess import Preprocessing as Asked
from pocketforge.recipe.sound_steps import LogMel, Mfcc, Mono, PadOrTrim, Pcm, Resample, Tokenize

_RAW = {"image": "HWC", "sound": "waveform", "text": "text", "": "numbers"}
_Words = list[PreprocessStep]


def describe(asked: Asked, about: About) -> Preprocessing | PreprocessingOfInputs:
    """The steps of `prepare` in order.

    {"input": "HWC", "output": "NCHW", "steps": [{"step": "resize", …}, {"step": "divide", "by": 255.0}, …]};
    no steps (and input and output null) when the data is fed as is. Several inputs have such a list each.
    """
    plan = effective(asked, about.value_max)
    if plan is None:
        return Preprocessing(None, None, ())
    if isinstance(plan, Preprocess):
        steps = [
            words for step in plan.steps(about.value_max) if not _is_plain_cast(step) for words in _of(step, about)
        ]
        return Preprocessing("HWC", plan.layout, (*about.reading, *steps))
    if len(plan) == 1:
        found = _of_list(plan[0], about)
        return Preprocessing(found.input, found.output, found.steps)
    several = dataclasses.replace(about, as_images=False)
    return PreprocessingOfInputs(tuple(_of_list(each, several) for each in plan))


def _is_plain_cast(step: object) -> bool:
    """Of a short table: what comes out of it is float32 whatever is written."""
    return isinstance(step, Cast)


def _of_list(each: InputSteps, about: About) -> InputPreprocessing:
    kind = about.kind(each)
    if not kind and not each.step:
        return InputPreprocessing(each.input, each.gives, None, None, ())
    steps = _in_turn(each.step, about)
    reading = about.reading if kind == "image" else ()
    output = each.layout or ("NHWC" if kind == "image" else None)
    return InputPreprocessing(each.input, each.gives, _RAW[kind], output, (*reading, *steps))


def _in_turn(steps: Sequence[object], about: About) -> _Words:
    """Of a list; what comes after BGR is made of RGB, as `prepare` makes it."""
    found: _Words = []
    turned = False
    for step in steps:
        if isinstance(step, Color):
            found += [{"step": "reverse_channels", "from": "BGR", "to": "RGB"}] if turned else []
            turned = step.to == "bgr"
        found += _of(step, about)
    return found


def _of(step: object, about: About) -> _Words:
    return _WORDS[type(step)](step, about)


def _resize(step: Resize, _: About) -> _Words:
    size: dict[str, object] = {}
    if step.size:
        size = {"height": step.size[0], "width": step.size[1]}
    elif step.shorter:
        size = {"shorter": step.shorter, "rounding": step.rounds}
    else:
        box = step.fit or (step.longest, step.longest)
        size = {"fit_height": box[0], "fit_width": box[1], "rounding": step.rounds}
    # Half-pixel centres, and a wider filter when shrinking: Pillow's BILINEAR, tf.image's antialias=True.
    words = {"step": "resize", **size, "filter": step.filter, "antialias": step.smooths}
    short = bool(step.size) and (step.filter, step.like) == ("bilinear", "pil")
    return [words if short else {**words, "like": step.like}]


def _center_crop(step: CenterCrop, _: About) -> _Words:
    height, width = step.size
    return [{"step": "center_crop", "height": height, "width": width, "rounding": step.rounding}]


def _pad(step: Pad, _: About) -> _Words:
    words: dict[str, object] = {"step": "pad", "mode": step.mode}
    if step.size:
        words |= {"height": step.size[0], "width": step.size[1], "place": step.place}
    else:
        words |= dict(zip(("left", "top", "right", "bottom"), step.by, strict=True))
    return [words | ({"value": list(step.value)} if step.mode == "constant" else {})]


def _color(step: Color, _: About) -> _Words:
    if step.to == "grayscale":
        return [{"step": "grayscale", "weights": list(LUMA)}]
    words: _Words = [{"step": "rgb", "alpha": "drop", "grayscale": "repeat"}]
    return [*words, {"step": "reverse_channels", "from": "RGB", "to": "BGR"}] if step.to == "bgr" else words


def _scale(step: Scale, about: About) -> _Words:
    return [{"step": "divide", "by": float(step.by or about.value_max)}]


def _normalize(step: Normalize, _: About) -> _Words:
    return [{"step": "normalize", "mean": list(step.mean), "std": list(step.std)}]


def _cast(step: Cast, _: About) -> _Words:
    return [{"step": "cast", "dtype": step.to, **({} if step.to == "float32" else {"round": "half_to_even"})}]


def _layout(step: Layout, _: About) -> _Words:
    if step.KIND == "image":
        return [{"step": "transpose", "from": "HWC", "to": "CHW"}] if step.to == "NCHW" else []
    return [{"step": "layout", "to": step.to}]


def _resample(step: Resample, about: About) -> _Words:
    found = step.from_hz or about.rate_hz
    words = {"step": "resample", "rate_hz": step.rate_hz, "library": "soxr", "quality": "HQ"}
    return [{**words, "tested_from_hz": found} if found else words]


def _mono(_: Mono, __: About) -> _Words:
    return [{"step": "mono", "by": "mean"}]


def _pcm(step: Pcm, _: About) -> _Words:
    return [{"step": "pcm", "dtype": "int16", "full_scale": step.full_scale, "round": "half_to_even", "clip": True}]


def _pad_or_trim(step: PadOrTrim, _: About) -> _Words:
    return [{"step": "pad_or_trim", "length": step.length, "keep": step.keep, "value": step.value}]


def _bands(step: LogMel, _: About) -> _Words:
    """With what the convention's name stands for: an app has the numbers, not the library."""
    written = {name: value for name, value in dataclasses.asdict(step).items() if name != "type"}
    like = dataclasses.asdict(CONVENTIONS[step.like])
    own = {name: value for name, value in written.items() if name not in ("log", "floor", "floor_way")}
    settled = {
        "window_length": step.frame_length,
        "f_max": step.highest_hz,
        "log": step.log or like["log"],
        "floor": like["floor"] if step.floor is None else step.floor,
        "floor_way": step.floor_way or "max",
    }
    return [{"step": step.type, **own, **like, **settled}]


def _tokenize(step: Tokenize, about: About) -> _Words:
    found = open_tokenizer(step, about.resolve(step.file))
    return [
        {
            "step": "tokenize",
            "file": PurePath(step.file).name,
            "sha256": found.sha256,
            "max_length": step.max_length,
            "special_tokens": step.special_tokens,
            "pad_id": found.pad_id,
            "pad_side": found.pad_side,
            "gives": list(step.gives),
            "dtype": step.dtype,
        }
    ]


_WORDS: dict[type, Callable[[Any, About], _Words]] = {
    Resize: _resize,
    CenterCrop: _center_crop,
    Pad: _pad,
    Color: _color,
    Scale: _scale,
    Normalize: _normalize,
    Cast: _cast,
    Layout: _layout,
    Resample: _resample,
    Mono: _mono,
    PadOrTrim: _pad_or_trim,
    Pcm: _pcm,
    LogMel: _bands,
    Mfcc: _bands,
    Tokenize: _tokenize,
}
