"""Waiting until a phone is cool enough to measure on. What a phone does not tell is said, and holds nothing up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from android_bench.errors import BatteryLow, FakedReadings, TooHot
from android_bench.readings import THERMAL_STATUS, Heat

_POLL_S = 2.0
_SAY_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a phone may have when a round begins. max_thermal_status: 0 to 6; min_battery_level: percent."""

    max_thermal_status: int = 0
    max_battery_c: float = 38.0
    min_battery_level: int = 15
    timeout_s: float = 600


def too_hot(heat: Heat, limits: Limits) -> tuple[str, ...]:
    """What is above its limit, each as "the battery at 41.2 °C, wanted at most 38.0 °C". Unknown is not above."""
    found = []
    if heat.thermal_status is not None and heat.thermal_status > limits.max_thermal_status:
        found.append(
            f"thermal status {_named(heat.thermal_status)}, wanted at most {_named(limits.max_thermal_status)}"
        )
    if heat.battery_c is not None and heat.battery_c > limits.max_battery_c:
        found.append(f"the battery at {heat.battery_c:.1f} °C, wanted at most {limits.max_battery_c:.1f} °C")
    return tuple(found)


def unknown(heat: Heat) -> tuple[str, ...]:
    """What cannot be watched on this phone."""
    values = {
        "thermal status": heat.thermal_status,
        "battery temperature": heat.battery_c,
        "battery level": heat.battery_level,
    }
    return tuple(name for name, value in values.items() if value is None)


def refuse_faked(serial: str, heat: Heat) -> None:
    """Raises FakedReadings when somebody's override stands in for the phone's own heat or battery."""
    faked = [warning for warning in heat.warnings if "set by hand" in warning or "faked" in warning]
    if faked:
        raise FakedReadings(
            f"what {serial} says of its heat is not its own: {'; '.join(faked)}",
            "adb shell cmd thermalservice reset; adb shell dumpsys battery reset",
        )


def wait_until_cool(
    serial: str,
    read: Callable[[], Heat],
    limits: Limits,
    say: Callable[[str], None],
    *,
    first: Heat | None = None,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Heat, float]:
    """The first reading that is within the limits, and how long that took, in seconds. first: one just made.

    Raises TooHot after `limits.timeout_s`, naming what stayed too high; BatteryLow; FakedReadings; what `read` raises.
    """
    started: float | None = None
    said_at = -float("inf")
    while True:
        heat, first = first or read(), None
        refuse_faked(serial, heat)
        if heat.battery_level is not None and heat.battery_level < limits.min_battery_level:
            raise BatteryLow(
                f"the battery of {serial} is at {heat.battery_level} %, wanted at least {limits.min_battery_level} %: "
                "phones slow down to save what is left",
                "charge it, then measure again",
            )
        high = too_hot(heat, limits)
        if not high:
            return heat, 0.0 if started is None else clock() - started
        started = clock() if started is None else started
        waited_s = clock() - started
        if waited_s >= limits.timeout_s:
            raise TooHot(
                f"{serial} did not cool down in {waited_s:.0f} s: {'; '.join(high)}",
                "let it rest in a cooler place, out of its case and off its charger, or wait longer",
            )
        if clock() - said_at >= _SAY_EVERY_S:
            said_at = clock()
            say(f"{serial}: cooling down, {waited_s:.0f} of at most {limits.timeout_s:.0f} s: {'; '.join(high)}")
        pause(min(_POLL_S, max(limits.timeout_s - waited_s, 0.1)))


def _named(status: int) -> str:
    return f"{status} ({THERMAL_STATUS[status]})" if 0 <= status < len(THERMAL_STATUS) else str(status)
