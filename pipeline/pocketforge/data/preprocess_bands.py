"""Energies in mel bands and cepstral coefficients, as four libraries compute them by default.

The Fourier transforms and bands are those of transformers.audio_utils: NumPy alone, made to give what torchaudio,
librosa and Kaldi give. Imported inside the functions: it takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketforge.data.base import Array
from pocketforge.errors import ToolMissing
from pocketforge.recipe.sound_steps import LogMel, Mfcc
from pocketforge.version import install

# Kaldi's: the least float32 above 1.
_KALDI_FLOOR = 1.1920928955078125e-07


@dataclass(frozen=True, slots=True)
class Convention:
    """What a library does besides the numbers that a recipe writes.

    Attributes:
        window: As transformers.audio_utils names it.
        periodic: Whether the window is one of a longer one without its last value.
        centered: Whether frames lie around their place in time, with padding at the ends; else only whole ones are.
        pad_mode: NumPy's, of that padding.
        mel_scale: htk, slaney or kaldi.
        norm: slaney makes each band's area 1; None leaves its height 1.
        triangles_in_mel: Whether bands are triangles over mel, not over Hz.
        preemphasis: Of the sample before, subtracted in each frame; None: not.
        remove_dc: Whether each frame's mean is subtracted.
        log: ln, log10 or db.
        floor: The least energy before the logarithm.
        top_db: Values this far below the loudest are raised to that; 0: not.
    """

    window: str = "hann"
    periodic: bool = True
    centered: bool = True
    pad_mode: str = "reflect"
    mel_scale: str = "htk"
    norm: str | None = None
    triangles_in_mel: bool = False
    preemphasis: float | None = None
    remove_dc: bool = False
    log: str = "db"
    floor: float = 1e-10
    top_db: float = 0.0


CONVENTIONS = {
    # torchaudio.transforms.MelSpectrogram, then AmplitudeToDB().
    "torchaudio": Convention(),
    # librosa.feature.melspectrogram, then power_to_db().
    "librosa": Convention(pad_mode="constant", mel_scale="slaney", norm="slaney", top_db=80.0),
    # openai-whisper's log_mel_spectrogram.
    "whisper": Convention(mel_scale="slaney", norm="slaney", log="log10"),
    # Kaldi's compute-fbank-feats without dither, kaldi-native-fbank, torchaudio.compliance.kaldi.fbank.
    "kaldi": Convention(
        window="povey",
        periodic=False,
        centered=False,
        mel_scale="kaldi",
        triangles_in_mel=True,
        preemphasis=0.97,
        remove_dc=True,
        log="ln",
        floor=_KALDI_FLOOR,
    ),
}


def log_mel(step: LogMel, samples: Array) -> Array:
    """Samples (T,) float32 → (frames, n_mels) float32."""
    return np.ascontiguousarray(_logarithm(step, _energies(step, samples)).T, dtype=np.float32)


def mfcc(step: Mfcc, samples: Array) -> Array:
    """Samples (T,) float32 → (frames, n_mfcc) float32: the orthonormal DCT-II of the bands, lifted."""
    from scipy.fft import dct

    bands = _logarithm(step, _energies(step, samples))
    found = dct(bands, type=2, norm="ortho", axis=0)[: step.n_mfcc]
    if step.lifter:
        weights = 1 + step.lifter / 2 * np.sin(np.pi * np.arange(step.n_mfcc) / step.lifter)
        found = found * weights[:, None]
    return np.ascontiguousarray(found.T, dtype=np.float32)


def _energies(step: LogMel, samples: Array) -> NDArray[np.float64]:
    """(n_mels, frames)."""
    try:
        from transformers.audio_utils import mel_filter_bank, spectrogram, window_function
    except ImportError as error:
        raise ToolMissing(f"data.preprocess.{step.type} needs transformers", install("audio")) from error
    like = CONVENTIONS[step.like]
    length = step.frame_length
    window = window_function(length, like.window, periodic=like.periodic)
    if like.centered:
        # As torch.stft and librosa.stft: a shorter window lies in the middle of n_fft samples.
        left = (step.n_fft - length) // 2
        window = np.pad(window, (left, step.n_fft - length - left))
        length = step.n_fft
    bands = mel_filter_bank(
        num_frequency_bins=step.n_fft // 2 + 1,
        num_mel_filters=step.n_mels,
        min_frequency=step.f_min,
        max_frequency=step.highest_hz,
        sampling_rate=step.rate_hz,
        norm=like.norm,
        mel_scale=like.mel_scale,
        triangularize_in_mel_space=like.triangles_in_mel,
    )
    found: Any = spectrogram(
        samples,
        window,
        frame_length=length,
        hop_length=step.hop_length,
        fft_length=step.n_fft,
        power=2.0,
        center=like.centered,
        pad_mode=like.pad_mode,
        preemphasis=like.preemphasis,
        remove_dc_offset=like.remove_dc,
        mel_filters=bands,
        mel_floor=0.0,
        dtype=np.float64,
    )
    return np.asarray(found, np.float64)


def _logarithm(step: LogMel, energies: NDArray[np.float64]) -> NDArray[np.float64]:
    like = CONVENTIONS[step.like]
    floor = like.floor if step.floor is None else step.floor
    energies = energies + floor if step.floor_way == "add" else np.maximum(energies, floor)
    kind = step.log or like.log
    values = np.log(energies) if kind == "ln" else np.log10(energies) * (10.0 if kind == "db" else 1.0)
    if kind == "db" and like.top_db:
        values = np.maximum(values, values.max() - like.top_db)
    if step.like == "whisper":
        # The last frame is left out, 8 powers of ten are kept, and what is left lies about -1 to 1.
        values = values[:, :-1]
        values = (np.maximum(values, values.max() - 8.0) + 4.0) / 4.0
    return values
