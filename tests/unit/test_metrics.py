"""Metrics agree with scikit-learn's and with numbers worked out by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from pocketforge.accuracy.task import accuracy
from pocketforge.metrics import PERFECT_SQNR_DB, Parity, parity


def random_scores(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, classes)).astype(np.float32), rng.integers(0, classes, n)


@given(st.integers(1, 80), st.integers(2, 12), st.integers(0, 10_000))
def test_classification_metrics_are_those_of_scikit_learn(n: int, classes: int, seed: int) -> None:
    scores, targets = random_scores(n, classes, seed)
    found = accuracy(scores, targets, "classification")
    predicted = scores.argmax(1)
    assert found["accuracy_top1"] == pytest.approx(sk.accuracy_score(targets, predicted))
    # Over the classes that occur: scikit-learn counts a class that was only predicted as well.
    wanted = sk.f1_score(targets, predicted, labels=np.unique(targets), average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(wanted)
    if classes > 5:
        wanted = sk.top_k_accuracy_score(targets, scores, k=5, labels=np.arange(classes))
        assert found["accuracy_top5"] == pytest.approx(wanted)
    else:
        assert found["accuracy_top5"] == 1.0


@given(st.integers(1, 80), st.integers(1, 3), st.integers(0, 10_000))
def test_regression_metrics_are_those_of_scikit_learn(n: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    outputs, targets = rng.normal(size=(n, width)).astype(np.float32), rng.normal(size=(n, width))
    found = accuracy(outputs, targets, "regression")
    assert found["mean_absolute_error"] == pytest.approx(sk.mean_absolute_error(targets, outputs))
    assert found["root_mean_square_error"] == pytest.approx(math.sqrt(sk.mean_squared_error(targets, outputs)))
    if n > 1:
        assert found["r2"] == pytest.approx(sk.r2_score(targets, outputs))
        pairs = zip(outputs.T, targets.T, strict=True)
        wanted = np.mean([np.corrcoef(one, other)[0, 1] for one, other in pairs])
        assert found["correlation"] == pytest.approx(wanted)


def test_an_answer_that_never_changes_explains_nothing() -> None:
    targets = np.array([1012.0, 1013.0, 1013.5])
    found = accuracy(np.full((3, 1), 1013.0), targets, "regression")
    assert found["root_mean_square_error"] < 1 and found["r2"] <= 0 and found["correlation"] == 0
    exact = accuracy(np.full((3, 1), 5.0), np.full(3, 5.0), "regression")
    assert exact["r2"] == 1 and exact["correlation"] == 0
    assert accuracy(np.full((3, 1), 6.0), np.full(3, 5.0), "regression")["r2"] == 0


def test_classification_by_hand() -> None:
    scores = np.array([[9, 1, 0], [8, 2, 0], [0, 5, 1], [0, 6, 1], [4, 3, 0]])
    targets = np.array([0, 0, 1, 2, 2])
    found = accuracy(scores, targets, "classification")
    # Class 0: 2 hits, 1 false alarm: 4/5. Class 1: 1 hit, 1 false alarm: 2/3. Class 2: no hit: 0.
    by_hand = {"accuracy_top1": 0.6, "accuracy_top5": 1.0, "macro_f1": (4 / 5 + 2 / 3) / 3}
    assert {name: found[name] for name in by_hand} == pytest.approx(by_hand)


def test_the_fifth_best_is_in_and_the_sixth_is_out() -> None:
    scores = np.array([[6, 5, 4, 3, 2, 1, 0]] * 2)
    assert accuracy(scores, np.array([4, 5]), "classification")["accuracy_top5"] == 0.5


def test_regression_by_hand() -> None:
    found = accuracy(np.array([[1.0], [5.0]]), np.array([4.0, 9.0]), "regression")
    wanted = {"mean_absolute_error": 3.5, "root_mean_square_error": math.sqrt(12.5), "r2": -1.0, "correlation": 1.0}
    assert found == pytest.approx(wanted)


def test_outputs_with_trailing_dimensions_of_one_are_classified() -> None:
    """What a fully convolutional head gives: (N, classes, 1, 1)."""
    scores, targets = random_scores(20, 7, 3)
    assert accuracy(scores.reshape(20, 7, 1, 1), targets, "classification") == accuracy(
        scores, targets, "classification"
    )


def test_all_right_and_all_wrong() -> None:
    scores = np.eye(4, dtype=np.float32)
    assert accuracy(scores, np.arange(4), "classification")["macro_f1"] == 1.0
    wrong = accuracy(scores, (np.arange(4) + 1) % 4, "classification")
    assert (wrong["accuracy_top1"], wrong["macro_f1"]) == (0.0, 0.0)


def test_nan_is_no_answer() -> None:
    """argmax takes NaN for the largest score: a file that answers nothing else would be right on its class."""
    scores, targets = np.eye(6, dtype=np.float32), np.arange(6)
    scores[2, 2] = scores[3, 0] = math.nan
    found = accuracy(scores, targets, "classification")
    assert (found["accuracy_top1"], found["accuracy_top5"]) == (4 / 6, 4 / 6)
    assert accuracy(np.full((6, 6), math.nan), targets * 0, "classification")["accuracy_top1"] == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_as_far_from_its_target_as_can_be(bad: float) -> None:
    """Not NaN: written down it would be the least number there is, which keeps every limit on an error."""
    found = accuracy(np.array([[1.0], [bad]]), np.array([1.0, 2.0]), "regression")
    errors = {"mean_absolute_error": math.inf, "root_mean_square_error": math.inf}
    assert found == errors | {"r2": -math.inf, "correlation": -1.0}


# Parity


def test_identical_outputs_are_perfect_and_finite() -> None:
    scores, _ = random_scores(10, 5, 0)
    assert parity(scores, scores.copy()) == Parity(0.0, 0.0, PERFECT_SQNR_DB, 1.0)


def test_parity_by_hand() -> None:
    reference = np.array([[3.0, -4.0], [0.0, 5.0]])
    outputs = np.array([[3.0, -4.0], [1.0, 0.5]])
    found = parity(outputs, reference)
    assert found.max_abs_diff == 4.5
    assert found.max_diff_ratio == pytest.approx(0.9)
    # Two samples say little of a channel: the mean, 1, is of all four values.
    assert found.sqnr_db == pytest.approx(10 * math.log10((2**2 + 5**2 + 1 + 4**2) / (1 + 4.5**2)))
    assert found.argmax_agreement == 0.5


def test_ten_times_less_noise_is_twenty_decibel_more() -> None:
    reference, _ = random_scores(50, 10, 1)
    noise = np.random.default_rng(2).normal(size=reference.shape)
    near, far = (parity(reference + size * noise, reference).sqnr_db for size in (0.001, 0.01))
    assert near - far == pytest.approx(20, abs=0.01)


def test_the_largest_difference_counts_whatever_its_sign() -> None:
    reference = np.array([[10.0, 0.0]])
    for sign in (1, -1):
        assert parity(reference + np.array([[0, sign * 2]]), reference).max_diff_ratio == pytest.approx(0.2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["outputs", "reference"])
def test_one_value_that_is_no_number_is_as_wrong_as_can_be(bad: float, where: str) -> None:
    good = np.ones((3, 4), np.float32)
    spoilt = good.copy()
    spoilt[1, 2] = bad
    found = parity(spoilt, good) if where == "outputs" else parity(good, spoilt)
    assert found == Parity(math.inf, math.inf, -math.inf, 0.0)


def test_a_reference_of_zeros() -> None:
    zeros = np.zeros((2, 3))
    assert parity(zeros, zeros).max_diff_ratio == 0.0
    wrong = parity(zeros + 0.5, zeros)
    assert wrong.max_diff_ratio == math.inf
    assert wrong.sqnr_db < -1000


def test_differences_too_small_for_the_scale_stop_at_perfect() -> None:
    reference = np.full((2, 2), 1e20)
    assert parity(reference * (1 + 1e-12), reference).sqnr_db == PERFECT_SQNR_DB


def test_integers_are_compared_without_wrapping_around() -> None:
    found = parity(np.array([[127]], np.int8), np.array([[-128]], np.int8))
    assert found.max_abs_diff == 255.0


@given(st.integers(1, 20), st.integers(1, 6), st.integers(0, 10_000), st.floats(1e-6, 10))
def test_parity_is_always_a_finite_number_for_finite_outputs(n: int, classes: int, seed: int, size: float) -> None:
    reference, _ = random_scores(n, classes, seed)
    outputs = reference + np.random.default_rng(seed + 1).normal(size=reference.shape) * size
    found = parity(outputs, reference)
    assert all(math.isfinite(v) for v in dataclasses.astuple(found))
    assert 0 <= found.argmax_agreement <= 1
    assert found.max_abs_diff == pytest.approx(float(np.abs(outputs - reference).max()))
