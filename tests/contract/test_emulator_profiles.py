"""Every shipped profile on the qemu that is set up here: the right features, the right core, the right kernels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pocketforge.device_calibration import micro_models
from pocketforge.devices.emulator.counting import count
from pocketforge.devices.emulator.counts import Counts
from pocketforge.devices.emulator.launch import Machine, Order
from pocketforge.devices.emulator.parts import Emulator
from pocketforge.devices.emulator.probe import cpu_models, examine
from pocketforge.devices.emulator.qemu import EXACT, cpu_option
from pocketforge.devices.profile_files import load_profile, shipped_profiles
from pocketforge.errors import DeviceUnavailable

# What the cores themselves have, by their makers; the devices' Linux may report less.
DOT_PRODUCT = {"cortex-a76": True, "cortex-a55": True, "cortex-a53": False, "cortex-a72": False, "a64fx": False}


@pytest.mark.parametrize("name", shipped_profiles())
def test_the_program_sees_the_profile_s_core(name: str, emulator: Emulator) -> None:
    profile = load_profile(name)
    for cluster in profile.clusters:
        answer = examine(emulator.qemu, cpu_option(profile, cluster, emulator.qemu, emulator.qemu_version))
        assert answer is not None
        assert answer.midr == cluster.midr
        assert answer.features & EXACT == set(profile.features) & EXACT
        # Enough to run every kernel that the profile's features lead to.
        assert set(profile.features) & {"bf16", "asimdfhm", "crc32"} <= answer.features


def test_the_probe_tells_what_the_models_are_known_to_have(emulator: Emulator) -> None:
    models = cpu_models(emulator.qemu)
    assert {"cortex-a53", "cortex-a72", "cortex-a76", "a64fx", "max"} <= set(models)
    for model in set(models) & set(DOT_PRODUCT):
        answer = examine(emulator.qemu, model)
        assert answer is not None
        assert ("asimddp" in answer.features) == DOT_PRODUCT[model]
    assert examine(emulator.qemu, "cortex-a999") is None
    assert examine(emulator.qemu, "cortex-a53,no-such-switch=on") is None


def test_a_profile_of_features_that_no_qemu_has_is_refused(emulator: Emulator) -> None:
    pixel = load_profile("pixel4")
    lse = dataclasses.replace(pixel, features=(*pixel.features, "lse128"))
    # lse128 leads to no kernel: it may be missing.
    assert cpu_option(lse, lse.cluster(), emulator.qemu, emulator.qemu_version)
    strange = dataclasses.replace(pixel, features=(*pixel.features, "ebf16"))
    with pytest.raises(DeviceUnavailable, match=f"qemu {emulator.qemu_version} .* cannot give ebf16: .*pixel4"):
        cpu_option(strange, strange.cluster(), emulator.qemu, emulator.qemu_version)
    odd = dataclasses.replace(pixel, features=tuple(f for f in pixel.features if f not in {"fphp", "asimdhp"}))
    with pytest.raises(DeviceUnavailable, match="cannot leave out asimdhp, fphp"):
        cpu_option(odd, odd.cluster(), emulator.qemu, emulator.qemu_version)


@pytest.fixture(scope="module")
def convolution(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An int8 1 × 1 convolution, which runs on XNNPACK's matrix multiplication, and an input."""
    folder = tmp_path_factory.mktemp("convolution")
    (folder / "conv.tflite").write_bytes(micro_models.operator("conv-bn-relu", 14, 64, 64, 1, 1))
    (folder / "input.bin").write_bytes(bytes(14 * 14 * 64))
    return folder / "conv.tflite", folder / "input.bin"


@pytest.mark.parametrize(
    ("profile", "cores", "multiplies_with"),
    [
        ("rpi3bplus", "", "int_mac"),
        ("rpi4b", "", "int_mac"),
        ("pixel2", "big", "int_mac"),
        ("pixel3", "big", "int_mac"),  # a Cortex-A75 whose Linux reports no dot product
        ("pixel4", "mid", "dot"),
        ("pixel4", "little", "dot"),
        ("pixel6", "big", "dot"),
        ("galaxy-s22", "mid", "i8mm"),
        ("pixel8", "mid", "i8mm"),
    ],
)
def test_kernels_are_those_of_the_core(
    profile: str, cores: str, multiplies_with: str, convolution: tuple[Path, Path], emulator: Emulator, tmp_path: Path
) -> None:
    model, sample = convolution
    order = Order("tflite", model, "", (sample,), tmp_path, "count")
    loaded = load_profile(profile)
    counts = count(Machine(emulator, loaded, loaded.cluster(cores), 120, 2**31), order)
    assert counts.conclusive
    macs = 14 * 14 * 64 * 64
    macs_each = {"int_mac": 8, "dot": 16, "i8mm": 32}[multiplies_with]  # SMLAL on 8 lanes, SDOT, SMMLA
    assert by(counts, multiplies_with) >= 0.9 * macs / macs_each
    for other in {"dot", "i8mm"} - {multiplies_with}:
        assert by(counts, other) == 0
    assert by(counts, "unknown") == 0


def by(counts: Counts, kind: str) -> int:
    return counts.by_class.get(kind, 0)
