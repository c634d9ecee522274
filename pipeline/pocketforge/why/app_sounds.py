"""Mistakes with sound: its rate, its channels, and what a sample's number means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pocketforge.data.base import Array
from pocketforge.data.preprocess import through
from pocketforge.recipe.sound_steps import LogMel, Resample
from pocketforge.why.app_chain import Chain, Change
from pocketforge.why.app_mistakes import Changes, Mistake

_RATES_HZ = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_FULL_16, _FULL_8 = 32_768, 128


def _rate_hz(chain: Chain) -> int:
    """Of the waveform that the model takes; 0 where nothing says it."""
    steps = [step.rate_hz for step in chain.steps if isinstance(step, Resample | LogMel)]
    return steps[0] if steps else chain.about.rate_hz


def _recorded_at(rate_hz: int) -> Changes:
    """Sound of another rate, fed as if it had the model's."""

    def change(chain: Chain) -> Chain | None:
        wanted = _rate_hz(chain)
        found = chain.about.rate_hz or next((s.from_hz for s in chain.steps if isinstance(s, Resample)), 0) or wanted
        if not wanted or rate_hz == wanted:
            return None
        about = chain.about

        def recorded(raw: Array) -> Array:
            return through((Resample(rate_hz, from_hz=found),), "sound", raw, replace(about, rate_hz=0))

        # What comes out is taken for the model's own rate: its resample has nothing to do.
        steps = tuple(replace(s, from_hz=0) if isinstance(s, Resample) else s for s in chain.steps)
        told = replace(about, rate_hz=wanted if any(isinstance(s, Resample) for s in steps) else about.rate_hz)
        return replace(chain, steps=steps, about=told, before=(*chain.before, recorded))

    return change


def _raw(change: Change) -> Changes:
    return lambda chain: replace(chain, before=(*chain.before, change))


def _interleaved(raw: Array) -> Array:
    """Two channels' samples in turns, as one channel twice as long; of mono, each sample twice."""
    return np.repeat(raw, 2) if raw.ndim == 1 else np.ascontiguousarray(raw).reshape(-1)


def _one_channel(raw: Array) -> Array:
    return raw if raw.ndim == 1 else raw[:, 0]


def _bytes(raw: Array, *, centred: bool) -> Array:
    """8-bit PCM, whose silence is 128."""
    found = np.clip(np.rint(raw * _FULL_8) + _FULL_8, 0, 255)
    made: Array = (found - _FULL_8 if centred else found) / _FULL_8
    return made


def _swapped(raw: Array) -> Array:
    """16-bit PCM with its bytes in the other order."""
    whole = np.clip(np.rint(raw * _FULL_16), -_FULL_16, _FULL_16 - 1).astype(np.int16)
    made: Array = whole.byteswap().astype(np.float32) / _FULL_16
    return made


def _rows() -> Iterator[tuple[str, str, str, str, Changes]]:
    rate = "record at the sidecar's rate_hz (AudioRecord's sampleRateInHz), or resample"
    for hz in _RATES_HZ:
        yield f"rate_{hz}", "rate", f"sound of {hz} Hz fed as if it had the model's rate", rate, _recorded_at(hz)
    mono = "record in mono, or feed the mean of the channels"
    yield "interleaved", "channels", "stereo samples in turns read as mono", mono, _raw(_interleaved)
    yield "one_channel", "channels", "one channel of several", mono, _raw(_one_channel)
    scale = "divide 16-bit samples by 32768"
    yield ("int16", "samples", "16-bit samples not divided by 32768", scale, _raw(lambda raw: raw * _FULL_16))
    yield (
        "twice_divided",
        "samples",
        "divided by 32768 though it was -1 to 1",
        scale,
        _raw(lambda raw: raw / _FULL_16),
    )
    eight = "record 16-bit PCM; of 8-bit PCM subtract 128, then divide by 128"
    yield ("eight_bits", "samples", "8-bit samples", eight, _raw(lambda raw: _bytes(raw, centred=True)))
    yield ("unsigned", "samples", "8-bit samples with silence at 128, which was not subtracted", eight,
           _raw(lambda raw: _bytes(raw, centred=False)))  # fmt: skip
    order = "read 16-bit samples as little-endian"
    yield "pcm_order", "samples", "16-bit samples with their bytes in the other order", order, _raw(_swapped)


MISTAKES: tuple[Mistake, ...] = tuple(Mistake(*row) for row in _rows())
