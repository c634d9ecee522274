"""Which devices `pocketforge bench` runs on: what --device, --profile and --cores ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketforge.errors import RecipeError

if TYPE_CHECKING:
    from pocketforge.recipe.device import Device


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options say. calibration: an absolute path, "" for the shipped one."""

    devices: Sequence[str]
    profiles: Sequence[str]
    cores: str
    calibration: str


def chosen_devices(
    asked: Asked, known: Sequence[Device], say: Callable[[str], None], resolve: Callable[[str], Path]
) -> list[Device]:
    """Devices of the recipe (`known`) by name, this host, emulated profiles and connected phones.

    Phones have their serial. One of the recipe's that need not be there and is not is left out, and said to be.
    resolve: makes a path of one that the recipe writes. Raises RecipeError for what is no device, DeviceUnavailable for
    a phone that is not there.
    """
    from pocketforge.facts.phones import asked_phones, connect
    from pocketforge.recipe import suggest
    from pocketforge.recipe.device import EmulatedDevice, HostDevice

    words = [name for name in asked.devices if name.partition(":")[0] == "adb"]
    emulate = "emulator" in asked.devices or not words
    if asked.cores and not (asked.profiles or words):
        raise RecipeError("--cores is for an emulated device or a phone", "--profile NAME emulates one")
    if not asked.devices and not asked.profiles:
        return connect([d for d in known if not _outputs_alone(d, say)], say, resolve)
    by_name: dict[str, Device] = {device.name: device for device in known}
    found: list[Device] = []
    for name in asked.devices:
        if name == "emulator":
            if not asked.profiles:
                raise RecipeError("--device emulator needs a --profile", "pocketforge device profiles lists them")
        elif name in by_name:
            found.append(by_name[name])
        elif name == "host":
            found.append(HostDevice())
        elif name not in words:
            known_names = {"host", "emulator", "adb", *by_name}
            raise RecipeError(f"no device is named {name!r}{suggest(name, known_names)}")
    for profile in asked.profiles if emulate else ():
        try:
            found.append(EmulatedDevice(profile, cores=asked.cores, calibration=asked.calibration))
        except ValueError as error:
            raise RecipeError(f"--profile {profile}: {error}") from None
    if words and not emulate and len(asked.profiles) > 1:
        raise RecipeError(
            f"--device adb with several profiles: {', '.join(asked.profiles)}", "name the one it has to be"
        )
    profile = asked.profiles[0] if words and asked.profiles and not emulate else ""
    phones = asked_phones(words, found, profile, resolve)
    if asked.cores:
        phones = [dataclasses.replace(phone, cores=asked.cores) for phone in phones]
    return [*connect(found, say, resolve), *phones]


def _outputs_alone(device: Device, say: Callable[[str], None]) -> bool:
    """Whether it is an x86 host that is played: a build compares outputs with it, and there is nothing to bench."""
    from pocketforge.recipe.device import EmulatedDevice

    played = isinstance(device, EmulatedDevice) and device.plays_x86
    if played:
        say(f"{device.name} is left out: nothing is counted or timed for an x86 host")
    return played


def with_options(device: Device, options: Mapping[str, Any]) -> Device:
    """A phone with what the options say of it; other devices take theirs where they run. options: as AdbDevice names
    them, None where nothing was said."""
    from pocketforge.recipe.device import AdbDevice

    if not isinstance(device, AdbDevice):
        return device
    return dataclasses.replace(device, **{name: value for name, value in options.items() if value is not None})
