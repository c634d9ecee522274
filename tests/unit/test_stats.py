"""Percentiles agree with NumPy's; intervals hold the value, cover the truth and widen with correlation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.stats import PERCENTILES, effective_count, percentile, percentile_interval, quantile, samples_needed

finite = st.floats(-1e9, 1e9)
sample_lists = st.lists(finite, min_size=1, max_size=60)
percentiles = st.sampled_from(sorted(PERCENTILES))


def lognormal(n: int, seed: int = 0) -> list[float]:
    return [float(v) for v in np.random.default_rng(seed).lognormal(1.0, 0.3, n)]


def autocorrelated(n: int, r: float, seed: int = 0) -> list[float]:
    """A first-order autoregressive series of correlation r: the clock that drifts."""
    noise = np.random.default_rng(seed).normal(size=n)
    values = [float(noise[0])]
    for e in noise[1:]:
        values.append(r * values[-1] + math.sqrt(1 - r * r) * float(e))
    return values


@given(sample_lists, st.floats(0, 1))
def test_a_quantile_is_numpy_s(samples: list[float], q: float) -> None:
    assert quantile(samples, q) == pytest.approx(float(np.quantile(samples, q)), rel=1e-9, abs=1e-6)


@given(sample_lists)
def test_percentiles_are_ordered_and_within_the_samples(samples: list[float]) -> None:
    found = [percentile(samples, name) for name in ("min", "p50", "p90", "p99")]
    assert found == sorted(found)
    assert found[0] == min(samples)
    assert found[-1] <= max(samples)


def test_percentiles_of_known_samples() -> None:
    samples = [float(i) for i in range(101)][::-1]
    assert [percentile(samples, n) for n in ("min", "p50", "p90", "p99")] == [0, 50, 90, 99]
    assert percentile([1.0, 2.0], "p50") == 1.5


def test_no_samples_have_no_quantile() -> None:
    with pytest.raises(ValueError, match="no samples"):
        quantile([], 0.5)


@given(sample_lists, percentiles)
def test_an_interval_holds_its_value(samples: list[float], name: str) -> None:
    interval = percentile_interval(samples, name)
    assert interval.low <= interval.value <= interval.high
    assert interval.value == percentile(samples, name)


@given(sample_lists)
def test_the_interval_of_the_least_is_itself(samples: list[float]) -> None:
    interval = percentile_interval(samples, "min")
    assert interval.low == interval.value == interval.high == min(samples)


@pytest.mark.parametrize(("name", "n"), [("p50", 30), ("p50", 200), ("p90", 200), ("p99", 1000)])
def test_the_interval_covers_the_true_percentile_as_often_as_it_says(name: str, n: int) -> None:
    truth = float(np.exp(1.0 + 0.3 * {"p50": 0.0, "p90": 1.2815515655446004, "p99": 2.3263478740408408}[name]))
    intervals = [percentile_interval(lognormal(n, seed), name) for seed in range(400)]
    covered = sum(i.low <= truth <= i.high for i in intervals) / len(intervals)
    assert covered >= 0.90
    finite_ends = [i for i in intervals if math.isfinite(i.low) and math.isfinite(i.high)]
    assert len(finite_ends) >= 0.9 * len(intervals), "an interval that is always infinite covers too"


def test_too_few_samples_bound_nothing() -> None:
    for samples in ([1.0], [1.0, 2.0], lognormal(20)):
        assert percentile_interval(samples, "p99").high == math.inf
    assert math.isinf(percentile_interval([1.0, 2.0, 3.0], "p50").low)


def test_more_samples_make_the_interval_narrower() -> None:
    widths = [i.high - i.low for i in (percentile_interval(lognormal(n), "p50") for n in (50, 500, 5000))]
    assert widths == sorted(widths, reverse=True)
    assert widths[2] < widths[0] / 5


def test_more_confidence_makes_the_interval_wider() -> None:
    samples = lognormal(500)
    narrow, wide = (percentile_interval(samples, "p50", confidence) for confidence in (0.8, 0.99))
    assert wide.low < narrow.low <= narrow.high < wide.high


@pytest.mark.parametrize("name", ["p50", "p90"])
def test_correlated_samples_give_a_wider_interval_than_the_same_values_shuffled(name: str) -> None:
    for seed in range(5):
        samples = autocorrelated(1000, 0.9, seed)
        shuffled = [float(v) for v in np.random.default_rng(seed).permutation(samples)]
        correlated, independent = (percentile_interval(s, name) for s in (samples, shuffled))
        assert correlated.value == independent.value
        assert correlated.high - correlated.low > 2 * (independent.high - independent.low)


def test_the_interval_still_covers_where_samples_are_correlated() -> None:
    intervals = [percentile_interval(autocorrelated(500, 0.7, seed), "p50") for seed in range(200)]
    assert sum(i.low <= 0 <= i.high for i in intervals) / len(intervals) >= 0.90


@given(st.lists(finite, max_size=60))
def test_an_effective_count_is_at_most_the_count(samples: list[float]) -> None:
    assert min(len(samples), 2) <= effective_count(samples) <= len(samples)


@given(st.lists(st.integers(0, 9), min_size=3, max_size=40))
def test_an_effective_count_is_of_the_correlation_of_neighbouring_ranks(samples: list[int]) -> None:
    ranks = np.array([np.mean([place for place, s in enumerate(sorted(samples)) if s == each]) for each in samples])
    apart = ranks - ranks.mean()
    lag1 = min(max((apart[:-1] @ apart[1:]) / (apart @ apart), 0.0), 0.99) if apart.any() else 0.0
    assert effective_count(samples) == max(2.0, len(samples) * (1 - lag1) / (1 + lag1))


def test_independent_samples_count_nearly_in_full_and_drifting_ones_hardly() -> None:
    assert effective_count(lognormal(1000)) > 850
    assert effective_count(autocorrelated(1000, 0.9)) == pytest.approx(1000 * 0.1 / 1.9, rel=0.5)
    assert effective_count([float(i) for i in range(1000)]) < 20


def test_one_outlier_does_not_hide_the_correlation() -> None:
    samples = autocorrelated(1000, 0.9)
    samples[500] = 1e9
    assert effective_count(samples) < 150


def test_equal_samples_are_not_taken_for_correlated() -> None:
    """A coarse clock gives many equal values; their order says nothing."""
    assert effective_count([2.0] * 100) == 100
    interval = percentile_interval([2.0] * 100, "p50")
    assert (interval.low, interval.high) == (2.0, 2.0)
    coarse = [float(round(v)) for v in lognormal(1000)]
    assert len(set(coarse)) < 10
    assert effective_count(coarse) > 800


# How many samples would settle it


def test_samples_needed_grows_as_the_limit_nears_the_value() -> None:
    samples = lognormal(200)
    median = percentile(samples, "p50")
    near, far = samples_needed(samples, "p50", median * 1.02), samples_needed(samples, "p50", median * 1.2)
    assert near is not None
    assert far is not None
    assert near > 2 * far
    assert far > len(samples)


def test_no_number_of_samples_settles_a_limit_at_the_value() -> None:
    samples = [float(i) for i in range(100)]
    assert samples_needed(samples, "p50", 49.5) is None
    assert samples_needed(samples, "min", 3.0) is None
    assert samples_needed([], "p50", 3.0) is None


def test_the_samples_said_to_be_needed_do_settle_it() -> None:
    settled = wanted = 0
    for seed in range(40):
        few = lognormal(60, seed)
        limit = math.e * 1.05
        interval = percentile_interval(few, "p50")
        if not interval.low <= limit <= interval.high:
            continue
        needed = samples_needed(few, "p50", limit)
        if needed is None or needed > 20_000:
            continue
        wanted += 1
        more = percentile_interval(lognormal(2 * needed, seed + 1000), "p50")
        settled += not more.low <= limit <= more.high
    assert wanted >= 15
    assert settled / wanted >= 0.6


@given(st.lists(finite, min_size=1, max_size=40), percentiles, finite)
def test_samples_needed_is_more_than_there_are_or_none(samples: list[float], name: str, limit: float) -> None:
    needed = samples_needed(samples, name, limit)
    assert needed is None or needed > len(samples)
