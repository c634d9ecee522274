"""Which device profile a connected phone is of, and what the phone and a profile say differently.

A phone is known by its device name, else its model, else its chip; the chip says nothing of the phone around it, and
a mismatch is said, never hidden: a budget is for the device it names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pocketforge.devices.profiles import AndroidNames, DeviceProfile

# Clocks of one chip differ a little from phone to phone, and profiles round them.
CLOCK_TOLERANCE = 0.05

How = Literal["device", "model", "soc", "platform", ""]


class ClusterFacts(Protocol):
    """What is used of `android_bench.phone.CpuCluster`."""

    @property
    def name(self) -> str: ...
    @property
    def cpus(self) -> tuple[int, ...]: ...
    @property
    def max_clock_ghz(self) -> float | None: ...
    @property
    def core(self) -> str: ...


class PhoneFactsLike(Protocol):
    """What is used of `android_bench.phone.PhoneFacts`."""

    @property
    def device(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def soc(self) -> str: ...
    @property
    def platform(self) -> str: ...
    @property
    def features(self) -> tuple[str, ...]: ...
    @property
    def clusters(self) -> Sequence[ClusterFacts]: ...


@dataclass(frozen=True, slots=True)
class Match:
    """Which profile a phone is of.

    Attributes:
        profile: None where none is.
        how: By which of the phone's names it was found: `soc` and `platform` mean that no profile knows the phone
            itself, only its chip.
        mismatches: What is to be said about it.
    """

    profile: DeviceProfile | None
    how: How
    mismatches: tuple[str, ...]


def match(facts: PhoneFactsLike, profiles: Iterable[DeviceProfile]) -> Match:
    """The one profile that fits; none where none does, or where several do equally well."""
    named = [(profile, profile.android) for profile in profiles if profile.android is not None]
    matches: list[DeviceProfile]
    for how, known in _WAYS:
        matches = [profile for profile, names in named if known(facts, names)]
        if how == "platform":
            # Chips of several speeds share a platform's name: here the cores have to speak for it too.
            matches = [p for p in matches if facts.clusters and not _cores(facts, p)]
        if len(matches) == 1:
            return Match(matches[0], how, compare(facts, matches[0]))
        if matches:
            several = ", ".join(profile.name for profile in matches)
            return Match(None, "", (f"several profiles fit the phone by its {_WORDS[how]}: {several}; name one",))
    names = f"device {facts.device or 'unknown'}, model {facts.model or 'unknown'}, SoC {_chip(facts)}"
    return Match(None, "", (f"no device profile is of this phone ({names})",))


def compare(facts: PhoneFactsLike, profile: DeviceProfile) -> tuple[str, ...]:
    """What the phone says differently from the profile, a sentence each. What either does not know is no difference."""
    if profile.os != "android":
        return (f"{profile.name} is a {profile.title}, not an Android phone",)
    differences = []
    names = profile.android
    known_as = (facts.device in names.devices or facts.model in names.models) if names else True
    if not known_as and names and (names.devices or names.models) and (facts.device or facts.model):
        differences.append(
            f"the phone is a {facts.model or 'phone'} ({facts.device or 'device unknown'}), not a {profile.title}"
        )
    if names and facts.soc and names.soc_models and not _same_soc(facts, names):
        differences.append(f"SoC: the phone has {facts.soc}, {profile.name} {' or '.join(names.soc_models)}")
    elif names and not facts.soc and facts.platform and names.platforms and not _same_platform(facts, names):
        differences.append(f"platform: the phone has {facts.platform}, {profile.name} {' or '.join(names.platforms)}")
    differences += _cores(facts, profile)
    missing = [name for name in profile.features if name not in facts.features] if facts.features else []
    if missing:
        differences.append(f"CPU features that {profile.name} has and the phone has not: {', '.join(missing)}")
    return tuple(differences)


def _cores(facts: PhoneFactsLike, profile: DeviceProfile) -> list[str]:
    """Both have their clusters fastest first."""
    if not facts.clusters:
        return []
    of_phone, of_profile = [len(c.cpus) for c in facts.clusters], [c.count for c in profile.clusters]
    if of_phone != of_profile:
        shown, expected = (" + ".join(map(str, counts)) for counts in (of_phone, of_profile))
        return [f"cores, fastest first: the phone has {shown}, {profile.name} {expected}"]
    differences = []
    for on_phone, cluster in zip(facts.clusters, profile.clusters, strict=True):
        clock = on_phone.max_clock_ghz
        if on_phone.core and on_phone.core != cluster.core:
            differences.append(f"{cluster.name} cores: {on_phone.core} on the phone, {cluster.core} in {profile.name}")
        if clock is not None and abs(clock / cluster.clock_ghz - 1) > CLOCK_TOLERANCE:
            differences.append(
                f"{cluster.name} clock: {clock:g} GHz on the phone, {cluster.clock_ghz:g} GHz in {profile.name}"
            )
    return differences


def _chip(facts: PhoneFactsLike) -> str:
    return facts.soc or (f"unknown, platform {facts.platform}" if facts.platform else "unknown")


def _same_soc(facts: PhoneFactsLike, names: AndroidNames) -> bool:
    return bool(facts.soc) and _soc(facts.soc) in {_soc(name) for name in names.soc_models}


def _same_platform(facts: PhoneFactsLike, names: AndroidNames) -> bool:
    return facts.platform.casefold() in {name.casefold() for name in names.platforms}


def _soc(name: str) -> str:
    """A chip's name to compare by: MediaTek adds its package and its bin (MT6833V/ZA)."""
    name = name.replace(" ", "").casefold()
    number = re.match(r"mt[0-9]{4}", name)
    return number[0] if number else name


_WAYS: tuple[tuple[How, Callable[[PhoneFactsLike, AndroidNames], bool]], ...] = (
    ("device", lambda facts, names: facts.device in names.devices),
    ("model", lambda facts, names: facts.model in names.models),
    ("soc", _same_soc),
    # From Android 12 on the phone names its chip: then its platform has nothing to add.
    ("platform", lambda facts, names: not facts.soc and _same_platform(facts, names)),
)
_WORDS = {"device": "device name", "model": "model", "soc": "SoC", "platform": "platform"}
