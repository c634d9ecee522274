"""Where a line of values changed: what is told, what is not, and which values are in one line."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import pytest
from history_builds import entry
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.history.changes import exact_changes, noisy_changes
from pocketforge.history.entry import Build, Value
from pocketforge.history.trend import lines_of
from pocketforge.report.page.trend import write
from pocketforge.report.trend import spark

VALUE = Value("latency_ms", "net", "host", "host", "x86_64 AMD x2, threads 1", 1.0, "ms", 0.9, 1.1, 9, "a" * 64,
              "lower", True, "")  # fmt: skip


def build(number: int, commit_s: int | None = 0, *, dirty: bool = False) -> Build:
    at = None if commit_s is None else 1_000_000 + (commit_s or number)
    commit = "" if commit_s is None else f"{number:040x}"
    return Build(
        number, "digits", "b" * 64, "PASS", commit, "main", at, dirty, 1_000_000 + number, "here", "", "c" * 64
    )


def timed(number: int, value: float, **other: object) -> tuple[Build, Value]:
    own = {"value": value, "evidence": f"{number}", **other}
    return build(number), dataclasses.replace(VALUE, **own)  # type: ignore[arg-type]


def runs(count: int, level: Callable[[int], float], spread: float = 0.005, seed: int = 1) -> list[float]:
    draw = random.Random(seed)
    return [level(at) * draw.lognormvariate(0, spread) for at in range(count)]


def test_a_new_level_is_told_with_its_place_and_size() -> None:
    values = runs(40, lambda at: 1.0 if at < 15 else 1.05 if at < 28 else 0.9)
    one, two = noisy_changes(values)
    assert (one.at, two.at) == (15, 28)
    assert one.effect == pytest.approx(0.05, abs=0.01) and two.effect == pytest.approx(-0.143, abs=0.01)
    assert one.before == pytest.approx(1.0, rel=0.01) and one.after == pytest.approx(1.05, rel=0.01)
    assert [each.at for each in noisy_changes(values, 0.1)] == [28]


def test_where_nothing_changed_nothing_is_told() -> None:
    """Of 100 lines with a long tail, where Student's t alone tells of several."""
    draw = random.Random(2)
    lines = [[1 + 0.01 * draw.lognormvariate(0, 1) for _ in range(40)] for _ in range(100)]
    assert sum(bool(noisy_changes(line, 0.0)) for line in lines) <= 2


@pytest.mark.parametrize(
    "values",
    [[], [1.0], [1.0] * 50, [1.0] * 3 + [2.0] * 2, [1.0] * 20 + [5.0] + [1.0] * 20, [0.0] * 9, [1.0] * 6 + [-1.0] * 6],
    ids=["none", "one", "alike", "too few", "one slow run", "zeros", "no logarithm"],
)  # fmt: skip
def test_what_is_no_level_is_no_change(values: list[float]) -> None:
    assert noisy_changes(values) == []


def test_a_step_of_runs_that_are_alike_to_the_bit_is_told() -> None:
    assert [each.at for each in noisy_changes([1.0] * 8 + [1.25] * 8)] == [8]


def test_what_is_exact_changes_with_each_value() -> None:
    assert exact_changes([]) == exact_changes([5.0]) == exact_changes([5.0, 5.0]) == []
    changes = exact_changes([1000.0, 1000.5, 1001.0, 1001.0, 990.0])
    assert [(each.at, each.before, each.after) for each in changes] == [(2, 1000.0, 1001.0), (4, 1001.0, 990.0)]
    assert exact_changes([1000.0, 1001.0], 0.01) == []
    (from_nothing,) = exact_changes([0.0, 0.01])
    assert from_nothing.effect is None
    assert [each.effect for each in exact_changes([-0.5, 0.25])] == [None]


@given(st.lists(st.integers(-3, 3).map(float), max_size=30), st.sampled_from([0.0, 0.001, 0.5]))
def test_exact_levels_are_those_of_the_values(values: list[float], effect: float) -> None:
    level = values[0] if values else 0.0
    at = {each.at: each for each in exact_changes(values, effect)}
    for index, value in enumerate(values):
        if index in at:
            assert at[index].before == level and at[index].after == value != level
            level = value
        else:
            assert level == 0 == value or abs(value - level) <= effect * abs(level) or value == level


def test_hosts_of_different_kinds_are_never_in_one_line() -> None:
    found = [timed(at, 1.0 + at % 2, conditions=("x86_64 AMD x2", "x86_64 Intel x4")[at % 2]) for at in range(12)]
    found += [timed(20, 1.0, device="pixel"), timed(21, 1.0, target="other"), timed(22, 1.0, via="adb")]
    lines = lines_of(found)
    assert sorted(len(line.points) for line in lines) == [1, 1, 1, 6, 6]
    assert not any(line.changes for line in lines)


def test_a_line_goes_by_commits_and_a_reused_timing_says_nothing_new() -> None:
    values = [(build(at, 100 - at), dataclasses.replace(VALUE, value=v, evidence=str(v))) for at, v in
              enumerate(runs(12, lambda at: 1.1 if at < 6 else 1.0))]  # fmt: skip
    again = [(build(50 + at, 80 + at), values[11][1]) for at in range(5)]  # of later commits, reused of the first one's
    (line,) = lines_of([*values, *again])
    assert [point.build.commit_s for point in line.points] == sorted(point.build.commit_s or 0 for point in line.points)
    assert [point.reused for point in line.points].count(True) == 5
    (change,) = line.changes
    before, after = line.points[change.at - 1].build, line.points[change.at].build
    assert (before.id, after.id) in ((6, 5), (54, 5)) and line.is_worse(change) is True
    assert [end for _, end, _ in line.levels][-1] == len(line.points)
    assert line.is_worse(dataclasses.replace(change, after=0.5)) is False
    assert dataclasses.replace(line, better="").is_worse(change) is None


def test_what_is_doubtful_is_shown_and_not_judged_and_what_is_left_out_is_counted() -> None:
    values = runs(20, lambda at: 1.0 if at < 14 else 1.2)
    doubtful = [timed(at, value, doubt="it was hot" if at >= 14 else "") for at, value in enumerate(values)]
    (line,) = lines_of(doubtful)
    assert line.changes == () and [point.note for point in line.points] == [""] * 14 + ["doubtful"] * 6
    sure = [timed(at, value) for at, value in enumerate(values)]
    (whole,), (last,) = lines_of(sure), lines_of(sure, last=8)
    assert (len(whole.changes), whole.left_out) == (1, 0)
    assert (last.left_out, len(last.points), last.changes) == (12, 8, ())


def test_builds_without_a_commit_are_in_the_order_in_which_they_were_made() -> None:
    (line,) = lines_of([(build(at, None), VALUE) for at in (3, 1, 2)])
    assert [point.build.id for point in line.points] == [1, 2, 3] and line.levels == ()
    assert entry(1).checkout.commit_s == 1_790_000_001


def test_values_of_another_unit_or_direction_begin_another_line() -> None:
    found = [timed(at, 1.0) for at in range(5)] + [timed(at, 0.001, unit="s") for at in range(5, 10)]
    found += [timed(at, 1.0, better="higher") for at in range(10, 13)]
    lines = lines_of(found)
    assert [(line.unit, line.better, len(line.points)) for line in lines] == [
        ("ms", "higher", 3), ("ms", "lower", 5), ("s", "lower", 5),
    ]  # fmt: skip


def test_values_as_far_apart_as_numbers_go_have_no_share_and_are_shown() -> None:
    far = [-1e308, 1e-308, 1e308]
    changes = exact_changes(far)
    assert [(change.at, change.effect) for change in changes] == [(1, None), (2, None)]
    (line,) = lines_of([timed(at, value, noisy=False) for at, value in enumerate(far)])
    assert spark(far) == "▁▅█" and "no plot: a value" in write([line]) and "<svg" not in write([line])
    assert spark([0.0, 5e-324]) == "▄▄"
    assert [change.effect for change in noisy_changes([1e-308] * 4 + [1e308] * 4)] == [None]
