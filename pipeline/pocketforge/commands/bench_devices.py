"""Which devices `pocketforge bench` runs on: what --device, --profile and --cores ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pocketforge import events
from pocketforge.commands.bench_kinds import bench_on
from pocketforge.commands.bench_request import BenchRequest
from pocketforge.errors import PluginFailed, RecipeError
from pocketforge.facts.phones import connect
from pocketforge.files import Resolve
from pocketforge.recipe import suggest
from pocketforge.recipe.device import Device, EmulatedDevice
from pocketforge.registries import DEVICES


def chosen_devices(request: BenchRequest, known: Sequence[Device], say: events.Say, resolve: Resolve) -> list[Device]:
    """Devices of the recipe (`known`) by name, and those that words of each kind mean, as the options say.

    Phones have their serial. One of the recipe's that need not be there and is not is left out, and said to be.
    Raises RecipeError for what is no device and for options that no device knows, DeviceUnavailable for a phone that is
    not there.
    """
    words = _Words.of(request, known)
    if request.cores and not (request.profiles or "adb" in words.of_kinds):
        raise RecipeError("--cores is for an emulated device or a phone", "--profile NAME emulates one")
    if request.devices or request.profiles:
        of_recipe = words.of_recipe
    else:
        of_recipe = [device for device in known if not _outputs_alone(device, say)]
    of_words: list[Device] = []
    for via, of_kind in words.of_kinds.items():
        with DEVICES.calling(via, "bench"):
            of_words += bench_on(via).named(of_kind, request, [*of_recipe, *of_words], resolve)
    devices = [*connect(of_recipe, say, resolve), *of_words]
    _check_options(request, devices)
    return [_as_asked(device, request) for device in devices]


def _as_asked(device: Device, request: BenchRequest) -> Device:
    if not DEVICES[device.via].bench:
        raise RecipeError(f"device {device.name}: nothing can be benchmarked on devices of kind {device.via}")
    with DEVICES.calling(device.via, "bench"):
        return bench_on(device.via).as_asked(device, request)


class _Words:
    """What the words of --device name: devices of the recipe, and a kind's own words, in the registry's order."""

    def __init__(self, of_recipe: list[Device], of_kinds: dict[str, list[str]]) -> None:
        self.of_recipe = of_recipe
        self.of_kinds = of_kinds

    @classmethod
    def of(cls, request: BenchRequest, known: Sequence[Device]) -> _Words:
        """Raises RecipeError for a word that names nothing."""
        by_name = {device.name: device for device in known}
        of_recipe: list[Device] = []
        by_kind: dict[str, list[str]] = {}
        for word in request.devices:
            via = word.partition(":")[0]
            if word in by_name:
                of_recipe.append(by_name[word])
            elif via in DEVICES and DEVICES[via].bench and (word == via or DEVICES[via].words_with_names):
                by_kind.setdefault(via, []).append(word)
            else:
                names = {*(via for via, info in DEVICES.usable().items() if info.bench), *by_name}
                raise RecipeError(f"no device is named {word!r}{suggest(word, names)}")
        # A phone may be asked to be a profile's; else profiles are emulated.
        if request.profiles and "adb" not in by_kind:
            by_kind.setdefault("emulator", [])
        return cls(of_recipe, {via: by_kind[via] for via in DEVICES.in_order(by_kind)})


def _outputs_alone(device: Device, say: events.Say) -> bool:
    """Whether it is an x86 host that is played: a build compares outputs with it, and there is nothing to bench."""
    played = isinstance(device, EmulatedDevice) and device.plays_x86
    if played:
        say(f"{device.name} is left out: nothing is counted or timed for an x86 host")
    return played


def _check_options(request: BenchRequest, devices: Sequence[Device]) -> None:
    """Raises RecipeError for an option that none of the devices knows."""
    kinds = {device.via for device in devices}
    for via, info in DEVICES.usable().items() if request.given else ():
        options = _options(via) if info.bench and via not in kinds else {}
        for option in options:
            if option in request.given:
                message, hint = options[option]
                raise RecipeError(message, hint)


def _options(via: str) -> Mapping[str, tuple[str, str]]:
    """That only such devices know; none of a package's that is broken and that nobody asked for."""
    try:
        return bench_on(via).OPTIONS
    except PluginFailed:
        return {}
