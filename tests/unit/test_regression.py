"""Budgets against a baseline, and waivers: every way in which two sides can meet."""

from __future__ import annotations

import dataclasses
import datetime
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from how_measured import counted, estimated, on_phone

from pocketforge.errors import RecipeError
from pocketforge.outcomes.bench import ProcessTimes
from pocketforge.recipe import Budget, Data, Model, Recipe, Target
from pocketforge.recipe.device import EmulatedDevice, HostDevice
from pocketforge.recipe.waiver import Waiver
from pocketforge.records import (
    UNTOLD,
    Artifact,
    GateResult,
    How,
    HowCompared,
    HowHere,
    Measurement,
    Report,
    StepRecord,
    TargetRecord,
)
from pocketforge.results.baselines import baseline_file, baselines_of, write_baseline
from pocketforge.results.gate import judge
from pocketforge.results.waivers import held_on
from pocketforge.stats import runs_ratio_interval, runs_to_decide

SHA = "a" * 64
DAY = datetime.date(2026, 6, 1)


def recipe(*budgets: Budget, emulated: bool = False, folder: str = "", **more: object) -> Recipe:
    devices = (HostDevice("host"), *((EmulatedDevice(profile="pixel4", name="phone"),) if emulated else ()))
    made = Recipe("r", Model("m.py"), Data("digits"), (Target("a", "onnx"),), devices=devices, budgets=budgets, **more)  # type: ignore[arg-type]
    return dataclasses.replace(made, folder=folder)


def value(metric: str, number: float, how: How = UNTOLD, device: str = "", **more: object) -> Measurement:
    return Measurement(metric, number, "", "a", SHA, "host", device, how=how, **more)  # type: ignore[arg-type]


def sitting(centre: float, host: str = "cpu", sha256: str = SHA) -> Measurement:
    """A quiet one: each process as the others."""
    samples = tuple(centre * (1 + 0.001 * (index % 7 - 3)) for index in range(200))
    how = HowHere(1, (0,), 5, "onnxruntime 1", 0.0, (ProcessTimes(40, centre, 1.0, 1000),) * 5, host)
    return Measurement("latency_ms", centre, "ms", "a", sha256, "host", "host", samples, how)


def report(*measurements: Measurement, verdict: str = "PASS", sha256: str = SHA, name: str = "r") -> Report:
    target = TargetRecord("a", "onnx", "fp32", "built", (Artifact(SHA, "model", "a.onnx", sha256, 1, 1),))
    step = StepRecord("data", "trunk", SHA, "run", 1.0)
    return Report(name, SHA, verdict, (target,), (step,), measurements, (), environment={"host": "h"})  # type: ignore[arg-type]


def against(
    budget: Budget, before: Sequence[Measurement], after: Measurement, *further: Measurement, emulated: bool = False
) -> GateResult:
    baselines = {"main": [report(each) for each in before]}
    asked = recipe(budget, emulated=emulated)
    (result,) = judge(asked, [after], baselines=baselines, further=[[each] for each in further])
    return result


def relative(metric: str, share: float, **more: object) -> Budget:
    return Budget(metric, baseline="main", max_regression=share, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "share", "before", "after", "verdict"),
    [
        ("size_bytes", 0.05, 1000, 1050, "PASS"),
        ("size_bytes", 0.05, 1000, 1051, "FAIL"),
        ("size_bytes", 0.3, 1000, 1300, "PASS"),  # of floats 1000 * (1 + 0.3) is more, and 0.3 is less
        ("size_bytes", 0.0, 1000, 1000, "PASS"),
        ("size_bytes", 0.0, 1000, 1001, "FAIL"),
        ("accuracy_top1", 0.01, 0.98, 0.9702, "PASS"),
        ("accuracy_top1", 0.01, 0.98, 0.9701, "FAIL"),
        ("accuracy_top1", 0.01, 0.98, 0.999, "PASS"),
        ("parity_sqnr_db", 0.1, 0.0, -1.0, "FAIL"),
        ("parity_sqnr_db", 0.1, -3.0, -1.0, "PASS"),
    ],
)
def test_what_is_exact_is_judged_to_the_last_digit(
    metric: str, share: float, before: float, after: float, verdict: str
) -> None:
    result = against(relative(metric, share), [value(metric, before)], value(metric, after))
    assert result.verdict == verdict and result.blocks == (verdict == "FAIL")
    assert bool(result.reason) == (verdict == "FAIL")


def test_counts_tell_a_tenth_of_a_percent() -> None:
    budget = relative("instructions", 0.001, device="phone")
    for count, verdict in ((1_001_000, "PASS"), (1_001_001, "FAIL"), (999_000, "PASS")):
        before, after = (
            Measurement("instructions", number, "instructions", "a", SHA, "emulator", "phone", how=counted())
            for number in (1e6, float(count))
        )
        result = against(budget, [before], after, emulated=True)
        assert (result.verdict, result.budget.limit) == (verdict, 1_001_000)


def test_a_missing_baseline_is_missing_and_never_a_pass() -> None:
    budget = relative("size_bytes", 0.5)
    for baselines in (None, {}, {"other": [report(value("size_bytes", 1e9))]}):
        (result,) = judge(recipe(budget), [value("size_bytes", 1)], baselines=baselines)
        assert (result.verdict, result.blocks, result.value) == ("MISSING", True, None)
        assert "there is no baseline 'main'" in result.reason
    none = against(budget, [value("macs", 1)], value("size_bytes", 1))
    assert (none.verdict, none.reason) == ("MISSING", "baseline 'main' has no value of it")
    (unmeasured,) = judge(recipe(budget), [], baselines={"main": [report(value("size_bytes", 1))]})
    assert (unmeasured.verdict, unmeasured.reason) == ("MISSING", "not measured")


def test_a_latency_is_judged_by_both_sittings() -> None:
    budget = relative("latency_ms", 0.05)
    assert against(budget, [sitting(1.0)], sitting(1.0)).verdict == "PASS"
    failed = against(budget, [sitting(1.0)], sitting(1.2))
    assert failed.verdict == "FAIL" and "20.00% worse than baseline 'main' (1), allowed is 5.00%" in failed.reason
    open_one = against(budget, [sitting(1.0)], sitting(1.05))
    assert open_one.verdict == "INCONCLUSIVE" and open_one.blocks
    near = against(budget, [sitting(1.0)], sitting(1.045))
    assert near.verdict == "INCONCLUSIVE" and "runs on each side would settle it" in near.reason


def test_runs_decide_what_one_sitting_cannot() -> None:
    budget = relative("latency_ms", 0.0)
    steady = [1.0, 1.002, 0.999, 1.001, 0.998]
    before = [sitting(each) for each in steady]
    assert against(budget, before[:1], sitting(1.01)).verdict == "INCONCLUSIVE"
    assert against(budget, before, sitting(1.01)).verdict == "FAIL"
    assert against(budget, before, sitting(0.98)).verdict == "PASS"
    assert against(budget, before, sitting(1.002)).verdict == "INCONCLUSIVE"
    more = against(budget, before, sitting(1.005), *(sitting(1.005 * each) for each in steady))
    assert more.verdict == "FAIL"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (sitting(1.0, "one"), sitting(1.0, "two"), "the processor is another: one before, two now"),
        (sitting(1.0), dataclasses.replace(sitting(1.0), via="adb"), "via is another: host before, adb now"),
    ],
)
def test_what_is_of_another_place_says_nothing(before: Measurement, after: Measurement, said: str) -> None:
    result = against(relative("latency_ms", 0.5), [before], after)
    assert result.verdict == "INCONCLUSIVE" and said in result.reason


def test_hosts_of_one_kind_are_held_against_each_other_whatever_they_are_called() -> None:
    before, after = (sitting(1.0, f"{name} x86_64 AMD EPYC x2") for name in ("ci-7", "ci-9"))
    assert against(relative("latency_ms", 0.5), [before], after).verdict == "PASS"
    other = against(relative("latency_ms", 0.5), [before], sitting(1.0, "ci-9 x86_64 AMD EPYC x4"))
    assert other.verdict == "INCONCLUSIVE" and "x86_64 AMD EPYC x2 before, x86_64 AMD EPYC x4 now" in other.reason


@pytest.mark.parametrize(
    ("words", "day", "holds"),
    [
        ("until 2026-06-01 by ana: known", datetime.date(2026, 6, 1), True),
        ("until 2026-06-01 by ana: known", datetime.date(2026, 6, 2), False),
        ("until 2026-99-01 by ana: known", datetime.date(2026, 6, 1), False),
        ("for ever", datetime.date(2026, 6, 1), False),
    ],
)
def test_a_report_s_waiver_holds_until_its_last_day(words: str, day: datetime.date, holds: bool) -> None:
    result = GateResult(Budget("size_bytes", 1), "a", "", None, 2.0, "FAIL", f"1 over; waived {words}", waiver=words)
    later = held_on(result, day)
    assert (later == result and not later.blocks) if holds else (later.blocks and "has expired since" in later.reason)


def test_scores_on_other_samples_and_runs_of_other_files_say_nothing() -> None:
    old, new = (value("accuracy_top1", 0.9, HowCompared(count, "onnxruntime 1")) for count in (100, 200))
    result = against(relative("accuracy_top1", 0.5), [old], new)
    assert result.verdict == "INCONCLUSIVE" and "eval samples is another: 100 before, 200 now" in result.reason
    mixed = against(relative("latency_ms", 0.5), [sitting(1.0), sitting(1.0, sha256="b" * 64)], sitting(1.0))
    elsewhere = against(relative("latency_ms", 0.5), [sitting(1.0, "old"), sitting(1.0)], sitting(1.0))
    assert elsewhere.verdict == "INCONCLUSIVE" and "the processor is another: old before, cpu now" in elsewhere.reason
    assert (mixed.verdict, mixed.reason) == ("INCONCLUSIVE", "the baseline's runs are of different files")


def test_a_count_or_a_phone_that_is_not_sure_says_nothing() -> None:
    for how in (
        counted(conclusive=False, reason="windows differ"),
        on_phone(conclusive=False, reason="2 clean rounds"),
    ):
        each = value("size_bytes", 5.0, how)
        good = value("size_bytes", 5.0)
        for before, after in ((each, good), (good, each)):
            result = against(relative("size_bytes", 0.5), [before], after)
            assert result.verdict == "INCONCLUSIVE" and how.reason in result.reason


def test_an_estimate_is_no_proof() -> None:
    how = estimated(interval=(0.5, 2.0))
    each = Measurement("estimated_latency_ms", 1.0, "ms", "a", SHA, "emulator", "phone", how=how)
    result = against(relative("estimated_latency_ms", 0.05, device="phone"), [each], each, emulated=True)
    assert result.verdict == "INCONCLUSIVE" and "gate on instructions" in result.reason


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_regression": 0.1, "limit": 1.0}, "baseline = NAME"),
        ({"max_regression": 1.0, "baseline": "main"}, "0 or more and less than 1"),
        ({"max_regression": -0.1, "baseline": "main"}, "0 or more and less than 1"),
        ({"metric": "accuracy_top1", "baseline": "main", "slice": "device"}, "slice with a baseline"),
        ({"metric": "accuracy_top1", "baseline": "main", "per": "class"}, "per with a baseline"),
        ({"baseline": "../main"}, "baseline must be letters"),
        ({"metric": "accuracy_drop", "baseline": "main"}, "on accuracy_top1"),
        ({}, "limit: missing"),
    ],
)
def test_a_budget_says_a_limit_or_a_baseline(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Budget(**{"metric": "size_bytes", **wrong})  # type: ignore[arg-type]
    if not wrong:
        with pytest.raises(ValueError, match=r"limit = 5 and baseline = 'main'"):
            recipe(Budget("size_bytes", 5.0, baseline="main"))


def test_values_of_nothing_are_held_against_their_like_only() -> None:
    """Of 0 there is no share, and yet it is no value of other samples."""
    old, new = (value("accuracy_top1", 0.0, HowCompared(count, "onnxruntime 1")) for count in (10, 200))
    result = against(relative("accuracy_top1", 0.5), [old], new)
    assert result.verdict == "INCONCLUSIVE" and "eval samples is another" in result.reason


def test_one_timing_given_again_is_one_timing() -> None:
    budget = relative("latency_ms", 0.0)
    before = [sitting(1.0), sitting(1.001), sitting(1.0), sitting(1.001), sitting(1.0), sitting(1.001)]
    for old, new in ((before, sitting(0.99)), (before[:2], sitting(0.995))):
        again = against(budget, old, new, *[new] * 5)
        assert again.verdict == against(budget, old[:2], new).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("metric", "how", "percentile"),
    [
        ("peak_rss_bytes", UNTOLD, "p50"),
        ("latency_ms", UNTOLD, "min"),
    ],
)
def test_what_was_timed_once_is_never_exact(metric: str, how: How, percentile: str) -> None:
    samples = {"samples": (1.0, 1.1, 1.2)} if percentile == "min" else {}
    before, after = (value(metric, number, how, "host", **samples) for number in (1.0, 0.9))
    result = against(relative(metric, 0.0, percentile=percentile), [before], after)
    assert result.verdict == "INCONCLUSIVE"


def test_other_cores_of_a_phone_and_another_model_of_a_core_say_nothing() -> None:
    one = dataclasses.replace(sitting(1.0), via="adb", how=on_phone(threads=1))
    other = dataclasses.replace(one, how=on_phone(threads=4))
    result = against(relative("latency_ms", 0.5), [one], other)
    assert result.verdict == "INCONCLUSIVE" and "threads is another: 1 before, 4 now" in result.reason
    estimates = [
        Measurement("estimated_latency_ms", 1.0, "ms", "a", SHA, "emulator", "phone", how=estimated(model_version=made))
        for made in ("1", "2")
    ]
    budget = relative("estimated_latency_ms", 0.9, device="phone")
    result = against(budget, estimates[:1], estimates[1], emulated=True)
    assert result.verdict == "INCONCLUSIVE" and "the core's model is another" in result.reason


def test_runs_that_should_be_equal_and_a_value_that_is_no_number_say_nothing() -> None:
    budget = relative("accuracy_top1", 0.0)
    mixed = against(budget, [value("accuracy_top1", 0.99), value("accuracy_top1", 0.9)], value("accuracy_top1", 0.95))
    assert mixed.verdict == "INCONCLUSIVE" and "different values" in mixed.reason
    none = against(budget, [value("accuracy_top1", 0.9)], value("accuracy_top1", math.nan))
    assert none.verdict == "INCONCLUSIVE" and "is no number" in none.reason


# The file


def test_a_baseline_comes_back_as_it_was_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    file = baseline_file(tmp_path, "main")
    runs = [report(sitting(1.0)), report(sitting(1.1))]
    write_baseline(file, runs)
    asked = recipe(relative("latency_ms", 0.1), folder=str(tmp_path))
    assert baselines_of(asked) == {"main": tuple(runs)}
    first = file.read_bytes()
    write_baseline(file, runs)
    assert file.read_bytes() == first
    for old, new, said in (
        ("1.1", "1.2", r"runs\[\d\].report was changed"),
        ('"baseline_version": 1', '"baseline_version": 2', "wanted baseline_version 1, found 2"),
        ('"runs"', '"run"', "it has no runs"),
        ("{", "", "cannot read the baseline"),
    ):
        file.write_text(first.decode().replace(old, new, 1))
        with pytest.raises(RecipeError, match=said):
            baselines_of(asked)


def test_a_baseline_of_another_recipe_beside_it_is_refused(tmp_path: Path) -> None:
    write_baseline(baseline_file(tmp_path, "main"), [report(name="s")])
    with pytest.raises(RecipeError, match="baseline 'main' is of recipe 's', this one is 'r'"):
        baselines_of(recipe(relative("size_bytes", 0.1), folder=str(tmp_path)))


def test_runs_of_one_baseline_are_of_one_finished_build(tmp_path: Path) -> None:
    made = report(verdict="FAIL")
    wrong_file = dataclasses.replace(made, targets=(dataclasses.replace(made.targets[0], status="wrong"),))
    for wrong, said in (
        ([report(verdict="ERROR")], "did not finish"),
        ([wrong_file], "a file that failed verify is no baseline: a"),
        ([report(), report(sha256="b" * 64)], "of the same files, and those of a are others"),
        ([report(), report(name="s")], "of one recipe, found r and s"),
    ):
        with pytest.raises(RecipeError, match=said):
            write_baseline(baseline_file(tmp_path, "main"), wrong)
    assert not list(tmp_path.iterdir())


# Waivers


def waiver(expires: str, **more: Any) -> Waiver:
    return Waiver("size_bytes", "ana", "known", expires, **more)


@pytest.mark.parametrize(
    ("found", "waivers", "verdict", "blocks", "said"),
    [
        (200, [waiver("2026-06-01")], "FAIL", False, "waived until 2026-06-01 by ana: known"),
        (None, [waiver("2026-06-01")], "MISSING", False, "waived until"),
        (200, [waiver("2026-05-31")], "FAIL", True, "the waiver of ana expired on 2026-05-31"),
        (200, [waiver("2026-05-31"), waiver("2026-07-01")], "FAIL", False, "waived until 2026-07-01"),
        (200, [waiver("2026-07-01", target="a")], "FAIL", False, "waived"),
        (50, [waiver("2020-01-01")], "PASS", False, ""),
    ],
)
def test_a_waiver_holds_until_its_last_day_and_an_expired_one_fails(
    found: float | None, waivers: list[Waiver], verdict: str, blocks: bool, said: str
) -> None:
    asked = recipe(Budget("size_bytes", 100.0), waivers=tuple(waivers))
    (result,) = judge(asked, [value("size_bytes", found)] if found else [], day=DAY)
    assert (result.verdict, result.blocks) == (verdict, blocks) and said in result.reason
    assert bool(result.waiver) == (not blocks and verdict != "PASS")


@pytest.mark.parametrize(
    "more", [{"percentile": "p99"}, {"percentile": "p90", "baseline": "main"}], ids=lambda more: "+".join(more)
)
def test_a_waiver_is_of_the_budget_that_says_the_same(more: dict[str, Any]) -> None:
    """One on the median of a time lets no other percentile be anything, nor anything against a baseline."""
    plain = Budget("latency_ms", 0.5)
    other = Budget("latency_ms", **more) if "baseline" in more else Budget("latency_ms", 0.5, **more)
    own = Waiver("latency_ms", "ana", "known", "2026-06-01")
    results = judge(recipe(plain, other, waivers=(own,)), [sitting(1.0)], day=DAY)
    assert [result.blocks for result in results] == [False, True]
    results = judge(recipe(plain, other, waivers=(dataclasses.replace(own, **more),)), [sitting(1.0)], day=DAY)
    assert [result.blocks for result in results] == [True, False]


def test_an_expired_waiver_of_what_is_not_decided_fails() -> None:
    own = Waiver("latency_ms", "ana", "known", "2026-05-31", baseline="main")
    asked = recipe(relative("latency_ms", 0.05), waivers=(own,))
    (result,) = judge(asked, [sitting(1.05)], baselines={"main": [report(sitting(1.0))]}, day=DAY)
    assert result.verdict == "FAIL" and result.blocks and result.reason.startswith("INCONCLUSIVE: ")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"owner": " "}, "owner of a waiver is empty"),
        ({"reason": ""}, "reason of a waiver is empty"),
        ({"reason": "x" * 501}, "501 characters"),
        ({"expires": "2026-02-30"}, "found '2026-02-30'"),
        ({"expires": "20260201"}, "expires must be a day"),
    ],
)
def test_a_waiver_says_who_why_and_until_when(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(Waiver("size_bytes", "ana", "known", "2026-01-31"), **wrong)


def test_a_waiver_of_nothing_is_refused() -> None:
    budget = Budget("size_bytes", 100.0)
    for wrong, said in (
        (Waiver("latency_ms", "a", "b", "2026-01-31"), r"waiver\[0\].metric: no budget is on 'latency_ms'"),
        (waiver("2026-01-31", target="z"), r"waiver\[0\].target: no target is named 'z'"),
        (waiver("2026-01-31", device="z"), r"waiver\[0\].device: no device is named 'z'"),
        (waiver("2026-01-31", baseline="z"), r"waiver\[0\]: no budget on size_bytes has .* per 'all', baseline 'z'"),
    ):
        with pytest.raises(ValueError, match=said):
            recipe(budget, waivers=(wrong,))


# The statistic (benchmarks/regressions.py has the whole table)


def test_runs_that_are_alike_seldom_fail_and_a_slower_file_is_found() -> None:
    random_numbers = random.Random(0)
    spread, runs = 0.01, 7

    def side(factor: float) -> list[float]:
        return [factor * math.exp(random_numbers.gauss(0, spread)) for _ in range(runs)]

    alike = sum(runs_ratio_interval(side(1), side(1))[0].low > 1 for _ in range(4000))
    found = sum(runs_ratio_interval(side(1), side(1.03))[0].low > 1 for _ in range(1000))
    assert alike / 4000 < 0.015 and found / 1000 > 0.95


def test_how_many_runs_settle_it_is_how_many_do() -> None:
    assert runs_to_decide(0.03, 0.0) == 2 and runs_to_decide(1e-9, 0.1) is None
    needed = runs_to_decide(0.02, 0.01)
    assert needed is not None and 3 < needed < 9
    with pytest.raises(ValueError, match="three runs"):
        runs_ratio_interval([1.0], [1.0])
