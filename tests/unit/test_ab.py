"""A B B A on simulated phones: drift cancels, intervals cover, verdicts err as seldom as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.measure.ab import MIN_BLOCKS, Blocks, Round, blocks_needed, blocks_of, compare, noise_floor, round_of
from pocketforge.stats import geometric_interval, t95

ROUND_NOISE = 0.01  # what a cool phone's rounds scatter by
DRIFT = 0.004  # a round: a phone that is 20 % slower after 50 rounds


def session(
    blocks: int, difference: float, seed: int, noise: float = ROUND_NOISE, drift: float = DRIFT, walk: float = 0.0
) -> list[Round]:
    """A phone's rounds: B is `difference` slower than A, all drift, wander (a random walk) and scatter."""
    random = np.random.default_rng(seed)
    labels = "ABBA" * blocks
    level = drift * np.arange(len(labels)) + np.cumsum(random.normal(0, walk, len(labels)))
    logs = level + random.normal(0, noise, len(labels))
    return [
        Round(label, float(12.0 * math.exp(log) * (1 + difference if label == "B" else 1)))
        for label, log in zip(labels, logs, strict=True)
    ]


# --- blocks ----------------------------------------------------------------------------------------------------------


@given(st.floats(0.01, 1e4), st.floats(-0.05, 0.05), st.floats(0.5, 2), st.integers(1, 12))
def test_drift_by_a_constant_factor_falls_out(start: float, drift: float, ratio: float, count: int) -> None:
    rounds = [
        Round(label, start * math.exp(drift * i) * (ratio if label == "B" else 1))
        for i, label in enumerate("ABBA" * count)
    ]
    assert blocks_of(rounds).log_ratios == pytest.approx([math.log(ratio)] * count, abs=1e-9)


@given(st.floats(0.1, 1e3), st.floats(0, 0.02), st.integers(1, 12))
def test_drift_by_a_constant_time_leaves_its_square(start: float, drift: float, count: int) -> None:
    rounds = [Round(label, start * (1 + drift * i)) for i, label in enumerate("ABBA" * count)]
    for log_ratio in blocks_of(rounds).log_ratios:
        assert -1e-12 <= log_ratio <= drift**2 + 1e-12


def test_drift_does_bias_other_orders() -> None:
    """Why the order is what it is: in A B A B the drift of one round is in every difference."""
    level = {index: 10 * math.exp(DRIFT * index) for index in range(4)}
    assert math.log(level[1] * level[3] / (level[0] * level[2])) / 2 == pytest.approx(DRIFT)
    rounds = [Round(label, level[index]) for index, label in enumerate("ABBA")]
    assert blocks_of(rounds).log_ratios[0] == pytest.approx(0, abs=1e-12)


def test_a_throttled_round_takes_its_block_out() -> None:
    rounds = session(6, 0.0, seed=1)
    rounds[9] = Round("B", 40.0, throttled=True)
    kept = blocks_of(rounds)
    assert kept == Blocks(blocks_of(rounds[:8] + rounds[12:]).log_ratios, throttled=1, unfinished=0)
    assert compare(rounds, 5).verdict == "PASS"  # 40 ms would have made it FAIL or INCONCLUSIVE
    assert compare([*rounds[:9], Round("B", 40.0), *rounds[10:]], 5).verdict != "PASS"


def test_a_last_block_that_was_not_finished_is_left_out() -> None:
    rounds = session(5, 0.0, seed=1)
    for kept in (17, 18, 19):
        assert blocks_of(rounds[:kept]) == Blocks(blocks_of(rounds[:16]).log_ratios, throttled=0, unfinished=1)


def test_mirrored_blocks_count_too() -> None:
    mirrored = [Round(label, value) for label, value in zip("BAAB", (11.0, 10.0, 10.0, 11.0), strict=True)]
    assert blocks_of(mirrored).log_ratios == pytest.approx([math.log(1.1)])


@pytest.mark.parametrize("order", ["ABAB", "AABB", "ABBAABBB", "ABBAAA", "AXXA", "BB"])
def test_another_order_is_refused(order: str) -> None:
    with pytest.raises(ValueError, match="wanted the order A B B A, found"):
        blocks_of([Round(label, 1.0) for label in order])


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_latencies_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="above 0 ms"):
        blocks_of([Round("A", 1.0), Round("B", value), Round("B", 1.0), Round("A", 1.0)])
    with pytest.raises(ValueError, match="two labels"):
        blocks_of([], "A", "A")


def test_a_round_is_its_median() -> None:
    assert round_of("A", [1.0, 2.0, 90.0]) == Round("A", 2.0)
    assert round_of("A", [1.0, 2.0, 90.0], True, "min") == Round("A", 1.0, True)


# --- the interval and the verdicts, on simulated phones --------------------------------------------------------------


def test_the_interval_is_the_one_of_stats() -> None:
    rounds = session(7, 0.03, seed=3)
    expected = geometric_interval([math.exp(x) for x in blocks_of(rounds).log_ratios])
    found = compare(rounds, 5).difference_percent
    assert found is not None
    assert [found.value, found.low, found.high] == pytest.approx(
        [(x - 1) * 100 for x in (expected.value, expected.low, expected.high)]
    )


@pytest.mark.parametrize(("blocks", "walk"), [(4, 0.0), (10, 0.0), (10, 0.01)])
def test_intervals_hold_the_true_difference_about_95_times_in_100(blocks: int, walk: float) -> None:
    held = 0
    for seed in range(1000):
        found = compare(session(blocks, 0.03, seed, walk=walk), 5).difference_percent
        assert found is not None
        held += found.low <= 3 <= found.high
    assert 930 <= held <= 970  # 950 ± 3 standard deviations


@pytest.mark.parametrize(("difference", "right"), [(0.05, "FAIL"), (0.0, "PASS"), (-0.05, "PASS")])
def test_a_known_difference_is_found(difference: float, right: str) -> None:
    found = [compare(session(10, difference, seed), 2) for seed in range(200)]
    assert sum(one.verdict == right for one in found) >= 195
    assert np.mean([one.difference_percent.value for one in found if one.difference_percent]) == pytest.approx(
        difference * 100, abs=0.2
    )


def test_wrong_verdicts_are_as_rare_as_promised() -> None:
    """B exactly at the tolerance: PASS and FAIL come in about 2.5 of 100 sessions each, the rest is undecided."""
    verdicts = [compare(session(8, 0.03, seed), 3).verdict for seed in range(1000)]
    assert 10 <= verdicts.count("PASS") <= 42  # 25 ± 3.4 standard deviations
    assert 10 <= verdicts.count("FAIL") <= 42


def test_a_session_of_as_many_blocks_as_were_asked_for_decides() -> None:
    asked = decided = 0
    for seed in range(300):
        first = compare(session(5, 0.015, seed, noise=0.02), 3)
        if first.verdict == "INCONCLUSIVE" and first.blocks_needed and first.blocks_needed <= 60:
            asked += 1
            again = compare(session(first.blocks_needed, 0.015, 1000 + seed, noise=0.02), 3)
            decided += again.verdict != "INCONCLUSIVE"
    assert asked > 100
    assert decided / asked > 0.4  # planning by five blocks' luck: about one in two


def test_few_blocks_decide_nothing_and_say_how_many_would() -> None:
    for count in range(MIN_BLOCKS):
        found = compare(session(count, 0.5, seed=0), 5)
        assert (found.verdict, found.blocks, found.blocks_needed) == ("INCONCLUSIVE", count, MIN_BLOCKS)
        assert f"{count} blocks" in found.reason and f"at least {MIN_BLOCKS}" in found.reason
    assert compare([], 5).difference_percent is None
    rounds = session(5, 0.5, seed=0)[:-1]
    rounds[0] = Round("A", 9.0, throttled=True)
    assert "3 blocks that count (1 throttled, 1 unfinished)" in compare(rounds, 5).reason


def test_how_many_blocks_would_decide() -> None:
    logs = [0.00, 0.02, 0.01, 0.03, -0.01]
    distance = 0.02
    needed = blocks_needed(logs, 0.01 + distance)
    assert needed is not None and needed > len(logs) - 1
    spread = float(np.std(logs, ddof=1))
    assert t95(needed - 1) * spread / math.sqrt(needed) < distance
    assert needed == len(logs) + 1 or t95(needed - 2) * spread / math.sqrt(needed - 1) >= distance
    assert blocks_needed(logs, 0.01) is None  # the difference is the tolerance
    assert blocks_needed(logs, 0.01 + 1e-5) is None  # more than a thousand
    assert blocks_needed(logs, 0.01 + distance, floor=0.03) is None  # within the noise floor


def test_a_difference_at_the_tolerance_has_no_number_of_blocks() -> None:
    values = (1.0, 1.03 * 1.01, 1.03 / 1.01, 1.0)
    rounds = [Round(label, value) for _ in range(3) for label, value in zip("ABBA", values, strict=True)]
    up, down = ([Round(r.label, r.latency_ms * (f if r.label == "B" else 1)) for r in rounds] for f in (1.01, 1 / 1.01))
    found = compare(up + down, 3)
    assert (found.verdict, found.blocks_needed) == ("INCONCLUSIVE", None)
    assert "no number of blocks decides" in found.reason


@pytest.mark.parametrize("tolerance", [math.nan, math.inf, -100.0, -200.0])
def test_a_tolerance_that_is_none_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="wanted a tolerance"):
        compare([], tolerance)
    with pytest.raises(ValueError, match="wanted a noise floor"):
        compare([], 5, noise_floor_percent=-1)


# --- the noise floor -------------------------------------------------------------------------------------------------


def test_the_noise_floor_holds_what_the_phone_shows_of_itself() -> None:
    """The floor of one A/A session bounds the difference found in another, and a block's bound that of its blocks."""
    within_session = within_block = 0
    for seed in range(500):
        floor = noise_floor(session(8, 0.0, seed))
        other = noise_floor(session(8, 0.0, 10_000 + seed))
        within_session += abs(other.bias_percent) <= floor.session_percent
        one = blocks_of(session(1, 0.0, 20_000 + seed)).log_ratios[0]
        within_block += abs(math.expm1(one)) * 100 <= floor.block_percent
        assert floor.session_percent >= max(abs(floor.bias_percent), floor.half_width_percent)
        assert floor.block_percent >= floor.session_percent
        assert floor.noise_floor == floor.session_percent / 100
    assert within_session >= 465 and within_block >= 465


def test_a_bias_of_the_phone_is_in_its_floor() -> None:
    """Where one label is always slower (its file lies elsewhere), more blocks do not make it go away."""
    floor = noise_floor(session(200, 0.02, seed=1))
    assert floor.bias_percent == pytest.approx(2, abs=0.2)
    assert floor.session_percent > 2 > floor.half_width_percent


def test_no_difference_finer_than_the_floor_is_decided() -> None:
    rounds = session(40, 0.012, seed=2)
    assert compare(rounds, 2).verdict == "PASS"
    found = compare(rounds, 2, noise_floor_percent=1.5)
    assert (found.verdict, found.blocks_needed) == ("INCONCLUSIVE", None)
    assert "within the phone's noise floor (1.5 %)" in found.reason
    assert compare(rounds, 3, noise_floor_percent=1.5).verdict == "PASS"
    slower = session(40, 0.05, seed=2)
    assert compare(slower, 2, noise_floor_percent=1.5).verdict == "FAIL"
    assert compare(slower, 2, noise_floor_percent=4).verdict == "INCONCLUSIVE"


def test_a_floor_needs_blocks() -> None:
    with pytest.raises(ValueError, match="3 blocks that count; a noise floor needs 4"):
        noise_floor(session(3, 0.0, seed=0))
