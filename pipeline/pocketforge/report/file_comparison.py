"""What changed from one model file to another: operators, and the bytes of weights. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pocketforge.report.comparison import Change
from pocketforge.runtimes.describe import Description, WeightInfo


@dataclass(frozen=True, slots=True)
class FilesCompared:
    """Two files.

    Attributes:
        parts: Where the bytes are: weights, quantization, other constants, and all else; each of both files.
        operators: How often each is there, of those that changed; what grew most first.
        dtypes: Bytes of the weights of each dtype, likewise.
        weights: Bytes of each weight, likewise. Empty of files of two formats, whose names mean nothing to each other.
    """

    parts: tuple[Change, ...]
    operators: tuple[Change, ...]
    dtypes: tuple[Change, ...]
    weights: tuple[Change, ...]


def compare_files(before: Description, after: Description) -> FilesCompared:
    parts = tuple(
        Change(name, one, two)
        for (name, one), two in zip(_parts(before).items(), _parts(after).values(), strict=True)
        if one or two
    )
    weights = _weights(before.weights, after.weights) if before.format == after.format else ()
    return FilesCompared(parts, _changed(before.ops, after.ops), _changed(before.dtypes, after.dtypes), weights)


def _parts(file: Description) -> dict[str, int]:
    weights = sum(weight.size_bytes for weight in file.weights)
    scales, others = (int(file.metadata.get(f"{name}_bytes", 0)) for name in ("quantization", "other_constant"))
    rest = file.size_bytes - weights - scales - others
    return {"weights": weights, "scales and zero points": scales, "other constants": others, "graph and all else": rest}


def _weights(before: tuple[WeightInfo, ...], after: tuple[WeightInfo, ...]) -> tuple[Change, ...]:
    """By name. One that went and one that came of the same shape, whichever way it lies, are one by another name, as
    quantizers and exporters give it: in the files' order, where there are several."""
    one, two = _bytes(before), _bytes(after)
    gone, new = (
        [weight for weight in side if weight.name not in others] for side, others in ((before, two), (after, one))
    )
    waiting: dict[tuple[int, ...], list[WeightInfo]] = {}
    for weight in new:
        waiting.setdefault(_shape(weight), []).append(weight)
    for weight in gone:
        if same := waiting.get(_shape(weight)):
            again = same.pop(0)
            name = f"{weight.name} → {again.name}"
            one[name], two[name] = one.pop(weight.name), two.pop(again.name)
    return _changed(one, two)


def _shape(weight: WeightInfo) -> tuple[int, ...]:
    return tuple(sorted(size for size in weight.shape if size != 1))


def _bytes(weights: tuple[WeightInfo, ...]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for weight in weights:
        sums[weight.name] += weight.size_bytes
    return dict(sums)


def _changed(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[Change, ...]:
    rows = [Change(name, before.get(name, 0), after.get(name, 0)) for name in {*before, *after}]
    return tuple(sorted((row for row in rows if row.growth), key=lambda row: (-row.growth, row.name)))
