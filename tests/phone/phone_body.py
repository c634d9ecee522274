"""What a test phone feels and shows: battery, heat, screen. Rendered into files that its fake Android commands print.

Values may be told to move to others over time: a hot phone cools while a session waits.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

from android_dumps import battery_text, power_text, thermal_text
from phone_hardware import replace_text

# Of a value that is not a number of degrees: it changes at the end of a move, not during it.
_SMOOTH = ("skin_c", "cpu_c", "gpu_c", "battery_c")


class Body(NamedTuple):  # a dataclass, but for the time that its module takes to import at every boot
    """Temperatures in °C; battery level in percent; thermal_status 0..6 (android.os.PowerManager).

    battery_status: 2 charging, 3 discharging, 4 not charging, 5 full (android.os.BatteryManager).
    plugged: "usb", "ac", "wireless", "dock" or "".
    """

    thermal_status: int = 0
    skin_c: float = 31.2
    cpu_c: float = 42.0
    gpu_c: float = 39.5
    battery_c: float = 28.7
    battery_level: int = 80
    battery_status: int = 2
    plugged: str = "usb"
    voltage_mv: int = 4312
    hal_ready: bool = True


class LiveBody:
    """The body, moving; `changed` in PID 1's loop every tick."""

    def __init__(self, folder: Path, zones: Path, sdk: int, start: dict[str, Any]) -> None:
        self.folder, self.zones, self.sdk = folder, zones, sdk
        self.body = Body(**start)
        self.moves: list[tuple[float, float, dict[str, Any], Body]] = []
        self.zones_by_name = {"skin_c": "VIRTUAL-SKIN", "cpu_c": "BIG", "gpu_c": "G3D", "battery_c": "battery"}
        for number, kind in enumerate(self.zones_by_name.values()):
            zone = zones / f"thermal_zone{number}"
            zone.mkdir(parents=True)
            replace_text(zone / "type", f"{kind}\n")
        self.render()

    def set(self, values: dict[str, Any], after_s: float = 0) -> None:
        """Now, or over `after_s`: degrees move evenly, all else changes at the end. A new call replaces older moves
        of the same values."""
        unknown = set(values) - set(Body._fields)
        if unknown:
            raise ValueError(f"a phone has no {', '.join(sorted(unknown))}; it has {', '.join(Body._fields)}")
        now_s = time.monotonic()
        self.moves = [
            (start, end, {k: v for k, v in old.items() if k not in values}, then)
            for start, end, old, then in self.moves
        ]
        self.moves.append((now_s, now_s + after_s, values, self.body))
        self.tick()

    def tick(self) -> None:
        if not self.moves:
            return
        now_s, body = time.monotonic(), self.body
        for start_s, end_s, values, then in self.moves:
            if now_s >= end_s:
                body = body._replace(**values)
                continue
            share = (now_s - start_s) / (end_s - start_s)
            between = {k: getattr(then, k) + (v - getattr(then, k)) * share for k, v in values.items() if k in _SMOOTH}
            body = body._replace(**between)
        self.moves = [move for move in self.moves if move[1] > now_s]
        if body != self.body:
            self.body = body
            self.render()

    def render(self) -> None:
        replace_text(self.folder / "battery", battery_text(self.body, self.sdk))
        replace_text(self.folder / "thermal", thermal_text(self.body, self.sdk))
        replace_text(self.folder / "power", power_text(self.body))
        replace_text(self.folder / "plugged", f"{self.body.plugged}\n")
        for number, name in enumerate(self.zones_by_name):
            replace_text(self.zones / f"thermal_zone{number}" / "temp", f"{round(getattr(self.body, name) * 1000)}\n")
