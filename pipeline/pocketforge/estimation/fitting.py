"""The model of time: a few terms per inference, and at most six parameters per core type fitted to measurements.

    cycles = scale × scoreboard cycles + loop exits × exit + operators × overhead
             + L2 bytes / (L2 bytes a cycle) + L3 bytes / (L3 bytes a cycle) + memory bytes × GHz / (memory GB/s)

The memory terms are what prefetching and out-of-order execution leave exposed, so their bandwidths are effective ones,
above those that a copy would reach. Each parameter has a physical meaning, bounds and a prior; with few measurements
the prior decides what they cannot (maximum a posteriori on the logarithms of errors, with Huber-like robust loss).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pocketforge.devices.profiles import Cluster, DeviceProfile
from pocketforge.estimation.blocks import CountsLike, Work, run_blocks
from pocketforge.estimation.core_model import CoreModel
from pocketforge.estimation.traffic import Caches, Traffic, levels


@dataclass(frozen=True, slots=True)
class Terms:
    """What is known of one inference before any fitting. Cycles, bytes and numbers per inference."""

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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Terms:
        return cls(**{field.name: data[field.name] for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class Parameters:
    """The fitted constants of one core type."""

    compute_scale: float  # measured over scoreboard cycles where nothing else costs
    l2_bytes_per_cycle: float
    l3_bytes_per_cycle: float
    memory_gb_per_s: float
    loop_exit_cycles: float  # branch prediction and refill when a loop ends
    operator_cycles: float  # cold instruction cache, predictors and page table for each operator

    def to_json(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Parameters:
        return cls(**{field.name: float(data[field.name]) for field in fields(cls)})


NAMES = tuple(field.name for field in fields(Parameters))
# Centre, lowest, highest, and how far (factor, one sigma) measurements may pull it. Out-of-order cores hide most of
# what the in-order ones wait for.
_PRIORS: dict[bool, dict[str, tuple[float, float, float, float]]] = {
    False: {
        "compute_scale": (1.05, 0.8, 1.6, 1.15),
        "l2_bytes_per_cycle": (32.0, 6.0, 500.0, 2.5),
        "l3_bytes_per_cycle": (12.0, 2.0, 200.0, 2.5),
        "memory_gb_per_s": (10.0, 1.0, 60.0, 2.0),
        "loop_exit_cycles": (6.0, 0.5, 25.0, 2.0),
        "operator_cycles": (2000.0, 100.0, 40000.0, 3.0),
    },
    True: {
        "compute_scale": (1.05, 0.8, 1.6, 1.15),
        "l2_bytes_per_cycle": (6.0, 1.0, 100.0, 2.5),
        "l3_bytes_per_cycle": (3.0, 0.5, 50.0, 2.5),
        "memory_gb_per_s": (2.5, 0.5, 20.0, 2.0),
        "loop_exit_cycles": (8.0, 0.5, 25.0, 2.0),
        "operator_cycles": (3000.0, 100.0, 40000.0, 3.0),
    },
}
_NOISE = 0.06  # one sigma of a measurement's logarithm: repeats on a phone, and kernels of another year
_ROBUST = 0.15  # errors beyond this (log) weigh linearly


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement with its terms. `group`: points that are left out together when the fit is tested."""

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
    return Parameters(**{name: centre for name, (centre, *_) in _PRIORS[core.in_order].items()})


def fit(points: Sequence[Point], core: CoreModel, start: Parameters | None = None) -> Parameters:
    """Parameters for `points`, which all ran on this core type. `start` replaces the priors' centres (transfer).

    No points: the priors' centres themselves. Deterministic.
    """
    centre = start or default_parameters(core)
    if not points:
        return centre
    import numpy as np
    from scipy.optimize import least_squares  # type: ignore[import-untyped]

    priors = _PRIORS[core.in_order]
    middle = np.log([getattr(centre, name) for name in NAMES])
    low = np.log([priors[name][1] for name in NAMES])
    high = np.log([priors[name][2] for name in NAMES])
    spread = np.log([priors[name][3] for name in NAMES])
    inputs = np.array([_row(point.terms) for point in points])
    measured = np.log([point.measured_ms * point.terms.clock_ghz * 1e6 for point in points])
    weights = np.sqrt([point.weight for point in points])

    def residuals(logs: Any) -> Any:
        values = np.exp(logs)
        factors = np.array([values[0], 1 / values[1], 1 / values[2], 1 / values[3], values[4], values[5]])
        errors = (np.log(inputs @ factors) - measured) / _NOISE
        # Huber by hand, as the priors' residuals must stay quadratic.
        limit = _ROBUST / _NOISE
        size = np.abs(errors)
        tamed = np.sign(errors) * np.where(size <= limit, size, np.sqrt(np.maximum(2 * limit * size - limit**2, 0)))
        return np.concatenate([weights * tamed, (logs - middle) / spread])

    found = least_squares(residuals, np.clip(middle, low + 1e-9, high - 1e-9), bounds=(low, high), x_scale=0.3)
    return Parameters(**{name: float(value) for name, value in zip(NAMES, np.exp(found.x), strict=True)})


def _row(terms: Terms) -> list[float]:
    return [
        terms.compute_cycles,
        terms.l2_bytes,
        terms.l3_bytes,
        terms.memory_bytes * terms.clock_ghz,
        terms.loop_exits,
        terms.operators,
    ]
