"""Voice-like sounds whose pitch is known, as they are made of it: harmonics through formants, with vibrato and noise.

No recordings with measured pitch ship in a package; resynthesized sound is also what CREPE itself was judged by.
"""

import numpy as np

RATE_HZ, FRAME = 16_000, 1024
CENTS_PER_BIN, FIRST_BIN_CENTS = 20, 1997.3794084376191  # over 10 Hz: torchcrepe/convert.py
# Vowels by their first three formants, Hz (Peterson and Barney 1952, men).
VOWELS = (
    (270, 2290, 3010),
    (530, 1840, 2480),
    (660, 1720, 2410),
    (730, 1090, 2440),
    (570, 840, 2410),
    (300, 870, 2240),
)


def frames(count: int = 1200) -> list[tuple[np.ndarray, np.int64]]:
    """Each: float32 (1024,), and which of the 360 pitches it has."""
    rng = np.random.RandomState(0)
    made = []
    for _ in range(count):
        number = rng.randint(80, 280)  # 80 Hz to 798 Hz: a bass' low E to a soprano's high G
        pitch_hz = 10 * 2 ** ((FIRST_BIN_CENTS + CENTS_PER_BIN * number) / 1200)
        made.append((voice(rng, pitch_hz), np.int64(number)))
    return made


def voice(rng: np.random.RandomState, pitch_hz: float) -> np.ndarray:
    """64 ms around the moment at which the pitch is `pitch_hz`."""
    seconds = (np.arange(FRAME) - FRAME / 2) / RATE_HZ
    vibrato_hz, depth = rng.uniform(4, 7), rng.uniform(0, 0.01)
    phase = (
        2 * np.pi * pitch_hz * (seconds + depth * np.sin(2 * np.pi * vibrato_hz * seconds) / (2 * np.pi * vibrato_hz))
    )
    phase /= 1 + depth  # so that the pitch in the middle is pitch_hz
    formants = np.array(VOWELS[rng.randint(len(VOWELS))]) * rng.uniform(0.95, 1.2)
    sound = np.zeros(FRAME)
    for harmonic in range(1, int(RATE_HZ / 2 / pitch_hz)):
        hz = harmonic * pitch_hz
        gain = sum(1 / (1 + ((hz - formant) / 120) ** 2) for formant in formants) + 0.01
        sound += gain / harmonic * np.sin(harmonic * phase + rng.uniform(0, 2 * np.pi))
    sound /= np.abs(sound).max()
    noise = rng.standard_normal(FRAME) * sound.std() * 10 ** (-rng.uniform(10, 40) / 20)  # 10 to 40 dB under it
    loudness = 10 ** (-rng.uniform(6, 46) / 20)
    return ((sound + noise) * loudness).astype(np.float32)
