"""Half-second stretches of synthesized speech in noise that end within speech, or in a pause.

The folder `voices` is made by `python examples/voices.py`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

RATE_HZ, CHUNK, CONTEXT, STEPS = 16_000, 512, 64, 16
VOICES = Path(__file__).parent / "voices"


def stretches() -> dict[str, list[tuple[np.ndarray, np.int64]]]:
    """Of each split: float32 (16, 576), each chunk behind the end of the one before, and whether the last is speech."""
    rng = np.random.RandomState(0)
    return {split: [s for path in wavs(split) for s in cut(path, rng)] for split in ("train", "eval")}


def wavs(split: str) -> list[Path]:
    found = sorted((VOICES / split).glob("*/*.wav"))
    if not found:
        raise FileNotFoundError(f"{VOICES / split} has no sound: python examples/voices.py {VOICES}")
    return found


def cut(path: Path, rng: np.random.RandomState) -> Iterator[tuple[np.ndarray, np.int64]]:
    """One that ends in speech and one that ends in the pause after it."""
    import soundfile
    import soxr

    sound, rate_hz = soundfile.read(path, dtype="float32")
    speech = soxr.resample(sound, rate_hz, RATE_HZ)
    speech *= 10 ** (-rng.uniform(0, 20) / 20) / np.abs(speech).max()
    length = STEPS * CHUNK
    clean = np.concatenate([np.zeros(length, np.float32), speech, np.zeros(2 * length, np.float32)])
    noise_rms = np.sqrt(np.mean(speech**2)) * 10 ** (-rng.uniform(5, 30) / 20)
    noisy = (clean + noise_rms * rng.standard_normal(len(clean))).astype(np.float32)
    loud = np.abs(speech) > 0.1 * np.abs(speech).max()
    ends = (
        rng.choice(np.flatnonzero(loud[length:])) + 2 * length,
        length + len(speech) + rng.randint(length // 2, length),
    )
    for label, end in zip((1, 0), ends, strict=True):
        start = end - length
        padded = noisy[start - CONTEXT : end]
        steps = [padded[k * CHUNK : k * CHUNK + CONTEXT + CHUNK] for k in range(STEPS)]
        yield np.stack(steps), np.int64(label)
