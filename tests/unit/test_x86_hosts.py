"""x86 hosts in recipes, plans and reports: their profiles, what is refused, which keys depend on what."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner

from pocketforge.devices.emulator import qemu_binary
from pocketforge.devices.host import environment_of_another_processor
from pocketforge.devices.kernels import kernels_here, kernels_of
from pocketforge.devices.profile_files import find_profile, load_any, load_profile, shipped_profiles
from pocketforge.devices.profiles import Status
from pocketforge.devices.x86 import cpuid, qemu
from pocketforge.devices.x86.device import identity
from pocketforge.devices.x86.hosts import X86Host, hosts_folder, parse_host, shipped_hosts
from pocketforge.errors import DeviceUnavailable, RecipeError
from pocketforge.facts.gather import gather
from pocketforge.facts.versions import our_libraries
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Facts
from pocketforge.recipe import Budget, Data, Model, Recipe, Target
from pocketforge.recipe.device import EmulatedDevice, HostDevice
from pocketforge.recipe.limits import DeviceLimits, x86_limits
from pocketforge.recipe.quantize import Quantize
from pocketforge.records import JudgedOn
from pocketforge.results.gate import judge
from pocketforge.results.kernels import in_words

HASWELL = hosts_folder() / "x86-avx2.toml"
# What -cpu Haswell wrote under Debian's qemu 7.2, and this project's first machine (an AMD EPYC) without qemu.
ANSWERS = {
    "x86-avx2": (0xFED83203, 0x078BFBFD, 0x3A9, 0, 0, 0),
    "x86-sse4": (0x80982201, 0x078BFBFD, 0, 0, 0, 0),
    "x86-avx512-vnni": (0xFFFA3203, 0x178BFBFF, 0xF1BF07AB, 0x405FC6, 0x10, 0x20),
}


def host(name: str) -> X86Host:
    found = load_any(name)
    assert isinstance(found, X86Host)
    return found


@pytest.mark.parametrize("name", ["OPENBLAS_CORETYPE", "QEMU_CPU", "ATEN_CPU_CAPABILITY", "NPY_ENABLE_CPU_FEATURES"])
def test_another_processor_is_not_told_of_this_one_s_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENBLAS_CORETYPE=Haswell in the shell ended every file on x86-sse4 with an illegal instruction."""
    monkeypatch.setenv(name, "Haswell")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    found = environment_of_another_processor()
    assert name not in found and found["OPENBLAS_NUM_THREADS"] == "1" and found["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("name", shipped_hosts())
def test_every_shipped_host_says_where_its_facts_are_from_and_is_told_from_the_others(name: str) -> None:
    found = host(name)
    assert found.name == name and set(found.sources) >= {"examples", "has", "lacks"}
    assert all(s.status in get_args(Status) and s.source for s in found.sources.values())
    assert bool(found.qemu_cpu) == ("qemu_cpu" in found.sources)
    for other, words in ANSWERS.items():
        assert bool(found.differs(cpuid.names_of(words))) == (other != name), other
    assert found.kernels == kernels_of(cpuid.names_of(ANSWERS[name]))


def test_a_host_says_what_a_processor_has_otherwise() -> None:
    vnni, haswell = host("x86-avx512-vnni"), cpuid.names_of(ANSWERS["x86-avx2"])
    assert vnni.differs(haswell) == "has no avx512f, avx512bw, avx512dq, avx512vl, avx512_vnni"
    amx = {*cpuid.names_of(ANSWERS["x86-avx512-vnni"]), "amx_int8"}
    assert vnni.differs(amx) == "has amx_int8, by which other kernels are chosen"


def test_hosts_are_no_arm_profiles_and_the_other_way_round() -> None:
    assert not set(shipped_hosts()) & set(shipped_profiles())
    with pytest.raises(RecipeError, match="x86-sse4 is an x86 host: outputs can be compared with it, and nothing of"):
        load_profile("x86-sse4")
    with pytest.raises(RecipeError, match="no device profile is named 'x86-avx'; did you mean 'x86-avx2'"):
        find_profile("x86-avx")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"fma", "avx2"', '"fma", "avx3"', "has.value[4]: unknown feature 'avx3'; did you mean"),
        ('"fma", "avx2"', '"fma", "fma"', "has.value[4]: 'fma' is there twice"),
        ('"fma", "avx2"', '"fma", 2', "has.value[4]: wanted a string, found an integer 2"),
        ('"avx512f", ', '"avx2", ', "lacks.value: 'avx2' is in has too"),
        ('"x86_64"', '"arm64"', "architecture: wanted 'x86_64', found 'arm64'; a profile of an ARM device has no such"),
        ('name = "x86-avx2"\n', "", "name: missing"),
        ("examples =", "example =", "example: unknown key; did you mean 'examples'?"),
        ('status = "published"', 'status = "known"', "qemu_cpu.status: unknown value 'known'"),
    ],
)
def test_what_is_wrong_with_a_hosts_file(old: str, new: str, fault: str) -> None:
    text = HASWELL.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(RecipeError) as caught:
        parse_host(tomllib.loads(text.replace(old, new, 1)), "mine.toml")
    assert any(found.startswith(fault) for found in caught.value.faults), caught.value.faults


@pytest.mark.parametrize(
    ("features", "word"),
    [
        ("sse2 sse4_2 avx avx2 avx512f avx512_vnni amx_int8", "AMX"),
        ("sse2 sse4_2 avx avx2 avx_vnni", "AVX-VNNI"),
        ("sse2 sse4_2 avx avx2 avx512f avx512bw", "AVX-512"),
        ("fp asimd asimddp i8mm", "Arm i8mm"),
        ("fp asimd asimddp", "Arm dot product"),
        ("fp asimd", "Arm NEON"),
        ("", "unknown"),
    ],
)
def test_the_widest_instructions_name_the_kernels(features: str, word: str) -> None:
    assert kernels_of(features.split()) == word


def test_judged_on_in_words() -> None:
    def row(kernels: str, how: str) -> JudgedOn:
        return JudgedOn("d", kernels, how)

    here, avx2, sse4 = row("AVX-512 VNNI", "this machine"), row("AVX2", "emulated"), row("SSE4", "emulated")
    assert in_words([here]) == "AVX-512 VNNI (this machine)"
    assert in_words([here, avx2, sse4]) == "AVX-512 VNNI (this machine), AVX2 and SSE4 (emulated)"
    phone = row("Arm dot product", "phone")
    assert in_words([here, avx2, phone, avx2, row("unknown", "phone")]) == (
        "AVX-512 VNNI (this machine), AVX2 (emulated), Arm dot product and unknown kernels (phone)"
    )


RECIPE = Recipe(
    name="r",
    model=Model("model.py", "weights.safetensors"),
    data=Data("digits", labels="labels.txt"),
    targets=(Target("fp32", "onnx"), Target("int8", "onnx", Quantize("static_int8"))),
    devices=(HostDevice(), EmulatedDevice("x86-avx2", name="old")),
    folder="/project",
)
FACTS = Facts(
    digests={"definition": "d", "weights": "w", "data": "s", "profile x86-avx2": "p"},
    versions={**dict.fromkeys(our_libraries(), "1"), "onnxruntime": "1.32.0"},
    host="host0",
    tflite_runtime="none",
    profiles={"x86-avx2": HASWELL},
    kernels="AVX-512 VNNI",
    x86={"x86-avx2": "qemu 7.2.22, Haswell"},
)


def verify_keys(recipe: Recipe = RECIPE, facts: Facts = FACTS) -> list[str]:
    return [lane.on["old"].verify for lane in make_plan(recipe, facts).lanes]


def test_a_host_adds_one_step_to_each_target_and_counts_nothing() -> None:
    plan = make_plan(RECIPE, FACTS)
    stages = [step.stage for step in plan.steps]
    assert stages.count("verify_device") == 2 and not {"count", "estimate"} & set(stages)
    assert [lane.on["old"].keys for lane in plan.lanes] == [(key,) for key in verify_keys()]
    quantized = plan.step(plan.lanes[1].on["old"].verify)
    assert quantized.needs["quantize"] == plan.lanes[1].quantize, "what a step of the output is"


@pytest.mark.parametrize(
    ("changes", "whose"),
    [
        ({"x86": {"x86-avx2": "qemu 10.0"}}, "the host's alone"),
        ({"digests": {**FACTS.digests, "profile x86-avx2": "q"}}, "the host's alone"),
        ({"versions": {**FACTS.versions, "onnxruntime": "1.33.0"}}, "verify's too"),
        ({"kernels": "AVX2"}, "verify's too"),
        ({"emulator": "qemu-aarch64 8.0"}, "none"),
        ({"host": "another machine"}, "none"),
    ],
)
def test_what_the_step_depends_on(changes: dict[str, Any], whose: str) -> None:
    changed = dataclasses.replace(FACTS, **changes)
    one, two = make_plan(RECIPE, FACTS).lanes[1], make_plan(RECIPE, changed).lanes[1]
    assert (one.verify != two.verify) == (whose == "verify's too")
    assert (one.on["old"].verify != two.on["old"].verify) == (whose != "none")


@pytest.mark.parametrize("metric", ["instructions", "estimated_latency_ms", "latency_ms"])
def test_nothing_that_is_counted_or_timed_can_be_asked_of_a_host(metric: Any) -> None:
    wanted = f"budget[0]: {metric} of 'old': nothing is counted, timed or estimated for an x86 host, only its outputs"
    with pytest.raises(ValueError, match=re.escape(wanted)):
        dataclasses.replace(RECIPE, budgets=(Budget(metric, 1e6, device="old"),))


def test_a_budget_on_every_device_is_of_those_that_count() -> None:
    with pytest.raises(ValueError, match=r"budget\[0\]: no \[\[device\]\] of the recipe gives instructions"):
        dataclasses.replace(RECIPE, budgets=(Budget("instructions", 1e6),))
    devices = (*RECIPE.devices, EmulatedDevice("pixel4"))
    both = dataclasses.replace(RECIPE, devices=devices, budgets=(Budget("instructions", 1e6),))
    assert {result.device for result in judge(both, [])} == {"pixel4"}
    outputs = dataclasses.replace(RECIPE, budgets=(Budget("accuracy_top1", 0.9, device="old"),))
    assert {result.device for result in judge(outputs, [])} == {"old"}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"cores": "big"}, "cores: an x86 host has none"),
        ({"calibration": "mine.json"}, "calibration: an x86 host has none"),
        ({"max_steps": -1.0}, "max_steps must be 0 to 65,536 steps of the output's scale, found -1"),
    ],
)
def test_settings_that_a_host_does_not_have(settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        EmulatedDevice("x86-avx2", **settings)


@pytest.mark.parametrize(
    ("name", "source", "kind"),
    [("x86-mine.toml", "rpi4b.toml", "an ARM device"), ("mine.toml", "hosts/x86-sse4.toml", "an x86 host")],
)
def test_a_file_that_is_called_otherwise_than_it_is(tmp_path: Path, name: str, source: str, kind: str) -> None:
    """Recipes tell hosts by their profile's name, so a wrong one would be asked for what it cannot give."""
    (tmp_path / name).write_text((hosts_folder().parent / source).read_text("utf-8"), "utf-8")
    (tmp_path / "model.py").write_text("", "utf-8")
    mine = Recipe("r", Model("model.py"), Data("digits"), (Target("fp32", "onnx"),),
                  devices=(EmulatedDevice(name),), folder=str(tmp_path))  # fmt: skip
    with pytest.raises(RecipeError, match=f"{name} is a profile of {kind}"):
        gather(mine)


def test_limits_are_tighter_than_on_another_architecture() -> None:
    floats = x86_limits("fp32")
    assert floats == x86_limits("weight_only_int4") and floats.common["min_sqnr_db"] == 60.0
    assert "max_steps" not in floats.common
    integers = x86_limits("dynamic_int8", DeviceLimits(max_steps=1.0)).common
    assert integers["min_sqnr_db"] == 40.0 and integers["max_steps"] == 1.0
    assert x86_limits("dynamic_int8").common["max_steps"] == 3.0


def test_without_a_qemu_the_set_up_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETFORGE_ENVIRONMENTS_DIR", str(tmp_path))
    monkeypatch.delenv("POCKETFORGE_QEMU_X86_64", raising=False)
    monkeypatch.setattr(cpuid, "here", lambda: cpuid.names_of(ANSWERS["x86-avx512-vnni"]))
    assert (identity(host("x86-sse4")), identity(host("x86-avx512-vnni"))) == ("none", "this machine")
    with pytest.raises(DeviceUnavailable) as caught:
        qemu.installed()
    assert caught.value.hint == "set it up: pocketforge device setup x86-emulator"
    assert [row[1] for row in qemu.examine()] == ["optional"]
    (qemu.folder()).mkdir()
    (qemu.folder() / "manifest.json").write_text('{"parts": 3}', encoding="utf-8")
    ((_, state, said, remedy),) = qemu.examine()
    assert (state, remedy) == ("missing", qemu.SETUP) and "manifest.json is damaged" in said


def test_the_users_own_qemu_is_taken_and_must_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "qemu-x86_64"
    program.write_text("#!/bin/sh\necho 'qemu-x86_64 version 9.1.0'\n")
    program.chmod(0o755)
    monkeypatch.setenv("POCKETFORGE_ENVIRONMENTS_DIR", str(tmp_path / "environments"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("POCKETFORGE_QEMU_X86_64", raising=False)
    said: list[str] = []
    assert qemu.setup(said.append) == program and said == ["ready: qemu-x86_64 9.1.0"]
    assert qemu.installed().version == "9.1.0"
    program.write_text("#!/bin/sh\necho 'qemu-x86_64 version 10.0.2'\n")
    assert qemu.installed().version == "10.0.2", "a newer one is as good"
    program.write_text("#!/bin/sh\necho 'qemu-aarch64 version 10.0.2'\n")
    with pytest.raises(DeviceUnavailable, match=r"is not qemu-x86_64: --version prints 'qemu-aarch64 version 10.0.2'"):
        qemu.installed()
    monkeypatch.setenv("POCKETFORGE_QEMU_X86_64", str(program))
    with pytest.raises(DeviceUnavailable, match=r"POCKETFORGE_QEMU_X86_64 names .*, which is not qemu-x86_64"):
        qemu.installed()


@pytest.mark.parametrize(
    ("prints", "fault"),
    [
        ("qemu-x86_64 version 7.2.22 (Debian 1:7.2)", ""),
        ("qemu-x86_64 version 10.0.2", ""),
        ("qemu-x86_64 version 6.2.0", "is version 6.2.0; 7.2 or newer is needed"),
        ("qemu-aarch64 version 7.2.22", "is not qemu-x86_64: --version prints 'qemu-aarch64 version 7.2.22'"),
        (None, "cannot be used: No such file or directory"),
    ],
)
def test_which_qemu_will_do(tmp_path: Path, prints: str | None, fault: str) -> None:
    program = tmp_path / "qemu"
    if prints is not None:
        program.write_text(f"#!/bin/sh\necho '{prints}'\n")
        program.chmod(0o755)
    try:
        qemu_binary.examine(program, "x86_64")
        found = ""
    except qemu_binary.UnfitQemuError as error:
        found = str(error)
    assert found == fault


def test_the_commands_list_and_show_hosts() -> None:
    from pocketforge.cli.main import cli

    listed = CliRunner().invoke(cli, ["device", "profiles"]).output
    assert all(name in listed for name in shipped_hosts())
    shown = CliRunner().invoke(cli, ["device", "profiles", "x86-avx2"]).output
    assert "kernels: AVX2; " in shown and "lacks" in shown and "published: " in shown
    facts = json.loads(CliRunner().invoke(cli, ["device", "profiles", "x86-sse4", "--json"]).output)
    assert facts["qemu_cpu"] == "Nehalem" and facts["sources"]["has"]["status"] == "measured"
    assert kernels_here() in json.dumps(
        json.loads(CliRunner().invoke(cli, ["doctor", "--no-imports", "--json"]).output)
    )


@pytest.mark.parametrize("name", shipped_hosts())
def test_the_guide_has_every_host(name: str, repo_root: Path) -> None:
    found = host(name)
    how = f"`-cpu {found.qemu_cpu}`" if found.qemu_cpu else "a machine that is one"
    row = f"| `{name}` | {found.title} | {how} |"
    assert any(line.startswith(row) for line in (repo_root / "docs" / "devices.md").read_text("utf-8").splitlines())
