"""What a change did to the time, judged from paired rounds."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.errors import StageFailed
from pocketforge.outcomes.gains import Flag, SlowLayer
from pocketforge.results.trunk import describe_flag

pytest.importorskip("torch", reason="the stages need torch: pip install pocketforge")

from pocketforge.measure.trial import Trial
from pocketforge.outcomes.gains import State
from pocketforge.stages import gains
from pocketforge.stages.gains import verdict
from pocketforge.stats import ratio_interval

times = st.floats(0.01, 100)


@given(st.lists(st.tuples(times, times), min_size=2, max_size=12))
def test_the_interval_holds_the_mean_and_turns_around_with_its_sides(rounds: list[tuple[float, float]]) -> None:
    before, after = zip(*rounds, strict=True)
    mean, low, high = ratio_interval(before, after)
    assert low <= mean <= high
    assert ratio_interval(after, before) == pytest.approx((1 / mean, 1 / high, 1 / low), rel=1e-6)


def test_a_known_interval() -> None:
    # Logarithms -0.1, 0.1, -0.1, 0.1: mean 0, standard deviation 0.11547, t(3) = 3.182.
    mean, low, high = ratio_interval([1.0] * 4, [math.exp(x) for x in (-0.1, 0.1, -0.1, 0.1)])
    assert (mean, math.log(high)) == pytest.approx((1.0, 3.182 * 0.115470 / 2), rel=1e-3)
    assert low == pytest.approx(1 / high)


def test_one_round_bounds_nothing_and_unpaired_ones_are_refused() -> None:
    mean, *bounds = ratio_interval([2.0], [1.0])
    assert mean == pytest.approx(0.5) and bounds == [0.0, math.inf]
    with pytest.raises(ValueError, match="zip"):
        ratio_interval([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("macs", "ratio", "said"),
    [
        ((100, 99), (1.0, 0.9, 1.1), "none"),  # promised nothing
        ((100, 50), (0.6, 0.5, 0.7), "faster"),
        ((100, 50), (1.0, 0.95, 1.05), "no_gain"),
        ((100, 50), (1.2, 1.1, 1.3), "no_gain"),
        ((100, 50), (0.9, 0.5, 1.6), "unsettled"),  # noise: it may have halved
        ((100, 50), (0.97, 0.95, 0.99), "faster"),
    ],
)
def test_the_verdict_on_a_step(macs: tuple[int, int], ratio: tuple[float, float, float], said: str) -> None:
    assert verdict(macs, ratio) == said


@pytest.mark.parametrize(
    ("second", "most", "wanted"),
    [
        ([0.5, 0.5, 0.5, 0.5], 12, [4]),  # half the MACs, and surely faster
        ([1.0, 1.0, 1.0, 1.0], 12, [4]),  # surely not
        ([0.4, 2.0, 0.4, 2.0], 12, [4, 4, 4]),  # the noise never ends
        ([0.4, 2.0, 0.4, 2.0], 6, [4, 2]),
        ([0.4, 2.0], 2, [2]),
    ],
)
def test_rounds_go_on_until_it_is_seen_whether_time_fell(
    second: list[float], most: int, wanted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def in_turns(trials: list[Trial], _paths: list[Path], *, rounds: int) -> list[list[float]]:
        asked.append(rounds)
        assert len(trials) == 2
        return [[1.0, 1.01, 1.0, 1.01][:rounds], second[:rounds]]

    monkeypatch.setattr(gains, "time_in_turns", in_turns)
    states = [State("", False, 1, macs, 0, 1, 4, 4, 4, 4, 0.5, {}) for macs in (100, 50, 50)]
    states = gains.timed_in("onnx", states, dict.fromkeys((0, 1), Trial("onnx", Path("m.onnx"), "", 10, 9)), [], most)
    assert asked == wanted
    timed = [state.runtimes["onnx"] for state in states]
    assert [len(t.rounds_ms) for t in timed] == [sum(wanted)] * 3
    ratio, low, high = timed[1].ratio, timed[1].ratio_low, timed[1].ratio_high
    assert ratio and low and high and low <= ratio <= high < math.inf
    assert timed[0].ratio is None and timed[2].ratio is None and timed[2].rounds_ms == timed[1].rounds_ms


@pytest.mark.parametrize("value", ["1", "0", "-4", "many", "2.5"])
def test_an_interval_takes_two_rounds(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gains.ROUNDS_VARIABLE, value)
    with pytest.raises(StageFailed, match=f"POCKETFORGE_GAIN_ROUNDS must be .* 2 or more, found '{value}'"):
        gains.most_rounds()
    monkeypatch.delenv(gains.ROUNDS_VARIABLE)
    assert gains.most_rounds() == 12


def test_a_flag_in_words() -> None:
    layers = tuple(SlowLayer(name, (100, 60), (1.0, 1.0), (1.0, 1.0, 1.0)) for name in ("stem.0", "head"))
    flag = Flag("prune_channels", "onnx", "no_gain", (100, 60), (1.01, 0.97, 1.05), layers)
    assert describe_flag(flag) == (
        "prune_channels: 40% fewer MACs, but no less time in onnx: × 1.01 (95 % 0.97 to 1.05); "
        "layers that gained nothing: stem.0, head"
    )
    unsettled = describe_flag(dataclasses.replace(flag, verdict="unsettled", layers=()))
    assert "the timer's noise hides whether onnx got faster" in unsettled
