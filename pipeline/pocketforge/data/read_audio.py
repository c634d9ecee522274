"""One sound file as an array, and its rate."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from pocketforge.data.base import Array
from pocketforge.errors import ModelError, ToolMissing
from pocketforge.version import install


def read_audio(path: Path, data: bytes | None = None) -> tuple[Array, int]:
    """Float32 (T,) of one channel, (T, channels) of more, of -1 to 1, and the rate in Hz.

    Integers are divided by the largest of their width (32768 of 16 bits), as libsndfile does. data: the content, where
    the path only names it. Raises ModelError, with the path, for a damaged or empty file; ToolMissing.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is there, libsndfile is not
        raise ToolMissing("audio needs soundfile", install("audio")) from error
    try:
        samples, rate = soundfile.read(io.BytesIO(data) if data is not None else path, dtype="float32")
    except Exception as error:  # a damaged file raises whatever its bytes happen to ask for
        raise ModelError(
            f"data.source: the sound file {path} cannot be read: {error or type(error).__name__}",
            "repair it or take it out; wav, flac and ogg are read",
        ) from error
    if not len(samples):
        raise ModelError(f"data.source: the sound file {path} is empty: 0 samples at {rate} Hz")
    array: Array = np.asarray(samples)
    return array, int(rate)


class Rates:
    """Holds that all sound of a source has one rate: a model hears another one as another sound."""

    def __init__(self) -> None:
        self.rate = 0
        self._first = Path()

    def check(self, path: Path, rate: int) -> None:
        """Raises ModelError for a rate that is not the first file's."""
        if not self.rate:
            self.rate, self._first = rate, path
        elif rate != self.rate:
            raise ModelError(
                f"data.source: {path} has {rate} Hz, {self._first} has {self.rate} Hz: one source has one rate",
                "resample the files to one rate beforehand",
            )
