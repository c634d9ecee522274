"""The run's shared parts: each is made once, the cold build's are taken over as they are, and a change is an error."""

from __future__ import annotations

import pytest
from shared_store import DigitsParts

from pocketforge.errors import DamagedEntry
from pocketforge.run.store import Store


def test_what_another_has_made_is_not_made_again(digits_parts, tmp_path, monkeypatch):
    made = digits_parts.data
    monkeypatch.setattr("pocketforge.run.make.Maker.make", lambda *_: pytest.fail("a step ran"))
    beside = DigitsParts(digits_parts.cache.parent, tmp_path / "no cold build")
    assert beside.data == made
    # From a cold build's cache it is copied, byte by byte; the cache is not written to.
    behind = DigitsParts(tmp_path / "run", digits_parts.cache)
    times = {path: path.stat().st_mtime_ns for path in digits_parts.cache.rglob("*")}
    assert behind.data != made and behind.data.is_relative_to(tmp_path)
    assert {path.name: path.read_bytes() for path in behind.data.iterdir()} == {
        path.name: path.read_bytes() for path in made.iterdir()
    }
    assert {path: path.stat().st_mtime_ns for path in digits_parts.cache.rglob("*")} == times
    assert Store(behind.cache).keys() == [behind.plan.data]


def test_a_part_that_a_test_wrote_into_is_an_error(digits_parts, tmp_path):
    assert digits_parts.data
    parts = DigitsParts(tmp_path, digits_parts.cache)
    targets = parts.data / "eval_targets.npy"
    parts.check()
    targets.write_bytes(targets.read_bytes()[:-1])
    with pytest.raises(DamagedEntry, match=r"eval_targets\.npy"):
        parts.check()
    with pytest.raises(AssertionError, match=r"eval_targets\.npy"):
        DigitsParts(tmp_path, digits_parts.cache).data  # noqa: B018


def test_targets_share_their_graphs_and_not_their_files(digits_parts):
    lanes = digits_parts.plan.lanes
    assert len({lane.export for lane in lanes}) == 6 and {lane.quantize for lane in lanes} - {""} == {
        digits_parts.lane("onnx", "int8").quantize
    }
