"""The split is a pure function: disjoint, covering, the same every time, stable when samples are added."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketforge.data.split import Split, split_samples
from pocketforge.errors import ModelError

IDS = st.lists(st.text(max_size=8), min_size=6, max_size=60, unique=True)
SEEDS = st.integers(0, 2**32 - 1)


def split(ids, seed=0, official=None, fraction=0.3, cap=1000, calibration=1, digest=None) -> Split:
    return split_samples(
        ids,
        official or [None] * len(ids),
        seed=seed,
        eval_fraction=fraction,
        eval_samples=cap,
        calibration_samples=calibration,
        digest=digest,
    )


@given(IDS, SEEDS, st.integers(1, 5), st.data())
def test_disjoint_and_covering(ids, seed, cap, data):
    contents = data.draw(st.lists(st.integers(0, 30), min_size=len(ids), max_size=len(ids)))
    try:
        parts = split(ids, seed, cap=cap, digest=lambda index: str(contents[index]))
    except ModelError:
        # Every sample outside eval is a copy of one inside: there is nothing left to calibrate with.
        evaluated = {contents[index] for index in split(ids, seed, cap=len(ids)).eval}
        assert evaluated >= set(contents)
        return
    every = [*parts.calibration, *parts.train, *parts.eval, *parts.held_out, *parts.duplicates]
    assert sorted(every) == list(range(len(ids)))
    assert len(parts.calibration) == 1
    assert 1 <= len(parts.eval) <= cap
    evaluated = {contents[index] for index in (*parts.eval, *parts.held_out)}
    assert not evaluated & {contents[index] for index in (*parts.calibration, *parts.train)}
    assert {contents[index] for index in parts.duplicates} <= evaluated


@given(IDS, SEEDS, st.randoms(use_true_random=False))
def test_deterministic_and_independent_of_the_order_of_the_source(ids, seed, random):
    first, again = split(ids, seed), split(ids, seed)
    assert first == again
    shuffled = list(ids)
    random.shuffle(shuffled)
    other = split(shuffled, seed)
    for name in ("calibration", "train", "eval"):
        assert [ids[i] for i in getattr(first, name)] == [shuffled[i] for i in getattr(other, name)]


@settings(max_examples=50)
@given(st.integers(0, 1000), st.lists(st.integers(1000, 10**6), min_size=1, max_size=20, unique=True))
def test_a_new_sample_does_not_move_the_others_between_eval_and_the_rest(seed, added):
    # 100 samples: the rule for a handful, where a side would be empty, does not apply.
    ids = [str(number) for number in range(100)]
    more = [*ids, *(str(number) for number in added)]
    before, after = split(ids, seed), split(more, seed)
    assert set(before.eval) == set(after.eval) & set(range(100))
    # Only calibration, which has a fixed size, may hand a sample over to train.
    assert set(before.train) <= set(after.train)


def test_another_seed_gives_another_split():
    ids = [str(number) for number in range(200)]
    assert set(split(ids, 0).eval) != set(split(ids, 1).eval)


def test_the_fraction_is_about_right():
    ids = [str(number) for number in range(10_000)]
    assert 2900 < len(split(ids, cap=10_000).eval) < 3100


def test_official_split_is_respected_and_capped():
    ids = [f"train/{n}" for n in range(50)] + [f"test/{n}" for n in range(20)]
    parts = split(ids, official=["train"] * 50 + ["eval"] * 20, cap=8, calibration=10)
    assert len(parts.eval) == 8 and all(index >= 50 for index in (*parts.eval, *parts.held_out))
    assert len(parts.held_out) == 12
    assert len(parts.calibration) == 10 and len(parts.train) == 40


def test_a_copy_of_an_eval_sample_is_dropped_from_calibration_and_train():
    ids = [str(number) for number in range(10)]
    official = ["train"] * 8 + ["eval"] * 2
    parts = split(ids, official=official, calibration=2, digest=lambda index: "same" if index in (3, 9) else str(index))
    assert parts.duplicates == (3,)
    assert 3 not in parts.calibration + parts.train


def test_a_copy_of_a_held_out_sample_is_dropped_too():
    ids = [str(number) for number in range(10)]
    parts = split(ids, official=["train"] * 6 + ["eval"] * 4, cap=1, digest=lambda index: str(index % 6))
    assert len(parts.held_out) == 3
    assert sorted(parts.duplicates) == [0, 1, 2, 3]


@pytest.mark.parametrize(("count", "calibration"), [(0, 1), (1, 1), (5, 5), (3, 100)])
def test_too_few_samples(count, calibration):
    with pytest.raises(ModelError, match="too few samples: wanted") as caught:
        split([str(number) for number in range(count)], calibration=calibration)
    assert "calibration_samples" in caught.value.hint


def test_two_samples_are_enough_for_one_each():
    parts = split(["a", "b"])
    assert len(parts.calibration) == len(parts.eval) == 1
