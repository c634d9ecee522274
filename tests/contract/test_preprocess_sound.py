"""Sound against the libraries that models are trained with: within the stated distance of what each gives."""

from __future__ import annotations

import json
from typing import Any

import kaldi_native_fbank as knf
import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pocketforge.data.preprocess import About, prepare
from pocketforge.data.preprocess_bands import CONVENTIONS
from pocketforge.data.preprocess_words import describe
from pocketforge.errors import ModelError
from pocketforge.outcomes.data import Preprocessing
from pocketforge.outcomes.files import to_json
from pocketforge.recipe.image_steps import Layout, Normalize, Scale
from pocketforge.recipe.preprocess import InputSteps, Step
from pocketforge.recipe.sound_steps import LogMel, Mfcc, Mono, PadOrTrim, Resample

RATE = 16_000
WAVE = (
    np.random.default_rng(0).standard_normal(4000) * 0.1 + np.sin(np.arange(4000) * 2 * np.pi * 440 / RATE) * 0.5
).astype(np.float32)


def done(*steps: Step, wave: np.ndarray = WAVE, rate_hz: int = RATE) -> NDArray[np.float32]:
    found: NDArray[np.float32] = prepare((InputSteps(steps),), (wave,), About(rate_hz=rate_hz)).inputs[0]
    assert found.dtype == np.float32 and found.flags.c_contiguous
    return found


def torchaudios_bands(bins: int, bands: int) -> torch.Tensor:
    """torchaudio.functional.melscale_fbanks(bins, 0, RATE / 2, bands, RATE), by its source."""
    top = 2595.0 * np.log10(1.0 + RATE / 2 / 700.0)
    edges = 700.0 * (10.0 ** (torch.linspace(0.0, top, bands + 2) / 2595.0) - 1.0)
    slopes = edges.unsqueeze(0) - torch.linspace(0, RATE // 2, bins).unsqueeze(1)
    widths = edges[1:] - edges[:-1]
    return torch.clamp(torch.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]), min=0.0)


@pytest.mark.parametrize("window", [400, 401, 512])
def test_torchaudios_mel_spectrogram(window: int) -> None:
    """transforms.MelSpectrogram is torch.stft and these bands; AmplitudeToDB and a logarithm come after."""
    hann = torch.hann_window(window)
    spectrum = torch.stft(
        torch.from_numpy(WAVE), 512, 160, window, hann, center=True, pad_mode="reflect", return_complex=True
    )
    mel = (spectrum.abs() ** 2).T @ torchaudios_bands(257, 40)
    step = LogMel(RATE, 512, 160, 40, window_length=window)
    np.testing.assert_allclose(done(step), 10 * torch.log10(torch.clamp(mel, min=1e-10)), atol=2e-4)
    natural = LogMel(RATE, 512, 160, 40, window_length=window, log="ln", floor=1e-6, floor_way="add")
    np.testing.assert_allclose(done(natural), torch.log(mel + 1e-6), atol=1e-4)


def test_librosas() -> None:
    """librosa 0.11.0: power_to_db(melspectrogram(y, sr=16000, n_fft=512, hop_length=160, win_length=400, n_mels=40)),
    mfcc of the same with n_mfcc=13, and resample to 11025 Hz."""
    bands = done(LogMel(RATE, 512, 160, 40, window_length=400, like="librosa"), Layout("NFT"))
    wanted = [
        [-5.8434, -18.0043, -4.7066],
        [-1.7573, -17.0114, -2.0788],
        [-22.4161, -13.3663, -15.1401],
        [-17.0740, -12.2245, -16.6888],
    ]
    assert bands.shape == (40, 26)
    np.testing.assert_allclose(bands[[0, 7, 20, 39]][:, [0, 3, 25]], wanted, atol=2e-4)
    found = done(Mfcc(RATE, 512, 160, 40, window_length=400, like="librosa", n_mfcc=13))
    wanted = [[-81.5870, 37.0699, 21.7596, 8.4005], [-73.3842, 10.2103, 8.8244, 5.7912]]
    assert found.shape == (26, 13)
    np.testing.assert_allclose(found[[0, 10], :4], wanted, atol=5e-4)
    slower = done(Resample(11_025))
    wanted_samples = [0.00525673, 0.14900301, -0.12419966, -0.21405666, -0.13567114]
    np.testing.assert_allclose(slower[[0, 1, 100, 1000, 2755]], wanted_samples, atol=1e-6)


def test_whispers() -> None:
    """The feature extractor of transformers, which is openai-whisper's log_mel_spectrogram."""
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=80)
    wanted = np.asarray(extractor._np_extract_fbank_features(WAVE[None], "cpu"))[0]
    found = done(LogMel(RATE, 400, 160, 80, like="whisper"), Layout("NFT"))
    assert found.shape == wanted.shape == (80, 25)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def kaldis(online: object) -> np.ndarray:
    online.accept_waveform(RATE, WAVE.tolist())  # type: ignore[attr-defined]
    online.input_finished()  # type: ignore[attr-defined]
    return np.stack([online.get_frame(k) for k in range(online.num_frames_ready)])  # type: ignore[attr-defined]


def test_kaldis() -> None:
    fbank = knf.FbankOptions()
    fbank.frame_opts.dither, fbank.mel_opts.num_bins = 0, 40
    found = done(LogMel(RATE, 512, 160, 40, window_length=400, f_min=20.0, like="kaldi"))
    wanted = kaldis(knf.OnlineFbank(fbank))
    assert found.shape == wanted.shape == (23, 40)
    np.testing.assert_allclose(found, wanted, atol=2e-4)
    mfcc = knf.MfccOptions()
    mfcc.frame_opts.dither, mfcc.mel_opts.num_bins, mfcc.use_energy, mfcc.num_ceps = 0, 40, False, 13
    step = Mfcc(RATE, 512, 160, 40, window_length=400, f_min=20.0, like="kaldi", n_mfcc=13, lifter=22.0)
    np.testing.assert_allclose(done(step), kaldis(knf.OnlineMfcc(mfcc)), atol=1e-3)


def test_a_usual_list_from_stereo_at_another_rate() -> None:
    stereo = np.stack([WAVE, WAVE[::-1]], axis=1)
    steps = (
        Mono(),
        Resample(8000),
        PadOrTrim(4000),
        LogMel(8000, 256, 80, 20),
        PadOrTrim(60, value=-100.0),
        Layout("NCFT"),
    )
    found = done(*steps, wave=stereo)
    assert found.shape == (1, 20, 60)
    mixed = np.zeros(4000, np.float32)
    mixed[:2000] = soxr.resample(stereo.mean(axis=1, dtype=np.float32), RATE, 8000, quality="HQ")
    wanted = done(LogMel(8000, 256, 80, 20), wave=mixed, rate_hz=8000)
    assert np.array_equal(found[0, :, :51], wanted.T) and (found[0, :, 51:] == -100.0).all()
    said = describe((InputSteps(steps),), About(rate_hz=RATE))
    assert isinstance(said, Preprocessing)
    assert (said.input, said.output) == ("waveform", "NCFT")
    assert [step["step"] for step in said.steps] == [
        "mono", "resample", "pad_or_trim", "log_mel", "pad_or_trim", "layout",
    ]  # fmt: skip
    # An app has the numbers that a library's name stands for.
    assert said.steps[3].items() >= {"mel_scale": "htk", "window": "hann", "log": "db", "floor": 1e-10}.items()


def test_bands_of_what_does_not_fit() -> None:
    step = LogMel(RATE, 400, 160, 40)
    with pytest.raises(ModelError, match="log_mel of 16000 Hz: the sound has 44100 Hz there") as caught:
        done(step, rate_hz=44_100)
    assert 'type = "resample", rate_hz = 16000' in caught.value.hint
    with pytest.raises(ModelError, match="the sound has 2 channels"):
        done(step, wave=np.zeros((4000, 2), np.float32))
    for like, least in (("torchaudio", 201), ("kaldi", 400)):
        short = LogMel(RATE, 400, 160, 40, like=like)  # type: ignore[arg-type]
        with pytest.raises(ModelError, match=f"wanted {least} samples or more, found {least - 1}"):
            done(short, wave=WAVE[: least - 1])
        assert len(done(short, wave=WAVE[:least])) >= 1


def test_silence_has_a_logarithm() -> None:
    for like in ("torchaudio", "librosa", "whisper", "kaldi"):
        found = done(LogMel(RATE, 512, 160, 40, like=like), wave=np.zeros(2000, np.float32))  # type: ignore[arg-type]
        assert np.isfinite(found).all()


LIKES = st.sampled_from(sorted(CONVENTIONS))
WAVES = st.sampled_from([Mono(), Resample(8000), Resample(11_025), Resample(8000, from_hz=16_000)])
CUTS = st.builds(PadOrTrim, length=st.sampled_from([1, 500, 3000]), keep=st.sampled_from(["start", "center"]))
BANDS = st.one_of(
    st.builds(LogMel, st.just(8000), st.just(256), st.integers(1, 300), st.just(12), like=LIKES),
    st.builds(Mfcc, st.just(8000), st.just(300), st.just(100), st.just(12), like=LIKES, n_mfcc=st.integers(1, 12)),
)
OTHERS = st.sampled_from([Scale(by=2.0), Normalize((0.5,), (2.0,))])
IN_ORDER = (
    st.lists(WAVES, max_size=1),
    st.lists(CUTS, max_size=1),
    st.lists(BANDS, min_size=1, max_size=1),
    st.lists(st.one_of(CUTS, OTHERS), max_size=2),
)
STEPS = st.one_of(
    st.lists(st.one_of(WAVES, CUTS, BANDS, OTHERS), max_size=4),
    st.builds(lambda *parts: [step for part in parts for step in part], *IN_ORDER),
)
LAYOUTS = st.sampled_from(["", "", "", "NT", "NCT", "NTF", "NFT", "NCTF", "NCFT"])


@settings(max_examples=150, deadline=None)
@given(
    STEPS, LAYOUTS, st.sampled_from([1, 200, 1500]), st.sampled_from([0, 0, 0, 1, 2]), st.sampled_from([0, 8000, 8000])
)
def test_any_list_is_refused_in_words_or_gives_numbers(
    steps: list[Step], layout: Any, samples: int, channels: int, rate_hz: int
) -> None:
    asked = [*steps, Layout(layout)] if layout else steps
    wave = WAVE[:samples] if not channels else np.repeat(WAVE[:samples, None], channels, axis=1)
    try:
        lists = (InputSteps(tuple(asked)),)
        (found,) = prepare(lists, (wave,), About(rate_hz=rate_hz)).inputs
    except (ValueError, ModelError):
        return
    assert found.dtype == np.float32 and np.isfinite(found).all() and found.size
    if layout:
        assert found.ndim == len(layout) - 1
    json.dumps(to_json(describe(lists, About(rate_hz=rate_hz))), allow_nan=False)
