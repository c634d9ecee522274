"""Speech for the examples with sound, by eSpeak NG, which the package espeakng-loader brings (no program to install).

    python examples/voices.py examples/speaker_embedding/voices
    python examples/voices.py examples/voice_activity/voices

writes a folder a speaker with a wav file a sentence: `train/` and `eval/` hold other sentences. No package ships
recordings of several people. Voices of a synthesizer are told apart more easily than people are: what is shown
with them is that a file answers as its model does, not how good the model is.
"""

import ctypes
import sys
from pathlib import Path

import numpy as np

SPEAKERS = (
    "m1",
    "m2",
    "m3",
    "m4",
    "m6",
    "m8",
    "f1",
    "f4",
    "f5",
    "Alicia",
    "Annie",
    "Alex",
    "Gene",
    "Hugo",
    "klatt4",
    "Andy",
)
SENTENCES = {
    "train": (
        "The birch canoe slid on the smooth planks",
        "Glue the sheet to the dark blue background",
        "These days a chicken leg is a rare dish",
        "Rice is often served in round bowls",
        "The juice of lemons makes fine punch",
        "The box was thrown beside the parked truck",
    ),
    "eval": (
        "Four hours of steady work faced us",
        "A large size in stockings is hard to sell",
        "The boy was there when the sun rose",
        "A rod is used to catch pink salmon",
        "The source of the huge river is the clear spring",
        "Kick the ball straight and follow through",
        "Help the woman get back to her feet",
        "A pot of tea helps to pass the evening",
    ),
}  # Harvard sentences, lists 1 and 2
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Synthesizer:
    """eSpeak NG, which answers with samples instead of playing them."""

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        synchronous = 2
        self.rate_hz = self._library.espeak_Initialize(synchronous, 0, espeakng_loader.get_data_path().encode(), 0)
        self._parts: list[np.ndarray] = []
        self._callback = _CALLBACK(self._take)  # kept: the library has only its address
        self._library.espeak_SetSynthCallback(self._callback)

    def _take(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: object) -> int:
        if samples and count:
            self._parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, speaker: str) -> np.ndarray:
        """int16 samples."""
        if self._library.espeak_SetVoiceByName(f"en+{speaker}".encode()):
            raise ValueError(f"eSpeak NG has no voice {speaker!r}")
        self._parts.clear()
        data = text.encode() + b"\0"
        utf8 = 1
        self._library.espeak_Synth(data, len(data), 0, 1, 0, utf8, None, None)
        return np.concatenate(self._parts)


def write(folder: Path) -> int:
    """How many files were written."""
    import soundfile

    synthesizer, written = Synthesizer(), 0
    for split, sentences in SENTENCES.items():
        for speaker in SPEAKERS:
            (folder / split / speaker).mkdir(parents=True, exist_ok=True)
            for number, sentence in enumerate(sentences):
                path = folder / split / speaker / f"{number}.wav"
                soundfile.write(path, synthesizer.say(sentence, speaker), synthesizer.rate_hz)
                written += 1
    return written


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/voices.py FOLDER")
    print(f"{write(Path(sys.argv[1]))} files in {sys.argv[1]}")
