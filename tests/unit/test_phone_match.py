"""Which profile a connected phone is of, and what is said of it where it is not."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from android_bench.phone import CpuCluster, PhoneFacts, parse_facts
from pocketforge.devices.match import compare, match
from pocketforge.devices.profile_files import load_profile, parse_profile, profiles_folder, shipped_profiles
from pocketforge.devices.profiles import DeviceProfile, Status
from pocketforge.errors import RecipeError

PROFILES = [load_profile(name) for name in shipped_profiles()]
PHONES = [profile for profile in PROFILES if profile.os == "android"]
EMPTY = parse_facts("SERIAL", {})


def phone_of(profile: DeviceProfile, **changed: Any) -> PhoneFacts:
    """A phone that is just as its profile says."""
    names = profile.android
    assert names is not None
    clusters = []
    first = 0
    for cluster in profile.clusters:
        cpus = tuple(range(first, first + cluster.count))
        clusters.append(CpuCluster(cluster.name, cpus, None, cluster.clock_ghz, None, cluster.core))
        first += cluster.count
    facts = dataclasses.replace(
        EMPTY,
        device=names.devices[0],
        model=names.models[0],
        soc=(names.soc_models or ("",))[0],
        platform=(names.platforms or ("",))[0],
        features=profile.features,
        clusters=tuple(clusters),
    )
    return dataclasses.replace(facts, **changed)


def pixel(**changed: object) -> PhoneFacts:
    return phone_of(load_profile("pixel8"), **changed)


def test_every_shipped_phone_has_names_and_no_other_device_has() -> None:
    assert [profile.name for profile in PHONES if profile.android is None] == []
    assert [profile.name for profile in PROFILES if profile.os != "android" and profile.android is not None] == []
    for profile in PHONES:
        assert profile.android is not None
        assert profile.android.devices
        assert profile.android.models
        given = {k for k in ("devices", "models", "soc_models", "platforms") if getattr(profile.android, k)}
        assert set(profile.android.sources) == given
        for source in profile.android.sources.values():
            assert source.status in get_args(Status)
            assert len(source.source) >= 8


@pytest.mark.parametrize("key", ["devices", "models", "soc_models"])
def test_no_two_profiles_claim_one_name(key: str) -> None:
    names = [name for profile in PHONES if profile.android for name in getattr(profile.android, key)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("profile", PHONES, ids=lambda profile: profile.name)
def test_a_phone_as_its_profile_says_matches_it_and_differs_in_nothing(profile: DeviceProfile) -> None:
    found = match(phone_of(profile), PROFILES)
    assert (found.profile, found.how, found.mismatches) == (profile, "device", ())
    assert match(phone_of(profile, device="unheard-of"), PROFILES).how == "model"


def test_by_the_chip_only_when_no_profile_knows_the_phone_and_that_is_said() -> None:
    found = match(pixel(device="husky", model="Pixel 8 Pro"), PROFILES)
    assert found.profile is load_by_name("pixel8")
    assert found.how == "soc"
    assert found.mismatches == ("the phone is a Pixel 8 Pro (husky), not a Google Pixel 8",)


def load_by_name(name: str) -> DeviceProfile:
    return next(profile for profile in PROFILES if profile.name == name)


def test_mediatek_s_packages_are_no_other_chip() -> None:
    profile = load_by_name("dimensity-700")
    for soc in ("MT6833V/ZA", "mt6833", "MT6833V/NZA"):
        facts = phone_of(profile, device="other", model="Other", soc=soc)
        assert match(facts, PROFILES).profile is profile
        assert not any("SoC" in said for said in compare(facts, profile))
    assert match(phone_of(profile, device="other", model="Other", soc="MT6835"), PROFILES).profile is None


def test_before_android_12_a_platform_counts_where_the_cores_speak_for_it() -> None:
    old = load_by_name("pixel3a")
    found = match(phone_of(old, device="other", model="Other", soc=""), PROFILES)
    assert (found.profile, found.how) == (old, "platform")
    # The Snapdragon 710 has the same platform and faster cores.
    facts = phone_of(old, device="other", model="Other", soc="")
    faster = tuple(dataclasses.replace(c, max_clock_ghz=(c.max_clock_ghz or 0) * 1.1) for c in facts.clusters)
    for clusters in (faster, ()):
        other = match(dataclasses.replace(facts, clusters=clusters), PROFILES)
        assert (other.profile, other.how) == (None, "")
        assert other.mismatches == (
            "no device profile is of this phone (device other, model Other, SoC unknown, platform sdm710)",
        )


def test_a_phone_that_tells_nothing_is_of_no_profile() -> None:
    found = match(EMPTY, PROFILES)
    assert (found.profile, found.how) == (None, "")
    assert found.mismatches == ("no device profile is of this phone (device unknown, model unknown, SoC unknown)",)
    assert compare(EMPTY, load_by_name("pixel8")) == ()


def test_two_profiles_of_one_phone_are_not_chosen_from() -> None:
    twin = dataclasses.replace(load_by_name("pixel8"), name="mine")
    found = match(pixel(), [*PROFILES, twin])
    assert found.profile is None
    assert found.mismatches == ("several profiles fit the phone by its device name: pixel8, mine; name one",)


def test_what_differs_is_said() -> None:
    facts = pixel(soc="Tensor G4")
    assert compare(facts, load_by_name("pixel8")) == ("SoC: the phone has Tensor G4, pixel8 Tensor G3",)
    slow = [dataclasses.replace(c, max_clock_ghz=(c.max_clock_ghz or 0) * 0.94) for c in facts.clusters]
    slow[1] = dataclasses.replace(slow[1], core="cortex-a76")
    assert compare(pixel(clusters=tuple(slow)), load_by_name("pixel8"))[0].startswith("prime clock: 2.7")
    said = compare(pixel(clusters=tuple(slow)), load_by_name("pixel8"))
    assert "mid cores: cortex-a76 on the phone, cortex-a715 in pixel8" in said
    near = [dataclasses.replace(c, max_clock_ghz=(c.max_clock_ghz or 0) * 1.04) for c in facts.clusters]
    assert compare(pixel(clusters=tuple(near)), load_by_name("pixel8")) == ()
    assert compare(pixel(clusters=facts.clusters[:2]), load_by_name("pixel8")) == (
        "cores, fastest first: the phone has 1 + 4, pixel8 1 + 4 + 4",
    )
    fewer = tuple(name for name in facts.features if name not in ("i8mm", "sve2"))
    assert compare(pixel(features=fewer), load_by_name("pixel8")) == (
        "CPU features that pixel8 has and the phone has not: sve2, i8mm",
    )
    assert compare(pixel(features=(*facts.features, "newer")), load_by_name("pixel8")) == ()
    assert compare(facts, load_by_name("rpi5")) == ("rpi5 is a Raspberry Pi 5, not an Android phone",)


def test_what_either_does_not_know_is_no_difference() -> None:
    bare = [CpuCluster(c.name, c.cpus, None, None, None, "") for c in pixel().clusters]
    assert compare(pixel(clusters=tuple(bare), features=(), soc="", platform=""), load_by_name("pixel8")) == ()
    unnamed = dataclasses.replace(load_by_name("pixel8"), android=None)
    assert compare(pixel(device="x", model="y", soc="z"), unnamed) == ()
    assert match(pixel(), [unnamed]).profile is None


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_any_names(device: str, model: str, soc: str, platform: str) -> None:
    facts = dataclasses.replace(EMPTY, device=device, model=model, soc=soc, platform=platform)
    found = match(facts, PROFILES)
    assert (found.profile is None) == (found.how == "")
    assert found.profile is None or found.profile in PHONES


# --- the table [android] of a profile

TEXT = (profiles_folder() / "pixel8.toml").read_text(encoding="utf-8")


def faults_of(text: str) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        parse_profile(text)
    return caught.value.faults


def fact(value: str) -> str:
    return f'{{ value = {value}, status = "published", source = "somebody said it" }}'


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('devices = ["shiba"]', "android.devices: wanted { value = …, status = …, source = … }, found an array"),
        (f"devices = {fact('[]')}", "android.devices.value: wanted at least one name; leave out what is not known"),
        (f"devices = {fact('[7]')}", "android.devices.value[0]: wanted a name, found an integer 7"),
        ('devices = ' + fact('[" "]'), "android.devices.value[0]: wanted a name, found a string ' '"),
        ('devices = ' + fact('["a", "a"]'), "android.devices.value[1]: 'a' is there twice"),
        ('device = ' + fact('["a"]'), "android.device: unknown key; did you mean 'devices'?"),
        ('devices = ' + fact('"a"'), "android.devices.value: wanted an array, found a string 'a'"),
    ],
)  # fmt: skip
def test_faults_in_names(line: str, fault: str) -> None:
    start, _, rest = TEXT.partition("[android]\n")
    _, _, clusters = rest.partition("[[cluster]]")
    text = f"{start}[android]\n{line}\n\n[[cluster]]{clusters}"
    assert [found for found in faults_of(text) if found.startswith(fault.partition(":")[0])] == [fault]


def test_names_are_optional_and_only_for_phones() -> None:
    start, _, rest = TEXT.partition("[android]\n")
    _, _, clusters = rest.partition("[[cluster]]")
    assert parse_profile(f"{start}[[cluster]]{clusters}").android is None
    models = fact('["Pixel 8"]')
    part = parse_profile(f"{start}[android]\nmodels = {models}\n\n[[cluster]]{clusters}").android
    assert part is not None
    assert (part.models, part.devices) == (("Pixel 8",), ())
    assert "android: wanted a table of devices, models, soc_models, platforms, found a table" in faults_of(
        f"{start}[android]\n\n[[cluster]]{clusters}"
    )
    pi = TEXT.replace('os = { value = "android"', 'os = { value = "linux"')
    assert faults_of(pi) == ("android: only a device whose os is android has these names, found os 'linux'",)
