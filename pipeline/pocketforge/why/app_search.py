"""A search over known mistakes: which of them, or which two, make of an eval sample what the app fed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from pocketforge.data.base import Array
from pocketforge.errors import ModelError, ToolMissing
from pocketforge.why import app_buffers, app_images, app_sounds, app_values
from pocketforge.why.app_chain import Chain
from pocketforge.why.app_mistakes import Mistake

# Of the tensor's own standard deviation: what another decoder's or another resize's rounding leaves.
EXPLAINS = 0.02
# What floats' last bits leave.
SAME = 1e-4
# One explanation is as good as another that is so near.
_AS_GOOD = 1.1
# Samples that look most like a tensor.
_LIKELY = 3
# Numbers in all samples up to which each is tried with each mistake; of more the likeliest are.
_MOST_NUMBERS = 4_000_000
# The same of pairs: some eight hundred of each sample.
_MOST_PAIRED = 20_000


@dataclass(frozen=True, slots=True)
class Tried:
    """One way, of one sample, against one tensor.

    Attributes:
        mistakes: None is the right way.
        sample: Place among the samples.
        error: Root mean square of the difference over the tensor's standard deviation.
        max_abs_diff: The largest difference.
        unlike: The error after the best factor and shift; 0 is the same picture, 1 another.
    """

    mistakes: tuple[Mistake, ...]
    sample: int
    error: float
    max_abs_diff: float
    unlike: float

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.mistakes)


@dataclass(slots=True)
class Search:
    """One input of one file, and raw samples of it.

    Attributes:
        chain: The right way.
        raw: The samples that a tensor may be of, as the source gives them.
        mistakes: Those that are tried.
        tried: How many ways were compared so far.
    """

    chain: Chain
    raw: Sequence[Array]
    mistakes: tuple[Mistake, ...] = ()
    tried: int = 0
    _chains: dict[tuple[str, ...], Chain | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mistakes = self.mistakes or tuple(known_mistakes(self.chain.kind))

    def singles(self, numbers: Array, samples: Sequence[int]) -> list[Tried]:
        """Every way with at most one mistake, of each sample."""
        ways: list[tuple[Mistake, ...]] = [(), *((each,) for each in self.mistakes)]
        return [found for sample in samples for way in ways if (found := self.compare(way, numbers, sample))]

    def pairs(self, numbers: Array, samples: Sequence[int]) -> list[Tried]:
        """Every two mistakes at once, of one sample after the other until two of them explain all: of as many as are
        little work."""
        found: list[Tried] = []
        for sample in samples[: max(_LIKELY, _MOST_PAIRED // numbers.size)]:
            found += [each for way in self._two() if (each := self.compare(way, numbers, sample))]
            if min((each.error for each in found), default=1.0) <= SAME:
                break
        return found

    def _two(self) -> Iterator[tuple[Mistake, ...]]:
        for place, one in enumerate(self.mistakes):
            for other in self.mistakes[place + 1 :]:
                if one.group != other.group:
                    yield one, other

    def compare(self, way: tuple[Mistake, ...], numbers: Array, sample: int) -> Tried | None:
        """None where the mistakes cannot be made there: with such a file, or such a sample."""
        names = tuple(each.name for each in way)
        if names not in self._chains:
            # All have to be possible; those that are undone are not made.
            possible = changed(self.chain, way) is not None
            made_ones = [each for each in way if each.undo is None]
            self._chains[names] = changed(self.chain, made_ones) if possible else None
        chain = self._chains[names]
        if chain is None:
            return None
        for each in way:
            numbers = each.undo(numbers) if each.undo else numbers
        try:
            made = chain.numbers(self.raw[sample])
        except (ModelError, ToolMissing):
            return None
        self.tried += 1
        return Tried(way, sample, *distance(numbers, made))


def known_mistakes(kind: str) -> Iterator[Mistake]:
    """Those that can be made with an input of a kind: image, sound, or empty for any other numbers."""
    yield from {"image": app_images.MISTAKES, "sound": app_sounds.MISTAKES}.get(kind, ())
    yield from app_values.of_values(kind)
    yield from app_buffers.of_numbers(kind)


def changed(chain: Chain, way: Sequence[Mistake]) -> Chain | None:
    """A chain with mistakes in it; None where one cannot be made."""
    found: Chain | None = chain
    for each in way:
        found = each.change(found) if found is not None else None
    return found


def distance(numbers: Array, made: Array) -> tuple[float, float, float]:
    """Root mean square of the difference over the standard deviation of `numbers`, and the largest difference: infinite
    where they are no numbers. And the first after the best factor and shift: whether it is the same picture at all."""
    with np.errstate(all="ignore"):  # of bytes in another order
        one, other = numbers.astype(np.float64), made.astype(np.float64)
        difference = np.abs(one - other)
        # A flat tensor has none of its own: the error is then by what should have been there.
        spread = float(one.std()) if np.ptp(one) else float(other.std()) or 1.0
        error = float(np.sqrt((difference**2).mean())) / spread
        if not np.isfinite(error):
            return float("inf"), float("inf"), 1.0
        alike = float(((one - one.mean()) * (other - other.mean())).mean()) / (spread * (float(other.std()) or 1.0))
    return error, float(difference.max(initial=0.0)), math.sqrt(max(0.0, 1.0 - max(0.0, alike) ** 2))


def likely_samples(chain: Chain, raw: Sequence[Array], numbers: Array) -> list[int]:
    """The samples that a tensor may be of: all where that is little work, else the pictures that look most like it by
    their gray 8 × 8 parts, in each of eight ways to turn them and in both orders of axes."""
    if chain.kind != "image" or len(raw) * numbers.size <= _MOST_NUMBERS:
        return list(range(len(raw)))
    shape = chain.taken.shape[1:]
    channels, size = (shape[2], shape[:2]) if chain.channels_last else (shape[0], shape[1:])
    values = _plausible(numbers)
    seen = [_parts(values.reshape(*size, channels)), _parts(values.reshape(channels, *size).transpose(1, 2, 0))]
    turned = np.stack([np.rot90(each, k).reshape(-1) for one in seen for each in (one, one.T) for k in range(4)])
    scores = []
    for each in raw:
        pixels = chain.values(each)
        pixels = pixels if chain.channels_last else pixels.transpose(1, 2, 0)
        scores.append(float((turned @ _parts(pixels.astype(np.float64)).reshape(-1)).max()))
    return [int(place) for place in np.argsort(scores)[::-1][:_LIKELY]]


def _plausible(numbers: Array) -> Array:
    """As numbers, in the order of bytes in which they are some."""
    with np.errstate(all="ignore"):
        found: Array = min((numbers, numbers.byteswap()), key=lambda each: _height(each.astype(np.float64)))
        return np.nan_to_num(found.astype(np.float64), posinf=0.0, neginf=0.0)


def _height(values: Array) -> float:
    return float(np.abs(values).max()) if np.isfinite(values).all() else float("inf")


def _parts(pixels: Array) -> Array:
    """H × W × C → 8 × 8 means, of mean 0 and length 1."""
    gray = pixels.mean(axis=2)
    rows, columns = (np.array_split(np.arange(n), min(8, n)) for n in gray.shape)
    found: Array = np.array([[gray[np.ix_(r, c)].mean() for c in columns] for r in rows])
    found = np.resize(found - found.mean(), (8, 8))
    length = float(np.linalg.norm(found))
    return found / length if length else found


def best_of(found: Sequence[Tried]) -> dict[tuple[str, ...], Tried]:
    """Way → its nearest sample."""
    best: dict[tuple[str, ...], Tried] = {}
    for each in found:
        if each.names not in best or each.error < best[each.names].error:
            best[each.names] = each
    return best


def as_good(best: float, other: float) -> bool:
    """Whether nothing tells two errors apart."""
    return other <= max(best * _AS_GOOD, SAME / 10)
