"""Steps of preprocessing that are done to sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pocketforge.data.base import Array
from pocketforge.data.preprocess_bands import log_mel, mfcc
from pocketforge.errors import ModelError, ToolMissing
from pocketforge.recipe.image_steps import Layout
from pocketforge.recipe.sound_steps import LogMel, Mfcc, Mono, PadOrTrim, Pcm, Resample
from pocketforge.version import install

# More channels than any microphone array has; an array with fewer samples than these is turned round.
_MOST_CHANNELS = 64


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound on its way to the model.

    Attributes:
        values: (samples,) or (samples, channels); (frames, bands) once those were made.
        rate_hz: Of its samples; 0 where nothing says it.
    """

    values: Array
    rate_hz: int


def sound(raw: Array, rate_hz: int) -> Sound:
    """A raw sample as a sound, float32. rate_hz: the source's; 0 where it says none. Raises ModelError for no sound."""
    if raw.ndim not in (1, 2) or 0 in raw.shape or raw.dtype.kind not in "fiu":
        raise ModelError(
            f"data.preprocess is for sound (samples,) or (samples, channels), found shape {raw.shape} {raw.dtype}"
        )
    if raw.ndim == 2 and raw.shape[1] > min(_MOST_CHANNELS, raw.shape[0]):
        raise ModelError(
            f"data.preprocess is for sound (samples, channels), found shape {raw.shape}, which looks like "
            "(channels, samples)",
            "give x as (N, samples, channels)",
        )
    return Sound(np.asarray(raw, np.float32), rate_hz)


def do(step: object, heard: Sound) -> Sound:
    """One step. Raises ModelError where the sound does not fit it, ToolMissing without its library."""
    return _STEPS[type(step)](step, heard)


def check_rate(heard: Sound) -> None:
    """Before a waveform goes to the model as it is: something has to say of which rate. Raises ModelError."""
    if heard.rate_hz:
        raise ModelError(
            f"data.preprocess: the sound has {heard.rate_hz} Hz, and nothing says which rate the model takes",
            f'write a step {{ type = "resample", rate_hz = {heard.rate_hz} }}, or the model\'s own rate',
        )


def _resample(step: Resample, heard: Sound) -> Sound:
    if step.from_hz and heard.rate_hz and step.from_hz != heard.rate_hz:
        raise ModelError(
            f"data.preprocess: resample says from_hz = {step.from_hz}, the source's sound has {heard.rate_hz} Hz",
            "leave out from_hz: the source says it",
        )
    found = step.from_hz or heard.rate_hz
    if not found:
        raise ModelError(
            "data.preprocess: resample does not know the sound's rate: the source says none",
            "write from_hz: the rate of the samples, in Hz",
        )
    if found == step.rate_hz:
        return replace(heard, rate_hz=found)
    try:
        import soxr
    except ImportError as error:
        raise ToolMissing("data.preprocess.resample needs soxr", install("audio")) from error
    values = np.asarray(soxr.resample(heard.values, found, step.rate_hz, quality="HQ"), np.float32)
    if not len(values):
        raise ModelError(f"data.preprocess: nothing is left of {len(heard.values)} samples at {step.rate_hz} Hz")
    return Sound(values, step.rate_hz)


def _mono(_: Mono, heard: Sound) -> Sound:
    if heard.values.ndim == 1:
        return heard
    return replace(heard, values=heard.values.mean(axis=1, dtype=np.float32))


def _pad_or_trim(step: PadOrTrim, heard: Sound) -> Sound:
    values = heard.values
    over = len(values) - step.length
    before = abs(over) // 2 if step.keep == "center" else 0
    if over >= 0:
        return replace(heard, values=values[before : before + step.length])
    result = np.full((step.length, *values.shape[1:]), step.value, values.dtype)
    result[before : before + len(values)] = values
    return replace(heard, values=result)


def _pcm(step: Pcm, heard: Sound) -> Sound:
    levels = np.rint(heard.values * np.float32(step.full_scale))
    return replace(heard, values=np.clip(levels, -step.full_scale, step.full_scale - 1).astype(np.int16))


def _features(step: LogMel, heard: Sound) -> Sound:
    what = f"data.preprocess: {step.type} of {step.rate_hz} Hz"
    if heard.rate_hz and heard.rate_hz != step.rate_hz:
        raise ModelError(
            f"{what}: the sound has {heard.rate_hz} Hz there",
            f'put a step {{ type = "resample", rate_hz = {step.rate_hz} }} before it',
        )
    if heard.values.ndim != 1:
        raise ModelError(
            f"{what}: the sound has {heard.values.shape[1]} channels", 'put a step { type = "mono" } before it'
        )
    least = step.frame_length if step.like == "kaldi" else step.n_fft // 2 + 1
    if len(heard.values) < least:
        raise ModelError(
            f"{what}: wanted {least} samples or more, found {len(heard.values)}",
            "put a step pad_or_trim before it, or take the sound out",
        )
    return replace(heard, values=mfcc(step, heard.values) if isinstance(step, Mfcc) else log_mel(step, heard.values))


def _layout(step: Layout, heard: Sound) -> Sound:
    values = heard.values
    if values.ndim == 2 and step.to in ("NT", "NCT"):
        # A waveform with channels: (samples, channels) → C × T.
        if step.to == "NT":
            raise ModelError(
                f"data.preprocess: layout NT is of one channel, the sound has {values.shape[1]}",
                'put a step { type = "mono" } before it, or use NCT',
            )
        return replace(heard, values=values.T)
    if "FT" in step.to:
        values = values.T
    return replace(heard, values=values[None] if "C" in step.to else values)


_STEPS: dict[type, Callable[[Any, Sound], Sound]] = {
    Resample: _resample,
    Mono: _mono,
    PadOrTrim: _pad_or_trim,
    Pcm: _pcm,
    LogMel: _features,
    Mfcc: _features,
    Layout: _layout,
}
