"""What a study's numbers are turned into: ratios, intervals, pairs and verdicts. No torch."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace
from decimal import Decimal
from statistics import fmean, stdev
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.outcomes.sensitivity import Judged, LayerSensitivity, SensitivityOutcome
from pocketforge.pruning.sensitivity import choose_ratios
from pocketforge.studies.intervals import Mean, geometric_interval, mean_interval
from pocketforge.studies.pruning_study import (
    Ask,
    Cell,
    Exported,
    Judgement,
    Measured,
    Pruned,
    Removed,
    Row,
    Side,
    Sitting,
    Speed,
    Trained,
)
from pocketforge.studies.ratios import parse_choice, parse_ratios
from pocketforge.studies.verdicts import judge, pairs


def measured(accuracies: list[float | None], baseline: float = 0.9) -> SensitivityOutcome:
    count = len(accuracies)
    row = LayerSensitivity("conv", 8, tuple(accuracies), loss=(1.0,) * count, macs=(1,) * count)
    ratios = tuple(0.125 * (n + 1) for n in range(count))
    return SensitivityOutcome("accuracy_top1", "higher", False, Judged(baseline, 1.0, 2), 10, ratios, (row,))


@pytest.mark.parametrize(
    ("accuracies", "drop", "ratio"),
    [
        ([0.9, 0.9, 0.89], 0.01, 0.375),
        ([0.9, 0.88, 0.9], 0.01, 0.125),  # a larger ratio that looks harmless by luck does not count
        ([0.5, 0.9, 0.9], 0.01, 0.0),
        ([0.89, 0.9, 0.9], 0.0, 0.0),
        ([0.95, 0.9, 0.9], 0.0, 0.375),
        ([0.9, None, 0.9], 0.5, 0.125),
        ([None, None], 0.5, 0.0),
    ],
)
def test_auto_takes_the_largest_ratio_up_to_which_none_costs_too_much(accuracies, drop, ratio):
    assert choose_ratios(measured(accuracies), drop) == {"conv": ratio}


def test_auto_of_an_error_goes_by_its_relative_rise_and_of_decibels_by_their_relative_fall():
    row = LayerSensitivity("fc", 8, (2.01, 2.02, 2.5), loss=(1.0,) * 3, macs=(1,) * 3)
    asked = SensitivityOutcome("mean_absolute_error", "lower", True, Judged(2.0, 1.0, 2), 10, (0.25, 0.5, 0.75), (row,))
    assert choose_ratios(asked, 0.01) == {"fc": 0.5}
    assert choose_ratios(asked, 0.3) == {"fc": 0.75}
    # Against what is no number nothing can be judged.
    assert choose_ratios(replace(asked, baseline=Judged(None, None, 2)), 0.9) == {"fc": 0.0}
    decibels = replace(asked, metric="psnr_db", better="higher", baseline=Judged(30.0, 1.0, 2))
    falls = replace(row, metric=(29.8, 29.0, 31.0))
    assert choose_ratios(replace(decibels, layers=(falls,)), 0.01) == {"fc": 0.25}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.floats(0, 0.99), st.floats(0, 0.5))
def test_auto_is_safe_and_a_larger_drop_never_prunes_less(accuracies, drop, more):
    asked = measured(list(accuracies))
    (ratio,) = choose_ratios(asked, drop).values()
    upto = [a for r, a in zip(asked.ratios, accuracies, strict=True) if r <= ratio]
    assert all(0.9 - a <= drop + 1e-6 for a in upto)
    if len(upto) < len(accuracies):
        assert 0.9 - accuracies[len(upto)] > drop
    assert choose_ratios(asked, min(drop + more, 0.99))["conv"] >= ratio


@pytest.mark.parametrize(
    ("text", "step", "ratios"),
    [
        ("0.1..0.7", "", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)),
        ("0.1..0.7:0.2", "", (0.1, 0.3, 0.5, 0.7)),
        ("0.1..0.7", "0.3", (0.1, 0.4, 0.7)),
        ("0.1..0.6:0.2", "", (0.1, 0.3, 0.5)),
        ("0.3,0.1", "", (0.1, 0.3)),
        (".5", "", (0.5,)),
        ("0.25..0.25", "", (0.25,)),
    ],
)
def test_ratios_are_read(text, step, ratios):
    assert parse_ratios(text, step) == ratios


@pytest.mark.parametrize(
    ("text", "step", "says"),
    [
        ("", "", "a ratio must be a decimal number"),
        ("0.1,,0.2", "", "a ratio must be a decimal number"),
        ("0.1 ,0.2", "", "found '0.1 '"),
        ("1e-1", "", "found '1e-1'"),
        ("nan", "", "found 'nan'"),
        ("-0.1", "", "found '-0.1'"),
        ("0", "", "more than 0 and less than 1, found 0"),
        ("0.5..1", "", "less than 1, found 1"),
        ("0.7..0.1", "", "a range goes up, found 0.7..0.1"),
        ("0.1..0.7:0", "", "a step must be more than 0"),
        ("0.1..0.7:", "", "a step must be a decimal number"),
        ("0.1..0.7:0.1", "0.1", "the step is given twice"),
        ("0.1,0.3", "0.1", "a step is for a range"),
        ("0.1..0.7..0.9", "", "found '0.7..0.9'"),
        ("0.3,0.30", "", "the same ratio twice: 0.3"),
        ("0.001..0.999:0.001", "", "999 ratios; the most is 100"),
    ],
)
def test_what_is_no_ratio_is_refused_with_the_reason(text, step, says):
    with pytest.raises(ValueError, match=r"(?s).*") as caught:
        parse_ratios(text, step)
    assert says in str(caught.value)


@given(st.integers(1, 998), st.integers(1, 998), st.integers(1, 500))
def test_a_range_is_its_exact_decimals(first, last, step):
    first, last = sorted((first, last))
    text = f"{Decimal(first) / 1000}..{Decimal(last) / 1000}:{Decimal(step) / 1000}"
    wanted = [n / 1000 for n in range(first, last + 1, step)]
    if len(wanted) <= 100:
        assert parse_ratios(text) == tuple(wanted)


@given(st.text(max_size=12))
def test_any_text_is_ratios_between_0_and_1_or_an_error(text):
    try:
        ratios = parse_ratios(text)
    except ValueError:  # and no other error
        return
    assert ratios and all(0 < r < 1 for r in ratios) and list(ratios) == sorted(set(ratios))


def test_choices_keep_the_known_order_and_name_what_is_wrong():
    known = ("channels", "layers", "both")
    assert parse_choice("both,channels", known) == ("channels", "both")
    for text, says in (("layer", "did you mean 'layers'"), ("", "known:"), ("both,both", "'both' twice")):
        with pytest.raises(ValueError, match=says):
            parse_choice(text, known)


def test_a_mean_comes_with_students_interval():
    values = [0.91, 0.94, 0.92]
    interval = mean_interval(values)
    half = 4.303 * stdev(values) / math.sqrt(3)  # t for 2 degrees of freedom
    assert interval.mean == pytest.approx(fmean(values)) and interval.above == pytest.approx(half)
    assert (interval.low, interval.high) == pytest.approx((fmean(values) - half, fmean(values) + half))
    assert mean_interval([0.5]) == Mean(0.5, None, None, 1) and mean_interval([0.5]).above is None
    assert geometric_interval([0.5, 2.0]).mean == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def a_row(method: Literal["layers", "channels"], ratio: float, share: float, structure: str = "") -> Row:
    removed, none = Removed(parameters=0.1, macs=share), mean_interval([0.5])
    measured = Measured(1, 1, 0, structure or f"{method}{ratio}", {}, removed, none, none)
    return Row(method, "macs", ratio, "", "", 3, measured)


def a_study(
    *, layers_ms: float = 0.6, channels_ms: float = 0.8, layers_acc: float = 0.8, channels_acc: float = 0.9,
    noise: float = 0.01, shares: tuple[float, float] = (0.33, 0.31),
) -> tuple[list[Cell], list[Row], list[Sitting]]:  # fmt: skip
    """Two shares, both methods, three seeds, made up so that the outcome is known."""
    cells, rows = [], []
    rounds: list[tuple[float, ...]] = [(1.0, 1.01, 0.99, 1.0)]
    structures = ["whole"]
    methods: tuple[tuple[Literal["layers", "channels"], float, float, float], ...] = (
        ("layers", layers_ms, layers_acc, shares[0]),
        ("channels", channels_ms, channels_acc, shares[1]),
    )
    for ratio in (0.3, 0.6):
        for method, ms, accuracy, share in methods:
            for seed in range(3):
                value = accuracy + noise * (seed - 1) * (1 if method == "layers" else -1)
                cells.append(Cell(Ask(method, "macs", ratio, seed), trained=Trained(0.5, value, {})))
            rows.append(a_row(method, ratio, share + ratio - 0.3))
            structures.append(f"{method}{ratio}")
            rounds.append(tuple(ms * (1 + wobble) * (1.3 - ratio) for wobble in (0, 0.01, -0.01, 0.02)))
    return cells, rows, [Sitting("onnx", tuple(structures), tuple(rounds), "")]


def verdict_of(**changes: Any) -> Judgement:
    (verdict,) = judge(*a_study(**changes), ("onnx",))
    return verdict


def test_the_claim_holds_when_layers_are_faster_and_cost_more_accuracy():
    verdict = verdict_of()
    assert (verdict.verdict, verdict.basis, verdict.runtime) == ("agrees", "macs", "onnx")
    speed, price = verdict.latency.layers_over_channels, verdict.accuracy
    assert speed and price.channels_minus_layers_after and price.channels_minus_layers_before
    assert speed.mean == pytest.approx(0.75, rel=0.02)
    assert price.channels_minus_layers_after.mean == pytest.approx(0.1)
    assert price.channels_minus_layers_before.mean == 0
    assert len(verdict.pairs) == 2
    assert verdict.pairs[0].layers == Side(0.3, 0.33)


@pytest.mark.parametrize(
    ("changes", "latency", "accuracy", "together"),
    [
        ({"layers_ms": 0.9}, "disagrees", "agrees", "disagrees"),
        ({"layers_acc": 0.95}, "agrees", "disagrees", "disagrees"),
        ({"noise": 0.2}, "agrees", "not settled", "not settled"),
        ({"layers_acc": 0.9}, "agrees", "not settled", "not settled"),
    ],
)
def test_verdicts_follow_the_figures(changes, latency, accuracy, together):
    verdict = verdict_of(**changes)
    assert verdict.latency.verdict == latency
    assert verdict.accuracy.verdict == accuracy
    assert verdict.verdict == together


def test_shares_that_are_too_far_apart_are_not_compared():
    verdict = verdict_of(shares=(0.40, 0.31))
    assert verdict.verdict == "not settled" and verdict.pairs == ()
    assert "within 0.05" in verdict.why
    assert verdict.accuracy.channels_minus_layers_after is None


def test_a_row_pairs_with_the_nearest_real_share_and_a_pair_counts_once():
    _, rows, _ = a_study()
    # Blocks are coarse: asked for 0.2, the same blocks go as for 0.3.
    again = dataclasses.replace(rows[0], ratio=0.2)
    compared = pairs([*rows, again, a_row("channels", 0.35, 0.329, "nearer")], "macs")
    assert [tuple(row.measured.structure for row in pair if row.measured) for pair in compared] == [
        ("layers0.3", "nearer"),
        ("layers0.6", "channels0.6"),
    ]


def test_a_missing_timing_leaves_the_latency_unsettled():
    cells, rows, (sitting,) = a_study()
    (verdict,) = judge(cells, rows, [dataclasses.replace(sitting, error="the runtime crashed")], ("onnx",))
    assert verdict.latency == Speed(None, "not settled")
    assert verdict.accuracy.verdict == "agrees" and verdict.verdict == "not settled"


def test_a_cell_is_flat_in_its_file_and_comes_back():
    pruned = Pruned(10, 20, 1, "s", Removed(0.5, 0.4))
    trained = Trained(0.5, 0.9, {"onnx": Exported("", 100, 50), "tflite": Exported("no tensor")})
    cell = Cell(Ask("channels", "macs", 0.3, 1), "", "a note", pruned, trained)
    data = json.loads(json.dumps(cell.to_json()))
    assert data == {
        "method": "channels", "basis": "macs", "ratio": 0.3, "seed": 1, "error": "", "note": "a note",
        "parameters": 10, "macs": 20, "zeros": 1, "structure": "s", "removed": {"parameters": 0.5, "macs": 0.4},
        "accuracy_before": 0.5, "accuracy_after": 0.9,
        "files": {"onnx": {"error": "", "size_bytes": 100, "gzip_bytes": 50}, "tflite": {"error": "no tensor"}},
    }  # fmt: skip
    assert Cell.from_json(data) == cell
    missed = Cell(Ask("layers", "macs", 0.9, 1), "cannot be met")
    assert Cell.from_json(missed.to_json()) == missed and "parameters" not in missed.to_json()
    for broken in (
        {**data, "macs": "20"},
        {**data, "method": "chanels"},
        {"x": 1},
        {"seed": 1, **missed.to_json(), "error": ""},
    ):
        with pytest.raises(ValueError, match=r".+"):
            Cell.from_json(broken)
