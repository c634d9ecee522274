"""The phones of a recipe: which connected phone each [[device]] over adb is, and devices for those it does not name."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pocketforge.devices.match import compare, match
from pocketforge.devices.profiles import DeviceProfile
from pocketforge.errors import DeviceError, DeviceUnavailable, RecipeError
from pocketforge.facts.kinds import Looked
from pocketforge.files import Resolve
from pocketforge.plan.roles import runner_role
from pocketforge.plan.steps import Facts, Phone
from pocketforge.recipe import Recipe
from pocketforge.recipe.device import AdbDevice, Device

if TYPE_CHECKING:
    from pocketforge.devices.phones import PhoneFacts


@dataclass(frozen=True, slots=True)
class Connected:
    """A phone that adb lists.

    Attributes:
        serial: As adb lists it.
        told: Line of words: which phone it is, or why it cannot be asked.
        facts: What it is; None where it cannot be asked.
        profile: Name of the shipped profile that is of this phone; empty where none is.
    """

    serial: str
    told: str
    facts: PhoneFacts | None = None
    profile: str = ""

    @property
    def identity(self) -> str:
        """What decides results on it: another phone or another Android gives others."""
        assert self.facts is not None
        build = self.facts.fingerprint or f"{self.facts.model}, Android {self.facts.android_version or 'unknown'}"
        return f"{self.serial}: {build}, kernel {self.facts.kernel or 'unknown'}"


# Phones of a cluster's workers, within `also`.
_elsewhere: ContextVar[tuple[Connected, ...]] = ContextVar("_elsewhere", default=())


@contextlib.contextmanager
def also(phones: Iterable[Connected]) -> Iterator[None]:
    """Within, these count as connected: other machines have them."""
    token = _elsewhere.set(tuple(phones))
    try:
        yield
    finally:
        _elsewhere.reset(token)


def connected(wanted: Iterable[str] = ()) -> list[Connected]:
    """All phones that adb lists, those that are ready with what they are. Raises DeviceUnavailable (no adb …).

    wanted: serials; those on the network are connected to first.
    """
    elsewhere = {phone.serial: phone for phone in _elsewhere.get()}
    try:
        here = _connected_here(set(wanted) - set(elsewhere))
    except DeviceError:
        if not elsewhere:
            raise
        here = []
    return [*(phone for phone in here if phone.serial not in elsewhere), *elsewhere.values()]


def _connected_here(wanted: Iterable[str]) -> list[Connected]:
    from pocketforge.devices import phones

    listed_phones = []
    for serial in sorted(wanted):
        try:
            phones.reach(serial)
        except DeviceError as error:
            listed_phones.append(Connected(serial, f"{serial}: {error.message}"))
    for listed in phones.list_phones():
        try:
            if listed.problem:
                raise DeviceUnavailable(f"{listed.problem} {listed.fix}".strip())
            facts = phones.phone_facts(phones.open_phone(listed.serial))
        except DeviceError as error:
            listed_phones.append(Connected(listed.serial, f"{listed.serial}: {error.message}"))
            continue
        profile = phones.matched(facts).profile
        label = f"{listed.serial}: {facts.model or 'unknown model'}"
        listed_phones.append(Connected(listed.serial, label, facts, profile.name if profile else ""))
    return listed_phones


# How well a phone is known, best first: the last two are only its chip.
_KNOWN_BY = ("device", "model", "soc", "platform")


def find_phones(devices: Sequence[AdbDevice], resolve: Resolve = Path) -> dict[str, Phone]:
    """Device → the phone that it is. One that is not there is in the result, with the reason.

    resolve: makes a path of one that the recipe writes. Raises RecipeError for a profile that cannot be read.
    """
    from pocketforge.devices.profile_files import find_profile, load_profile

    profiles = {d.profile: load_profile(find_profile(d.profile, resolve)) for d in devices if d.profile}
    try:
        connected_now = connected({d.serial for d in devices if d.serial}) if devices else []
    except DeviceError as error:
        return {d.name: Phone(d.serial, absent=error.message) for d in devices}
    phones: dict[str, Phone] = {}
    # Those that say which one they mean come first.
    for device in sorted(devices, key=lambda d: (not d.serial, not d.profile)):
        taken = {phone.serial for phone in phones.values()}
        phones[device.name] = _find(device, profiles.get(device.profile), connected_now, taken)
    return phones


def _find(device: AdbDevice, profile: DeviceProfile | None, there: Sequence[Connected], taken: set[str]) -> Phone:
    seen = "; ".join(p.told for p in there) or "none"
    if device.serial:
        named = next((p for p in there if p.serial == device.serial), None)
        if named is None:
            return Phone(device.serial, absent=f"no phone {device.serial} is connected, found: {seen}")
        return _phone(named, profile) if named.facts else Phone(device.serial, absent=named.told)
    free = [p for p in there if p.facts is not None and p.serial not in taken]
    meant = "one phone"
    if profile is not None:
        meant = f"a phone that is a {profile.title}"
        by = [(p, match(p.facts, [profile]).how) for p in free if p.facts is not None]
        # One that is known by its name goes before one that only has the chip.
        free = next((same for how in _KNOWN_BY if (same := [p for p, known in by if known == how])), [])
    free = _named_by_environment(free)
    if len(free) == 1:
        return _phone(free[0], profile)
    if not free:
        return Phone(absent=f"wanted {meant}, connected: {seen}")
    serials = ", ".join(p.serial for p in free)
    return Phone(absent=f"wanted {meant}, {len(free)} are connected ({serials}): name one with serial")


def _named_by_environment(phones: Sequence[Connected]) -> list[Connected]:
    """Of several phones the one that ANDROID_SERIAL names, as adb itself takes it; else all of them."""
    serial = os.environ.get("ANDROID_SERIAL")
    return [p for p in phones if p.serial == serial] or list(phones)


def _phone(phone: Connected, profile: DeviceProfile | None) -> Phone:
    assert phone.facts is not None
    differs = compare(phone.facts, profile) if profile else ()
    return Phone(phone.serial, phone.identity, phone.facts.to_json(), differs)


def look_up(recipe: Recipe, devices: Sequence[Device], facts: Facts) -> Looked:
    """Which phones they are, the emulator's parts (our runners are pushed from there), and runners of the user's."""
    from pocketforge.devices.emulator import parts

    phones = [device for device in devices if isinstance(device, AdbDevice)]
    programs = [file for device in phones for file in device.named_files().values()]
    return Looked(
        dataclasses.replace(facts, phones=find_phones(phones, recipe.resolve), emulator=parts.identity()),
        {runner_role(file): [recipe.resolve(file)] for file in programs},
    )


def add_phones(recipe: Recipe, asked: Sequence[str]) -> Recipe:
    """The recipe with a device for each phone of `asked` that it has none for. Raises as `asked_phones`."""
    new = asked_phones(asked, recipe.devices, resolve=recipe.resolve)
    return dataclasses.replace(recipe, devices=(*recipe.devices, *new)) if new else recipe


def asked_phones(
    words: Sequence[str], have: Sequence[Device], profile: str = "", resolve: Resolve = Path
) -> list[AdbDevice]:
    """A device for each connected phone of "adb" (the only one), "adb:SERIAL" or "adb:all" that `have` has none for.

    A device is called as the profile that the phone is, else by its model. profile: which it stands for; else
    whichever it is. Raises RecipeError for another word, DeviceUnavailable when a phone that was asked for is absent.
    """
    if not words:
        return []
    asked = [_Word.of(word) for word in words]
    connected_now = connected({word.serial for word in asked if word.names_one})
    known = find_phones([d for d in have if isinstance(d, AdbDevice)], resolve)
    taken = {phone.serial for phone in known.values()}
    names = {name for device in have for name in device.budget_names}
    new: list[AdbDevice] = []
    for phone in (phone for word in asked for phone in word.meant(connected_now, profile)):
        if phone.serial not in taken:
            taken.add(phone.serial)
            new.append(AdbDevice(_free_name(phone, names), serial=phone.serial, profile=profile or phone.profile))
            names.add(new[-1].name)
    return new


@dataclass(frozen=True, slots=True)
class _Word:
    """One of "adb", "adb:SERIAL" and "adb:all". serial: what stands behind the colon."""

    text: str
    serial: str

    @classmethod
    def of(cls, text: str) -> _Word:
        """Raises RecipeError for another word."""
        kind, _, serial = text.partition(":")
        if kind != "adb":
            raise RecipeError(f"--device: wanted adb, adb:SERIAL or adb:all, found {text!r}")
        return cls(text, serial)

    @property
    def names_one(self) -> bool:
        return self.serial not in ("", "all")

    def meant(self, there: Sequence[Connected], profile: str) -> list[Connected]:
        """Of the connected phones. Raises DeviceUnavailable when there is none, or several where one is meant."""
        lines = "".join(f"\n  {phone.told}" for phone in there)
        phones = [phone for phone in there if phone.facts is not None]
        if self.names_one:
            phones = [phone for phone in phones if phone.serial == self.serial]
        elif not self.serial:
            if profile and len(phones) > 1:
                phones = [phone for phone in phones if phone.profile == profile]
            phones = _named_by_environment(phones)
        if not phones:
            seen = f"no such phone is ready, found:{lines}" if there else "no phone is connected"
            raise DeviceUnavailable(
                f"{self.text}: {seen}", "pocketforge device list says what is connected, and how to make it ready"
            )
        if not self.serial and len(phones) > 1:
            raise DeviceUnavailable(
                f"several phones are connected:{lines}", "name one, adb:SERIAL, or take all, adb:all"
            )
        return phones


def connect(devices: Sequence[Device], say: Callable[[str], None], resolve: Resolve = Path) -> list[Device]:
    """The devices, phones with their serial. One that need not be there and is not is left out, and said to be.

    Raises DeviceUnavailable for one that is required.
    """
    phones = find_phones([d for d in devices if isinstance(d, AdbDevice)], resolve)
    ready: list[Device] = []
    for device in devices:
        if not isinstance(device, AdbDevice):
            ready.append(device)
            continue
        phone = phones[device.name]
        if not phone.absent:
            ready.append(dataclasses.replace(device, serial=phone.serial))
        elif device.required:
            raise _not_there({device.name: phone.absent})
        else:
            say(f"{device.name} is left out: {phone.absent}")
    return ready


def ready_phones(devices: Sequence[AdbDevice], resolve: Resolve) -> dict[str, Phone]:
    """Device → the phone that it is. Raises DeviceUnavailable when one is not there (any more)."""
    phones = find_phones(devices, resolve)
    absent = {name: phone.absent for name, phone in phones.items() if phone.absent}
    if absent:
        raise _not_there(absent)
    return phones


def _not_there(absent: Mapping[str, str]) -> DeviceUnavailable:
    return DeviceUnavailable(
        "\n  ".join(f"device {name!r}: {why}" for name, why in absent.items()),
        "connect it (pocketforge device list), or say required = false: it is then left out, and said to be",
    )


def _free_name(phone: Connected, names: set[str]) -> str:
    """A name that no device has: the profile's, else the model's; then with what tells this phone from the others."""
    assert phone.facts is not None
    base = phone.profile or _slug(phone.facts.model) or "phone"
    for name in (base, f"{base}-adb", f"{base}-{_slug(phone.serial)}"):
        if name not in names:
            return name
    raise AssertionError(f"two phones of serial {phone.serial}")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def without_absent(recipe: Recipe, phones: Mapping[str, Phone]) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe without those phones that are not connected and need not be, nor budgets on nothing else.

    Also what was left out, in words. Raises DeviceUnavailable when a phone that is required is not there.
    """
    absent = {name: phone.absent for name, phone in phones.items() if phone.absent}
    if not absent:
        return recipe, ()
    missing = [d for d in recipe.devices if d.name in absent]
    needed = [d for d in missing if isinstance(d, AdbDevice) and d.required]
    if needed:
        raise _not_there({d.name: absent[d.name] for d in needed})
    left = tuple(d for d in recipe.devices if d not in missing)
    if not left:
        raise DeviceUnavailable("no device of the recipe is there:\n  " + "\n  ".join(absent.values()))
    trial = dataclasses.replace(recipe, devices=left, budgets=())
    budgets = tuple(b for b in recipe.budgets if trial.devices_of(b))
    notes = [f"{d.name} was left out: {absent[d.name]}" for d in missing]
    notes += [f"not judged without {b.device or 'it'}: {b.metric}" for b in recipe.budgets if b not in budgets]
    return dataclasses.replace(trial, budgets=budgets), tuple(notes)
