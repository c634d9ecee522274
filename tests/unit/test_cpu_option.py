"""Which -cpu is chosen, with a qemu that only tells what it is given: features and MIDR of each option it takes."""

from __future__ import annotations

import dataclasses
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pocketforge.devices.cpu_features import NAMES
from pocketforge.devices.emulator.probe import cpu_models, examine, parse_help
from pocketforge.devices.emulator.qemu import cpu_option
from pocketforge.devices.profile_files import load_profile
from pocketforge.devices.profiles import DeviceProfile
from pocketforge.errors import DeviceUnavailable

V80 = "fp asimd aes pmull sha1 sha2 crc32 cpuid"
V82 = f"{V80} atomics fphp asimdhp asimdrdm"
DOT = f"{V82} lrcpc dcpop asimddp"
V9 = f"{DOT} asimdfhm i8mm bf16 fcma jscvt"
SVE = "sve sve2 svei8mm svebf16"

# As qemu 7.2 answers, but for features that select nothing.
QEMU_7 = {
    "a64fx": f"{V82} sve",
    "a64fx,sve=off": V82,
    "cortex-a53": V80,
    "cortex-a57": V80,
    "cortex-a72": V80,
    "cortex-a76": DOT,
    "max": f"{V9} {SVE} sme",
    "max,sve=off": V9,
    "max,sme=off,sve=off": V9,
    "max,sme=off,sve=off,pauth=off": V9,
    "max,sve128=on": f"{V9} {SVE} sme",
    "max,sme=off,sve128=on": f"{V9} {SVE}",
    "max,sme=off,sve128=on,pauth=off": f"{V9} {SVE}",
    "neoverse-n1": DOT,
}

# As small as the probe needs: the auxiliary vector from a file, then MIDR_EL1, lowest byte first.
PROGRAM = r"""#!/bin/sh
here="$(dirname "$0")/answers"
if [ "$2" = help ]; then
    echo "Available CPUs:"
    sed 's/^/  /' "$here/models"
    exit 1
fi
vector="$here/${2%,midr=*}"
[ -f "$vector" ] || { echo "can't apply global" >&2; exit 1; }
cat "$vector"
midr=${2##*,midr=}
TAKES_MIDR || midr=0xf0510
for shift in 0 8 16 24; do printf "\\$(printf %03o $((midr >> shift & 255)))"; done
printf '\0\0\0\0'
"""

MakeQemu = Callable[..., Path]


@pytest.fixture
def make_qemu(tmp_path: Path) -> MakeQemu:
    def make(options: Mapping[str, str], takes_midr: bool = True) -> Path:
        answers = tmp_path / "answers"
        shutil.rmtree(answers, ignore_errors=True)
        answers.mkdir()
        (answers / "models").write_text("\n".join(sorted({option.partition(",")[0] for option in options})) + "\n")
        for option, text in options.items():
            bits = sum(1 << NAMES.index(name) for name in text.split())
            vector = (6, 4096, 16, bits & 0xFFFFFFFF, 26, bits >> 32, 31, 1, 0, 0)
            (answers / option).write_bytes(struct.pack("<10Q", *vector))
        path = tmp_path / "qemu-aarch64"
        path.write_text(PROGRAM.replace("TAKES_MIDR", "true" if takes_midr else "false"))
        path.chmod(0o755)
        return path

    return make


def with_features(text: str) -> DeviceProfile:
    return dataclasses.replace(load_profile("pixel6"), name="mine", features=tuple(text.split()))


def chosen(qemu: Path, profile: DeviceProfile, cores: str = "") -> str:
    option, _, midr = cpu_option(profile, profile.cluster(cores), qemu, "7.2").rpartition(",midr=")
    assert int(midr, 0) == profile.cluster(cores).midr
    return option


@pytest.mark.parametrize(
    ("profile", "cores", "option"),
    [
        ("rpi3bplus", "", "cortex-a53"),
        ("rpi4b", "", "cortex-a72"),
        ("pixel2", "big", "cortex-a53"),  # no A73 there: the oldest with its features
        ("pixel3", "big", "a64fx,sve=off"),  # half-precision arithmetic and no dot product
        ("pixel3", "little", "a64fx,sve=off"),
        ("pixel4", "little", "cortex-a76"),  # no A55
        ("pixel6", "big", "cortex-a76"),  # no X1
        ("galaxy-s22", "mid", "max,sme=off,sve=off,pauth=off"),
        ("pixel8", "prime", "max,sme=off,sve128=on,pauth=off"),
    ],
)
def test_what_qemu_7_runs_a_profile_with(make_qemu: MakeQemu, profile: str, cores: str, option: str) -> None:
    assert chosen(make_qemu(QEMU_7), load_profile(profile), cores) == option


def test_a_core_s_own_model_is_preferred(make_qemu: MakeQemu) -> None:
    qemu = make_qemu(QEMU_7 | {"cortex-a55": DOT, "cortex-a710,sve=off": V9})
    assert chosen(qemu, load_profile("pixel4"), "little") == "cortex-a55"
    assert chosen(qemu, load_profile("galaxy-s22"), "mid") == "cortex-a710,sve=off"
    # An X2 is nearer to an A710 than to everything there is.
    assert chosen(qemu, load_profile("galaxy-s22"), "prime") == "cortex-a710,sve=off"


def test_a_model_with_other_features_than_its_name_promises_is_passed_over(make_qemu: MakeQemu) -> None:
    qemu = make_qemu(QEMU_7 | {"cortex-a55": V82})
    assert chosen(qemu, load_profile("pixel4"), "little") == "cortex-a76"


def test_bf16_is_needed_when_it_is_there_and_borne_when_not(make_qemu: MakeQemu) -> None:
    assert chosen(make_qemu(QEMU_7), with_features(V9)) == chosen(make_qemu(QEMU_7), with_features(f"{DOT} i8mm"))
    with pytest.raises(DeviceUnavailable, match="cannot give asimdfhm, bf16: "):
        chosen(make_qemu({"max,sve=off": f"{DOT} i8mm"}), with_features(V9))


@pytest.mark.parametrize(
    ("features", "fault", "hint"),
    [
        (f"{V9} {SVE} sme sme2", "cannot give sme2", "qemu 10.1 or later gives sme2"),
        (f"{DOT} mops", "cannot give mops", "qemu 8.2 or later gives mops"),
        (f"{V9} ebf16", "cannot give ebf16", "no qemu that we know of gives ebf16"),
        (f"{V80} atomics asimddp", "cannot leave out asimdhp, fphp", "a qemu with more CPU models may"),
    ],
)
def test_features_that_qemu_cannot_give_are_refused(make_qemu: MakeQemu, features: str, fault: str, hint: str) -> None:
    qemu = make_qemu(QEMU_7)
    with pytest.raises(DeviceUnavailable) as caught:
        chosen(qemu, with_features(features))
    assert caught.value.message == f"qemu 7.2 ({qemu}) {fault}: the features of mine must be exact"
    assert hint in caught.value.hint
    assert caught.value.exit_code == 4


def test_a_qemu_that_hides_the_core_is_refused(make_qemu: MakeQemu) -> None:
    with pytest.raises(DeviceUnavailable, match="cannot be told which core to be"):
        chosen(make_qemu(QEMU_7, takes_midr=False), load_profile("pixel4"))


def test_the_names_that_qemu_lists(make_qemu: MakeQemu) -> None:
    assert cpu_models(make_qemu(QEMU_7)) == (
        "a64fx", "cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76", "max", "neoverse-n1",
    )  # fmt: skip
    assert parse_help("Available CPUs:\n  a64fx\n  cortex-a35\n\n") == ("a64fx", "cortex-a35")
    assert parse_help("") == parse_help("usage: qemu-aarch64 [options] program\n  -cpu model\n") == ()


def test_programs_that_are_not_qemu(tmp_path: Path) -> None:
    false = tmp_path / "false"
    false.write_text("#!/bin/sh\necho no such option >&2\nexit 2\n")
    false.chmod(0o755)
    with pytest.raises(DeviceUnavailable, match="does not list its CPUs: no such option"):
        cpu_models(false)
    assert examine(false, "cortex-a53") is None
    with pytest.raises(DeviceUnavailable, match=r"cannot run .*: No such file or directory"):
        cpu_models(tmp_path / "absent")
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\n")
    silent.chmod(0o755)
    assert examine(silent, "cortex-a53") is None
