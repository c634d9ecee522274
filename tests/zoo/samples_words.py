"""Samples of words, from the pages about scikit-learn's data sets, as recipes name them (`samples_words.py:pages`)."""

from __future__ import annotations

import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # a recipe names this file by its path
    sys.path.insert(0, str(TESTS))

from zoo.samples import FOLDER, Split, split  # noqa: E402

LENGTH, WORDS = 32, 400  # of a text, and of the vocabulary
PAD, UNKNOWN = 0, 1
PAGES = ("breast_cancer", "california_housing", "digits", "kddcup99", "lfw", "twenty_newsgroups")


@cache
def words() -> dict[str, list[str]]:
    """The words of each page about a data set."""
    text = {page: (FOLDER / "descr" / f"{page}.rst").read_text("utf-8") for page in PAGES}
    return {page: re.findall(r"[A-Za-z]+|[0-9]+", each) for page, each in text.items()}


def a_text(draw: Any, part: str) -> tuple[int, list[str]]:
    """A page's number, and words that follow each other in it: of its first three quarters, or of the last."""
    number = int(draw.integers(len(PAGES)))
    mine = words()[PAGES[number]]
    border = 3 * len(mine) // 4
    mine = mine[:border] if part == "train" else mine[border:]
    first = int(draw.integers(max(1, len(mine) - LENGTH)))
    return number, mine[first : first + int(draw.integers(LENGTH // 2, LENGTH + 1))]


def coded(text: list[str]) -> tuple[Any, Any]:
    """Numbers of words in lower case, and where there are words."""
    counts = Counter(word.lower() for page in words().values() for word in page)
    known = {word: number + 2 for number, (word, _) in enumerate(counts.most_common(WORDS - 2))}
    numbers = [known.get(word.lower(), UNKNOWN) for word in text]
    padded = numbers + [PAD] * (LENGTH - len(numbers))
    return np.asarray(padded, np.int64), np.asarray([1] * len(text) + [0] * (LENGTH - len(text)), np.int64)


def pages() -> Split:
    """Which page some words are from."""

    def make(draw: Any, part: str) -> Any:
        number, text = a_text(draw, part)
        return coded(text), number

    return split(make)


def letters() -> Split:
    """How each word was written: small, with a capital, as a number. (Its number does not tell small from capital.)"""

    def make(draw: Any, part: str) -> Any:
        _, text = a_text(draw, part)
        kinds = [2 if word[0].isdigit() else int(word[0].isupper()) for word in text]
        return coded(text), {"tags": np.asarray(kinds + [-100] * (LENGTH - len(kinds)), np.int64)}

    return split(make)
