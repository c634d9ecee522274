"""What an estimate has to beat: simple predictors on the same points as the model, fitted on the same as it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pocketforge.device_calibration.datasets import Sample
from pocketforge.device_calibration.errors import Predictor
from pocketforge.device_calibration.published import DATA


def macs_and_size(fitted: Sequence[Sample]) -> Predictor:
    """cycles = a·MACs + b·bytes of weights and activations + c, each ≥ 0, least squares on relative errors.

    One (a, b, c) a precision and kernel library, as int8 and float32 MACs cost differently: three parameters each.
    """
    from scipy.optimize import nnls  # type: ignore[import-untyped]

    constants: dict[tuple[str, str], NDArray[np.float64]] = {}
    for kind in sorted({_kind(s) for s in fitted}):
        members = [s for s in fitted if _kind(s) == kind]
        measured = np.array([_cycles(s) for s in members])
        rows = np.array([_size_row(s) for s in members])
        constants[kind], _ = nnls(rows / measured[:, None], np.ones(len(members)))
    pooled = sum(constants.values()) / len(constants)

    def predict(s: Sample) -> float:
        return float(_size_row(s) @ constants.get(_kind(s), pooled)) / (s.terms.clock_ghz * 1e6)

    return predict


def one_scalar(fitted: Sequence[Sample]) -> Predictor:
    """cycles = instructions × one constant: the median cycles per instruction of the fitted points."""
    constant = float(np.median([_cycles(s) / s.terms.instructions for s in fitted]))
    return lambda s: s.terms.instructions * constant / (s.terms.clock_ghz * 1e6)


def scoreboard_alone(_: Sequence[Sample]) -> Predictor:
    """The pipeline tables with nothing fitted: no memory, no overheads."""
    return lambda s: s.terms.compute_cycles / (s.terms.clock_ghz * 1e6)


def llvm_rates(_: Sequence[Sample]) -> Predictor:
    """llvm-mca's reciprocal throughput of 16 instructions, of which others take their group's.

    The busiest of the vector, memory and integer pipes decides. Nothing fitted; no latencies, no memory, no overheads.
    """
    tables = json.loads((DATA / "llvm_mca.json").read_text(encoding="utf-8"))["cores"]

    def predict(s: Sample) -> float:
        rates = tables[s.measurement.core]
        busy = Counter[str]()
        for group, times in s.groups.items():
            name, pipes = _RATES.get(group, _RATES["permute"] if group.startswith(("fp_", "int_")) else _RATES["alu"])
            busy[pipes] += times * rates[name]
        return max(busy.values()) / (s.terms.clock_ghz * 1e6)

    return predict


# Group of the core tables → llvm-mca's instruction that stands for it, and its pipes.
_RATES = {
    "fp_mac": ("fmla_v4s_elem", "vector"),
    "dot": ("sdot_elem", "vector"),
    "matmul": ("smmla", "vector"),
    **dict.fromkeys(("int_mul_long", "int_pair_acc"), ("smlal", "vector")),
    "int_mul": ("sqrdmulh", "vector"),
    **dict.fromkeys(("fp_add", "fp_mul", "fp_minmax", "fp_simple", "fp_step"), ("fadd_v4s", "vector")),
    **dict.fromkeys(("permute", "table", "logic", "shift", "shift_round", "narrow_sat", "reduce"), ("zip1", "vector")),
    **dict.fromkeys(("vload", "vload_lane", "vload_struct"), ("ldr_q", "memory")),
    "ldp": ("ldp_q", "memory"),
    **dict.fromkeys(("load", "prefetch"), ("ldr_d", "memory")),
    **dict.fromkeys(("vstore", "vstore_lane", "vstore_struct", "store"), ("str_q", "memory")),
    "multiply": ("mul_w", "integer"),
    **dict.fromkeys(("alu", "alu_shift", "alu_lsl"), ("add_x", "integer")),
}

BASELINES: dict[str, Callable[[Sequence[Sample]], Predictor]] = {
    "MACs + size, linear": macs_and_size,
    "instructions × one scalar": one_scalar,
    "scoreboard alone": scoreboard_alone,
    "llvm-mca's rates alone": llvm_rates,
}


def _kind(s: Sample) -> tuple[str, str]:
    return s.measurement.precision, s.kernels


def _cycles(s: Sample) -> float:
    return s.measurement.latency_ms * s.terms.clock_ghz * 1e6


def _size_row(s: Sample) -> NDArray[np.float64]:
    return np.array([s.macs, s.moved_bytes, 1.0])
