"""Which samples calibrate, train and evaluate: decided by each sample's id alone, so the same everywhere and always."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
) -> Split:
    """Split a source. A pure function of its arguments; `digest` is asked for content only once per sample.

    Where `official` marks eval samples, those are the eval set, else the samples whose hash lies in the lowest
    `eval_fraction` of all hashes: so about, not exactly, that fraction, and a new sample never moves another one
    between eval and the rest. Eval beyond `eval_samples` is held out (not trained on). Of the rest the first
    `calibration_samples` calibrate and the others train, so a new sample may move one from calibration to train.
    A non-eval sample with the content of any eval or held-out sample is dropped.
    Raises ModelError when a split would be empty or calibration short.
    """
    order = sorted(range(len(ids)), key=lambda index: (_hash(seed, ids[index]), ids[index], index))
    marked = [index for index in order if official[index] == "eval"]
    if marked:
        rest = [index for index in order if official[index] != "eval"]
    else:
        limit = int(eval_fraction * 2**256)
        inside = sum(1 for index in order if _hash(seed, ids[index]) < limit)
        # With a handful of samples chance may leave one side empty; the nearest sample then changes sides.
        inside = min(max(inside, 1), len(order) - 1)
        marked, rest = order[: max(inside, 0)], order[max(inside, 0) :]
    duplicates: tuple[int, ...] = ()
    if digest is not None:
        seen = {digest(index) for index in marked}
        with_repeats = [(index, digest(index) in seen) for index in rest]
        duplicates = tuple(index for index, repeated in with_repeats if repeated)
        rest = [index for index, repeated in with_repeats if not repeated]
    if not marked or len(rest) < calibration_samples:
        dropped = f" ({len(duplicates)} dropped: same content as an eval sample)" if duplicates else ""
        raise ModelError(
            f"data: too few samples: wanted {calibration_samples} for calibration and at least 1 for eval, "
            f"found {len(rest)} and {len(marked)}{dropped}",
            "lower data.calibration_samples or data.eval_fraction, or add data",
        )
    return Split(
        calibration=tuple(rest[:calibration_samples]),
        train=tuple(rest[calibration_samples:]),
        eval=tuple(marked[:eval_samples]),
        held_out=tuple(marked[eval_samples:]),
        duplicates=duplicates,
    )


def _hash(seed: int, sample_id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{sample_id}".encode("utf-8", "surrogateescape")).digest(), "big")
