"""The test phones are what they say: true to the real client, broken only on command, and gone without a trace."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from adb_for_tests import AdbServer
from phone import MakePhone, Phone
from phone_kinds import KINDS, OLD_FEATURES
from phone_parts import PhoneParts, toybox_commands

# What a test does not say is under test: a shell and toybox for arm64, under qemu.
USERLAND = "arm64"
HERE = Path(__file__).parent
TMP = "/data/local/tmp"
LIMIT_S = 20
both = pytest.mark.parametrize("userland", ["arm64", "native"])


def shell(phone: Phone, line: str, timeout_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    return phone.server("-s", phone.serial, "shell", "-n", "-T", line, timeout_s=timeout_s)


def told(phone: Phone, line: str) -> str:
    done = shell(phone, line)
    assert done.returncode == 0, done
    return done.stdout.rstrip("\n")


def until(done: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    end_s = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


# --- what it is made of


@pytest.fixture(scope="module")
def fetch() -> ModuleType:
    """The script's functions: it is no module of ours."""
    path = HERE.parent / "tools" / "fetch_phone.py"
    spec = importlib.util.spec_from_file_location("fetch_phone", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules["fetch_phone"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DEB822 = """\
Types: deb
# a remark
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /keys/debian.gpg

Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no
"""
ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/keys/other.gpg] http://other.example/apt stable main
deb-src http://source.example/debian bookworm main
deb http://old.example/debian bookworm main contrib # a remark
deb http://flat.example/ ./
"""


def test_sources_of_the_machine_in_both_formats(fetch: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(DEB822)
    (tmp_path / "sources.list").write_text(ONE_LINE)
    found = fetch.read_sources(tmp_path, tmp_path)
    uris = [source.uri for source in found]
    assert uris == ["http://old.example/debian", "http://mirror.example/debian", "http://other.example/apt"]
    assert found[2].options == {"signed-by": "/keys/other.gpg"} and found[0].options == {}
    key = Path(found[1].options["signed-by"])
    assert key.read_text().splitlines() == [
        "-----BEGIN PGP PUBLIC KEY BLOCK-----", "", "mQINBF", "-----END PGP PUBLIC KEY BLOCK-----",
    ]  # fmt: skip
    assert found[0].lines().splitlines() == [
        "deb [arch=amd64,arm64] http://old.example/debian bookworm main",
        "deb [arch=amd64,arm64] http://old.example/debian bookworm-backports main",
    ]


def test_a_fetch_that_cannot_says_why_and_leaves_nothing(
    fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = fetch.Source("file:/no/such/mirror", ("bookworm",), ("main",), {})
    monkeypatch.setattr(fetch, "read_sources", lambda apt, keys: [dead])
    with pytest.raises(fetch.FetchError, match="no source of this machine gave the packages of bookworm"):
        fetch.make(tmp_path / "phone", "x")
    monkeypatch.setattr(fetch, "read_sources", lambda apt, keys: [])
    with pytest.raises(fetch.FetchError, match="names no source of Debian"):
        fetch.make(tmp_path / "phone", "x")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(fetch.FetchError, match="apt-get and dpkg-deb"):
        fetch.make(tmp_path / "phone", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_lost_a_file_is_made_again(fetch: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "stamp.json").write_text('{"made_by": "x", "files": {"adb": 3}}')
    assert not fetch.is_whole(tmp_path, "x")
    (tmp_path / "adb").write_text("adb")
    assert fetch.is_whole(tmp_path, "x") and not fetch.is_whole(tmp_path, "another script")


# --- what it is


@both
def test_looks_like_an_arm64_phone_from_its_shell(make_phone: MakePhone, userland: str) -> None:
    phone = make_phone(userland=userland)
    assert told(phone, "uname -m; id -un; id -u").split() == ["aarch64", "shell", "2000"]
    assert told(phone, "uname -r") == told(phone, "cut -d' ' -f3 /proc/version") == KINDS["pixel8"].kernel
    listed = phone.server("devices", "-l").stdout
    assert f"{phone.serial} " in listed and "product:shiba model:Pixel_8 device:shiba" in listed
    assert told(phone, "echo $QEMU_CPU") == "cortex-a76"
    # What its own shell is: the difference between the two.
    machine = told(phone, "od -An -t x1 -j 18 -N 1 /system/bin/sh").strip()
    assert machine == {"arm64": "b7", "native": "3e"}[userland]


# Each is run on both, and must give the same bytes and code.
LINES = (
    "nosuch", TMP, "./nosuch", "exit 3", "sh -c 'kill -KILL $$'", "sh -c 'kill -SEGV $$' 2>/dev/null", "test -t 0",
    "echo 'a  b' | wc -c; printf '%s\\n' é", "set -o pipefail; false | true", "toybox nosuch", "timeout 0.2 sleep 30",
    "cat /nosuch", "ls -l /nosuch", "mkdir /system/x", "echo x >/etc/passwd", "sha256sum </etc/passwd",
    "taskset 8 true 2>/dev/null", "taskset 1 sh -c 'grep Cpus_allowed: /proc/self/status'", "nproc; id",
    f"stat -c '%a %U %n' {TMP} /sdcard /dev/null", "ls /system/bin; ls / | grep -v lib", "env | sort | grep -v RANDOM",
    "uname -m; uname -r; uname -z", "cat /proc/cpuinfo", "df /data | wc -l", "date +%Y",
    "getprop ro.product.model; getprop nosuch x", "dumpsys battery", "dumpsys nosuch", "cmd nosuch", "svc power",
    "settings get global nosuch; settings put x",
    # Not executable, no whole program, and a script without a first line.
    f"cp /system/bin/toybox {TMP}/t && chmod 644 {TMP}/t; {TMP}/t true",
    f"printf '\\177ELF\\2\\1\\1' >{TMP}/e && chmod 755 {TMP}/e; {TMP}/e",
    f"echo 'no such command' >{TMP}/s && chmod 755 {TMP}/s; {TMP}/s",
)  # fmt: skip


def test_both_userlands_answer_alike(make_phone: MakePhone, phone_parts: PhoneParts) -> None:
    under_qemu = [str(phone_parts.qemu), "-L", str(phone_parts.userland), str(phone_parts.userland / "bin" / "toybox")]
    assert phone_parts.commands == toybox_commands(under_qemu) and len(phone_parts.commands) > 150
    arm64, native = (make_phone(userland=userland) for userland in ("arm64", "native"))
    script = "\n".join(f"({line}\n) 2>&1; echo '= {number}:' $?" for number, line in enumerate(LINES))
    one, other = (shell(phone, script).stdout.splitlines() for phone in (arm64, native))
    assert one == other and one[-1].startswith(f"= {len(LINES) - 1}: ")
    codes = {int(code) for line in one for code in re.findall(r"^= \d+: (\d+)$", line)}
    assert {0, 1, 3, 126, 127, 128 + signal.SIGKILL, 128 + signal.SIGSEGV} <= codes


@pytest.mark.parametrize(
    ("kind", "properties", "parts"),
    [
        ("pixel4", {"ro.product.model": "Pixel 4", "ro.board.platform": "msmnile", "ro.build.version.sdk": "29",
                    "ro.soc.model": ""}, ["0x805"] * 4 + ["0x804"] * 4),
        ("pixel4_android13", {"ro.soc.model": "SM8150", "ro.build.version.release": "13"},
         ["0x805"] * 4 + ["0x804"] * 4),
        ("pixel8", {"ro.board.platform": "zuma", "ro.soc.model": "Tensor G3", "ro.build.version.sdk": "36"},
         ["0xd46"] * 4 + ["0xd4d"] * 4 + ["0xd4e"]),
        ("galaxy_s22", {"ro.soc.model": "SM8450", "ro.product.manufacturer": "samsung", "ro.build.version.sdk": "31"},
         ["0xd46"] * 4 + ["0xd47"] * 3 + ["0xd48"]),
        ("old_32bit", {"ro.product.cpu.abi": "armeabi-v7a", "ro.product.cpu.abilist64": ""}, ["0xd03"] * 4),
    ],
)  # fmt: skip
def test_kinds_with_all_their_cores(
    make_phone: MakePhone, kind: str, properties: dict[str, str], parts: list[str]
) -> None:
    phone = make_phone(kind, cpus=None)
    for name, value in properties.items():
        assert told(phone, f"getprop {name}") == value
    whole = dict(re.findall(r"^\[(.+?)\]: \[(.*)\]$", told(phone, "getprop"), re.MULTILINE))
    assert whole == {**phone.kind.properties(), "ro.serialno": "39111FDJG00ABC"}
    assert re.findall(r"CPU part\t: (\S+)", told(phone, "cat /proc/cpuinfo")) == parts
    assert told(phone, "cat /sys/devices/system/cpu/possible") == f"0-{len(parts) - 1}"
    tops = [c.frequencies_khz[-1] for c in phone.kind.clusters for _ in range(c.cores)]
    found = told(phone, "cat /sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq").split()
    assert [int(khz) for khz in found] == tops
    midr = int(told(phone, "cat /sys/devices/system/cpu/cpu0/regs/identification/midr_el1"), 16)
    assert f"{midr >> 4 & 0xFFF:#x}" == parts[0]
    assert f"MemTotal: {phone.kind.ram_kib:>13} kB" in told(phone, "cat /proc/meminfo")


def test_two_cores_are_a_little_and_a_big_one(shared_phone: Phone) -> None:
    assert told(shared_phone, "cat /sys/devices/system/cpu/cpu?/cpu_capacity").split() == ["180", "1024"]
    done = shell(shared_phone, "taskset 2 sh -c 'taskset -p $$'")
    assert done.stdout.strip().endswith("affinity mask: 2"), done


@both
def test_an_arm64_program_runs_and_a_32_bit_phone_refuses_it(
    make_phone: MakePhone, phone_parts: PhoneParts, userland: str
) -> None:
    files = [path for path in phone_parts.userland.rglob("*") if path.is_file()]
    wide, narrow = make_phone(userland=userland), make_phone("old_32bit", userland=userland)
    for phone in (wide, narrow):
        assert phone.server("-s", phone.serial, "push", *map(str, files), TMP).returncode == 0
    # As our bundles start: with a loader of their own.
    started = f"cd {TMP} && ./ld-linux-aarch64.so.1 --library-path . ./toybox"
    assert told(wide, f"{started} echo it runs; {started} uname -m") == "it runs\naarch64"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(shell, wide, f"{started} sleep 30")
        qemu = phone_parts.qemu.name
        inside = namespace_of(wide)

        def names() -> list[str]:
            return [Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0] for pid in members(inside)]

        until(lambda: any(Path(name).name == qemu for name in names()), "it does not run under qemu")
        wide.kill_adbd(with_children=True)
        running.result(LIMIT_S)
    refused = shell(narrow, f"{started} echo it runs")
    assert refused.returncode != 0 and "not executable: 64-bit ELF file" in refused.stderr
    assert told(narrow, "uname -m; uname -r").split() == ["armv8l", KINDS["old_32bit"].kernel]
    assert "armv8l" in told(narrow, "uname -a")


# --- what Android's commands say


def test_thermal_service_by_android_version(make_phone: MakePhone) -> None:
    old, new = make_phone("pixel4"), make_phone("pixel8")
    for phone in (old, new):
        phone.set_thermal(3, 45.5)
        text = told(phone, "dumpsys thermalservice")
        assert "\nThermal Status: 3\n" in text
        current = text.split("Current temperatures from HAL:\n")[1].split("Current cooling devices")[0]
        assert "\tTemperature{mValue=45.5, mType=3, mName=VIRTUAL-SKIN, mStatus=3}\n" in current
        assert told(phone, "cmd thermalservice override-status 0; dumpsys thermalservice | grep Status:") == (
            "Thermal Status: 0"
        )
    assert "static thresholds" not in told(old, "dumpsys thermalservice")
    assert told(new, "dumpsys thermalservice").endswith("NaN]")


def test_battery_by_android_version(make_phone: MakePhone) -> None:
    def rows(phone: Phone) -> dict[str, str]:
        lines = told(phone, "dumpsys battery").split("\n")
        assert lines[0] == "Current Battery Service state:"
        return dict(line.strip().split(": ", 1) for line in lines[1:] if ": " in line)

    phones = [make_phone("pixel4"), make_phone("galaxy_s22_android14"), make_phone("pixel8")]
    for phone in phones:
        phone.set_battery(temperature_c=36.4, level=55, status=3, plugged="")
    old, middle, new = map(rows, phones)
    for found in (old, middle, new):
        assert (found["temperature"], found["level"], found["status"]) == ("364", "55", "3")
        assert found["USB powered"] == "false"
    assert ("Dock powered" in old, "Dock powered" in middle) == (False, True)
    assert ("Charging policy" in old, "Charging policy" in middle) == (False, True)
    assert ("Capacity level" in middle, "Capacity level" in new) == (False, True)
    assert "(UPDATES STOPPED" in told(phones[0], "dumpsys battery set level 3; dumpsys battery")
    assert "(UPDATES STOPPED" not in told(phones[0], "dumpsys battery reset; dumpsys battery")


def test_fixed_performance_mode_where_android_has_it(make_phone: MakePhone) -> None:
    line = "cmd power set-fixed-performance-mode-enabled true"
    ten, no_hal, phone = make_phone("pixel4"), make_phone(power_hal=False), make_phone("galaxy_s22")
    unknown = shell(ten, line)
    assert (unknown.returncode, unknown.stdout) == (255, "Unknown command: set-fixed-performance-mode-enabled\n")
    failed = shell(no_hal, line)
    assert failed.returncode == 255 and failed.stderr.startswith("Failed to set FIXED_PERFORMANCE mode\n")
    assert not ten.fixed_performance and not no_hal.fixed_performance
    assert told(phone, line) == "" and phone.fixed_performance
    assert told(phone, line.replace("true", "false")) == "" and not phone.fixed_performance
    absent = shell(phone, "cmd no_such_service x")
    assert (absent.returncode, absent.stderr) == (20, "cmd: Can't find service: no_such_service\n")


def test_settings_and_stay_on_are_kept_and_told(phone: Phone) -> None:
    before = phone.settings()
    assert told(phone, "settings get global stay_on_while_plugged_in; settings get global no_such") == "0\nnull"
    assert told(phone, "dumpsys power | grep -E 'mStayOn=|mWakefulness='").split() == [
        "mWakefulness=Awake", "mStayOn=false",
    ]  # fmt: skip
    told(phone, "input keyevent KEYCODE_SLEEP")
    assert "mWakefulness=Asleep" in told(phone, "dumpsys power")
    told(phone, "svc power stayon true")
    assert phone.setting("global", "stay_on_while_plugged_in") == "15"
    assert {"mStayOn=true", "mWakefulness=Awake"} <= set(told(phone, "dumpsys power").split())
    told(phone, "settings put global stay_on_while_plugged_in 0; settings put system of_mine 7")
    assert phone.setting("system", "of_mine") == "7" and phone.settings() != before
    assert told(phone, "settings delete system of_mine") == "Deleted 1 rows"
    assert phone.settings() == before and phone.setting("system", "of_mine") is None
    assert phone.calls("svc", "settings")[-4:] == (
        "svc power stayon true",
        "settings put global stay_on_while_plugged_in 0",
        "settings put system of_mine 7",
        "settings delete system of_mine",
    )
    assert phone.calls("input") == ("input keyevent KEYCODE_SLEEP",)
    phone.forget_calls()
    assert phone.calls() == ()


def test_logcat_shows_and_forgets(phone: Phone) -> None:
    phone.log_lines(
        ["06-05 10:00:00.000  1  1 I ExecuTorch: Model loaded in 1.5 ms.", "06-05 10:00:00.100  1  1 I Other: no"]
    )
    assert told(phone, "logcat -d -s ExecuTorch:I").split("\n")[-1].endswith("Model loaded in 1.5 ms.")
    assert "Other" in told(phone, "logcat -d")
    assert "ExecuTorch" not in told(phone, "logcat -c; logcat -d")


def test_a_phone_that_lets_nobody_look(make_phone: MakePhone) -> None:
    phone = make_phone("locked")
    for path in ("/sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq", "/sys/class/thermal/thermal_zone0/temp",
                 "/sys/devices/system/cpu/cpu0/cpu_capacity"):  # fmt: skip
        done = shell(phone, f"cat {path}")
        assert done.returncode == 1 and done.stderr.strip().endswith("Permission denied"), (path, done)
    assert told(phone, "cat /sys/devices/system/cpu/possible") == "0-1"
    written = shell(phone, "echo performance > /sys/devices/system/cpu/possible")
    assert written.returncode != 0 and "Permission denied" in written.stderr


# --- clocks and heat


def spent(phone: Phone, cpu: int) -> dict[int, int]:
    lines = phone.read(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/stats/time_in_state").splitlines()
    return {int(khz): int(ticks) for khz, ticks in (line.split() for line in lines)}


def test_time_in_state_moves_on_at_the_clock_that_is_set(phone: Phone) -> None:
    path = "/sys/devices/system/cpu/cpu1/cpufreq"
    then_s, before = time.monotonic(), spent(phone, 1)
    until(lambda: spent(phone, 1)[2914000] >= before[2914000] + 20, "the clock stands still")
    assert spent(phone, 1)[2914000] - before[2914000] <= (time.monotonic() - then_s) * 100 + 20
    assert phone.set_cap(1, 1.8) == 1.8
    assert told(phone, f"cat {path}/scaling_max_freq {path}/scaling_cur_freq {path}/cpuinfo_max_freq").split() == [
        "1800000", "1800000", "2914000",
    ]  # fmt: skip
    capped = spent(phone, 1)
    until(lambda: spent(phone, 1)[1800000] > capped[1800000], "nothing at the cap")
    assert spent(phone, 1)[2914000] == capped[2914000]
    assert phone.set_clock(1, 1.1) == 1.098 and phone.set_clock(0, 0.3) == 0.324
    slow = spent(phone, 1)
    until(lambda: spent(phone, 1)[1098000] > slow[1098000], "nothing at the lower clock")


def test_a_hot_phone_cools_and_its_sensors_with_it(phone: Phone) -> None:
    phone.set_body(thermal_status=3, skin_c=46.0, cpu_c=80.0, battery_c=41.0)
    assert told(phone, "cat /sys/class/thermal/thermal_zone0/type /sys/class/thermal/thermal_zone0/temp").split() == [
        "VIRTUAL-SKIN", "46000",
    ]  # fmt: skip
    phone.cool_down(0.8, skin_c=30.0)

    def seen() -> tuple[int, float]:
        text = phone.read("/dev/.phone/thermal")
        skin = re.search(r"HAL:\n\tTemperature\{mValue=([\d.]+), mType=3", text)
        status = re.search(r"Thermal Status: (\d)", text)
        assert skin and status
        return int(status[1]), float(skin[1])

    between = [seen()]

    def cool() -> bool:
        between.append(seen())
        return between[-1][0] == 0

    until(cool, "it never cools")
    assert [skin for _, skin in between] == sorted((skin for _, skin in between), reverse=True)
    assert any(status == 3 and 30 < skin < 46 for status, skin in between) and between[-1] == (0, 30.0)
    assert "temperature: 270" in told(phone, "dumpsys battery")
    with pytest.raises(RuntimeError, match="a phone has no nose"):
        phone.set_body(nose=1)


# --- faults on the wire, as the real client shows them


def test_a_cut_in_a_command_looks_like_success_to_the_client(phone: Phone) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(shell, phone, "echo first; sleep 30; echo last")
        until(lambda: "sleep 30" in phone.ps(), "the command does not run")
        phone.cut()
        done = running.result(LIMIT_S)
    # adb 34's own way: why Link.shell needs its end marker.
    assert (done.returncode, done.stdout) == (0, "first\n")
    phone.wait_for("device")
    assert told(phone, "echo again") == "again"


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_cut_after_so_many_bytes_each_way(phone: Phone, tmp_path: Path, way: str) -> None:
    here, there = tmp_path / "file", f"{TMP}/file"
    here.write_bytes(os.urandom(2_000_000))
    if way == "down":
        assert phone.server("-s", phone.serial, "push", str(here), there).returncode == 0
    phone.cut_after(700_000, way=way)
    words = ("push", str(here), there) if way == "up" else ("pull", there, str(tmp_path / "back"))
    done = phone.server("-s", phone.serial, *words)
    assert done.returncode == 1, done
    assert phone.cuts() == 1
    phone.wait_for("device")
    assert phone.server("-s", phone.serial, *words).returncode == 0, "the second link is whole"


def test_a_frozen_link_hangs_and_goes_on_when_healed(phone: Phone) -> None:
    phone.stall()
    with pytest.raises(subprocess.TimeoutExpired):
        shell(phone, "echo hello", timeout_s=1)
    assert phone.state() == "device", "the client knows nothing of it"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(shell, phone, "echo hello")
        time.sleep(0.2)
        assert not running.done()
        phone.heal()
        assert running.result(LIMIT_S).stdout == "hello\n"


def test_refused_offline_and_back(make_phone: MakePhone) -> None:
    phone = make_phone(connect=False)
    phone.refuse()
    done = phone.server("connect", phone.serial)
    assert done.returncode == 0 and "failed to connect" in done.stdout and "Connection refused" in done.stdout
    phone.heal()
    phone.connect()
    phone.go_offline()
    phone.wait_for("offline")
    told_off = shell(phone, "echo hello")
    assert told_off.returncode == 1 and "device offline" in told_off.stderr
    phone.heal()
    phone.wait_for("device")


def test_unauthorized_until_somebody_taps(make_phone: MakePhone) -> None:
    phone = make_phone(connect=False)
    phone.unauthorized()
    done = phone.server("connect", phone.serial)
    assert done.returncode == 0 and "failed to authenticate to" in done.stdout
    assert phone.state() == "unauthorized"
    assert "device unauthorized" in shell(phone, "echo hello").stderr
    phone.heal()
    phone.wait_for("device")


def test_a_slow_link(phone: Phone, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(300_000))
    phone.limit_rate(600_000)
    then_s = time.monotonic()
    assert phone.server("-s", phone.serial, "push", str(file), f"{TMP}/file").returncode == 0
    assert time.monotonic() - then_s > 0.3
    assert phone.passed_bytes()["up"] > 300_000


# --- other phones and troubles of one


@pytest.mark.parametrize("state", ["recovery", "sideload", "bootloader"])
def test_other_states(make_phone: MakePhone, state: str) -> None:
    assert make_phone(state=state).state() == state


def test_an_old_adbd_loses_exit_codes(make_phone: MakePhone) -> None:
    phone = make_phone(features=OLD_FEATURES)
    done = phone.server("-s", phone.serial, "shell", "-n", "-T", "echo out; echo err >&2; exit 3")
    assert done.returncode != 3 and "err" in done.stdout + done.stderr
    assert "shell_v2" not in phone.server("-s", phone.serial, "features").stdout


@both
def test_disks_full_noexec_readonly(make_phone: MakePhone, tmp_path: Path, userland: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(3_000_000))

    def push(phone: Phone) -> str:
        done = phone.server("-s", phone.serial, "push", str(file), f"{TMP}/file")
        return f"{done.returncode}: {done.stdout}{done.stderr}"

    small, noexec, readonly = (
        make_phone(userland=userland, **trouble)
        for trouble in ({"data_size": "2m"}, {"noexec": True}, {"readonly": True})
    )
    for phone, why in ((small, "No space left on device"), (readonly, "Read-only file system")):
        answer = push(phone)
        assert answer.startswith("1: ") and why in answer
    assert push(noexec).startswith("0: ")
    denied = shell(noexec, f"cp /system/bin/toybox {TMP}/t; chmod 755 {TMP}/t; {TMP}/t true")
    assert denied.returncode == 126, denied
    told(noexec, f"rm {TMP}/file")
    noexec.fill(leave_bytes=100_000)
    assert "No space left on device" in push(noexec)
    noexec.empty()
    assert push(noexec).startswith("0: ")


@both
def test_missing_tools(make_phone: MakePhone, userland: str) -> None:
    names = ("taskset", "sha256sum", "setsid", "nohup", "stat", "uname")
    phone = make_phone(missing=names, userland=userland)
    for name in names:
        done = shell(phone, f"{name} x")
        assert done.returncode == 127 and "not found" in done.stderr, (name, done)
    assert told(phone, "md5sum /system/bin/sh")


@both
def test_adbd_dies_and_comes_back(make_phone: MakePhone, userland: str) -> None:
    phone = make_phone(userland=userland)
    boot_id = told(phone, "cat /proc/sys/kernel/random/boot_id")
    told(phone, "setsid nohup sleep 1000 >/dev/null 2>&1 &")
    # toybox runs its own commands without exec: the words stay.
    detached = "setsid nohup sleep 1000"
    until(lambda: phone.ps() == (detached,), "it does not run")
    phone.kill_adbd()
    phone.wait_for("offline", "")
    assert phone.ps() == (detached,), "it goes on"
    phone.start_adbd()
    phone.connect()
    assert told(phone, "cat /proc/sys/kernel/random/boot_id") == boot_id
    phone.kill_adbd(with_children=True)
    assert phone.ps() == ()


@both
def test_a_reboot_is_one(make_phone: MakePhone, userland: str) -> None:
    phone = make_phone(userland=userland)
    look = "cat /proc/sys/kernel/random/boot_id; cut -d. -f1 /proc/uptime"
    boot_id, uptime_s = told(phone, look).split()
    assert int(uptime_s) >= 4999 and boot_id == phone.boot_id
    told(phone, f"echo kept > {TMP}/file; settings put global of_mine 1; setsid nohup sleep 1000 >/dev/null 2>&1 &")
    told(phone, "cmd power set-fixed-performance-mode-enabled true; cmd thermalservice override-status 4")
    phone.reboot()
    assert phone.ps() == ()
    new_id, new_uptime_s = told(phone, look).split()
    assert new_id == phone.boot_id != boot_id and 10 <= int(new_uptime_s) < 1000
    assert told(phone, f"cat {TMP}/file; settings get global of_mine") == "kept\n1"
    assert not phone.fixed_performance and "Thermal Status: 0" in told(phone, "dumpsys thermalservice")


@both
def test_a_reboot_cuts_what_runs(make_phone: MakePhone, userland: str) -> None:
    phone = make_phone(userland=userland)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(shell, phone, "echo first; sleep 30; echo last")
        until(lambda: "sleep 30" in phone.ps(), "the command does not run")
        phone.reboot()
        assert "last" not in running.result(LIMIT_S).stdout


def test_several_at_once_two_of_one_model(make_phone: MakePhone) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        phones = list(pool.map(make_phone, ["pixel8", "pixel8", "pixel4", "galaxy_s22"]))
        assert len({phone.serial for phone in phones}) == 4
        models = list(pool.map(lambda phone: told(phone, "getprop ro.product.model"), phones))
    assert models == ["Pixel 8", "Pixel 8", "Pixel 4", "SM-S901U"]
    listed = phones[0].server("devices", "-l").stdout
    rows = [line for line in listed.splitlines() if "model:Pixel_8 " in line]
    assert {phone.serial for phone in phones[:2]} <= {row.split()[0] for row in rows}
    for phone in phones[:2]:
        phone.put(f"{TMP}/mine", phone.serial)
    assert [told(phone, f"cat {TMP}/mine") for phone in phones[:2]] == [phone.serial for phone in phones[:2]]
    several = phones[0].server("shell", "true")
    assert several.returncode == 1 and "more than one device/emulator" in several.stderr


# --- nothing listens, nothing stays


def inodes(path: str, column: int) -> Iterator[tuple[str, str, str]]:
    """(local address, state, inode) of a table in /proc/net; none where the kernel has not that kind."""
    try:
        lines = Path(path).read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        words = line.split()
        yield words[1], words[3], words[column]


def listening() -> dict[str, str]:
    """inode → address of what this machine listens on by TCP, hexadecimal as in /proc/net/tcp."""
    state_listen = "0A"
    tables = [*inodes("/proc/net/tcp", 9), *inodes("/proc/net/tcp6", 9)]
    return {inode: address for address, state, inode in tables if state == state_listen}


def sockets_of(pid: int) -> set[str]:
    links = (os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir())
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def members(namespace: str) -> list[int]:
    """Processes of this machine in a process namespace."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(folder / "ns/pid") == namespace:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def namespace_of(phone: Phone) -> str:
    """Its process namespace, by the one child of the process that waits outside."""
    (child,) = Path(f"/proc/{phone.pid}/task/{phone.pid}/children").read_text().split()
    return os.readlink(f"/proc/{child}/ns/pid")


def test_only_the_loopback_listens_and_only_the_cable(make_phone: MakePhone) -> None:
    phone = make_phone()
    address = "0100007F:{:04X}".format(int(phone.serial.split(":")[1]))
    inside = members(namespace_of(phone))
    held = set().union(*(sockets_of(pid) for pid in [phone.pid, *inside]))
    assert {place for inode, place in listening().items() if inode in held} == {address}
    (adbd,) = (pid for pid in inside if b"--device_banner" in Path(f"/proc/{pid}/cmdline").read_bytes())
    assert os.readlink(f"/proc/{adbd}/ns/net") != os.readlink("/proc/self/ns/net")
    assert "\nSeccomp:\t2\n" in Path(f"/proc/{adbd}/status").read_text()
    assert [line.split(":")[0].strip() for line in Path(f"/proc/{adbd}/net/dev").read_text().splitlines()[2:]] == ["lo"]
    # Every socket of adbd is in a table of its own network: a vsock one is in none.
    tables = (("tcp", 9), ("tcp6", 9), ("udp", 9), ("udp6", 9), ("unix", 6), ("netlink", 9))
    known = {inode for name, column in tables for *_, inode in inodes(f"/proc/{adbd}/net/{name}", column)}
    assert sockets_of(adbd) and sockets_of(adbd) <= known
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as one:
        one.settimeout(5)
        assert one.connect_ex((1, 5555)) != 0, "adbd answers on vsock"
    phone.close()
    assert address not in listening().values()


def test_the_server_listens_on_no_port(adb_server: AdbServer) -> None:
    adb_server("start-server", check=True)
    sockets = {inode for pid in adb_server.pids() for inode in sockets_of(pid)}
    assert sockets
    tables = [*inodes("/proc/net/tcp", 9), *inodes("/proc/net/tcp6", 9), *inodes("/proc/net/udp", 9)]
    assert not [row for row in tables if row[2] in sockets and row[1] in ("0A", "07")]
    assert str(adb_server.folder / "s") in Path("/proc/net/unix").read_text()


def test_nothing_stays_after_close(make_phone: MakePhone) -> None:
    phone = make_phone()
    told(phone, "setsid nohup sleep 1000 >/dev/null 2>&1 &")
    namespace, folder = namespace_of(phone), phone.folder
    assert len(members(namespace)) >= 3 and folder.is_dir()
    phone.close()
    assert members(namespace) == [] and not folder.exists()
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    assert phone.state() == ""


KILLED = """
import sys, time
sys.path[:0] = [{here!r}, {root!r}]
from adb_for_tests import AdbServer
from phone import Phone
from phone_kinds import KINDS
from phone_parts import find_parts
parts = find_parts()
server = AdbServer(parts.adb)
phone = Phone(parts, server, KINDS["pixel8"])
phone.connect()
server("-s", phone.serial, "shell", "-n", "-T", "setsid nohup sleep 1000 >/dev/null 2>&1 &")
if {own!r}:
    # The client starts a server of its own, which nobody waits for.
    server.kill()
    server("devices", check=True)
print(phone.pid, phone.folder, server.folder, *server.pids(), flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("own", [False, True], ids=["its server", "a server that the client started"])
def test_nothing_stays_when_the_tests_are_killed(phone_parts: PhoneParts, own: bool) -> None:
    script = KILLED.format(here=str(HERE), root=str(HERE.parents[1]), own=own)
    tests = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert tests.stdout is not None
    words = tests.stdout.readline().split()
    pid, folder, server_folder, servers = int(words[0]), Path(words[1]), Path(words[2]), [int(w) for w in words[3:]]
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    namespace = os.readlink(f"/proc/{child}/ns/pid")
    assert len(members(namespace)) >= 3 and servers and folder.is_dir()
    tests.send_signal(signal.SIGKILL)
    tests.wait()
    tests.stdout.close()
    until(lambda: not members(namespace), "processes of the phone live on")
    until(lambda: not any(Path(f"/proc/{server}").exists() for server in servers), "an adb server lives on")
    until(lambda: not folder.exists() and not server_folder.exists(), "a folder stays")


def test_no_emulator_for_the_phone_says_so(
    phone_parts: PhoneParts, adb_server: AdbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = dataclasses.replace(phone_parts, qemu=Path("/no/such/qemu"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"registers qemu for itself alone.*Linux 6\.7 or newer") as raised:
        Phone(broken, adb_server, KINDS["pixel8"])
    assert "No such file" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_machine_that_cannot_says_so(phone_parts: PhoneParts) -> None:
    """Where no user namespace is to be had: the limit is lowered in one of its own, for this test alone."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import phone_jail as jail, pathlib\n"
        "try: jail.enter_namespaces(pathlib.Path('/nowhere'))\n"
        "except jail.CannotRunPhonesError as error: print(error); raise SystemExit(7)\n"
    )
    line = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    argv: Sequence[str] = (
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        line,
        "sh",
        sys.executable,
        "-c",
        script,
        str(HERE),
    )
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 7 and "user.max_user_namespaces above 0" in done.stdout, done
