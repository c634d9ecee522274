"""The interval of several processes: what it must hold, how often it holds the truth, and what the gate says by it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from how_measured import in_processes
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.recipe import Budget, Data, Model, Recipe, Target
from pocketforge.records import GateResult, HowHere, Measurement
from pocketforge.results.gate import judge
from pocketforge.results.latency import latency_interval
from pocketforge.stats import (
    SITTINGS_APART,
    Interval,
    percentile,
    percentile_interval,
    process_interval,
    round_interval,
)

Processes = list[list[float]]


def how(processes: Processes, others: float = 0.0) -> HowHere:
    return in_processes([len(samples) for samples in processes], others=others)


def gate(
    processes: Processes, limit: float, name: Any = "p50", metric: Any = "latency_ms", value: float = 1.0, **more: Any
) -> GateResult:
    budget = Budget(metric, limit, percentile=name)
    recipe = Recipe(
        name="r", model=Model("m.py"), data=Data("digits"), targets=(Target("a", "onnx"),), budgets=(budget,)
    )
    samples = tuple(ms for part in processes for ms in part)
    known = {"samples": samples, "how": how(processes), **more}
    measured = Measurement(metric, value, "ms", "a", "0" * 64, "host", "host", **known)
    (result,) = judge(recipe, [measured])
    return result


def steady(level: float, count: int = 200) -> list[float]:
    """A process in which nothing happens: all samples within a thousandth."""
    return [level * (1 + 1e-5 * (37 * i % 100)) for i in range(count)]


def test_processes_that_differ_are_not_made_surer_by_samples() -> None:
    """Case E12: each run of one file is sure of itself to ±.1 %, and they lie 2 % apart."""
    runs = [steady(level, 10_000) for level in (0.0910, 0.0918, 0.0926)]
    ends = [percentile_interval(run, "p50") for run in runs]
    assert all(end.high - end.low < 0.001 * end.value for end in ends)
    assert ends[0].high < 0.0915 < ends[2].low, "a budget of .0915 passed in one run and failed in another"
    assert gate(runs, 0.0915).verdict == "INCONCLUSIVE"
    assert gate(runs, 0.12).verdict == "PASS" and gate(runs, 0.07).verdict == "FAIL"


@pytest.mark.parametrize(
    ("processes", "limit", "verdict", "said"),
    [
        ([steady(10.0)] * 5, 10.05, "INCONCLUSIVE", "two sittings on a machine lie ±1% apart"),
        ([steady(10.0)] * 5, 10.2, "PASS", ""),
        ([steady(10.0)] * 5, 9.8, "FAIL", ""),
        ([steady(ms) for ms in (10.0, 10.4, 10.2)], 10.6, "INCONCLUSIVE", "processes would settle it (device "),
        # A neighbour through one quarter of one process: he may as well be there for all of them.
        ([steady(10.0)] * 4 + [steady(10.0, 150) + steady(12.0, 50)], 11.0, "INCONCLUSIVE", "on a quieter one"),
        # A neighbour nearly all the time: what the file takes without him was seen in a moment.
        ([steady(12.0, 190) + steady(10.0, 10)] + [steady(12.0)] * 4, 10.5, "INCONCLUSIVE", "on a quieter one"),
        # One process proves nothing, however steady it is.
        ([steady(10.0)], 20.0, "INCONCLUSIVE", "0 to inf"),
    ],
)  # fmt: skip
def test_the_gate_on_processes(processes: Processes, limit: float, verdict: str, said: str) -> None:
    result = gate(processes, limit)
    assert (result.verdict, said in result.reason) == (verdict, True), result.reason


def test_what_other_programs_did_meanwhile_widens_it() -> None:
    """All five processes beside a busy program are alike, and all slow: only the share that it had says so."""
    runs = [steady(10.0)] * 5
    busy: dict[str, Any] = {"how": how(runs, others=0.48)}
    assert gate(runs, 9.2).verdict == "FAIL" and gate(runs, 10.8).verdict == "PASS"
    for limit in (9.2, 10.8):
        result = gate(runs, limit, **busy)
        assert result.verdict == "INCONCLUSIVE"
        assert "other programs have 48% of the processors lie ±13% apart" in result.reason
    assert gate(runs, 8.7, **busy).verdict == "FAIL" and gate(runs, 11.4, **busy).verdict == "PASS"


def test_a_tail_of_few_samples_has_no_bound() -> None:
    few = [steady(10.0, 20)] * 5
    assert gate(few, 100.0, "p99").verdict == "INCONCLUSIVE"
    many = [steady(10.0, 1000)] * 5
    assert gate(many, 10.2, "p99").verdict == "PASS" and gate(many, 9.8, "p99").verdict == "FAIL"
    assert gate(many, 10.2, "min").verdict == "PASS" and gate(many, 9.8, "min").verdict == "FAIL"


@pytest.mark.parametrize(
    ("limit", "verdict"), [(10.4, "FAIL"), (10.6, "INCONCLUSIVE"), (12.4, "INCONCLUSIVE"), (12.6, "PASS")]
)
def test_each_process_loads_the_file_anew(limit: float, verdict: str) -> None:
    loads = in_processes([10] * 5, (12.0, 12.5, 10.5, 12.2, 11.8))
    result = gate([], limit, metric="load_ms", value=12.0, how=loads)
    assert result.verdict == verdict
    assert verdict != "INCONCLUSIVE" or "5 processes loaded it in 10.5 to 12.5 ms" in result.reason


@given(
    st.lists(st.lists(st.floats(0.01, 100), min_size=1, max_size=40), min_size=2, max_size=6),
    st.sampled_from(["min", "p50", "p90", "p99"]),
)
def test_it_holds_what_each_part_of_it_holds(processes: Processes, name: str) -> None:
    found = process_interval(processes, name)
    samples = [ms for part in processes for ms in part]
    assert found.value == percentile(samples, name)
    for part in (round_interval(processes, name), percentile_interval(samples, name)):
        assert found.low <= part.low and part.high <= found.high
    assert found.low <= found.value / (1 + SITTINGS_APART) and found.value * (1 + SITTINGS_APART) <= found.high
    assert latency_interval(samples, how(processes), name) == found


def a_run(rng: np.random.Generator, processes: int, between: float, slowed: float, stay: float) -> Processes:
    """A file that takes 1 ms: processes differ by `between` (a standard deviation); a neighbour is there a share of the
    time and slows by a sixth, and from one stretch of ten samples to the next stays as he is with chance `stay`."""
    found = []
    busy = rng.random() < slowed
    for _ in range(processes):
        level = math.exp(rng.normal(0, between))
        part: list[float] = []
        for _ in range(16):
            if rng.random() > stay:
                busy = rng.random() < slowed
            part += list(level * (1.17 if busy else 1.0) * np.exp(np.abs(rng.normal(0, 0.004, 10))))
        found.append(part)
    return found


MACHINES = {"quiet": (0.002, 0.0, 0.0), "layouts": (0.012, 0.0, 0.0), "neighbours": (0.004, 0.25, 0.9)}


RUNS, BUDGETS = 60, 5


@pytest.mark.parametrize(("count", "machine"), [(5, "quiet"), (5, "layouts"), (3, "layouts"), (5, "neighbours")])
def test_wrong_verdicts_are_rare_where_the_spread_is_known(count: int, machine: str) -> None:
    """A/A: budgets within ±3 % of the file's own time, which many runs together tell (see benchmarks/spread.py)."""
    rng = np.random.default_rng(13)
    truth = float(np.median([ms for part in a_run(rng, 400, *MACHINES[machine]) for ms in part]))
    wrong = firm = wrong_by_one = 0
    for _ in range(RUNS):
        run = a_run(rng, count, *MACHINES[machine])
        found = process_interval(run, "p50")
        one = percentile_interval(run[0], "p50")
        for limit in truth * rng.uniform(0.97, 1.03, BUDGETS):
            firm += not found.low <= limit <= found.high
            wrong += is_wrong(found, limit, truth)
            wrong_by_one += is_wrong(one, limit, truth)
    assert wrong <= RUNS * BUDGETS / 100
    if machine == "quiet":
        assert firm >= RUNS * BUDGETS / 2, "an interval that decides nothing is never wrong"
    else:
        assert wrong_by_one > 5 * RUNS * BUDGETS / 100, "by the samples of one process: what this is for"


def is_wrong(found: Interval, limit: float, truth: float) -> bool:
    """Whether a verdict by this interval is firm, and contrary to what the file really takes."""
    return found.high < limit < truth or truth < limit < found.low
