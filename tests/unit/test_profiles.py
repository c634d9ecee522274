"""Device profiles: those shipped, and files that are wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.devices.cpu_features import NAMES, names_of
from pocketforge.devices.profile_files import (
    find_profile,
    load_profile,
    parse_profile,
    profiles_folder,
    shipped_profiles,
)
from pocketforge.devices.profiles import DeviceProfile, Status
from pocketforge.devices.x86.hosts import shipped_hosts
from pocketforge.errors import RecipeError

GOOD = """\
name = "board"
title = "A board"
soc = { value = "X1", status = "published", source = "its maker" }
year = { value = 2020, status = "published", source = "its maker" }
os = { value = "linux", status = "published", source = "its maker" }
ram_bytes = { value = 1_073_741_824, status = "published", source = "its maker" }
memory = { value = "LPDDR4-3200, 32 bits", status = "published", source = "its maker" }
memory_bandwidth_gb_per_s = { value = 12.8, status = "believed", source = "3200 MT/s × 4 bytes" }
l3_bytes = { value = 0, status = "published", source = "its maker" }
slc_bytes = { value = 0, status = "believed", source = "none known" }

[features]
value = ["fp", "asimd", "crc32"]
status = "measured"
source = "/proc/cpuinfo of the board"

[[cluster]]
name = "all"
core = { value = "cortex-a72", status = "published", source = "its maker" }
count = { value = 4, status = "published", source = "its maker" }
clock_ghz = { value = 2, status = "published", source = "its maker" }
l1d_bytes = { value = 32_768, status = "published", source = "its maker" }
l1i_bytes = { value = 49_152, status = "published", source = "its maker" }
l2_bytes = { value = 1_048_576, status = "published", source = "its maker" }
l2_shared = { value = true, status = "published", source = "its maker" }
midr = { value = 0x410fd083, status = "measured", source = "/proc/cpuinfo of the board" }
"""
LINES = [line for line in GOOD.splitlines() if "=" in line]


def faults_of(text: str) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        parse_profile(text)
    return caught.value.faults


def test_a_good_file() -> None:
    board = parse_profile(GOOD)
    assert (board.name, board.year, board.features) == ("board", 2020, ("fp", "asimd", "crc32"))
    core = board.cluster()
    assert (core.core, core.clock_ghz, core.l1i_bytes, core.l2_shared) == ("cortex-a72", 2.0, 49152, True)
    assert (core.implementer, core.variant, core.part, core.revision) == (0x41, 0, 0xD08, 3)
    assert core.sources["midr"].status == "measured"
    assert core.sustained_bandwidth_gb_per_s == 0.0
    fact = '{ value = 4.5, status = "measured", source = "a stream benchmark" }'
    measured = parse_profile(f"{GOOD}sustained_bandwidth_gb_per_s = {fact}\n").cluster("all")
    assert measured.sustained_bandwidth_gb_per_s == 4.5
    assert measured.sources["sustained_bandwidth_gb_per_s"].source == "a stream benchmark"


def test_an_unknown_cluster_names_the_known() -> None:
    with pytest.raises(ValueError, match="pixel4 has no cores named 'big'; known: prime, mid, little"):
        load_profile("pixel4").cluster("big")


@pytest.mark.parametrize("name", shipped_profiles())
def test_every_shipped_profile_says_where_its_facts_are_from(name: str) -> None:
    raw = tomllib.loads((profiles_folder() / f"{name}.toml").read_text())
    profile = load_profile(name)
    assert profile.name == name
    assert set(profile.sources) == set(raw) - {"name", "title", "cluster", "android"}
    for cluster, table in zip(profile.clusters, raw["cluster"], strict=True):
        assert set(cluster.sources) == set(table) - {"name"}
        assert cluster.l1d_bytes <= cluster.l2_bytes
    for source in [*profile.sources.values(), *(s for c in profile.clusters for s in c.sources.values())]:
        assert source.status in get_args(Status)
        # Not a pointer to another fact, nor an empty excuse.
        assert len(source.source) >= 8
    assert [c.clock_ghz for c in profile.clusters] == sorted((c.clock_ghz for c in profile.clusters), reverse=True)


def test_the_classes_of_devices_that_are_shipped() -> None:
    profiles = [load_profile(name) for name in shipped_profiles()]
    assert len(profiles) >= 16
    cores = {cluster.core for profile in profiles for cluster in profile.clusters}
    assert cores >= {
        "cortex-a53", "cortex-a55", "cortex-a72", "cortex-a73", "cortex-a75", "cortex-a76", "cortex-a78",
        "cortex-a510", "cortex-a520", "cortex-a710", "cortex-a715", "cortex-a720",
        "cortex-x1", "cortex-x2", "cortex-x3", "cortex-x4",
    }  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.partition(" ")[0])
def test_every_fact_is_required(line: str) -> None:
    key = line.partition(" ")[0]
    faults = faults_of(GOOD.replace(f"{line}\n", "", 1))
    assert faults
    assert all(fault.endswith(": missing") and key in fault for fault in faults if "asimd" not in fault)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("value = 2020", 'value = "2020"', "year.value: wanted an integer, found a string '2020'"),
        ("value = 2020", "value = 2020.0", "year.value: wanted an integer, found a number 2020.0"),
        ("value = 2020", "value = true", "year.value: wanted an integer, found true or false True"),
        ("value = 12.8", "value = nan", "memory_bandwidth_gb_per_s.value: wanted 0.1 to 10000, found nan"),
        ("value = 12.8", "value = inf", "memory_bandwidth_gb_per_s.value: wanted 0.1 to 10000, found inf"),
        ("value = 12.8", "value = -1", "memory_bandwidth_gb_per_s.value: wanted 0.1 to 10000, found -1.0"),
        ("value = 2,", "value = 2000,", "cluster[0].clock_ghz.value: wanted 0.05 to 20, found 2000.0"),
        ("value = 4,", "value = 0,", "cluster[0].count.value: wanted 1 to 1024, found 0"),
        ("value = true", "value = 1", "cluster[0].l2_shared.value: wanted true or false, found an integer 1"),
        ("value = 0,", "value = 0, note = 1,", "l3_bytes.note: unknown key; known: source, status, value"),
        ('"X1"', '""', "soc.value: wanted a line of text, found ''"),
        ('"crc32"', '"crc23"', "features.value[2]: Linux has no feature 'crc23'; did you mean 'crc32'?"),
        ('"crc32"', '"fp"', "features.value[2]: 'fp' is there twice"),
        ('"crc32"', "32", "features.value[2]: wanted a string, found an integer 32"),
        ('"asimd", ', "", "features.value: wanted at least asimd, which every 64-bit Android and Linux device has"),
        ('"linux"', '"macos"', "os.value: unknown value 'macos'; known: android, linux"),
        ('"its maker"', '""', "soc.source: wanted a line of text, found ''"),
        ('status = "published"', 'status = "maybe"', "soc.status: unknown value 'maybe'; known: "
         "believed, measured, published"),
        ('"board"', '"The board"', "name: wanted letters a-z, digits and _ . - (as in a file's name), "
         "found 'The board'"),
        ("0x410fd083", "0x410fd0b3", "cluster[0].midr.value: a cortex-a72 has implementer and part 0x41 and 0xd08, "
         "found 0x41 and 0xd0b"),
        ("l1d_bytes", "l1dd_bytes", "cluster[0].l1dd_bytes: unknown key; did you mean 'l1d_bytes'?"),
        ("soc = {", "chip = 1\nsoc = {", "chip: unknown key"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file(old: str, new: str, fault: str) -> None:
    assert old in GOOD
    assert any(found.startswith(fault) for found in faults_of(GOOD.replace(old, new, 1)))


def test_every_fault_is_said_at_once() -> None:
    text = GOOD.replace("2020", "1").replace('"its maker"', '""', 1).replace("0x410fd083", '"A72"')
    assert [fault.partition(":")[0] for fault in faults_of(text)] == [
        "cluster[0].midr.value",
        "soc.source",
        "year.value",
    ]


def test_clusters_are_tables_with_names_of_their_own() -> None:
    table = GOOD[GOOD.index("[[cluster]]") :]
    assert faults_of(GOOD + table) == ("cluster: the name 'all' is used twice",)
    assert faults_of(GOOD[: GOOD.index("[[cluster]]")]) == ("cluster: wanted at least one [[cluster]] table",)
    assert faults_of("cluster = [1]\n" + GOOD[: GOOD.index("[[cluster]]")]) == (
        "cluster[0]: wanted a table, found an integer 1",
    )


def test_files_that_are_no_profiles(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no device profile is named 'pixel44'; did you mean 'pixel4'"):
        load_profile("pixel44")
    with pytest.raises(RecipeError, match=r"no device profile at .*absent\.toml"):
        load_profile(tmp_path / "absent.toml")
    with pytest.raises(RecipeError, match=r"cannot read the device profile .*: Is a directory"):
        load_profile(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="it is not UTF-8 text"):
        load_profile(str(tmp_path / "binary.toml"))
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(RecipeError, match="is not valid TOML"):
        load_profile(tmp_path / "bad.toml")


def test_a_path_is_the_recipe_s_own() -> None:
    assert find_profile("boards/mine.toml", Path("/recipes").joinpath) == Path("/recipes/boards/mine.toml")
    assert find_profile("rpi5") == profiles_folder() / "rpi5.toml"


VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def outcome(text: str) -> DeviceProfile | RecipeError:
    try:
        return parse_profile(text)
    except RecipeError as error:
        return error


@given(st.sampled_from(LINES), VALUES)
def test_any_value_in_a_fact_s_place_is_taken_or_named(line: str, value: Any) -> None:
    key = line.partition(" ")[0]
    found = outcome(GOOD.replace(line, f"{key} = {_toml(value)}", 1))
    if isinstance(found, RecipeError):
        assert found.faults or "not valid TOML" in found.message
    else:
        # Only the plain strings, and what stands inside the features' own table, can be given without a source.
        assert key in {"name", "title", "value", "status", "source"}
        assert found.sources.keys() == parse_profile(GOOD).sources.keys()


@given(st.sampled_from(LINES[2:10]), VALUES)
def test_any_value_of_a_fact_is_taken_or_named(line: str, value: Any) -> None:
    key = line.partition(" ")[0]
    fact = f'{key} = {{ value = {_toml(value)}, status = "believed", source = "a guess" }}'
    found = outcome(GOOD.replace(line, fact, 1))
    if isinstance(found, RecipeError):
        assert all(fault.startswith(key) for fault in found.faults)
    else:
        assert getattr(found, key) == value
        assert found.sources[key].source == "a guess"


def _toml(value: Any) -> str:
    import json

    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_feature_names_of_any_bits(hwcap: int, hwcap2: int) -> None:
    names = names_of(hwcap, hwcap2)
    assert len(names) == (hwcap & 0xFFFFFFFF).bit_count() + (hwcap2 & ((1 << 48) - 1)).bit_count()
    assert list(names) == sorted(names, key=NAMES.index)


def test_feature_names_are_linux_s() -> None:
    # AT_HWCAP and AT_HWCAP2 that qemu 7.2 gives to a Cortex-A72 and a Cortex-A76.
    assert names_of(0x8FB, 0) == ("fp", "asimd", "aes", "pmull", "sha1", "sha2", "crc32", "cpuid")
    assert "asimddp" in names_of(0x119FFB, 0)
    assert names_of(0, 1 << 13 | 1 << 14 | 1 << 1 | 1 << 23) == ("sve2", "i8mm", "bf16", "sme")


def documented(profile: DeviceProfile) -> str:
    """The profile's row in docs/devices.md."""
    sources = [*profile.sources.values(), *(s for c in profile.clusters for s in c.sources.values())]
    facts = " + ".join(str(sum(s.status == status for s in sources)) for status in get_args(Status))
    kernels = [f"`{name}`" for name in ("i8mm", "asimddp") if name in profile.features][:1] or ["neither"]
    kernels += ["`sve2`"] if "sve2" in profile.features else []
    cores = ", ".join(f"{c.name} {c.count} × {c.core.removeprefix('cortex-').upper()}" for c in profile.clusters)
    return f"| `{profile.name}` | {profile.title}: {profile.soc} | {cores} | {', '.join(kernels)} | {facts} |"


@pytest.mark.parametrize("name", shipped_profiles())
def test_the_guide_has_every_profile(name: str, repo_root: Path) -> None:
    assert documented(load_profile(name)) in (repo_root / "docs" / "devices.md").read_text().splitlines()


def test_the_guide_s_profile_is_one(repo_root: Path) -> None:
    guide = (repo_root / "docs" / "devices.md").read_text()
    text = guide[guide.index('name = "my-phone"') :].partition("```")[0]
    mine, shipped = parse_profile(text).cluster(), load_profile("snapdragon-662").cluster()
    assert (mine.core, mine.midr, mine.l2_bytes) == (shipped.core, shipped.midr, shipped.l2_bytes)


def test_the_command_lists_and_shows() -> None:
    from pocketforge.cli.main import cli

    command = ["device", "profiles"]

    listed = CliRunner().invoke(cli, command)
    assert listed.exit_code == 0
    assert all(name in listed.output for name in shipped_profiles())
    assert "mid: 3 × cortex-a76 2.42 GHz" in listed.output
    shown = CliRunner().invoke(cli, [*command, "rpi5"]).output
    assert "0x414fd0b1" in shown and "512 KB" in shown and "8 GB" in shown and "published: " in shown
    import json

    facts = json.loads(CliRunner().invoke(cli, [*command, "rpi5", "--json"]).output)
    assert facts["clusters"][0]["sources"]["clock_ghz"]["status"] == "published"
    listed_json = json.loads(CliRunner().invoke(cli, [*command, "--json"]).output)
    assert len(listed_json) == len(shipped_profiles()) + len(shipped_hosts())
