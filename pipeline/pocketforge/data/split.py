"""Which samples calibrate, train and evaluate: decided by each sample's id alone, so the same everywhere and always."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketforge.data.base import SplitName
from pocketforge.errors import ModelError


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of samples, each list in the split's own order (by hash). Disjoint, and together the whole source.

    Attributes:
        calibration: Fix the int8 ranges.
        train: Are trained on.
        eval: Are evaluated.
        held_out: Belong to eval but are over its cap; nothing uses them.
        duplicates: Have an eval sample's content; nothing uses them.
    """

    calibration: tuple[int, ...]
    train: tuple[int, ...]
    eval: tuple[int, ...]
    held_out: tuple[int, ...] = ()
    duplicates: tuple[int, ...] = ()


def split_samples(
    ids: Sequence[str],
    official: Sequence[SplitName | None],
    *,
    seed: int,
    eval_fraction: float,
    eval_samples: int,
    calibration_samples: int,
    digest: Callable[[int], str] | None = None,
    sketch: Callable[[int], bytes] | None = None,
) -> Split:
    """Split a source. A pure function of its arguments; `digest` is asked for content only once per sample.

    Where `official` marks eval samples, those are the eval set, else the samples whose hash lies in the lowest
    `eval_fraction` of all hashes: so about, not exactly, that fraction, and a new sample never moves another one
    between eval and the rest. Eval beyond `eval_samples` is held out (not trained on). Of the rest the first
    `calibration_samples` calibrate and the others train, so a new sample may move one from calibration to train.
    A non-eval sample with the content of any eval or held-out sample is dropped. `sketch`: 8 bytes that are equal where
    the content is; then content is asked for only where the sketch of an eval sample and of another meet.
    Raises ModelError when a split would be empty or calibration short.
    """
    order, words = _by_hash(seed, ids)
    is_marked = np.fromiter((split == "eval" for split in official), bool, len(ids))
    marked, rest = order[is_marked[order]], order[~is_marked[order]]
    if not len(marked):
        inside = _below(words, order, int(eval_fraction * 2**256))
        # With a handful of samples chance may leave one side empty; the nearest sample then changes sides.
        inside = max(min(max(inside, 1), len(order) - 1), 0)
        marked, rest = order[:inside], order[inside:]
    duplicates: tuple[int, ...] = ()
    if digest is not None:
        copied = _copies(marked, rest, digest, sketch)
        duplicates, rest = tuple(rest[copied].tolist()), rest[~copied]
    if not len(marked) or len(rest) < calibration_samples:
        dropped = f" ({len(duplicates)} dropped: same content as an eval sample)" if duplicates else ""
        raise ModelError(
            f"data: too few samples: wanted {calibration_samples} for calibration and at least 1 for eval, "
            f"found {len(rest)} and {len(marked)}{dropped}",
            "lower data.calibration_samples or data.eval_fraction, or add data",
        )
    return Split(
        calibration=tuple(rest[:calibration_samples].tolist()),
        train=tuple(rest[calibration_samples:].tolist()),
        eval=tuple(marked[:eval_samples].tolist()),
        held_out=tuple(marked[eval_samples:].tolist()),
        duplicates=duplicates,
    )


_Numbers = NDArray[np.int64]


def _by_hash(seed: int, ids: Sequence[str]) -> tuple[_Numbers, NDArray[np.uint64]]:
    """Indices in the order of the ids' SHA-256 (equal ids: of their indices), and each hash as four numbers.

    Python's own sort of as many tuples would take half a kilobyte a sample.
    """
    hashes = bytearray()
    for sample_id in ids:
        hashes += hashlib.sha256(f"{seed}:{sample_id}".encode("utf-8", "surrogateescape")).digest()
    words = np.frombuffer(hashes, ">u8").reshape(-1, 4)
    return np.lexsort([words[:, column] for column in (3, 2, 1, 0)]), words


def _below(words: NDArray[np.uint64], order: _Numbers, limit: int) -> int:
    """How many hashes are less than a limit of 256 bits."""
    if limit >= 2**256:
        return len(order)
    return bisect_left(order, limit.to_bytes(32, "big"), key=lambda index: words[index].tobytes())


def _copies(
    marked: _Numbers, rest: _Numbers, digest: Callable[[int], str], sketch: Callable[[int], bytes] | None
) -> NDArray[np.bool_]:
    """Which of the rest have the content of one that is marked."""
    if sketch is None:
        seen = {digest(index) for index in marked.tolist()}
        return np.fromiter((digest(index) in seen for index in rest.tolist()), bool, len(rest))
    ours, theirs = (np.frombuffer(b"".join(map(sketch, part.tolist())), "<u8") for part in (rest, marked))
    likely = np.isin(ours, theirs)
    if not likely.any():
        return likely
    seen = {digest(index) for index in marked[np.isin(theirs, ours)].tolist()}
    likely[likely] = [digest(index) in seen for index in rest[likely].tolist()]
    return likely
