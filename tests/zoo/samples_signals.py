"""Signals from scikit-learn's photographs, as recipes name them (`samples_signals.py:waves`)."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # a recipe names this file by its path
    sys.path.insert(0, str(TESTS))

from zoo.samples import Split, photographs, split  # noqa: E402


def windows() -> Split:
    """Three signals, 128 long: a stretch of a photograph's row in its colours, and which photograph and half."""

    def make(draw: Any, part: str) -> Any:
        which, half = (int(n) for n in draw.integers(2, size=2))
        x = draw.integers(0, 300) if part == "train" else draw.integers(440, 512)
        row = photographs()[which][half * 213 + int(draw.integers(213)), x : x + 128]
        return np.ascontiguousarray(row.T, np.float32) / 127.5 - 1, 2 * which + half

    return split(make, 1200)


@cache
def brightness(which: int, part: str) -> Any:
    """A photograph's, row after row, of 0 to 2."""
    gray = photographs()[which].mean(2) / 128
    return (gray[:, :440] if part == "train" else gray[:, 440:]).reshape(-1)


def a_wave(draw: Any, part: str, length: int) -> tuple[Any, int]:
    """Brightness along a column of rows of a photograph, without its mean, and which photograph."""
    which = int(draw.integers(2))
    flat = brightness(which, part)
    first = int(draw.integers(len(flat) - length))
    wave = flat[first : first + length]
    return (wave - wave.mean()).astype(np.float32)[None], which


def waves() -> Split:
    return split(lambda draw, part: a_wave(draw, part, 1024))


def noisy_waves() -> Split:
    def make(draw: Any, part: str) -> Any:
        wave, _ = a_wave(draw, part, 512)
        return wave + draw.normal(0, 0.1, wave.shape).astype(np.float32), {"waveform": wave[0]}

    return split(make)
