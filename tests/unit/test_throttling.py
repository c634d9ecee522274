"""Which rounds count as throttled, which cores are meant, and how long is waited for a phone to cool."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from android_bench.cooling import Limits, too_hot, unknown, wait_until_cool
from android_bench.errors import BadCores, BatteryLow, FakedReadings, TooHot
from android_bench.phone import CpuCluster, PhoneFacts
from android_bench.pinning import as_list, choose, mask
from android_bench.readings import Clocks, Heat
from android_bench.texts import cpu_list
from android_bench.throttling import Round, judge, mean_clock, throttled_blocks

CALM = Heat(0, 28.0, 80, True, 31.0, 40.0, (), "Awake", ())


def clocks(cap_ghz: float | None = 2.0, spent: dict[float, int] | None = None) -> Clocks:
    caps = {} if cap_ghz is None else {7: cap_ghz}
    return Clocks(caps, caps, {7: 2.0}, {7: spent} if spent else {})


def a_round(index: int = 0, label: str = "a", **more: Any) -> Round:
    more = {"block": index, "clock_ghz": 2.0, "clocks_before": clocks(), "clocks_after": clocks(), **more}
    return Round(
        label=label, index=index, samples_ms=(1.0,), load_ms=1.0, peak_rss_bytes=1, loaded_rss_bytes=1,
        heat_before=more.pop("heat_before", CALM), heat_after=more.pop("heat_after", CALM), **more,
    )  # fmt: skip


def reasons(*rounds: Round, drop: float = 0.05) -> list[tuple[str, ...]]:
    return [each.reasons for each in judge(rounds, drop)]


def test_a_mean_clock_below_the_best_rounds_is_throttling() -> None:
    found = reasons(a_round(0, clock_ghz=1.9), a_round(1, clock_ghz=1.89), a_round(2))
    assert found == [(), ("its mean clock was 1.890 GHz, 6% below the 2.000 GHz of the best round",), ()]
    assert [bool(r) for r in reasons(a_round(0), a_round(1, clock_ghz=1.5))] == [False, True]
    # Of its own label: two models may well run at different clocks.
    assert reasons(a_round(0), a_round(1, "b", clock_ghz=1.0)) == [(), ()]
    assert reasons(a_round(0), a_round(1, clock_ghz=None)) == [(), ()]


def test_a_lower_cap_is_throttling_before_and_after() -> None:
    low = clocks(1.5)
    words = ("CPU 7 could go no higher than 1.500 GHz, and 2.000 GHz at other times",)
    found = reasons(a_round(0), a_round(1, clocks_after=low), a_round(2, clocks_before=low), a_round(3))
    assert found == [(), words, words, ()]
    # Low from beginning to end is how the phone is, not a change.
    assert reasons(a_round(0, clocks_before=low, clocks_after=low)) == [()]
    assert reasons(a_round(0, clocks_before=clocks(None), clocks_after=clocks(None)), a_round(1)) == [(), ()]


def test_a_risen_thermal_status_and_cores_that_went_away_are_throttling() -> None:
    warm = dataclasses.replace(CALM, thermal_status=1)
    unsure = dataclasses.replace(CALM, thermal_status=None)
    assert reasons(a_round(heat_after=warm)) == [("the thermal status rose from none to light",)]
    assert reasons(a_round(heat_before=warm)) == reasons(a_round(heat_after=unsure)) == [()]
    assert reasons(a_round(gone=(6, 7))) == [("CPU 6-7 was switched off or taken away",)]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.floats(0.1, 4)), max_size=12), st.floats(0, 0.5))
def test_judging_is_stable_and_never_marks_the_best(found: list[tuple[str, float | None]], drop: float) -> None:
    rounds = tuple(a_round(n, label, clock_ghz=ghz, block=n // 2) for n, (label, ghz) in enumerate(found))
    judged = judge(rounds, drop)
    assert judge(judged, drop) == judged
    assert [(r.index, r.label, r.clock_ghz) for r in judged] == [(r.index, r.label, r.clock_ghz) for r in rounds]
    for label in "ab":
        known = [r for r in judged if r.label == label and r.clock_ghz is not None]
        assert not known or not max(known, key=lambda r: r.clock_ghz or 0).throttled
    assert throttled_blocks(judged) == {r.block for r in judged if r.throttled}


def test_the_mean_clock_is_of_the_fastest_cores() -> None:
    before = Clocks({}, {}, {0: 1.0, 7: 2.0}, {0: {0.5: 0, 1.0: 0}, 7: {1.0: 10, 2.0: 10}})
    after = Clocks({}, {}, {0: 1.0, 7: 2.0}, {0: {0.5: 100, 1.0: 0}, 7: {1.0: 20, 2.0: 40}})
    assert mean_clock(before, after, (0, 7)) == pytest.approx(1.75)
    assert mean_clock(before, after, (0,)) == pytest.approx(0.5)
    assert mean_clock(before, before, (0, 7)) is None and mean_clock(before, after, ()) is None


def facts(offline: tuple[int, ...] = ()) -> PhoneFacts:
    clusters = (
        CpuCluster("big", (7,), 1024, 2.9, 0.5, "cortex-x3"),
        CpuCluster("mid", (6,), 800, 2.4, 0.5, ""),
        CpuCluster("mid", (4, 5), 700, 2.2, 0.5, ""),
        CpuCluster("little", (0, 1, 2, 3), 200, 1.7, None, ""),
    )
    empty = {field.name: "" for field in dataclasses.fields(PhoneFacts)}
    return PhoneFacts(**{**empty, "clusters": clusters, "offline": offline})  # type: ignore[arg-type]


def test_cores_by_name_and_number() -> None:
    assert choose(facts(), "big") == (7,) and choose(facts(), "mid") == (4, 5, 6)
    assert choose(facts(), "all") == (0, 1, 2, 3, 4, 5, 6, 7) and choose(facts(), "0-3,7") == (0, 1, 2, 3, 7)
    assert choose(facts(offline=(4, 5)), "mid") == (6,) and choose(facts(offline=(7,)), "all") == tuple(range(7))
    assert mask(choose(facts(), "4-7")) == "f0"
    assert choose(facts(), "mid", 3) == (4, 5, 6)
    with pytest.raises(BadCores, match=r"4 threads on 3 CPUs \(4-6, which 'mid' means on this phone\)"):
        choose(facts(), "mid", 4)
    with pytest.raises(BadCores, match=r"2 threads on 1 CPUs"):
        choose(facts(), "big", 2)


@pytest.mark.parametrize(
    ("cores", "offline", "words"),
    [
        (
            "huge",
            (),
            r"neither big, mid, little or all nor numbers as in 0-3,7; the phone has big 7 \(cortex-x3 2.9 GHz",
        ),
        ("7-4", (), "neither"),
        ("0-3,", (), "neither"),
        ("$(reboot)", (), "neither"),
        ("", (), "neither"),
        ("6-9", (), "no CPU 8-9; it has big 7"),
        ("6,7", (7,), "CPU 7 of this phone is switched off"),
        ("big", (7,), "all big cores of this phone .7. are switched off"),
    ],
)
def test_cores_that_cannot_be_had_are_named(cores: str, offline: tuple[int, ...], words: str) -> None:
    with pytest.raises(BadCores, match=words):
        choose(facts(offline), cores)


@given(st.sets(st.integers(0, 40), min_size=1))
def test_lists_and_masks_of_cpus_come_back(cpus: set[int]) -> None:
    assert set(cpu_list(as_list(cpus))) == cpus
    assert {n for n in range(41) if int(mask(cpus), 16) >> n & 1} == cpus


def cool(*readings: Heat, timeout_s: float = 10) -> tuple[Heat, float, list[str]]:
    """As a phone with these readings in turn, the last for ever, and a clock that only waiting moves."""
    now = [0.0]
    said: list[str] = []

    def in_turn() -> Iterator[Heat]:
        yield from readings
        while True:
            yield readings[-1]

    def pause(seconds: float) -> None:
        now[0] += seconds

    heat, waited_s = wait_until_cool(
        "P", in_turn().__next__, Limits(timeout_s=timeout_s), said.append, pause=pause, clock=lambda: now[0]
    )
    return heat, waited_s, said


def test_waiting_ends_when_all_is_cool() -> None:
    hot = dataclasses.replace(CALM, thermal_status=2, battery_c=41.0)
    warm = dataclasses.replace(CALM, battery_c=38.5)
    heat, waited_s, said = cool(hot, warm, warm, warm, CALM)
    assert heat == CALM and waited_s == 8
    assert said == [
        "P: cooling down, 0 of at most 10 s: thermal status 2 (moderate), wanted at most 0 (none); "
        "the battery at 41.0 °C, wanted at most 38.0 °C",
        "P: cooling down, 6 of at most 10 s: the battery at 38.5 °C, wanted at most 38.0 °C",
    ]
    assert cool(CALM) == (CALM, 0.0, [])
    with pytest.raises(TooHot, match=r"in 10 s: the battery at 38\.5 °C"):
        cool(hot, warm)


def test_unknown_readings_hold_nothing_up_and_faked_ones_are_refused() -> None:
    silent = Heat(None, None, None, None, None, None, (), "", ("the phone tells no thermal status",))
    assert cool(silent)[1] == 0 and too_hot(silent, Limits()) == ()
    assert unknown(silent) == ("thermal status", "battery temperature", "battery level")
    with pytest.raises(FakedReadings, match="faked"):
        cool(dataclasses.replace(CALM, warnings=("the battery's values are faked: …",)))
    with pytest.raises(BatteryLow, match="at 14 %"):
        cool(dataclasses.replace(CALM, battery_level=14))
