"""What a pruning study says about the field's claim, computed from its figures. No torch.

The claim: at an equal removed share, removing layers makes inference faster than removing channels, and costs more
accuracy. Blocks are coarse, so shares are never quite equal: each layers row is paired with the channels row whose
share, as it really is, lies nearest, if that is within NEAR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pocketforge.studies.intervals import Mean, geometric_interval, mean_interval
from pocketforge.studies.pruning_study import Cell, Judgement, Measured, Pair, Price, Row, Side, Sitting, Speed, Verdict
from pocketforge.studies.settings import Basis

NEAR = 0.05
CLAIM = "at an equal removed share, removing layers is faster than removing channels and costs more accuracy"


def pairs(rows: Sequence[Row], basis: Basis) -> list[tuple[Row, Row]]:
    """(layers row, channels row) of comparable removed shares of the basis; each pair of structures once."""
    compared: dict[tuple[str, str], tuple[Row, Row]] = {}
    reached = [(row, row.measured) for row in rows if row.basis == basis and row.measured is not None]
    channels = [(row, measured) for row, measured in reached if row.method == "channels"]
    for layers, removed in ((row, measured) for row, measured in reached if row.method == "layers"):
        near = min(channels, key=lambda other: _gap(removed, other[1], basis), default=None)
        if near is not None and _gap(removed, near[1], basis) <= NEAR:
            compared.setdefault((removed.structure, near[1].structure), (layers, near[0]))
    return list(compared.values())


def _gap(a: Measured, b: Measured, basis: Basis) -> float:
    return abs(a.removed.of(basis) - b.removed.of(basis))


def judge(
    cells: Sequence[Cell], rows: Sequence[Row], sittings: Sequence[Sitting], runtimes: Sequence[str]
) -> list[Judgement]:
    """One verdict for each basis and runtime (one without a runtime where none was timed), with its evidence.

    latency: layers ÷ channels, the geometric mean over pairs. accuracy: top-1 of channels - top-1 of layers, averaged
    over pairs within each seed, with an interval over seeds. A part agrees or disagrees only with its whole interval.
    """
    judged = []
    for basis in bases_of(rows):
        compared = pairs(rows, basis)
        before, after = (_costs(cells, compared, trained=trained) for trained in (False, True))
        accuracy = Price(before, after, _verdict(after, 0.0, below=False))
        for runtime in runtimes or ("",):
            evidence = tuple(_pair(a, b, basis, sittings, runtime) for a, b in compared)
            speed = _speed(evidence)
            latency = Speed(speed, _verdict(speed, 1.0, below=True) if runtime else None)
            judged.append(
                Judgement(
                    claim=CLAIM,
                    basis=basis,
                    runtime=runtime,
                    verdict=_together([part for part in (latency.verdict, accuracy.verdict) if part is not None]),
                    latency=latency,
                    accuracy=accuracy,
                    pairs=evidence,
                    why="" if compared else f"no layers and channels rows have removed shares within {NEAR}",
                )
            )
    return judged


def bases_of(rows: Sequence[Row]) -> list[Basis]:
    """What the rows' shares are of; the unpruned model's are of nothing."""
    return list(dict.fromkeys(row.basis for row in rows if row.basis != ""))


def _pair(layers: Row, channels: Row, basis: Basis, sittings: Sequence[Sitting], runtime: str) -> Pair:
    assert layers.measured is not None and channels.measured is not None  # `pairs` takes no others
    return Pair(
        Side(layers.ratio, layers.measured.removed.of(basis)),
        Side(channels.ratio, channels.measured.removed.of(basis)),
        _timed(layers.measured.structure, channels.measured.structure, sittings, runtime),
    )


def _timed(a: str, b: str, sittings: Sequence[Sitting], runtime: str) -> Mean | None:
    """a ÷ b over the rounds of a sitting that both were in."""
    for sitting in sittings:
        if sitting.runtime == runtime and not sitting.error and {a, b} <= set(sitting.structures):
            return geometric_interval([x / y for x, y in zip(sitting.rounds_of(a), sitting.rounds_of(b), strict=True)])
    return None


def _speed(evidence: Sequence[Pair]) -> Mean | None:
    """Over pairs; of a single pair, over its rounds."""
    timed = [pair.layers_over_channels for pair in evidence if pair.layers_over_channels is not None]
    if len(timed) < 2:
        return timed[0] if timed else None
    return geometric_interval([ratio.mean for ratio in timed])


def _costs(cells: Sequence[Cell], compared: Sequence[tuple[Row, Row]], *, trained: bool) -> Mean | None:
    """How much more accuracy layers cost: one figure a seed, the mean over the pairs that have this seed."""
    known = {
        (cell.ask.method, cell.ask.basis, cell.ask.ratio, cell.ask.seed): (
            cell.trained.accuracy_after if trained else cell.trained.accuracy_before
        )
        for cell in cells
        if cell.trained is not None and not cell.error
    }
    by_seed = []
    for seed in sorted({cell.ask.seed for cell in cells}):
        differences = []
        for pair in compared:
            layers, channels = (known.get((row.method, row.basis, row.ratio, seed)) for row in pair)
            if layers is not None and channels is not None:
                differences.append(channels - layers)
        if differences and len(differences) == len(compared):
            by_seed.append(math.fsum(differences) / len(differences))
    return mean_interval(by_seed) if by_seed else None


def _verdict(mean: Mean | None, edge: float, *, below: bool) -> Verdict:
    """Whether the whole interval lies on the claim's side of `edge`."""
    if mean is None or mean.low is None or mean.high is None:
        return "not settled"
    if mean.high < edge:
        return "agrees" if below else "disagrees"
    if mean.low > edge:
        return "disagrees" if below else "agrees"
    return "not settled"


def _together(parts: Sequence[Verdict]) -> Verdict:
    if "disagrees" in parts:
        return "disagrees"
    return "agrees" if parts and all(part == "agrees" for part in parts) else "not settled"
