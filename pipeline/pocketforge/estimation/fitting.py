"""The model of time: a few terms per inference, and at most eight parameters per core type fitted to measurements.

    cycles = dense scale × dense cycles + scale × other cycles + loop exits × exit + operators × overhead
             + L2 bytes / (L2 bytes a cycle) + L3 bytes / (L3 bytes a cycle)
             + window bytes / (window bytes a cycle)
             + for each operator: max(0, memory bytes × GHz / (share × the memory's peak GB/s) - its dense cycles)

The memory terms are what prefetching and out-of-order execution leave exposed, so their bandwidths are effective ones,
above those that a copy would reach. What comes from memory is prefetched while an operator computes: of the two the
longer one counts (S. Williams et al., "Roofline", CACM 2009), operator by operator. Each parameter has a physical
meaning, bounds and a prior; with few measurements the prior decides what they cannot (maximum a posteriori on the
logarithms of errors, with Huber-like robust loss).

Core types share what they can: `fit_shared` finds one set of parameters for all measured core types of one kind, each
weighing the same. It is the prior of each core type's own fit, and all that a core type without measurements has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from typing import TYPE_CHECKING

from pocketforge.devices.profiles import Cluster, DeviceProfile
from pocketforge.estimation.blocks import CountsLike, Work, run_blocks
from pocketforge.estimation.core_model import CoreModel
from pocketforge.estimation.traffic import Caches, Traffic, levels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Terms:
    """What is known of one inference before any fitting.

    Attributes:
        clock_ghz: Of the core.
        instructions: Executed.
        compute_cycles: Of the scoreboard: all in the first cache, all predicted.
        dense_cycles: Of these, in blocks that are mostly multiply-accumulates.
        loop_exits: How often a loop ended.
        operators: Of the model.
        l1_bytes: Loaded and stored.
        l2_bytes: Moved from and to the second cache.
        l3_bytes: Moved from and to what cores share.
        memory_bytes: Moved from and to memory.
        streams: Of each operator that moves any of these: how many, and its part of the dense cycles.
        window_bytes: Read again by depthwise convolutions from beyond the first cache.
        memory_gb_per_s: The device's peak.
        working_set_bytes: Weights, and the largest operator's input and output.
        unknown_share: Of the instructions, those that no table knows, 0 to 1.
    """

    clock_ghz: float
    instructions: int
    compute_cycles: float
    dense_cycles: float
    loop_exits: int
    operators: int
    l1_bytes: int
    l2_bytes: float
    l3_bytes: float
    memory_bytes: float
    streams: tuple[tuple[float, float], ...]
    window_bytes: float
    memory_gb_per_s: float
    working_set_bytes: int
    unknown_share: float


@dataclass(frozen=True, slots=True)
class Parameters:
    """The fitted constants of one core type.

    Attributes:
        compute_scale: Measured over scoreboard cycles where nothing else costs.
        dense_scale: The same of blocks that are mostly multiply-accumulates, which were written for these pipes.
        l2_bytes_per_cycle: What reading from the second cache leaves exposed.
        l3_bytes_per_cycle: The same of what cores share.
        memory_share: The same of memory, as a share of the device's peak bandwidth.
        window_bytes_per_cycle: The same of what depthwise convolutions read again.
        loop_exit_cycles: Branch prediction and refill when a loop ends.
        operator_cycles: Cold instruction cache, predictors and page table for each operator.
    """

    compute_scale: float
    dense_scale: float
    l2_bytes_per_cycle: float
    l3_bytes_per_cycle: float
    memory_share: float
    window_bytes_per_cycle: float
    loop_exit_cycles: float
    operator_cycles: float

    def to_json(self) -> dict[str, float]:
        """Every constant by its name."""
        return asdict(self)


NAMES = tuple(field.name for field in fields(Parameters))


@dataclass(frozen=True, slots=True)
class _Priors:
    """Of all eight: where they are without measurements, their limits, how far (factor, one sigma) these may pull."""

    centre: Parameters
    least: Parameters
    most: Parameters
    spread: Parameters


_SPREAD = Parameters(1.25, 1.15, 2.5, 2.5, 1.5, 2.5, 2.0, 3.0)
# How far core types of one kind lie apart: what a core type's own measurements may pull it from the shared parameters.
_APART = Parameters(1.2, 1.12, 2.0, 1.8, 1.3, 2.0, 2.0, 2.0)
# Out-of-order cores hide most of what the in-order ones wait for.
_OUT_OF_ORDER = _Priors(
    centre=Parameters(1.05, 1.05, 64.0, 24.0, 0.45, 24.0, 3.0, 600.0),
    least=Parameters(0.6, 0.8, 6.0, 2.0, 0.05, 1.0, 0.3, 50.0),
    most=Parameters(2.0, 1.6, 500.0, 200.0, 1.0, 300.0, 25.0, 40000.0),
    spread=_SPREAD,
)
_IN_ORDER = _Priors(
    centre=Parameters(1.05, 1.05, 6.0, 3.0, 0.12, 6.0, 8.0, 3000.0),
    least=Parameters(0.6, 0.8, 1.0, 0.5, 0.02, 0.5, 0.5, 100.0),
    most=Parameters(2.0, 1.6, 100.0, 50.0, 1.0, 100.0, 25.0, 40000.0),
    spread=_SPREAD,
)
_NOISE = 0.06  # one sigma of a measurement's logarithm: repeats on a phone, and kernels of another year
_ROBUST = 0.15  # errors beyond this (log) weigh linearly
_HEARD = 12  # points of a core type: so many are as good as any number, where core types are pooled


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement.

    Attributes:
        name: Unique over all of them.
        group: Points that are left out together when the fit is tested.
        terms: What is known of the inference.
        measured_ms: Its latency.
        weight: How many others it counts as much as.
        device: That it was measured on; points of one are left out together as well.
        core: The core type that it ran on; empty where its place tells.
    """

    name: str
    group: str
    terms: Terms
    measured_ms: float
    weight: float = 1.0
    device: str = ""
    core: str = ""


def features(counts: CountsLike, traffic: Traffic, core: CoreModel, cluster: Cluster, profile: DeviceProfile) -> Terms:
    """The terms of one inference on one cluster of a device."""
    return terms_of(run_blocks(counts, core), traffic, Caches.of(cluster, profile))


def terms_of(work: Work, traffic: Traffic, caches: Caches) -> Terms:
    """The same from blocks already timed."""
    moved = levels(traffic, caches)
    # A weight of the same type costs as much in each operator: its dense cycles go by how often its weights are used.
    uses = [0 if operator.taps else operator.weight_bytes * max(operator.rows, 1) for operator in traffic.operators]
    dense = work.dense_cycles / max(sum(uses), 1)
    streams = tuple(
        (each.memory_bytes, dense * used) for each, used in zip(moved, uses, strict=True) if each.memory_bytes
    )
    return Terms(
        clock_ghz=caches.clock_ghz,
        instructions=work.instructions,
        compute_cycles=work.cycles,
        dense_cycles=work.dense_cycles,
        loop_exits=work.loop_exits,
        operators=len(traffic.operators),
        l1_bytes=work.loaded_bytes + work.stored_bytes,
        l2_bytes=math.fsum(each.l2_bytes for each in moved),
        l3_bytes=math.fsum(each.l3_bytes for each in moved),
        memory_bytes=math.fsum(each.memory_bytes for each in moved),
        streams=streams,
        window_bytes=math.fsum(each.window_bytes for each in moved),
        memory_gb_per_s=caches.memory_gb_per_s,
        working_set_bytes=traffic.working_set_bytes,
        unknown_share=work.unknown / max(work.instructions, 1),
    )


def split(terms: Terms, parameters: Parameters) -> tuple[float, float, float]:
    """Cycles of computing, of waiting for memory, and of overheads."""
    dense, other, exits, operators, *moved = (
        term * factor for term, factor in zip(_row(terms), _factors(parameters), strict=True)
    )
    waiting = terms.clock_ghz / (terms.memory_gb_per_s * parameters.memory_share)
    exposed = (max(0.0, moved * waiting - parameters.dense_scale * computing) for moved, computing in terms.streams)
    return dense + other, math.fsum((*moved, *exposed)), exits + operators


def predict(terms: Terms, parameters: Parameters) -> float:
    """Cycles of one inference."""
    return math.fsum(split(terms, parameters))


def predict_ms(terms: Terms, parameters: Parameters) -> float:
    return predict(terms, parameters) / (terms.clock_ghz * 1e6)


def default_parameters(core: CoreModel) -> Parameters:
    """The priors' centres: what is used where nothing was measured."""
    return _priors(core).centre


def _priors(core: CoreModel) -> _Priors:
    return _IN_ORDER if core.in_order else _OUT_OF_ORDER


def fit(points: Sequence[Point], core: CoreModel, shared: Parameters | None = None) -> Parameters:
    """Parameters for `points`, which all ran on this core type, near those `shared` with others; None: near the priors.

    No points: the shared ones themselves. Deterministic.
    """
    priors = _priors(core)
    if shared is None:
        return _fitted(points, priors, priors.centre, priors.spread)
    return _fitted(points, priors, shared, _APART)


def fit_shared(points: Mapping[str, Sequence[Point]], *, in_order: bool) -> Parameters:
    """One set for all core types of one kind, by core type. Each weighs the same from `_HEARD` points on."""
    priors = _IN_ORDER if in_order else _OUT_OF_ORDER
    pooled = [
        replace(point, weight=point.weight * min(1.0, _HEARD / len(of_core)))
        for _, of_core in sorted(points.items())
        for point in of_core
    ]
    return _fitted(pooled, priors, priors.centre, priors.spread)


def _fitted(points: Sequence[Point], priors: _Priors, centre: Parameters, apart: Parameters) -> Parameters:
    if not points:
        return centre
    import numpy as np
    from scipy.optimize import least_squares  # type: ignore[import-untyped]

    middle, low, high, spread = (
        np.log(astuple(parameters)) for parameters in (centre, priors.least, priors.most, apart)
    )
    inputs = np.array([_row(point.terms) for point in points])
    measured = np.log([point.measured_ms * point.terms.clock_ghz * 1e6 for point in points])
    weights = np.sqrt([point.weight for point in points])
    signs, order = np.array(_SIGNS, float), list(_ORDER)
    streams = np.zeros((2, len(points), max(len(point.terms.streams) for point in points)))
    for at, point in enumerate(points):
        for stream, (moved, computing) in enumerate(point.terms.streams):
            waiting = moved * point.terms.clock_ghz / point.terms.memory_gb_per_s
            streams[:, at, stream] = waiting, computing

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        exposed = np.maximum(streams[0] / np.exp(logs[_SHARE]) - streams[1] * np.exp(logs[_DENSE]), 0).sum(axis=1)
        errors = (np.log(inputs @ np.exp((signs * logs)[order]) + exposed) - measured) / _NOISE
        # Huber by hand, as the priors' residuals must stay quadratic.
        limit = _ROBUST / _NOISE
        size = np.abs(errors)
        tamed = np.sign(errors) * np.where(size <= limit, size, np.sqrt(np.maximum(2 * limit * size - limit**2, 0)))
        return np.concatenate([weights * tamed, (logs - middle) / spread])

    fitted = least_squares(residuals, np.clip(middle, low + 1e-9, high - 1e-9), bounds=(low, high), x_scale=0.3)
    return Parameters(*(float(value) for value in np.exp(fitted.x)))


# The terms of `_row`, by the place of their parameter, and whether a larger parameter makes more cycles or fewer.
_ORDER = (1, 0, 6, 7, 2, 3, 5)
_DENSE, _SHARE = 1, 4
_SIGNS = (1, 1, -1, -1, -1, -1, 1, 1)


def _factors(parameters: Parameters) -> list[float]:
    """What each term of `_row` is multiplied by."""
    values = astuple(parameters)
    return [values[at] ** _SIGNS[at] for at in _ORDER]


def _row(terms: Terms) -> list[float]:
    return [
        terms.dense_cycles,
        terms.compute_cycles - terms.dense_cycles,
        terms.loop_exits,
        terms.operators,
        terms.l2_bytes,
        terms.l3_bytes,
        terms.window_bytes,
    ]
