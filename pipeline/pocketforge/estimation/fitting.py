"""The model of time: a few terms per inference, and at most six parameters per core type fitted to measurements.

    cycles = scale × scoreboard cycles + loop exits × exit + operators × overhead
             + L2 bytes / (L2 bytes a cycle) + L3 bytes / (L3 bytes a cycle) + memory bytes × GHz / (memory GB/s)

The memory terms are what prefetching and out-of-order execution leave exposed, so their bandwidths are effective ones,
above those that a copy would reach. Each parameter has a physical meaning, bounds and a prior; with few measurements
the prior decides what they cannot (maximum a posteriori on the logarithms of errors, with Huber-like robust loss).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
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
        loop_exits: How often a loop ended.
        operators: Of the model.
        l1_bytes: Loaded and stored.
        l2_bytes: Moved from and to the second cache.
        l3_bytes: Moved from and to what cores share.
        memory_bytes: Moved from and to memory.
        working_set_bytes: Weights, and the largest operator's input and output.
        unknown_share: Of the instructions, those that no table knows, 0 to 1.
    """

    clock_ghz: float
    instructions: int
    compute_cycles: float
    loop_exits: int
    operators: int
    l1_bytes: int
    l2_bytes: float
    l3_bytes: float
    memory_bytes: float
    working_set_bytes: int
    unknown_share: float


@dataclass(frozen=True, slots=True)
class Parameters:
    """The fitted constants of one core type.

    Attributes:
        compute_scale: Measured over scoreboard cycles where nothing else costs.
        l2_bytes_per_cycle: What reading from the second cache leaves exposed.
        l3_bytes_per_cycle: The same of what cores share.
        memory_gb_per_s: The same of memory.
        loop_exit_cycles: Branch prediction and refill when a loop ends.
        operator_cycles: Cold instruction cache, predictors and page table for each operator.
    """

    compute_scale: float
    l2_bytes_per_cycle: float
    l3_bytes_per_cycle: float
    memory_gb_per_s: float
    loop_exit_cycles: float
    operator_cycles: float

    def to_json(self) -> dict[str, float]:
        """Every constant by its name."""
        return asdict(self)


NAMES = tuple(field.name for field in fields(Parameters))


@dataclass(frozen=True, slots=True)
class _Priors:
    """Of all six: where they are without measurements, their limits, and how far (factor, one sigma) these may pull."""

    centre: Parameters
    least: Parameters
    most: Parameters
    spread: Parameters


_SPREAD = Parameters(1.15, 2.5, 2.5, 2.0, 2.0, 3.0)
# Out-of-order cores hide most of what the in-order ones wait for.
_OUT_OF_ORDER = _Priors(
    centre=Parameters(1.05, 32.0, 12.0, 10.0, 6.0, 2000.0),
    least=Parameters(0.8, 6.0, 2.0, 1.0, 0.5, 100.0),
    most=Parameters(1.6, 500.0, 200.0, 60.0, 25.0, 40000.0),
    spread=_SPREAD,
)
_IN_ORDER = _Priors(
    centre=Parameters(1.05, 6.0, 3.0, 2.5, 8.0, 3000.0),
    least=Parameters(0.8, 1.0, 0.5, 0.5, 0.5, 100.0),
    most=Parameters(1.6, 100.0, 50.0, 20.0, 25.0, 40000.0),
    spread=_SPREAD,
)
_NOISE = 0.06  # one sigma of a measurement's logarithm: repeats on a phone, and kernels of another year
_ROBUST = 0.15  # errors beyond this (log) weigh linearly


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement.

    Attributes:
        name: Unique over all of them.
        group: Points that are left out together when the fit is tested.
        terms: What is known of the inference.
        measured_ms: Its latency.
        weight: How many others it counts as much as.
    """

    name: str
    group: str
    terms: Terms
    measured_ms: float
    weight: float = 1.0


def features(counts: CountsLike, traffic: Traffic, core: CoreModel, cluster: Cluster, profile: DeviceProfile) -> Terms:
    """The terms of one inference on one cluster of a device."""
    return terms_of(run_blocks(counts, core), traffic, Caches.of(cluster, profile))


def terms_of(work: Work, traffic: Traffic, caches: Caches) -> Terms:
    """The same from blocks already timed."""
    moved = levels(traffic, caches)
    return Terms(
        clock_ghz=caches.clock_ghz,
        instructions=work.instructions,
        compute_cycles=work.cycles,
        loop_exits=work.loop_exits,
        operators=len(traffic.operators),
        l1_bytes=work.loaded_bytes + work.stored_bytes,
        l2_bytes=moved.l2_bytes,
        l3_bytes=moved.l3_bytes,
        memory_bytes=moved.memory_bytes,
        working_set_bytes=traffic.working_set_bytes,
        unknown_share=work.unknown / max(work.instructions, 1),
    )


def split(terms: Terms, parameters: Parameters) -> tuple[float, float, float]:
    """Cycles of computing, of waiting for memory, and of overheads."""
    return (
        parameters.compute_scale * terms.compute_cycles,
        terms.l2_bytes / parameters.l2_bytes_per_cycle
        + terms.l3_bytes / parameters.l3_bytes_per_cycle
        + terms.memory_bytes * terms.clock_ghz / parameters.memory_gb_per_s,
        terms.loop_exits * parameters.loop_exit_cycles + terms.operators * parameters.operator_cycles,
    )


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


def fit(points: Sequence[Point], core: CoreModel, start: Parameters | None = None) -> Parameters:
    """Parameters for `points`, which all ran on this core type. `start` replaces the priors' centres (transfer).

    No points: the priors' centres themselves. Deterministic.
    """
    centre = start or default_parameters(core)
    if not points:
        return centre
    import numpy as np
    from scipy.optimize import least_squares  # type: ignore[import-untyped]

    priors = _priors(core)
    middle, low, high, spread = (
        np.log(astuple(parameters)) for parameters in (centre, priors.least, priors.most, priors.spread)
    )
    inputs = np.array([_row(point.terms) for point in points])
    measured = np.log([point.measured_ms * point.terms.clock_ghz * 1e6 for point in points])
    weights = np.sqrt([point.weight for point in points])

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        values = np.exp(logs)
        factors = np.array([values[0], 1 / values[1], 1 / values[2], 1 / values[3], values[4], values[5]])
        errors = (np.log(inputs @ factors) - measured) / _NOISE
        # Huber by hand, as the priors' residuals must stay quadratic.
        limit = _ROBUST / _NOISE
        size = np.abs(errors)
        tamed = np.sign(errors) * np.where(size <= limit, size, np.sqrt(np.maximum(2 * limit * size - limit**2, 0)))
        return np.concatenate([weights * tamed, (logs - middle) / spread])

    fitted = least_squares(residuals, np.clip(middle, low + 1e-9, high - 1e-9), bounds=(low, high), x_scale=0.3)
    return Parameters(*(float(value) for value in np.exp(fitted.x)))


def _row(terms: Terms) -> list[float]:
    return [
        terms.compute_cycles,
        terms.l2_bytes,
        terms.l3_bytes,
        terms.memory_bytes * terms.clock_ghz,
        terms.loop_exits,
        terms.operators,
    ]
