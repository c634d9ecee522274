"""What a phone's commands print, in the shapes of Android 10 to 16, damaged ones included."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from android_bench import texts
from android_bench.cores import NAMES, parse_cpuinfo
from android_bench.phone import PhoneFacts, parse_facts
from android_bench.readings import (
    BATTERY_FAKED,
    STATUS_SET_BY_HAND,
    Clocks,
    mean_clock_ghz,
    parse_battery,
    parse_clocks,
    parse_heat,
    parse_thermal,
    parse_time_in_state,
    parse_zones,
)
from pocketforge.devices import profile_files

PIXEL8 = """\
[ro.board.platform]: [zuma]
[ro.build.fingerprint]: [google/shiba/shiba:16/BP2A.250605.031/13578606:user/release-keys]
[ro.build.type]: [user]
[ro.build.version.release]: [16]
[ro.build.version.sdk]: [36]
[ro.hardware]: [shiba]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.cpu.abilist]: [arm64-v8a]
[ro.product.device]: [shiba]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 8]
[ro.soc.manufacturer]: [Google]
[ro.soc.model]: [Tensor G3]
"""
# Android 10: no ro.soc.*, three ABIs.
MOTO = """\
[ro.board.platform]: [msm8953]
[ro.build.version.release]: [10]
[ro.build.version.sdk]: [29]
[ro.hardware]: [qcom]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a,armeabi]
[ro.product.device]: [ocean]
[ro.product.model]: [moto g(7) power]
"""


def block(cpu: int, part: int, features: str = "fp asimd asimddp i8mm", implementer: int = 0x41) -> str:
    return (
        f"processor\t: {cpu}\nBogoMIPS\t: 49.15\nFeatures\t: {features}\nCPU implementer\t: {implementer:#04x}\n"
        f"CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: {part:#05x}\nCPU revision\t: 0\n\n"
    )


def core_files(cpus: Mapping[int, tuple[int | None, int | None]]) -> str:
    """capacity and kHz of each CPU, as `grep -H ''` prints the files."""
    rows = [f"{name}:0-{max(cpus)}" for name in ("possible", "present", "online")]
    for n, (capacity, khz) in cpus.items():
        rows += [f"cpu{n}/cpu_capacity:{capacity}"] if capacity is not None else []
        if khz is not None:
            rows += [f"cpu{n}/cpufreq/cpuinfo_max_freq:{khz}", f"cpu{n}/cpufreq/cpuinfo_min_freq:324000"]
            rows += [f"cpu{n}/cpufreq/scaling_governor:sched_pixel"]
    return "\n".join(rows) + "\n"


TENSOR = dict.fromkeys(range(4), (180, 1704000)) | dict.fromkeys(range(4, 8), (640, 2367000)) | {8: (1024, 2914000)}
TENSOR_PARTS = dict.fromkeys(range(4), 0xD46) | dict.fromkeys(range(4, 8), 0xD4D) | {8: 0xD4E}

WHOLE = {
    "properties": PIXEL8,
    "kernel": "6.1.124-android14-11-g8d713f9e8e7b-ab13202960\n",
    "boot": "5c0f3cb8-2941-41ed-aa65-5492b14f7275\n",
    "memory": "MemTotal:        7679044 kB\nMemFree:          123456 kB\n",
    "cpuinfo": "".join(block(n, part) for n, part in TENSOR_PARTS.items()),
    "cpus": core_files(TENSOR),
}


def facts_of(**changed: str) -> PhoneFacts:
    return parse_facts("SERIAL", {**WHOLE, **changed})


def test_a_whole_phone() -> None:
    facts = facts_of()
    assert (facts.manufacturer, facts.model, facts.device) == ("Google", "Pixel 8", "shiba")
    assert (facts.soc, facts.soc_manufacturer, facts.platform) == ("Tensor G3", "Google", "zuma")
    assert (facts.android_version, facts.sdk, facts.abi, facts.abis) == ("16", 36, "arm64-v8a", ("arm64-v8a",))
    assert facts.ram_bytes == 7679044 * 1024
    assert facts.boot_id == "5c0f3cb8-2941-41ed-aa65-5492b14f7275"
    assert facts.features == ("fp", "asimd", "asimddp", "i8mm")
    assert (facts.governor, facts.offline, facts.emulator) == ("sched_pixel", (), False)
    rows = [(c.name, c.cpus, c.capacity, c.max_clock_ghz, c.core) for c in facts.clusters]
    assert rows == [
        ("big", (8,), 1024, 2.914, "cortex-x3"),
        ("mid", (4, 5, 6, 7), 640, 2.367, "cortex-a715"),
        ("little", (0, 1, 2, 3), 180, 1.704, "cortex-a510"),
    ]
    assert json.loads(json.dumps(facts.to_json(), allow_nan=False))["clusters"][0]["cpus"] == [8]


def test_before_android_12_the_soc_is_unknown_and_the_platform_is_not_put_in_its_place() -> None:
    facts = facts_of(properties=MOTO)
    assert (facts.soc, facts.platform, facts.sdk) == ("", "msm8953", 29)
    assert facts.abis == ("arm64-v8a", "armeabi-v7a", "armeabi")
    assert facts.manufacturer == ""
    assert facts_of(properties="[ro.hardware]: [qcom]\n").platform == "qcom"


def test_what_a_phone_does_not_say_is_unknown() -> None:
    facts = parse_facts("SERIAL", {})
    unknown = {f.name: getattr(facts, f.name) for f in dataclasses.fields(facts) if f.name != "serial"}
    assert all(value in ("", None, (), False) for value in unknown.values()), unknown


def test_android_s_own_word_for_unknown_is_no_name() -> None:
    assert facts_of(properties="[ro.soc.model]: [unknown]\n[ro.product.model]: []\n").soc == ""


@pytest.mark.parametrize("hardware", ["ranchu", "goldfish", "cutf_cvm"])
def test_virtual_devices_are_known(hardware: str) -> None:
    assert facts_of(properties=f"[ro.hardware]: [{hardware}]\n").emulator
    assert facts_of(properties="[ro.boot.qemu]: [1]\n").emulator


def test_crlf_as_old_phones_send_it() -> None:
    changed = {name: text.replace("\n", "\r\n") for name, text in WHOLE.items()}
    assert parse_facts("SERIAL", changed) == facts_of()


def test_a_property_cannot_steer_the_terminal() -> None:
    assert facts_of(properties="[ro.product.model]: [a\x1b[31mb\x07c]\n").model == "a[31mbc"


def test_without_capacities_the_clocks_order_the_cores() -> None:
    facts = facts_of(cpus=core_files({n: (None, khz) for n, (_, khz) in TENSOR.items()}))
    assert [(c.name, c.cpus, c.capacity) for c in facts.clusters] == [
        ("big", (8,), None), ("mid", (4, 5, 6, 7), None), ("little", (0, 1, 2, 3), None),
    ]  # fmt: skip


def test_without_clocks_too_the_kinds_of_cores_order_them() -> None:
    bare = core_files(dict.fromkeys(range(9), (None, None)))
    rotated = {(n + 3) % 9: part for n, part in TENSOR_PARTS.items()}
    facts = facts_of(cpus=bare, cpuinfo="".join(block(n, part) for n, part in sorted(rotated.items())))
    assert [(c.name, c.core) for c in facts.clusters] == [
        ("big", "cortex-x3"), ("mid", "cortex-a715"), ("little", "cortex-a510"),
    ]  # fmt: skip


def test_cores_that_are_all_alike_are_one_cluster() -> None:
    facts = facts_of(cpus=core_files(dict.fromkeys(range(4), (1024, 1495000))), cpuinfo="")
    assert [(c.name, c.cpus) for c in facts.clusters] == [("big", (0, 1, 2, 3))]


def test_a_phone_with_two_middle_clusters_has_two() -> None:
    cpus = {0: (300, 2000000), 1: (800, 2800000), 2: (850, 3000000), 3: (1024, 3200000)}
    assert [c.name for c in facts_of(cpus=core_files(cpus), cpuinfo="").clusters] == ["big", "mid", "mid", "little"]


def test_a_core_that_is_off_is_known_by_its_policy() -> None:
    text = core_files({0: (500, 1800000), 1: (500, 1800000), 2: (1024, 2800000)}).replace("online:0-2", "online:0,2")
    rows = [row for row in text.splitlines() if not row.startswith(("cpu1/cpufreq", "cpu1/cpu_capacity"))]
    rows += ["cpufreq/policy0/related_cpus:0 1", "cpufreq/policy0/cpuinfo_max_freq:1800000"]
    facts = facts_of(cpus="\n".join(rows), cpuinfo=block(0, 0xD05) + block(2, 0xD0B))
    assert facts.offline == (1,)
    assert [(c.name, c.cpus, c.core) for c in facts.clusters] == [
        ("big", (2,), "cortex-a76"), ("little", (0, 1), "cortex-a55"),
    ]  # fmt: skip
    # All of a policy off: nothing is known of its cores, and they are in no cluster.
    alone = facts_of(cpus="present:0-1\nonline:0\ncpu0/cpu_capacity:1024\n", cpuinfo="")
    assert (alone.offline, [c.cpus for c in alone.clusters]) == ((1,), [(0,)])


def test_midr_files_tell_the_kind_where_cpuinfo_does_not() -> None:
    text = core_files({0: (1024, 2800000)}) + "cpu0/regs/identification/midr_el1:0x00000000414fd0b1\n"
    assert facts_of(cpus=text, cpuinfo="").clusters[0].core == "cortex-a76"


def test_features_are_those_that_all_cores_have() -> None:
    found = parse_cpuinfo(block(0, 0xD05, "fp asimd aes") + block(1, 0xD0B, "aes fp asimd sve"))
    assert found.features == ("fp", "asimd", "aes")
    assert parse_cpuinfo(block(0, 0xD0B, "aes sve fp") + block(1, 0xD05, "fp aes")).features == ("aes", "fp")
    assert found.cores == {0: 0x41D05, 1: 0x41D0B}


def test_an_old_kernel_s_one_block_says_nothing_of_each_core() -> None:
    text = "Processor\t: AArch64 rev 3\nprocessor\t: 0\nprocessor\t: 1\nFeatures\t: fp asimd\n"
    found = parse_cpuinfo(f"{text}CPU implementer\t: 0x41\nCPU part\t: 0xd03\n\nHardware\t: Qualcomm MSM8939\n")
    assert (found.cores, found.features) == ({}, ("fp", "asimd"))


def test_names_of_cores_agree_with_those_that_profiles_use() -> None:
    theirs = {part: name for name, parts in profile_files._PARTS.items() for part in parts}
    assert dict(NAMES) == theirs


# --- heat

CURRENT = """\
\tTemperature{mValue=31.249998, mType=3, mName=VIRTUAL-SKIN, mStatus=1}
\tTemperature{mValue=33.5, mType=3, mName=VIRTUAL-SKIN-GPU, mStatus=0}
\tTemperature{mValue=42.0, mType=0, mName=BIG, mStatus=0}
\tTemperature{mValue=NaN, mType=9, mName=TPU, mStatus=0}
\tTemperature{mValue=3.4028235E38, mType=1, mName=G3D, mStatus=0}
\tTemperature{mValue=4312.0, mType=6, mName=vbat, mStatus=0}
\tTemperature{mValue=28.7, mType=2, mName=battery, mStatus=0}
\tTemperature{mValue=27.0, mType=-1, mName=odd, name, mStatus=0}
"""
THERMAL = f"""\
IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 4
Thermal Status: 1
Cached temperatures:
\tTemperature{{mValue=99.0, mType=3, mName=VIRTUAL-SKIN, mStatus=5}}
\tTemperature{{mValue=98.0, mType=0, mName=OLD-CPU, mStatus=5}}
HAL Ready: true
HAL connection:
\tThermalHAL AIDL 2  connected: yes
Current temperatures from HAL:
{CURRENT}Current cooling devices from HAL:
\tCoolingDevice{{mValue=0, mType=2, mName=thermal-cpufreq-0}}
Temperature static thresholds from HAL:
\tTemperatureThreshold{{mType=3, mName=VIRTUAL-SKIN, mHotThrottlingThresholds=[NaN, 39.0, 43.0]}}
Temperature headroom thresholds:
[NaN, 0.8666667, 1.0, NaN, NaN, NaN, NaN]
"""
BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  status: 2
  health: 2
  present: true
  level: 40
  scale: 50
  voltage: 4312
  temperature: 287
  technology: Li-ion
"""


def heat_of(**changed: str) -> Any:
    return parse_heat({"thermal": THERMAL, "battery": BATTERY, "power": "  mWakefulness=Awake\n", **changed})


def test_heat() -> None:
    heat = heat_of()
    assert (heat.thermal_status, heat.skin_c, heat.cpu_c) == (1, 33.5, 42.0)
    assert (heat.battery_c, heat.battery_level, heat.charging) == (28.7, 80, True)
    assert (heat.wakefulness, heat.warnings, heat.faked) == ("Awake", (), False)
    sensors = {s.name: (s.kind, s.temperature_c, s.status) for s in heat.sensors}
    assert sensors["TPU"] == ("npu", None, 0)
    assert sensors["G3D"] == ("gpu", None, 0)
    assert sensors["odd, name"] == ("unknown", 27.0, 0)
    assert "vbat" not in sensors
    assert "OLD-CPU" not in sensors
    json.dumps(heat.to_json(), allow_nan=False)


def test_heat_is_the_same_doubled_or_with_crlf() -> None:
    assert heat_of(thermal=THERMAL * 2, battery=BATTERY * 2) == heat_of()
    assert heat_of(thermal=THERMAL.replace("\n", "\r\n"), battery=BATTERY.replace("\n", "\r\n")) == heat_of()


def test_cached_temperatures_are_never_used() -> None:
    until = THERMAL.partition("Current temperatures")[0]
    assert parse_thermal(until) == (1, (), ())


def test_a_hal_that_is_not_ready_gives_no_status() -> None:
    text = THERMAL.partition("HAL Ready")[0] + "HAL Ready: false\n"
    status, sensors, (warning,) = parse_thermal(text)
    assert (status, sensors) == (None, ())
    assert "not ready" in warning


def test_a_status_that_was_set_by_hand_is_not_the_phone_s() -> None:
    heat = heat_of(thermal=THERMAL.replace("IsStatusOverride: false", "IsStatusOverride: true"))
    assert (heat.thermal_status, heat.warnings, heat.faked) == (None, (STATUS_SET_BY_HAND,), True)
    assert heat.cpu_c == 42.0


@pytest.mark.parametrize(
    "text", ["", "Can't find service: thermalservice\n", "Permission Denial: can't dump\n", "Thermal Status: 9\n"]
)
def test_phones_without_a_thermal_status(text: str) -> None:
    zones = "thermal_zone0/type:cpu-0-0-usr\nthermal_zone0/temp:45000\nthermal_zone1/type:quiet-therm\n"
    heat = heat_of(thermal=text, zones=zones)
    assert (heat.thermal_status, heat.cpu_c, heat.skin_c) == (None, 45.0, None)
    assert len(heat.warnings) == 1
    assert not heat.faked


@pytest.mark.parametrize(
    ("raw", "value"),
    [("45000", 45.0), ("452", 45.2), ("45", 45.0), ("0", None), ("-273", None), ("-40000", None), ("3000", None),
     ("999999", None), ("", None), ("x", None), ("45 ", 45.0)],
)  # fmt: skip
def test_units_of_thermal_zones(raw: str, value: float | None) -> None:
    (zone,) = parse_zones(f"thermal_zone3/type:mtktscpu\nthermal_zone3/temp:{raw}\n")
    assert (zone.kind, zone.temperature_c) == ("cpu", value)


def test_a_faked_battery_is_not_believed() -> None:
    text = BATTERY.replace("state:\n", "state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n")
    assert parse_battery(text) == (None, None, None, (BATTERY_FAKED,))
    assert heat_of(battery=text).faked


def test_batteries() -> None:
    assert parse_battery(BATTERY.replace("present: true", "present: false"))[:3] == (None, None, None)
    assert parse_battery(BATTERY.replace("status: 2", "status: 5"))[2] is False
    assert parse_battery(BATTERY.replace("status: 2", "status: 1"))[2] is None
    assert parse_battery(BATTERY.replace("level: 40", "level: 90"))[1] is None
    assert parse_battery(BATTERY.replace("temperature: 287", "temperature: -2730"))[0] is None
    assert parse_battery("") == (None, None, None, ())


@pytest.mark.parametrize("word", ["Awake", "Asleep", "Dozing", "Dreaming"])
def test_wakefulness(word: str) -> None:
    assert heat_of(power=f"  mWakefulness={word}\r\n  mWakefulnessChanging=false\n").wakefulness == word
    assert heat_of(power="mWakefulness=\n").wakefulness == ""


# --- clocks

CLOCKS = """\
cpu0/cpufreq/scaling_cur_freq:610000
cpu0/cpufreq/scaling_max_freq:1425000
cpu0/cpufreq/cpuinfo_max_freq:1704000
cpu0/cpufreq/stats/time_in_state:324000 100
cpu0/cpufreq/stats/time_in_state:1704000 5
cpufreq/policy4/related_cpus:4 5
cpufreq/policy4/scaling_cur_freq:2367000
cpufreq/policy4/scaling_max_freq:2367000
cpufreq/policy4/cpuinfo_max_freq:2367000
cpufreq/policy4/stats/time_in_state:402000 7
"""


def test_clocks_by_cpu_and_by_policy() -> None:
    found = parse_clocks(CLOCKS, (0, 4, 6))
    assert found.current_ghz == {0: 0.61, 4: 2.367}
    assert found.cap_ghz == {0: 1.425, 4: 2.367}
    assert found.top_ghz == {0: 1.704, 4: 2.367}
    assert found.time_in_state == {0: {0.324: 100, 1.704: 5}, 4: {0.402: 7}}
    json.dumps(found.to_json(), allow_nan=False)


def stats(*rows: tuple[float, int]) -> Clocks:
    return Clocks({}, {}, {}, {0: dict(rows)})


def test_the_mean_clock_is_by_time() -> None:
    before = stats((0.5, 100), (2.0, 10))
    assert mean_clock_ghz(before, stats((0.5, 110), (2.0, 40)), 0) == pytest.approx((0.5 * 10 + 2.0 * 30) / 40)
    assert mean_clock_ghz(before, stats((0.5, 100), (2.0, 40)), 0) == 2.0
    assert mean_clock_ghz(before, before, 0) is None
    assert mean_clock_ghz(before, stats((0.5, 3), (2.0, 400)), 0) is None, "went back: another boot"
    assert mean_clock_ghz(before, stats((0.5, 110)), 0) is None
    assert mean_clock_ghz(before, stats((0.5, 110), (2.0, 40)), 1) is None


@pytest.mark.parametrize("row", ["324000", "324000 1 2", "x 1", "324000 -1", "3 1", "324000 100", ""])
def test_times_with_a_line_that_is_none_are_not_used(row: str) -> None:
    assert parse_time_in_state(["324000 100", row]) == {}


# --- any text

PIECES = re.split(r"(?<=\n)", THERMAL + BATTERY + CLOCKS + PIXEL8 + WHOLE["cpus"] + WHOLE["cpuinfo"])
piece = st.one_of(
    st.sampled_from(PIECES),
    st.sampled_from(PIECES).flatmap(lambda text: st.integers(0, len(text)).map(lambda end: text[:end])),
    st.text(max_size=30),
    st.sampled_from(["\r\n", "\x00", "9" * 400, "٣", "[ro.soc.model]: [", "Thermal Status: ³", "cpu0/cpufreq/", "-0"]),
)
garbled = st.lists(piece, max_size=25).map("".join)


def numbers_in(value: Any) -> list[float]:
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | float):
        return [float(value)]
    if isinstance(value, Mapping):
        return [number for item in value.values() for number in numbers_in(item)]
    return [number for item in value for number in numbers_in(item)] if isinstance(value, list) else []


def written_in(text: str) -> set[float]:
    """Every number of a text, in each of the units that are converted."""
    found = [float(word) for word in re.findall(r"-?[0-9]+(?:\.[0-9]+)?(?:E-?[0-9]+)?", text, re.ASCII)]
    return {round(value / scale, 9) for value in found if math.isfinite(value) for scale in (1, 10, 1e3, 1e6, 1 / 1024)}


@given(garbled, garbled)
def test_heat_of_any_text_has_only_numbers_that_are_in_it(first: str, second: str) -> None:
    heat = parse_heat({"thermal": first, "battery": second, "power": first, "zones": second})
    shown = heat.to_json()
    level = shown.pop("battery_level")
    assert level is None or 0 <= level <= 100
    assert {round(n, 9) for n in numbers_in(shown)} <= written_in(first) | written_in(second)


@given(garbled)
def test_clocks_of_any_text_have_only_numbers_that_are_in_it(text: str) -> None:
    found = parse_clocks(text, (0, 4, 5))
    assert {round(n, 9) for n in numbers_in(found.to_json())} <= written_in(text)
    mean = mean_clock_ghz(found, parse_clocks(text * 2, (0, 4, 5)), 0)
    assert mean is None or mean > 0


@given(garbled, garbled, garbled)
def test_facts_of_any_text(properties: str, cpus: str, cpuinfo: str) -> None:
    given = {"properties": properties, "cpus": cpus, "cpuinfo": cpuinfo, "memory": properties, "boot": cpus}
    facts = parse_facts("SERIAL", {**given, "kernel": cpuinfo})
    members = [n for cluster in facts.clusters for n in cluster.cpus]
    assert len(members) == len(set(members))
    for cluster in facts.clusters:
        clocks = [cluster.max_clock_ghz, cluster.min_clock_ghz, cluster.capacity]
        assert {round(n, 9) for n in numbers_in(clocks)} <= written_in(cpus)
    assert facts.model in properties
    assert json.dumps(facts.to_json(), allow_nan=False, ensure_ascii=False).isprintable()


@given(st.lists(st.sets(st.integers(0, 40), min_size=1), max_size=4), st.text(max_size=20))
def test_lists_of_cpus(runs: list[set[int]], junk: str) -> None:
    for cpus in runs:
        assert texts.cpu_list(",".join(map(str, sorted(cpus)))) == tuple(sorted(cpus))
        assert texts.cpu_list(" ".join(map(str, cpus)) + " \n") == tuple(sorted(cpus))
    assert all(0 <= n < 1024 for n in texts.cpu_list(junk))
    assert texts.cpu_list("0-3,7") == (0, 1, 2, 3, 7)
    assert texts.cpu_list("3-0") == texts.cpu_list("0-99999") == texts.cpu_list("0-3,x") == texts.cpu_list("") == ()


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text()), st.integers(0, 60))
def test_sections_are_what_each_command_printed(printed: dict[str, str], cut: int) -> None:
    token = "0123456789abcdef"
    text = "".join(f"@{token} {name}\n{said}\n" for name, said in printed.items())
    found = {name: said.rstrip("\n") for name, said in texts.sections(text, token).items()}
    assert found == {name: "\n".join(texts.lines(said)).rstrip("\n") for name, said in printed.items()}
    texts.sections(text[:cut], token)
