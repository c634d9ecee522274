"""Every verdict of the gate, for every way a budget and a measurement can meet."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from how_measured import counted, estimated
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.errors import PluginFailed
from pocketforge.recipe import Budget, Data, Model, Recipe, Target
from pocketforge.recipe.device import EmulatedDevice, HostDevice
from pocketforge.recipe.output import Output
from pocketforge.records import UNTOLD, GateResult, How, HowCompared, HowElse, Measurement, TargetFacts
from pocketforge.results.gate import judge
from pocketforge.results.plugin_words import structured

SHA = "0" * 64


def recipe(*budgets: Budget, devices: tuple[str, ...] = ("host",), **more: Any) -> Recipe:
    return Recipe(
        name="r",
        model=Model("m.py"),
        data=Data("digits"),
        targets=(Target("a", "onnx"), Target("b", "tflite")),
        devices=tuple(HostDevice(d) for d in devices),
        budgets=budgets,
        **more,
    )


def measured(metric: str, value: float, target: str = "a", device: str = "", **more: Any) -> Measurement:
    return Measurement(metric, value, more.pop("unit", "bytes"), target, SHA, more.pop("via", "host"), device, **more)


def judge_one(budget: Budget, *found: Measurement, **more: Any) -> GateResult:
    (result,) = judge(recipe(budget, **more), found)
    return result


@pytest.mark.parametrize(
    ("metric", "value", "limit", "verdict", "reason"),
    [
        ("size_bytes", 90, 100, "PASS", ""),
        ("size_bytes", 100, 100, "PASS", ""),
        ("size_bytes", 101, 100, "FAIL", "1 bytes over the maximum"),
        ("accuracy_drop", 0.03, 0.02, "FAIL", "0.01 bytes over the maximum"),
        ("accuracy_top1", 0.98, 0.97, "PASS", ""),
        ("accuracy_top1", 0.97, 0.97, "PASS", ""),
        ("accuracy_top1", 0.96, 0.97, "FAIL", "0.01 bytes under the minimum"),
        ("parity_sqnr_db", 30, 20, "PASS", ""),
        ("parity_sqnr_db", 19, 20, "FAIL", "1 bytes under the minimum"),
        ("parameters", 5, 4, "FAIL", "1 bytes over the maximum"),
        ("macs", 3, 4, "PASS", ""),
        ("gzip_bytes", math.nan, 100, "FAIL", "nan bytes over the maximum"),
    ],
)
def test_a_value_is_held_against_its_limit(metric: Any, value: float, limit: float, verdict: str, reason: str) -> None:
    result = judge_one(Budget(metric, limit, target="a"), measured(metric, value))
    assert (result.verdict, result.reason) == (verdict, reason)
    assert result.value is not None
    assert result.measurement is not None
    assert result.blocks == (verdict == "FAIL")


def test_a_metric_without_a_unit_has_a_tidy_reason() -> None:
    result = judge_one(Budget("accuracy_top1", 0.9, target="a"), measured("accuracy_top1", 0.8, unit=""))
    assert result.reason == "0.1 under the minimum"


def test_what_was_not_measured_is_missing_and_blocks() -> None:
    result = judge_one(Budget("size_bytes", 100, target="a"), measured("size_bytes", 1, target="b"))
    assert (result.verdict, result.reason, result.value, result.measurement) == ("MISSING", "not measured", None, None)
    assert result.blocks


@pytest.mark.parametrize(
    ("value", "verdict"), [(200.0, "FAIL"), (None, "MISSING"), (50.0, "PASS")], ids=["fail", "missing", "pass"]
)
def test_a_warning_never_blocks(value: float | None, verdict: str) -> None:
    budget = Budget("size_bytes", 100, target="a", severity="warning")
    result = judge_one(budget, *([] if value is None else [measured("size_bytes", value)]))
    assert (result.verdict, result.blocks) == (verdict, False)


def test_a_budget_without_a_target_holds_for_every_target() -> None:
    results = judge(recipe(Budget("size_bytes", 100)), [measured("size_bytes", 50), measured("size_bytes", 150, "b")])
    assert [(r.target, r.verdict) for r in results] == [("a", "PASS"), ("b", "FAIL")]


def test_a_budget_per_device_holds_for_every_target_on_every_device() -> None:
    found = [measured("load_ms", i, t, d) for i, (t, d) in enumerate([("a", "x"), ("a", "y"), ("b", "x")])]
    results = judge(recipe(Budget("load_ms", 1.5), devices=("x", "y")), found)
    assert [(r.target, r.device, r.verdict) for r in results] == [
        ("a", "x", "PASS"),
        ("a", "y", "PASS"),
        ("b", "x", "FAIL"),
        ("b", "y", "MISSING"),
    ]


def test_a_budget_for_one_device_is_judged_there_alone() -> None:
    budget = Budget("load_ms", 1.5, target="a", device="y")
    found = [measured("load_ms", 9, "a", "x"), measured("load_ms", 1, "a", "y")]
    result = judge_one(budget, *found, devices=("x", "y"))
    assert (result.device, result.verdict) == ("y", "PASS")


def test_results_come_in_the_order_of_the_budgets() -> None:
    budgets = (Budget("macs", 1.0, target="b"), Budget("size_bytes", 1.0, target="a"), Budget("macs", 2.0, target="a"))
    assert [r.budget for r in judge(recipe(*budgets), [])] == list(budgets)


def test_no_budgets_no_verdicts() -> None:
    assert judge(recipe(), [measured("size_bytes", 1)]) == ()


# The task's own metric


@pytest.mark.parametrize(
    ("task", "metric", "value", "verdict"),
    [
        ("classification", None, 0.95, "PASS"),
        ("classification", "macro_f1", 0.85, "FAIL"),
        ("regression", None, 0.95, "FAIL"),
        ("regression", "root_mean_square_error", 0.85, "PASS"),
    ],
)
def test_the_metric_of_the_task_has_the_direction_of_that_metric(
    task: Any, metric: Any, value: float, verdict: str
) -> None:
    budget = Budget("metric", 0.9, target="a")
    asked = recipe(budget, task=task, metric=metric)
    (result,) = judge(asked, [measured(asked.task_metric, value)])
    assert result.verdict == verdict


def test_another_metric_of_the_task_does_not_do() -> None:
    result = judge_one(Budget("metric", 0.5, target="a"), measured("accuracy_top1", 1.0), metric="macro_f1")
    assert result.verdict == "MISSING"


# Latency: samples, percentiles, intervals

SAMPLES = tuple(1.0 + 0.001 * ((i * 37) % 100) for i in range(100))


def latency(limit: float, samples: tuple[float, ...] = SAMPLES, percentile: Any = "p50") -> GateResult:
    budget = Budget("latency_ms", limit, target="a", percentile=percentile)
    return judge_one(budget, measured("latency_ms", 123.0, device="host", samples=samples, unit="ms"))


@pytest.mark.parametrize(("limit", "verdict"), [(2.0, "PASS"), (1.05, "INCONCLUSIVE"), (0.5, "FAIL")])
def test_a_latency_is_judged_by_its_interval(limit: float, verdict: str) -> None:
    result = latency(limit)
    assert result.verdict == verdict
    assert result.value == pytest.approx(1.0495)
    assert result.blocks == (verdict != "PASS")


def test_an_inconclusive_latency_says_how_many_samples_would_do() -> None:
    result = latency(1.055)
    assert result.verdict == "INCONCLUSIVE"
    assert "95 % interval 1." in result.reason
    assert "ms holds the limit" in result.reason
    assert "samples would settle it (device min_samples)" in result.reason
    assert "no number of samples settles it" in latency(1.0495).reason


@pytest.mark.parametrize(("percentile", "value"), [("min", 1.0), ("p50", 1.0495), ("p90", 1.0891), ("p99", 1.09801)])
def test_the_percentile_of_the_budget_is_the_one_judged(percentile: str, value: float) -> None:
    assert latency(10.0, SAMPLES * 20, percentile).value == pytest.approx(value, abs=2e-4)


def test_the_same_samples_pass_at_the_median_and_fail_at_the_tail() -> None:
    slow_tail = tuple(10.0 if i % 5 == 0 else 1.0 for i in range(1000))
    assert latency(2.0, slow_tail, "p50").verdict == "PASS"
    assert latency(2.0, slow_tail, "p90").verdict == "FAIL"
    assert latency(2.0, slow_tail, "min").verdict == "PASS"


def test_too_few_samples_are_inconclusive() -> None:
    assert latency(100.0, (1.0, 1.1), "p99").verdict == "INCONCLUSIVE"


def test_a_constant_latency_is_conclusive_also_at_its_limit() -> None:
    assert latency(2.0, (2.0,) * 100).verdict == "PASS"
    assert latency(1.9, (2.0,) * 100).verdict == "FAIL"


def test_the_least_sample_is_judged_as_it_is() -> None:
    assert latency(1.0, percentile="min").verdict == "PASS"
    assert latency(0.999, percentile="min").verdict == "FAIL"


@pytest.mark.parametrize("metric", ["estimated_latency_ms", "estimated_cycles", "instructions"])
def test_an_estimate_never_counts_as_a_latency(metric: str) -> None:
    estimate = measured(metric, 0.001, device="host", via="emulator", unit="ms")
    assert judge_one(Budget("latency_ms", 100, target="a"), estimate).verdict == "MISSING"


@pytest.mark.parametrize("metric", ["latency_ms", "load_ms", "peak_rss_bytes"])
def test_an_emulator_never_satisfies_a_budget_on_wall_clock_or_memory(metric: Any) -> None:
    emulated = measured(metric, 0.001, device="host", via="emulator")
    real = measured(metric, 200, device="host", via="adb")
    budget = Budget(metric, 100, target="a")
    assert judge_one(budget, emulated).verdict == "MISSING"
    assert judge_one(budget, real, emulated).verdict == "FAIL", "nor hides what a phone measured"


@given(st.floats(0.1, 1e6), st.floats(0.1, 1e6), st.sampled_from(["size_bytes", "accuracy_top1"]))
def test_a_stricter_limit_never_passes_where_a_looser_one_fails(limit: float, value: float, metric: Any) -> None:
    if metric == "accuracy_top1":
        limit, value = limit / 2e6, value / 2e6  # shares
    strict, loose = (limit, limit * 2) if metric == "size_bytes" else (limit * 2, limit)
    verdicts = [judge_one(Budget(metric, x, target="a"), measured(metric, value)).verdict for x in (strict, loose)]
    assert verdicts in (["PASS", "PASS"], ["FAIL", "PASS"], ["FAIL", "FAIL"])


@given(
    st.lists(st.floats(0.1, 100), min_size=1, max_size=60), st.sampled_from(["p50", "p90", "p99"]), st.floats(0.1, 100)
)
def test_a_latency_that_passes_has_its_whole_interval_under_the_limit(
    samples: list[float], percentile: str, limit: float
) -> None:
    from pocketforge.stats import percentile_interval

    interval = percentile_interval(samples, percentile)
    verdict = latency(limit, tuple(samples), percentile).verdict
    if verdict == "PASS":
        assert interval.high < limit or interval.low == interval.high <= limit
    elif verdict == "FAIL":
        assert interval.low > limit
    else:
        assert verdict == "INCONCLUSIVE"
        assert interval.low <= limit <= interval.high


PHONE = EmulatedDevice("pixel4")


def emulated(metric: str, value: float, how: How = UNTOLD) -> Measurement:
    return measured(metric, value, device="pixel4", via="emulator", unit="", how=how)


def judge_emulated(budget: Budget, *found: Measurement) -> GateResult:
    made = dataclasses.replace(recipe(), devices=(HostDevice(), PHONE), budgets=(budget,))
    (result,) = judge(made, found)
    return result


@pytest.mark.parametrize(("limit", "verdict"), [(99, "FAIL"), (100, "PASS"), (101, "PASS")])
def test_counts_are_exact(limit: float, verdict: str) -> None:
    found = emulated("instructions", 100, counted())
    assert judge_emulated(Budget("instructions", limit, target="a"), found).verdict == verdict


def test_windows_that_differ_settle_nothing() -> None:
    doubted = counted(conclusive=False, reason="two windows of one inference differ: [99, 100]")
    found = emulated("instructions", 100, doubted)
    result = judge_emulated(Budget("instructions", 1000, target="a"), found)
    assert (result.verdict, result.reason) == ("INCONCLUSIVE", "two windows of one inference differ: [99, 100]")


@pytest.mark.parametrize(("limit", "verdict"), [(7, "FAIL"), (9, "INCONCLUSIVE"), (11, "INCONCLUSIVE"), (13, "PASS")])
@pytest.mark.parametrize("metric", ["estimated_latency_ms", "estimated_cycles"])
def test_an_estimate_is_judged_with_its_interval(metric: Any, limit: float, verdict: str) -> None:
    found = emulated(metric, 10, estimated(interval=(8, 12), coverage=0.9))
    result = judge_emulated(Budget(metric, limit, target="a"), found)
    assert result.verdict == verdict
    assert ("90% interval 8 to 12" in result.reason) == (verdict == "INCONCLUSIVE")


def test_accuracy_has_a_budget_on_each_emulated_device_of_its_own() -> None:
    found = (measured("accuracy_top1", 0.99), emulated("accuracy_top1", 0.5))
    assert judge_emulated(Budget("accuracy_top1", 0.9, target="a"), *found).verdict == "PASS"
    assert judge_emulated(Budget("accuracy_top1", 0.9, target="a", device="pixel4"), *found).verdict == "FAIL"
    assert judge_emulated(Budget("accuracy_top1", 0.9, target="a", device="pixel4"), found[0]).verdict == "MISSING"


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget("latency_ms", 1, device="pixel4"), "is emulated: use estimated_latency_ms"),
        (Budget("peak_rss_bytes", 1, device="pixel4"), "is emulated"),
        (Budget("instructions", 1, device="host"), "comes from a device with via"),
        (Budget("accuracy_top1", 1, device="host"), "leave out 'host'"),
    ],
)
def test_a_budget_that_its_device_cannot_have_is_refused(budget: Budget, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(recipe(), devices=(HostDevice(), PHONE), budgets=(budget,))


def test_a_budget_on_what_no_device_gives_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no \[\[device\]\] of the recipe gives instructions"):
        recipe(Budget("instructions", 1))
    with pytest.raises(ValueError, match=r"no \[\[device\]\] of the recipe gives latency_ms"):
        dataclasses.replace(recipe(), devices=(PHONE,), budgets=(Budget("latency_ms", 1),))


def test_a_measured_budget_without_a_device_is_not_on_emulated_ones() -> None:
    real = measured("latency_ms", 5, device="host", unit="ms")
    assert judge_emulated(Budget("latency_ms", 10, target="a"), real).verdict == "PASS"


def of_a_plug_in(**words: Any) -> HowElse:
    return HowElse({"board": "of a plug-in", "threads": 1, **words})


@pytest.mark.parametrize(
    ("metric", "limit", "how", "reason"),
    [
        ("load_ms", 9.0, of_a_plug_in(conclusive=False, reason="it was too hot"), "it was too hot"),
        ("load_ms", 2.0, of_a_plug_in(processes=[{"samples": 1, "load_ms": 1.0}, {"samples": 1, "load_ms": 3.0}]),
         "2 processes loaded it"),
        ("peak_rss_bytes", 2.0, of_a_plug_in(interval=[0.5, 4.0], coverage=0.9), "the estimate's 90% interval"),
    ],
    ids=["inconclusive", "loads", "interval"],
)  # fmt: skip
def test_a_plug_ins_own_words_beside_ours_hide_no_doubt(metric: Any, limit: float, how: How, reason: str) -> None:
    result = judge_one(Budget(metric, limit, target="a"), measured(metric, 1.0, device="host", how=how))
    assert (result.verdict, result.reason[: len(reason)]) == ("INCONCLUSIVE", reason)


@pytest.mark.parametrize("part", ["processes", "rounds"])
def test_a_plug_ins_latency_is_judged_by_its_parts(part: str) -> None:
    """All samples together would settle it: parts of them lie on both sides."""
    samples = tuple(1.0 + 0.001 * (k % 7) for k in range(400)) + (1.4,) * 200
    how = of_a_plug_in(**{part: [{"samples": 200}, {"samples": 200}, {"samples": 200}]})
    found = measured("latency_ms", 1.0, device="host", samples=samples, how=how)
    assert judge_one(Budget("latency_ms", 1.1, target="a"), found).verdict == "INCONCLUSIVE"


def test_a_plug_ins_word_that_is_not_as_ours_is_refused() -> None:
    found = measured("load_ms", 1.0, device="host", how=of_a_plug_in(conclusive="maybe"))
    with pytest.raises(PluginFailed, match="wanted bool, found str"):
        judge_one(Budget("load_ms", 9.0, target="a"), found)


def test_what_an_exporter_says_under_a_name_of_ours_must_be_as_ours() -> None:
    with pytest.raises(PluginFailed, match="exporters of target a say what no report can hold"):
        structured({"runtimes": "mine"}, TargetFacts, "exporters of target a")


# Of several outputs


def several(*budgets: Budget) -> Recipe:
    outputs = (
        Output("logits", "a"),
        Output("logits", "b", metrics=("accuracy_top1", "own.py:score:higher")),
        Output("segmentation", "mask"),
        Output("logits", "aux", keep=False),
    )
    return recipe(*budgets, outputs=outputs)


def of_output(metric: str, value: float, output: str | None) -> Measurement:
    return measured(metric, value, unit="", how=HowCompared(60, "r 1", output))


@pytest.mark.parametrize(
    ("metric", "found", "verdict"),
    [
        ("b.accuracy_top1", [("accuracy_top1", 0.9, "a"), ("accuracy_top1", 0.2, "b")], "FAIL"),
        ("b.accuracy_top1", [("accuracy_top1", 0.9, "b"), ("accuracy_top1", 0.2, "a")], "PASS"),
        ("b.accuracy_top1", [("accuracy_top1", 0.9, "a")], "MISSING"),
        # One that does not say whose it is keeps a budget only where one output alone has the metric.
        ("b.accuracy_top1", [("accuracy_top1", 0.9, None)], "MISSING"),
        ("accuracy_top1", [("accuracy_top1", 0.9, None)], "MISSING"),
        ("mask.miou", [("miou", 0.9, None)], "PASS"),
        ("miou", [("miou", 0.2, "mask")], "FAIL"),
        ("metric", [("accuracy_top1", 0.9, "b")], "MISSING"),
        ("b.score", [("score", 0.9, "b")], "PASS"),
        ("score", [], "MISSING"),
        ("b.score_drop", [("score_drop", 0.9, "b")], "FAIL"),
    ],
)
def test_a_budget_is_held_against_its_own_output(
    metric: str, found: list[tuple[str, float, str | None]], verdict: str
) -> None:
    (result,) = judge(several(Budget(metric, 0.5, target="a")), [of_output(*each) for each in found])
    assert result.verdict == verdict


@pytest.mark.parametrize("metric", ["aux.accuracy_top1", "aux.accuracy_drop"])
def test_no_budget_is_on_an_output_that_files_do_not_have(metric: str) -> None:
    with pytest.raises(ValueError, match=r"budget\[0\].metric: no \[\[output\]\] is named 'aux'"):
        several(Budget(metric, 0.5))


@pytest.mark.parametrize(
    ("metric", "value", "drop", "verdict"),
    [
        ("miou", 0.0, 0.0, "FAIL"),  # PyTorch's own is 0: nothing falls
        ("miou", 0.25, -0.25, "FAIL"),
        ("miou", 0.5, 0.0, "PASS"),
        ("miou", 0.0, 0.005, "PASS"),
    ],
)
def test_a_drop_from_nothing_says_nothing(metric: str, value: float, drop: float, verdict: str) -> None:
    asked = several(Budget(f"mask.{metric}_drop", 0.01, target="a"))
    (result,) = judge(asked, [of_output(metric, value, "mask"), of_output(f"{metric}_drop", drop, "mask")])
    assert result.verdict == verdict
    assert result.reason == (
        "" if verdict == "PASS" else "the PyTorch model's own miou is 0: a drop from it says nothing"
    )


def test_a_drop_from_an_error_of_nothing_is_a_drop() -> None:
    found = [measured(name, 0.0, unit="") for name in ("mean_absolute_error", "mean_absolute_error_drop")]
    (result,) = judge(recipe(Budget("mean_absolute_error_drop", 0.1, target="a"), task="regression"), found)
    assert result.verdict == "PASS"
    found = [measured(name, 0.0, unit="") for name in ("accuracy_top1", "accuracy_drop")]
    assert judge_one(Budget("accuracy_drop", 0.1, target="a"), *found).verdict == "FAIL"
