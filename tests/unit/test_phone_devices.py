"""A [[device]] over adb: what a recipe may say of it, how its steps are laid out, and how its time is judged."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from how_measured import on_phone, one_round

from pocketforge.devices import noise_floors
from pocketforge.errors import DeviceUnavailable, RecipeError, StoreError
from pocketforge.facts.phones import without_absent
from pocketforge.facts.versions import our_libraries
from pocketforge.outcomes.bench_phone import RoundTimes
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Facts, Phone
from pocketforge.recipe.device import AdbDevice
from pocketforge.recipe.toml import load_recipe
from pocketforge.records import Measurement
from pocketforge.results.gate import judge
from pocketforge.results.phones import Noise, noise
from pocketforge.run.engine import one_at_each_place
from pocketforge.specs.bench_phone import BenchPhoneSpec
from pocketforge.stats import geometric_interval

PHONE = '\n[[device]]\nvia = "adb"\nprofile = "pixel4"\n'
EMULATED = '\n[[device]]\nvia = "emulator"\nprofile = "pixel4"\n'
HOST = '\n[[device]]\nname = "host"\n'


def load(folder: Path, text: str):
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def budget(metric: str, device: str, limit: float = 5.0) -> str:
    return f'\n[[budget]]\nmetric = "{metric}"\nlimit = {limit}\n' + (f'device = "{device}"\n' if device else "")


def facts(recipe, phones: dict[str, Phone]) -> Facts:
    versions = dict.fromkeys(our_libraries(), "1")
    return Facts(
        {},
        versions,
        "host",
        "none",
        "e1",
        {d.profile: Path("p") for d in recipe.devices if d.via == "emulator"},
        phones,
    )


def test_a_phone_is_called_as_its_profile(tmp_path, small_recipe_text):
    (device,) = load(tmp_path, small_recipe_text + PHONE).devices
    assert (device.name, device.cores, device.required) == ("pixel4", "big", True)
    assert AdbDevice().name == "phone"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("rounds = 2", "rounds must be 3 or more"),
        ("threads = 0", "threads"),
        ('cores = ""', "cores is empty"),
        ("max_thermal_status = 7", "max_thermal_status"),
        ("cool_timeout_s = -1.0", "cool_timeout_s"),
        ("runners = { tflite = 3 }", "runners"),
        ('memory_limit_bytes = "x"', "memory_limit_bytes"),
        ('runners = { tflite = "no/such/file" }', ""),
    ],
)
def test_what_a_phone_may_not_be(tmp_path, small_recipe_text, line, fault):
    if not fault:
        assert load(tmp_path, small_recipe_text + PHONE + line).devices[0].runners == {"tflite": "no/such/file"}
        return
    with pytest.raises(RecipeError, match=fault):
        load(tmp_path, small_recipe_text + PHONE + line)


def test_budgets_name_a_phone_by_its_name_or_its_profile(tmp_path, small_recipe_text):
    text = small_recipe_text + HOST + EMULATED + PHONE + 'name = "mine"\n'
    recipe = load(tmp_path, text + budget("latency_ms", "pixel4") + budget("latency_ms", "mine"))
    assert [recipe.devices_of(b) for b in recipe.budgets] == [["mine"], ["mine"]]
    recipe = load(tmp_path, text + budget("instructions", "pixel4") + budget("accuracy_top1", "pixel4", 0.5))
    assert [recipe.devices_of(b) for b in recipe.budgets] == [["pixel4"], ["pixel4", "mine"]]
    recipe = load(tmp_path, text + budget("latency_ms", ""))
    assert recipe.devices_of(recipe.budgets[0]) == ["host", "mine"]


def test_an_emulated_device_alone_keeps_no_latency_budget(tmp_path, small_recipe_text):
    with pytest.raises(RecipeError, match="'pixel4' is emulated"):
        load(tmp_path, small_recipe_text + EMULATED + budget("latency_ms", "pixel4"))
    with pytest.raises(RecipeError, match="comes from a device with via = \"emulator\", found 'adb'"):
        load(tmp_path, small_recipe_text + PHONE + budget("instructions", "pixel4"))


def test_steps_on_one_phone_go_one_after_another(tmp_path, small_recipe_text):
    second = '\n[[target]]\nname = "other"\nruntime = "tflite"\n'
    recipe = load(tmp_path, small_recipe_text + second + PHONE + 'cores = "little"\n')
    plan = make_plan(recipe, facts(recipe, {"pixel4": Phone("S1", "a phone")}))
    steps = {key: plan.step(key) for lane in plan.lanes for keys in lane.of_kind("adb").values() for key in keys.keys}
    assert {s.place for s in steps.values()} == {"phone S1"} and len(steps) == 4
    assert not any(s.exclusive for s in steps.values())
    for lane in plan.lanes:
        keys = lane.on["pixel4"]
        assert plan.step(keys.keys[-1]).after == (keys.verify,)
        assert plan.spec(keys.keys[-1], BenchPhoneSpec).how.cores == "little"
    free = one_at_each_place(list(steps.values()), [])
    assert len(free) == 1
    assert one_at_each_place(list(steps.values()), free) == []
    others = [s for s in plan.steps if not s.place]
    assert one_at_each_place(others, free) == others


def test_another_phone_or_another_android_is_measured_again(tmp_path, small_recipe_text):
    recipe = load(tmp_path, small_recipe_text + PHONE)
    keys = {
        name: make_plan(recipe, facts(recipe, {"pixel4": phone})).lanes[0].on["pixel4"]
        for name, phone in {
            "one": Phone("S1", "build 1"),
            "again": Phone("S1", "build 1"),
            "update": Phone("S1", "build 2"),
            "other": Phone("S2", "build 1"),
        }.items()
    }
    assert keys["one"] == keys["again"]
    assert len({k.keys[-1] for k in keys.values()}) == len({k.verify for k in keys.values()}) == 3


def test_a_phone_that_need_not_be_there_is_left_out_with_its_budgets(tmp_path, small_recipe_text):
    text = small_recipe_text + HOST + EMULATED + PHONE + 'name = "mine"\n'
    budgets = budget("latency_ms", "pixel4") + budget("latency_ms", "host") + budget("instructions", "pixel4", 100)
    away = {"mine": Phone(absent="wanted a pixel4, connected: none")}
    with pytest.raises(DeviceUnavailable, match="'mine': wanted a pixel4, connected: none") as caught:
        without_absent(load(tmp_path, text + budgets), away)
    assert "required = false" in caught.value.hint and caught.value.exit_code == 4
    recipe, said = without_absent(load(tmp_path, text + "required = false\n" + budgets), away)
    assert [d.name for d in recipe.devices] == ["host", "pixel4"]
    assert [(b.metric, b.device) for b in recipe.budgets] == [("latency_ms", "host"), ("instructions", "pixel4")]
    assert said == ("mine was left out: wanted a pixel4, connected: none", "not judged without pixel4: latency_ms")


def test_a_recipe_of_nothing_but_absent_phones(tmp_path, small_recipe_text):
    recipe = load(tmp_path, small_recipe_text + PHONE + "required = false\n")
    with pytest.raises(DeviceUnavailable, match="no device of the recipe is there"):
        without_absent(recipe, {"pixel4": Phone(absent="away")})


def measured(samples, **how) -> Measurement:
    return Measurement(
        "latency_ms", samples[0], "ms", "small_onnx_fp32", "0" * 64, "adb", "pixel4", tuple(samples), on_phone(**how)
    )


@pytest.mark.parametrize(
    ("limit", "verdict"), [(10.7, "PASS"), (10.3, "INCONCLUSIVE"), (9.7, "INCONCLUSIVE"), (9.3, "FAIL")]
)
def test_a_limit_within_the_noise_floor_is_not_decided(tmp_path, small_recipe_text, limit, verdict):
    recipe = load(tmp_path, small_recipe_text + PHONE + budget("latency_ms", "pixel4", limit))
    samples = [10.0 + 0.001 * (i % 7) for i in range(100)]
    (result,) = judge(recipe, [measured(samples, noise_floor=0.05, noise_floor_from="A/A")])
    assert result.verdict == verdict
    assert verdict != "INCONCLUSIVE" or "±5.0%" in result.reason


def test_too_few_clean_rounds_decide_nothing(tmp_path, small_recipe_text):
    recipe = load(tmp_path, small_recipe_text + PHONE + budget("latency_ms", "pixel4", 50.0))
    (result,) = judge(recipe, [measured([10.0, 10.1, 10.0] * 20, conclusive=False, reason="1 of 5 rounds counts")])
    assert (result.verdict, result.reason) == ("INCONCLUSIVE", "1 of 5 rounds counts")


def in_rounds(*values: float, limit: float, tmp_path: Path, text: str, percentile: str = "p50"):
    recipe = load(tmp_path, text + PHONE + budget("latency_ms", "pixel4", limit) + f'percentile = "{percentile}"\n')
    samples = [ms * (1 + 0.001 * (i % 5)) for ms in values for i in range(20)]
    (result,) = judge(recipe, [measured(samples, rounds=(one_round(samples=20),) * len(values))])
    return result


def test_rounds_that_differ_are_not_made_surer_by_samples(tmp_path, small_recipe_text):
    """Twenty samples of each of three rounds, all alike within a round: the interval is of the rounds."""
    of = {"tmp_path": tmp_path, "text": small_recipe_text}
    apart = in_rounds(10.0, 12.0, 11.0, limit=12.5, **of)
    assert apart.verdict == "INCONCLUSIVE" and "rounds would settle it (device rounds)" in apart.reason
    assert in_rounds(10.0, 12.0, 11.0, limit=20.0, **of).verdict == "PASS"
    assert in_rounds(10.0, 12.0, 11.0, limit=6.0, **of).verdict == "FAIL"
    alike = in_rounds(11.0, 11.01, 10.99, limit=11.5, **of)
    assert (alike.verdict, round(alike.value, 2)) == ("PASS", 11.02)
    assert in_rounds(11.0, 11.01, 10.99, limit=11.5, percentile="p99", **of).verdict == "PASS"


def test_rounds_that_do_not_count_have_no_samples(tmp_path, small_recipe_text):
    """samples_ms holds those of the others only."""
    recipe = load(tmp_path, small_recipe_text + PHONE + budget("latency_ms", "pixel4", 20.0))
    sizes = ((20, False), (30, True), (20, False), (10, False))
    timed = tuple(one_round(samples=size, throttled=throttled) for size, throttled in sizes)
    (result,) = judge(recipe, [measured([10.0 + 0.01 * (i % 3) for i in range(50)], rounds=timed)])
    assert result.verdict == "PASS"


def rounds(*medians: float, throttled: tuple[float, ...] = ()) -> list[RoundTimes]:
    unknown = (None, None)
    return [RoundTimes(i, i, ms, 20, None, ms in throttled, (), *[unknown] * 3) for i, ms in enumerate(medians)]


def test_noise_is_what_rounds_leave_or_what_a_a_found():
    spread = geometric_interval([10.0, 10.2, 9.9])
    found = noise(rounds(10.0, 10.2, 9.9, 20.0, throttled=(20.0,)), None)
    assert found.noise_floor == pytest.approx(spread.high / spread.value - 1) and "3 rounds" in found.noise_floor_from
    floor = noise_floors.NoiseFloor(0.5, "2026-11-22", "phone", "big", "m.tflite", "0" * 64)
    assert noise(rounds(10.0, 10.2, 9.9), floor) == Noise(0.5, str(floor))
    small = dataclasses.replace(floor, relative=1e-6)
    assert noise(rounds(10.0, 10.2, 9.9), small) == noise(rounds(10.0, 10.2, 9.9), None)
    assert noise(rounds(10.0), None).noise_floor == 0.0


def test_noise_floors_are_kept_for_each_phone_and_cores(tmp_path, monkeypatch):
    monkeypatch.setenv("POCKETFORGE_PHONES_DIR", str(tmp_path))
    floor = noise_floors.NoiseFloor(0.02, "2026-11-22", "build 1", "big", "m.tflite", "0" * 64)
    assert noise_floors.load("a:1", "build 1", "big") is None
    path = noise_floors.save("a:1", floor)
    noise_floors.save("a:1", dataclasses.replace(floor, cores="little", relative=0.03))
    noise_floors.save("a:1", dataclasses.replace(floor, relative=0.04))
    big, little = (noise_floors.load("a:1", "build 1", cores) for cores in ("big", "little"))
    assert big is not None and big.relative == 0.04
    assert little is not None and little.relative == 0.03
    assert noise_floors.load("a:1", "build 2", "big") is None, "after an update it is another phone"
    assert noise_floors.load("a_1", "build 1", "big") is None, "another serial that makes the same file name"
    assert [p.name for p in path.parent.iterdir()] == ["a_1.json"]
    assert json.loads(path.read_text())["serial"] == "a:1"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot read the noise floors"):
        noise_floors.load("a:1", "build 1", "big")
