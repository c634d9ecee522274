"""What of a phone changes while it works: heat, battery, screen, clocks. Each read by one command.

What a phone does not say, or says with faked values, is None: nothing is guessed, and nothing stale is used.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from android_bench.texts import (
    cleaned,
    clock_ghz,
    cpu_list,
    facts,
    lines,
    marked,
    named_lines,
    plain,
    sections,
    whole,
)

if TYPE_CHECKING:
    from android_bench.adb import Link

# PowerManager.THERMAL_STATUS_*, 0 to 6.
THERMAL_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
STATUS_SET_BY_HAND = (
    "the thermal status is set by hand, not the phone's own: adb shell cmd thermalservice reset undoes it"
)
BATTERY_FAKED = "the battery's values are faked: adb shell dumpsys battery reset undoes it"

# hardware/interfaces, thermal/aidl: TemperatureType. 6 to 8 are volts, amperes and percent: no temperatures.
_KINDS = {
    0: "cpu", 1: "gpu", 2: "battery", 3: "skin", 4: "usb", 5: "power-amplifier", 9: "npu", 10: "tpu", 11: "display",
    12: "modem", 13: "soc", 14: "wifi", 15: "camera", 16: "flashlight", 17: "speaker", 18: "ambient", 19: "pogo",
}  # fmt: skip
_NO_TEMPERATURES = (6, 7, 8)
_TEMPERATURE = re.compile(r"Temperature\{mValue=([^,]+), mType=(-?[0-9]{1,4}), mName=(.*), mStatus=(-?[0-9]{1,4})\}")
# What a sensor of a phone can show at all: outside it, a value is damaged or means "not connected".
_LOWEST_C, _HIGHEST_C = -40.0, 200.0

# The zones are asked only where the service gives no temperatures: a phone may have 80 of them.
_HEAT_COMMANDS = {
    "battery": "dumpsys -t 5 battery",
    "power": "dumpsys -t 5 power | grep 'mWakefulness='",
    "thermal": "t=$(dumpsys -t 5 thermalservice); printf '%s\\n' \"$t\"",
    "zones": 'case "$t" in *"temperatures from HAL:"*"Temperature{"*) ;; *) cd /sys/class/thermal && '
    "grep -sH '' thermal_zone*/type thermal_zone*/temp;; esac",
}
_CLOCK_FILES = ("scaling_cur_freq", "scaling_max_freq", "cpuinfo_max_freq", "stats/time_in_state", "related_cpus")


@dataclass(frozen=True, slots=True)
class Sensor:
    """kind: "cpu", "skin" …, "unknown". temperature_c: None where the sensor gives none. status: its own, 0 to 6."""

    name: str
    kind: str
    temperature_c: float | None
    status: int | None


@dataclass(frozen=True, slots=True)
class Heat:
    """thermal_status: 0 to 6, see THERMAL_STATUS. battery_level: percent. skin_c, cpu_c: the hottest of their sensors.

    wakefulness: PowerManager's "Awake", "Dozing" …, or "". warnings: why something is None that should not be.
    faked: the thermal status or the battery's values are overridden by a test, and so not used.
    """

    thermal_status: int | None
    battery_c: float | None
    battery_level: int | None
    charging: bool | None
    skin_c: float | None
    cpu_c: float | None
    sensors: tuple[Sensor, ...]
    wakefulness: str
    warnings: tuple[str, ...]
    faked: bool = False

    def to_json(self) -> dict[str, Any]:
        """What JSON has of it; unknown is null."""
        found: dict[str, Any] = plain(self)
        return found


@dataclass(frozen=True, slots=True)
class Clocks:
    """Of each CPU that has them: its clock now, the highest it may have now (cap) and can have at all (top).

    time_in_state: time spent at each clock since boot, idle time with it, in units of 10 ms.
    """

    current_ghz: Mapping[int, float]
    cap_ghz: Mapping[int, float]
    top_ghz: Mapping[int, float]
    time_in_state: Mapping[int, Mapping[float, int]]

    def to_json(self) -> dict[str, Any]:
        """What JSON has of it."""
        found: dict[str, Any] = plain(self)
        return found


def read_heat(link: Link, *, repeat: bool = True, timeout_s: float = 45) -> Heat:
    """Thermal status, temperatures, battery and screen, by one command.

    repeat: ask again when the link drops, which may wait for it. Raises PhoneError when the phone cannot be asked.
    """
    token = secrets.token_hex(8)
    done = link.shell(marked(token, _HEAT_COMMANDS), timeout_s=timeout_s, repeat=repeat)
    return parse_heat(sections(done.stdout, token))


def parse_heat(texts: Mapping[str, str]) -> Heat:
    """As `read_heat`, from what the commands printed."""
    status, sensors, warnings = parse_thermal(texts.get("thermal", ""))
    sensors = sensors or parse_zones(texts.get("zones", ""))
    battery_c, level, charging, trouble = parse_battery(texts.get("battery", ""))
    awake = re.search(r"^\s*mWakefulness=([A-Za-z]{1,20})\s*$", "\n".join(lines(texts.get("power", ""))), re.MULTILINE)

    def hottest(kind: str) -> float | None:
        found = [s.temperature_c for s in sensors if s.kind == kind and s.temperature_c is not None]
        return max(found, default=None)

    return Heat(
        thermal_status=status,
        battery_c=battery_c,
        battery_level=level,
        charging=charging,
        skin_c=hottest("skin"),
        cpu_c=hottest("cpu"),
        sensors=sensors,
        wakefulness=awake[1] if awake else "",
        warnings=(*warnings, *trouble),
        faked=any(warning in (STATUS_SET_BY_HAND, BATTERY_FAKED) for warning in (*warnings, *trouble)),
    )


def parse_thermal(text: str) -> tuple[int | None, tuple[Sensor, ...], tuple[str, ...]]:
    """`dumpsys thermalservice` of Android 10 to 16: status, the HAL's current temperatures, warnings.

    Source: AOSP, ThermalManagerService.dumpInternal and Temperature.toString. Its "Cached temperatures" are what the
    HAL said when it last had a reason to; they may be hours old and are never used.
    """
    content = lines(text)
    statuses = [m for m in (re.fullmatch(r"\s*Thermal Status: ([0-6])\s*", line) for line in content) if m]
    if not statuses:
        return None, (), ("the phone tells no thermal status (Android 10 and later do)",)
    warnings = []
    status: int | None = int(statuses[0][1])
    if any(line.strip() == "IsStatusOverride: true" for line in content):
        status = None
        warnings.append(STATUS_SET_BY_HAND)
    elif any(line.strip() == "HAL Ready: false" for line in content):
        status = None
        warnings.append("the phone's thermal HAL is not ready: its thermal status means nothing")
    return status, _hal_temperatures(content), tuple(warnings)


def _hal_temperatures(content: Sequence[str]) -> tuple[Sensor, ...]:
    found: dict[tuple[str, str], Sensor] = {}
    current = False
    for line in map(str.strip, content):
        match = _TEMPERATURE.fullmatch(line)
        if line.endswith(":"):
            current = line == "Current temperatures from HAL:"
        elif current and match and int(match[2]) not in _NO_TEMPERATURES:
            status = int(match[4])
            name, kind = cleaned(match[3]), _KINDS.get(int(match[2]), "unknown")
            sensor = Sensor(name, kind, _temperature_c(match[1]), status if 0 <= status <= 6 else None)
            found.setdefault((name, kind), sensor)
    return tuple(found.values())


def _temperature_c(text: str) -> float | None:
    """A Java float's text: 31.2, NaN, 1.0E10."""
    if not re.fullmatch(r"-?[0-9]{1,40}(\.[0-9]{1,40})?(E-?[0-9]{1,3})?", text.strip()):
        return None
    value = float(text)
    return value if math.isfinite(value) and _LOWEST_C <= value <= _HIGHEST_C else None


def parse_zones(text: str) -> tuple[Sensor, ...]:
    """`thermal_zoneN/type` and `temp` of /sys/class/thermal, for phones whose thermal service says nothing.

    Linux wants millidegrees; some vendors' drivers give tenths of a degree, or degrees. What a phone can have in one
    of the units it cannot have in another: 5 to 125, 126 to 1250 and 5000 to 125000. Any other value is none.
    """
    files = named_lines(text)
    found = []
    for path, kinds in files.items():
        zone, slash, name = path.rpartition("/")
        if not slash or name != "type":
            continue
        temps = files.get(f"{zone}/temp", [])
        value = whole(temps[0]) if len(temps) == 1 else None
        temperature_c = None
        if value is not None:
            scale = 1 if 5 <= value <= 125 else 10 if 126 <= value <= 1250 else 1000 if 5000 <= value <= 125000 else 0
            temperature_c = value / scale if scale else None
        label = cleaned(kinds[0])
        found.append(Sensor(label, _zone_kind(label), temperature_c, None))
    return tuple(found)


def _zone_kind(name: str) -> str:
    """By the names that vendors give their zones: cpu-1-0-usr, mtktscpu, BIG, skin-therm-usr, battery."""
    name = name.lower()
    if "skin" in name:
        return "skin"
    if "batt" in name:
        return "battery"
    if "gpu" in name or name == "g3d":
        return "gpu"
    return "cpu" if "cpu" in name or name in ("big", "mid", "little") else "unknown"


def parse_battery(text: str) -> tuple[float | None, int | None, bool | None, tuple[str, ...]]:
    """`dumpsys battery`: °C, percent, whether it is charging, and warnings.

    Source: AOSP, BatteryService.dumpInternal; temperature in tenths of °C, status as BatteryManager.BATTERY_STATUS_*.
    """
    if "UPDATES STOPPED" in text:
        return None, None, None, (BATTERY_FAKED,)
    said = facts(text)
    if said.get("present") == "false":
        return None, None, None, ("the phone has no battery: its temperature and level are unknown",)
    tenths, level, scale = whole(said.get("temperature")), whole(said.get("level")), whole(said.get("scale"))
    battery_c = tenths / 10 if tenths is not None and _LOWEST_C <= tenths / 10 <= _HIGHEST_C else None
    percent = level * 100 // scale if level is not None and scale and 0 <= level <= scale else None
    charging = {"2": True, "3": False, "4": False, "5": False}.get(said.get("status", ""))
    return battery_c, percent, charging, ()


def read_clocks(link: Link, cpus: Sequence[int], *, repeat: bool = True, timeout_s: float = 30) -> Clocks:
    """The clocks of these CPUs, by one command. repeat and errors as of `read_heat`."""
    folders = [*(f"cpu{int(n)}/cpufreq" for n in cpus), "cpufreq/policy[0-9]*"]
    paths = " ".join(f"{folder}/{name}" for folder in folders for name in _CLOCK_FILES)
    token = secrets.token_hex(8)
    command = marked(token, {"clocks": f"cd /sys/devices/system/cpu && grep -sH '' {paths}"})
    done = link.shell(command, timeout_s=timeout_s, repeat=repeat)
    return parse_clocks(sections(done.stdout, token).get("clocks", ""), cpus)


def parse_clocks(text: str, cpus: Sequence[int]) -> Clocks:
    """As `read_clocks`, from the files' text. A CPU without files of its own has those of its policy."""
    files = named_lines(text)
    folders = {n: f"cpu{n}/cpufreq" for n in cpus}
    for path, content in files.items():
        if path.startswith("cpufreq/") and path.endswith("/related_cpus"):
            for n in cpu_list(content[0]):
                if n in folders and f"{folders[n]}/scaling_cur_freq" not in files:
                    folders[n] = path.removesuffix("/related_cpus")

    def clocks(name: str) -> dict[int, float]:
        contents = {n: files.get(f"{folder}/{name}", []) for n, folder in folders.items()}
        found = {n: clock_ghz(content[0]) for n, content in contents.items() if len(content) == 1}
        return {n: clock for n, clock in found.items() if clock is not None}

    times = {n: parse_time_in_state(files.get(f"{folder}/stats/time_in_state", [])) for n, folder in folders.items()}
    return Clocks(
        current_ghz=clocks("scaling_cur_freq"),
        cap_ghz=clocks("scaling_max_freq"),
        top_ghz=clocks("cpuinfo_max_freq"),
        time_in_state={n: spent for n, spent in times.items() if spent},
    )


def parse_time_in_state(content: Sequence[str]) -> dict[float, int]:
    """`kHz time` lines. Source: Linux, drivers/cpufreq/cpufreq_stats.c. Empty unless every line is one."""
    found: dict[float, int] = {}
    for line in content:
        words = line.split()
        clock = clock_ghz(words[0]) if len(words) == 2 else None
        time = whole(words[1]) if len(words) == 2 else None
        if clock is None or time is None or time < 0 or clock in found:
            return {}
        found[clock] = time
    return found


def mean_clock_ghz(before: Clocks, after: Clocks, cpu: int) -> float | None:
    """A CPU's mean clock between two readings, by the time spent at each clock.

    None where the phone keeps no such times, they went back (a reboot, a CPU switched off and on), or less than
    10 ms have gone by.
    """
    first, last = before.time_in_state.get(cpu), after.time_in_state.get(cpu)
    if not first or not last or first.keys() != last.keys():
        return None
    spent = {clock: last[clock] - first[clock] for clock in last}
    total = sum(spent.values())
    if total <= 0 or min(spent.values()) < 0:
        return None
    return sum(clock * time for clock, time in spent.items()) / total
