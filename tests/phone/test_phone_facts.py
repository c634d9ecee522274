"""Facts, heat and clocks read from phones by the real adb, in the shapes of several Androids."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from phone import Phone
from phone_kinds import KINDS, OLD_FEATURES

from android_bench.adb import Adb, Link
from android_bench.phone import read_facts
from android_bench.readings import BATTERY_FAKED, STATUS_SET_BY_HAND, Heat, mean_clock_ghz, read_clocks, read_heat

if TYPE_CHECKING:  # at run time another folder's conftest may have that name
    from phone import MakePhone

# Proven with an arm64 shell under qemu; other test files use this machine's own (phone_fixtures.py).
USERLAND = "arm64"


def link_of(phone: Phone) -> Link:
    return Adb().phone(phone.serial)


def heat_when(link: Link, holds: Callable[[Heat], bool], within_s: float = 20) -> Heat:
    """The first reading for which it holds: a test phone renders what it feels a moment later."""
    end_s = time.monotonic() + within_s
    while not holds(heat := read_heat(link)):
        assert time.monotonic() < end_s, heat
    return heat


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The adb clients that are started."""
    found: list[list[str]] = []
    real = Adb.call

    def call(self: Adb, arguments: list[str], *rest: object, **more: object) -> object:
        found.append(list(arguments))
        return real(self, arguments, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Adb, "call", call)
    return found


def test_a_whole_phone_in_one_command_each(make_phone: MakePhone, calls: list[list[str]]) -> None:
    link = link_of(make_phone(cpus=None))
    calls.clear()
    facts = read_facts(link)
    assert len(calls) == 1
    kind = KINDS["pixel8"]
    assert (facts.manufacturer, facts.model, facts.device, facts.serial) == ("Google", "Pixel 8", "shiba", link.serial)
    assert (facts.soc, facts.soc_manufacturer, facts.platform) == ("Tensor G3", "Google", "zuma")
    assert (facts.android_version, facts.sdk, facts.abi) == ("16", 36, "arm64-v8a")
    assert (facts.fingerprint, facts.build_type, facts.kernel) == (kind.fingerprint, "user", kind.kernel)
    assert facts.ram_bytes == kind.ram_kib * 1024
    assert facts.features == tuple(kind.cpu_features.split())
    rows = [(c.name, c.cpus, c.capacity, c.max_clock_ghz, c.min_clock_ghz, c.core) for c in facts.clusters]
    assert rows == [
        ("big", (8,), 1024, 2.914, 0.5, "cortex-x3"),
        ("mid", (4, 5, 6, 7), 640, 2.367, 0.402, "cortex-a715"),
        ("little", (0, 1, 2, 3), 180, 1.704, 0.324, "cortex-a510"),
    ]
    assert (facts.governor, facts.offline, facts.emulator) == ("sched_pixel", (), False)
    assert facts.boot_id == link.run("cat /proc/sys/kernel/random/boot_id").strip()

    calls.clear()
    clocks = read_clocks(link, (0, 8))
    heat = read_heat(link)
    assert len(calls) == 2
    assert clocks.top_ghz == {0: 1.704, 8: 2.914}
    assert set(clocks.time_in_state[8]) == {khz / 1e6 for khz in kind.clusters[2].frequencies_khz}
    assert (heat.thermal_status, heat.skin_c, heat.battery_c, heat.battery_level) == (0, 31.2, 28.7, 80)
    assert (heat.charging, heat.wakefulness, heat.warnings) == (True, "Awake", ())


@pytest.mark.parametrize(
    ("kind", "android", "soc"),
    [("pixel4", "10", ""), ("galaxy_s22", "12", "SM8450"), ("galaxy_s22", "14", "SM8450"), ("old_32bit", "10", "")],
)
def test_other_androids(make_phone: MakePhone, kind: str, android: str, soc: str) -> None:
    link = link_of(make_phone(kind, android=android, cpus=None))
    facts, heat = read_facts(link), read_heat(link)
    assert (facts.model, facts.platform, facts.android_version) == (KINDS[kind].model, KINDS[kind].platform, android)
    assert (facts.soc, facts.abis) == (soc, KINDS[kind].abis)
    assert [len(c.cpus) for c in reversed(facts.clusters)] == [c.cores for c in KINDS[kind].clusters]
    # The stale 99 °C among the cached ones is not taken.
    assert (heat.thermal_status, heat.skin_c, heat.cpu_c) == (0, 31.2, 42.0)


def test_a_phone_that_hides_its_clocks_has_unknown_ones(make_phone: MakePhone) -> None:
    link = link_of(make_phone("locked", cpus=None))
    facts = read_facts(link)
    assert [(c.name, c.core, c.capacity, c.max_clock_ghz) for c in facts.clusters] == [
        ("big", "cortex-x2", None, None), ("mid", "cortex-a710", None, None), ("little", "cortex-a510", None, None),
    ]  # fmt: skip
    assert facts.governor is None
    clocks = read_clocks(link, (0, 7))
    assert (clocks.current_ghz, clocks.time_in_state) == ({}, {})
    assert mean_clock_ghz(clocks, clocks, 0) is None


def test_a_phone_without_the_shell_protocol(make_phone: MakePhone) -> None:
    """adb then sends CR LF, and stderr among stdout."""
    link = link_of(make_phone(features=OLD_FEATURES))
    facts = read_facts(link)
    assert (facts.model, facts.features[:2], len(facts.clusters)) == ("Pixel 8", ("fp", "asimd"), 2)
    assert read_heat(link).skin_c == 31.2


def test_heat_follows_the_phone_and_faked_values_are_refused(phone: Phone) -> None:
    link = link_of(phone)
    phone.set_thermal(2, 44.0)
    phone.set_battery(temperature_c=41.5, level=12, status=3, plugged="")
    heat = heat_when(link, lambda h: h.thermal_status == 2 and h.battery_level == 12)
    assert (heat.skin_c, heat.battery_c, heat.charging) == (44.0, 41.5, False)

    link.run("cmd thermalservice override-status 0; dumpsys battery unplug; input keyevent KEYCODE_SLEEP")
    heat = read_heat(link)
    assert (heat.thermal_status, heat.battery_c, heat.battery_level, heat.charging) == (None, None, None, None)
    assert (heat.warnings, heat.faked, heat.wakefulness) == ((STATUS_SET_BY_HAND, BATTERY_FAKED), True, "Asleep")
    link.run("cmd thermalservice reset; dumpsys battery reset")
    assert not read_heat(link).faked

    phone.set_body(hal_ready=False)
    heat = heat_when(link, lambda h: h.thermal_status is None)
    # The service has no temperatures, so the kernel's zones give them.
    assert (heat.skin_c, heat.sensors[0].status) == (44.0, None)
    assert "not ready" in heat.warnings[0]


def test_clocks_and_their_mean(phone: Phone) -> None:
    link = link_of(phone)
    low, cap = phone.set_clock(1, 1.1), phone.set_cap(1, 2.4)
    before = read_clocks(link, (1,))
    assert (before.current_ghz[1], before.cap_ghz[1], before.top_ghz[1]) == (low, cap, 2.914)
    after, end_s = before, time.monotonic() + 20
    while sum(after.time_in_state[1].values()) - sum(before.time_in_state[1].values()) < 20:
        assert time.monotonic() < end_s
        after = read_clocks(link, (1,))
    assert mean_clock_ghz(before, after, 1) == pytest.approx(low)
    assert mean_clock_ghz(after, before, 1) is None


def test_properties_are_text_whatever_they_hold(make_phone: MakePhone) -> None:
    name = "a'; touch /data/local/tmp/x; $(touch /data/local/tmp/y) `touch /data/local/tmp/z` \x1b[31m\"|&"
    phone = make_phone(properties={"ro.soc.model": name})
    facts = read_facts(link_of(phone))
    assert facts.soc == name.replace("\x1b", "")
    assert list(phone.list("/data/local/tmp")) == []
