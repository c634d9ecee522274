"""The phone's settings while it measures: each recorded with what was there before, and always undone.

How to undo one is written down on the phone before it is changed: then its watchdog can do it, and the next session,
whatever happens to this computer or to the link.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from android_bench.errors import PhoneError
from android_bench.interruption import not_interrupted
from android_bench.readings import Heat
from android_bench.workplace import Workplace

_STAY_ON = "stay_on_while_plugged_in"
# BatteryManager.BATTERY_PLUGGED_AC | _USB | _WIRELESS | _DOCK, as `svc power stayon true` sets it (AOSP, PowerCommand).
_ANY_PLUG = 15
_COMMON_PLUGS = 7


@dataclass(slots=True)
class Setting:
    """One setting. before: what was there, "unknown" where Android does not tell. state: "set", "not needed" or
    "not available", and why. undone: whether it is as it was before; None where nothing was changed.
    """

    name: str
    before: str
    after: str
    state: str
    why: str = ""
    undone: bool | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@contextlib.contextmanager
def measuring_settings(place: Workplace, heat: Heat, *, undo_wait_s: float = 60) -> Iterator[list[Setting]]:
    """Fixed performance, an awake screen that stays on: as far as the phone lets us, undone in reverse order.

    The list says what became of each, and after the `with` also whether it is undone. Raises what `Workplace.run` does.
    """
    made: list[Setting] = []
    try:
        _fixed_performance(place, made)
        _stay_on(place, made, heat)
        _wake(place, made, heat)
        yield made
    finally:
        with not_interrupted(place.say, f"{place.link.serial}: one moment, undoing its settings"):
            _undo(place, made, undo_wait_s)


def _fixed_performance(place: Workplace, made: list[Setting]) -> None:
    """Clocks that the phone can keep up for long (Android 11 and later; AOSP, PowerManagerShellCommand)."""
    _change(
        place,
        made,
        Setting("fixed performance mode", "unknown", "on", "set"),
        ["cmd", "power", "set-fixed-performance-mode-enabled", "true"],
        ["cmd", "power", "set-fixed-performance-mode-enabled", "false"],
    )


def _stay_on(place: Workplace, made: list[Setting], heat: Heat) -> None:
    setting = Setting("stay awake while plugged in", "unknown", str(_ANY_PLUG), "set")
    read = ["settings", "get", "global", _STAY_ON]
    before = place.shell(shlex.join(read), repeat=True)
    found = before.stdout.strip()
    if before.code or not re.fullmatch(r"[0-9]{1,4}|null", found):
        # What cannot be put back is left alone.
        setting.state, setting.why = (
            "not available",
            f"what is set now cannot be read: {_words(before.stderr or found)}",
        )
        made.append(setting)
        return
    setting.before = found
    if found.isdecimal() and int(found) & _COMMON_PLUGS == _COMMON_PLUGS:
        setting.state = "not needed"
        made.append(setting)
        return
    put = ["settings", "put", "global", _STAY_ON]
    undo = ["settings", "delete", "global", _STAY_ON] if found == "null" else [*put, found]
    _change(place, made, setting, [*put, str(_ANY_PLUG)], undo)
    if setting.state == "set" and heat.charging is False:
        setting.why = "the phone is not charging: its screen may still go off"


def _wake(place: Workplace, made: list[Setting], heat: Heat) -> None:
    setting = Setting("screen", heat.wakefulness or "unknown", "Awake", "set")
    if heat.wakefulness in ("Awake", ""):
        setting.state = "not needed" if heat.wakefulness else "not available"
        setting.why = "" if heat.wakefulness else "whether it is on cannot be read"
        made.append(setting)
        return
    _change(place, made, setting, ["input", "keyevent", "KEYCODE_WAKEUP"], ["input", "keyevent", "KEYCODE_SLEEP"])


def _change(place: Workplace, made: list[Setting], setting: Setting, do: list[str], undo: list[str]) -> None:
    """Write down the undo, then change. A phone that refuses has nothing to undo.

    Twice does no harm, so it is repeated when the link drops; it counts as made from its first try on.
    """
    note = f"undo/{len(made):02d}.sh"
    made.append(setting)
    setting.undone = False
    done = place.shell(
        f"printf '%s\\n' {shlex.quote(shlex.join(undo))} >{note}.draft && mv {note}.draft {note} || exit\n"
        f"said=$({shlex.join(do)} 2>&1 </dev/null); code=$?\n"
        # `cmd` and `settings` print their complaints, and some versions end with 0 all the same.
        'echo "$said"; [ $code = 0 ] && [ -z "$said" ]',
        timeout_s=60,
        repeat=True,
    )
    if done.code:
        setting.state, setting.why, setting.undone = "not available", _words(done.stdout or done.stderr), None
        place.run(f"rm -f {note}", repeat=True)
    place.say(f"{place.link.serial}: {setting.name}: {setting.state}" + (f" ({setting.why})" if setting.why else ""))


def _undo(place: Workplace, made: list[Setting], wait_s: float) -> None:
    """Never raises for a phone that is out of reach: what is written down on it is undone by its watchdog."""
    deadline = time.monotonic() + wait_s
    for number, setting in reversed(list(enumerate(made))):
        if setting.undone is not False:
            continue
        note = shlex.quote(place.path(f"undo/{number:02d}.sh"))
        while setting.undone is False:
            try:
                # By the link, not the workplace: what outlives a restart of the phone must be undone after it too.
                done = place.link.shell(f"[ ! -f {note} ] || {{ sh {note} </dev/null && rm -f {note}; }}", timeout_s=60)
            except PhoneError as error:
                left_s = deadline - time.monotonic()
                if not error.transient or left_s <= 0:
                    setting.why = f"not undone yet, the phone is out of reach: {error.message}"
                    break
                with contextlib.suppress(PhoneError):
                    place.link.wait(min(left_s, 10))
                continue
            if done.code:
                setting.why = f"could not be undone: {_words(done.stderr or done.stdout)}"
                break
            setting.undone = True
        if not setting.undone:
            place.say(f"{place.link.serial}: {setting.name}: {setting.why}")


def _words(text: str) -> str:
    return " ".join(text.split())[:200] or "it does not say why"
