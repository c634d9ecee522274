"""`device calibrate --adb`: the suite's files measured on a phone, into the manifest that a fit reads."""

from __future__ import annotations

import csv
import dataclasses

import pytest

from pocketforge.device_calibration import on_phone, published, suite
from pocketforge.devices import adb
from pocketforge.errors import RecipeError
from pocketforge.outcomes.bench_phone import HowOnPhone, PhoneBench, RoundTimes

FILES = ("dense-512-512-fp32.tflite", "dense-512-512-int8.tflite")


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


@pytest.fixture
def short(monkeypatch):
    """qemu's times mean nothing: a few are enough."""
    how = dataclasses.replace(on_phone.HOW, min_samples=6, min_seconds=0.0)
    monkeypatch.setattr(on_phone, "HOW", how)


def test_a_suite_is_measured_and_goes_on_where_it_was_stopped(tmp_path, make_phone, short):
    phone = make_phone("pixel4")
    said: list[str] = []
    path, left = on_phone.measure_suite(tmp_path / "suite", phone.serial, "big", said.append, FILES[:1])
    found = rows(path)[FILES[0]]
    assert (
        left == [] and found["device"] == "Pixel 4" and found["core"] == "cortex-a76" and float(found["latency_ms"]) > 0
    )
    assert said == [f"1 of 1: {FILES[0]}"]
    phone.forget_calls()
    on_phone.measure_suite(tmp_path / "suite", phone.serial, "big", said.append, FILES[:1])
    assert phone.calls("cmd") == () and rows(path)[FILES[0]] == found, "what was measured stays"
    on_phone.measure_suite(tmp_path / "suite", phone.serial, "big", said.append, FILES)
    measured = {m.name for m in published.read(path)}
    assert len(measured) == 2 and sum(bool(row["latency_ms"]) for row in rows(path).values()) == 2


def a_round(clock_ghz):
    return RoundTimes(0, 0, 1.0, 1, clock_ghz, False, (), (None, None), (None, None), (None, None))


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"conclusive": False, "reason": "1 of 6 rounds counts"}, "1 of 6 rounds counts"),
        ({"rounds": (a_round(clock_ghz=None),)}, "the phone does not tell its clock"),
    ],
)
def test_rounds_that_settle_nothing_are_no_measurement(tmp_path, make_phone, monkeypatch, how, why):
    """What a session gives there is as tests/phone/test_phone_session.py has it."""
    phone = make_phone("pixel4")
    settled = HowOnPhone("tflite", "0" * 64, "big", (7,), 1, 1, 0.0, (), (), True, "", (a_round(clock_ghz=2.8),))
    bench = PhoneBench("0" * 64, (1.0,), None, None, None, dataclasses.replace(settled, **how))
    monkeypatch.setattr(adb, "measure", lambda *_: [bench])
    path, left = on_phone.measure_suite(tmp_path / "suite", phone.serial, "big", lambda text: None, FILES[:1])
    assert left == [f"{FILES[0]}: {why}"]
    assert not rows(path)[FILES[0]]["latency_ms"]


def test_manifests_of_another_phone_and_clusters_that_are_not_there(tmp_path, make_phone):
    phone = make_phone("pixel4")
    with pytest.raises(RecipeError, match="found 'huge'"):
        on_phone.measure_suite(tmp_path / "suite", phone.serial, "huge", print)
    assert not (tmp_path / "suite").exists()
    suite.write_suite(tmp_path / "suite")
    path = tmp_path / "suite" / suite.MANIFEST
    path.write_text(
        path.read_text(encoding="utf-8").replace("(XNNPACK),,,,1,", "(XNNPACK),Pixel 9,,,1,", 1), encoding="utf-8"
    )
    with pytest.raises(RecipeError, match="holds latencies of Pixel 9, and the phone is a Pixel 4"):
        on_phone.measure_suite(tmp_path / "suite", phone.serial, "big", print)
