"""`pocketforge device setup emulator`: whole, resumed, repaired, refused. Small parts; tests/e2e has the real ones."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from release_build import SOURCES
from small_emulator import World, script

from pocketforge.devices.emulator import commands, manifest, parts, pinned, provision
from pocketforge.errors import DeviceUnavailable, StoreError, ToolFailed, ToolMissing

ROOT = Path(__file__).parents[2]
SMALL = Path(__file__).with_name("small_emulator.py")
REPAIR = "  hint: repair it: pocketforge device setup emulator"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def real() -> Path:
    """The folder of the emulator that is set up on this machine, by whichever version: only its packages are used."""
    root = parts.emulator_folder()
    assert manifest.read(root), "set it up first: pocketforge device setup emulator"
    return root


@pytest.fixture(scope="module")
def arm64_libraries(real: Path) -> Path:
    found = manifest.read(real)
    assert found is not None
    return found[parts.LIBRARIES].folder / "lib"


class Said(list[str]):
    def __str__(self) -> str:
        return "\n".join(self)


class Small:
    """The small world, patched into this process."""

    def __init__(self, world: World, root: Path) -> None:
        self.world = world
        self.root = root

    def setup(self, **more: Any) -> Said:
        said = Said()
        provision.setup(said.append, given=self.world.packages, **more)
        return said

    def folders(self) -> set[str]:
        return {path.name for path in (self.root / "parts").iterdir()}

    def flip(self, path: Path, *, hide: bool = False) -> tuple[str, str]:
        """Change one bit; `hide`: leave the time of change as it was. The hashes before and after."""
        before, times = sha256(path), path.stat()
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        if hide:
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return before, sha256(path)

    def process(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, SMALL, self.world.folder, *arguments],
            env={**os.environ, "LIBRARIES": str(self.world.libraries), "PYTHONPATH": SOURCES, **environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


@pytest.fixture
def small(tmp_path: Path, arm64_libraries: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    world = World(tmp_path, arm64_libraries)
    world.fill()
    for module, name, value in world.patches():
        monkeypatch.setattr(module, name, value)
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("POCKETFORGE_QEMU", raising=False)
    return Small(world, tmp_path / "environments" / "emulator-1")


def test_a_set_up_makes_every_part_and_a_second_one_finds_them_ready(small, monkeypatch):
    assert parts.identity() == "none"
    said = small.setup()
    news = [line for line in said if re.match(r"\d/8 ", line) and not line.endswith("making")]
    assert [line.partition(":")[0] for line in news] == [
        "1/8 qemu", "2/8 executorch", "3/8 tflite", "4/8 onnx", "5/8 arm64 libraries", "6/8 compiler", "7/8 runners",
        "8/8 log reader",
    ]  # fmt: skip
    assert news[0] == f"1/8 qemu: 7.2.22, {small.world.qemu}"
    assert all(re.search(r", [\d,]+ bytes, \d+\.\d s$", line) for line in news[1:])
    assert re.fullmatch(r"ready in \d+ s: [\d,]+ bytes, and [\d,]+ bytes of packages kept in .*/downloads", said[-1])

    found = parts.installed()
    assert (found.qemu, found.qemu_version) == (small.world.qemu, "7.2.22")
    assert set(found.runners) == set(found.libraries) == {"tflite", "onnx", "executorch"}
    files = [found.reader, found.sysroot / "lib" / pinned.LOADER, *found.runners.values(), *found.libraries.values()]
    assert all(path.is_file() and path.is_relative_to(small.root) for path in files)
    assert os.access(found.reader, os.X_OK)
    assert found.versions["tflite"] == "pf_tflite 1.0"
    assert re.fullmatch(r"GLIBC_2\.\d+, GLIBCXX_3\.4\.\d+", found.versions["arm64 libraries"])
    # Neither work in progress nor the compiler stays.
    assert sorted(p.name for p in small.root.iterdir()) == ["downloads", "manifest.json", "parts", "setup.lock"]
    assert {name.rpartition("-")[0] for name in small.folders()} == {
        "executorch", "tflite", "onnx", "arm64-libraries", "runners", "log-reader",
    }  # fmt: skip
    assert "ZIG_GLOBAL_CACHE_DIR" not in os.environ

    identity, folders = parts.identity(), small.folders()

    def unwanted(argv: object, **_more: object) -> None:
        raise AssertionError(f"a second set-up fetches, unpacks and compiles nothing, and starts {argv}")

    monkeypatch.setattr(commands, "run", unwanted)
    again = small.setup()
    assert len(again) == 1 and again[0].startswith("ready: qemu 7.2.22; pf_executorch 1.0; ")
    assert (parts.identity(), small.folders(), small.world.built) == (identity, folders, ["runners", "reader"])
    assert re.fullmatch("[0-9a-f]{16}", identity)


def test_what_was_kept_is_enough_for_another_machine(small, tmp_path, monkeypatch):
    small.setup()
    downloads = small.root / "downloads"
    listed = dict(line.split("  ")[::-1] for line in (downloads / "SHA256SUMS").read_text().splitlines())
    assert listed == {path.name: sha256(path) for path in downloads.glob("*.whl")} and len(listed) == 4
    monkeypatch.setenv("POCKETFORGE_ENVIRONMENTS_DIR", str(tmp_path / "another"))
    provision.setup(lambda _: None, given=downloads)
    assert parts.installed().reader.is_relative_to(tmp_path / "another")


@pytest.mark.parametrize("stopped", [KeyboardInterrupt(), ToolFailed(["zig"], 1, "error: it does not compile")])
def test_what_was_finished_is_kept_when_a_later_part_fails(small, stopped):
    def stop() -> None:
        raise stopped

    small.world.before_building = stop
    with pytest.raises(type(stopped)):
        small.setup()
    with pytest.raises(DeviceUnavailable, match="the emulator is not set up on this machine"):
        parts.installed()
    assert not (small.root / "tmp").exists()
    before = small.folders()
    assert {name.rpartition("-")[0] for name in before} == {
        "executorch",
        "tflite",
        "onnx",
        "arm64-libraries",
        "compiler",
    }
    small.world.before_building = lambda: None
    said = small.setup()
    kept = [line for line in said if ": kept, " in line]
    assert [line.partition(":")[0] for line in kept] == [
        "2/8 executorch", "3/8 tflite", "4/8 onnx", "5/8 arm64 libraries", "6/8 compiler",
    ]  # fmt: skip
    assert parts.installed() and before - small.folders() == {name for name in before if name.startswith("compiler")}


def test_an_interrupt_stops_the_programs_we_run_and_ends_with_130(small):
    asleep = small.world.folder / "asleep"
    process = small.process("--from", str(small.world.packages), HANG=str(asleep))
    until = time.monotonic() + 60
    while not asleep.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert asleep.exists(), process.communicate()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, "")
    assert stderr.endswith("interrupted; what was finished is kept, and the next run goes on from there\n")
    program = Path("/proc", asleep.read_text().strip(), "cmdline")
    assert not program.exists() or b"sleep" not in program.read_bytes()
    assert not (small.root / "tmp").exists()
    assert ": kept, " in str(small.setup())


def test_a_set_up_that_was_killed_leaves_nothing_that_the_next_one_minds(small):
    process = small.process("--from", str(small.world.packages), BUILD_S="60")
    log = small.world.folder / "built.log"
    until = time.monotonic() + 60
    while not log.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    left = small.root / "tmp" / "part"
    assert left.is_dir()
    (left / "half a runner").touch()
    seen: list[Path] = []
    small.world.before_building = lambda: seen.extend((small.root / "tmp").rglob("half*"))
    said = small.setup()
    assert "4/8 onnx: kept, pf_onnx 1.0" in said
    assert seen == [] and not (small.root / "tmp").exists()
    assert not list((small.root / "parts").rglob("half*"))


def test_two_set_ups_at_once_work_one_after_the_other(small):
    both = [small.process("--from", str(small.world.packages), BUILD_S="1") for _ in range(2)]
    done = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], done
    assert (small.world.folder / "built.log").read_text() == "runners\nreader\n"
    waited = [stderr for _, stderr in done if "another set-up is at work here: waiting for it" in stderr]
    assert len(waited) == 1 and "\nready: qemu 7.2.22; " in waited[0]
    assert {stdout for stdout, _ in done} == {f"{small.root}\n"}


def test_refresh_makes_everything_again(small):
    small.setup()
    before, identity = small.folders(), parts.identity()
    said = small.setup(refresh=True)
    assert ": kept" not in str(said) and not before & small.folders() and len(small.folders()) == len(before)
    assert parts.identity() == identity


def test_a_refresh_that_fails_leaves_what_was_in_use(small):
    small.setup()
    before, identity = small.folders(), parts.identity()
    kept = small.world.packages / "pf_zig-1.0-cp311-cp311-manylinux_2_28_aarch64.whl"
    kept.unlink()
    with pytest.raises(DeviceUnavailable, match=f"{small.world.packages} has no {kept.name}"):
        small.setup(refresh=True)
    assert (small.folders(), parts.identity()) == (before, identity)


@pytest.mark.parametrize("part", ["runtimes", "arm64 libraries", "runners"])
def test_a_flipped_bit_is_named_and_repaired(small, part):
    small.setup()
    found = parts.installed()
    path = {
        "runtimes": found.libraries["tflite"],
        "arm64 libraries": found.sysroot / "lib" / "libc.so.6",
        "runners": found.runners["onnx"],
    }[part]
    before, identity = small.folders(), parts.identity()
    wanted, now = small.flip(path)
    name = "tflite" if part == "runtimes" else part
    message = f"the emulator's {name}: {path} is damaged: sha256 wanted {wanted}, found {now}"
    with pytest.raises(DeviceUnavailable) as caught:
        parts.installed()
    assert str(caught.value) == f"{message}\n{REPAIR}"
    assert parts.identity() == "none"
    rows = {name: (state, said) for name, state, said, get in provision.examine()}
    assert rows[f"emulator: {part}"] == ("missing", message)
    assert [state for name, (state, _) in rows.items() if name != f"emulator: {part}"] == ["ok"] * 4

    said = small.setup()
    assert f"  {path} is damaged: sha256 wanted {wanted}, found {now}: making it again" in said
    assert parts.identity() == identity
    assert len(before - small.folders()) == len(small.folders() - before) == 1


def test_a_flip_that_hides_its_time_is_found_by_doctor_and_repaired(small):
    small.setup()
    path = parts.installed().libraries["onnx"]
    wanted, now = small.flip(path, hide=True)
    assert parts.installed()
    rows = {name: (state, said) for name, state, said, get in provision.examine()}
    assert rows["emulator: runtimes"] == (
        "missing", f"the emulator's onnx: {path} is damaged: sha256 wanted {wanted}, found {now}"
    )  # fmt: skip
    small.setup()
    assert sha256(parts.installed().libraries["onnx"]) == wanted


def test_a_damaged_package_is_refused_by_name_and_hash(small):
    path = small.world.packages / "pf_tflite-1.0-cp311-cp311-manylinux_2_28_aarch64.whl"
    wanted, now = small.flip(path)
    with pytest.raises(DeviceUnavailable) as caught:
        small.setup()
    assert str(caught.value) == (
        f"{path} is damaged or another file: sha256 wanted {wanted}, found {now}\n"
        f"  hint: copy it again to {path.parent}, then: pocketforge device setup emulator --from {path.parent}"
    )


def test_a_missing_file_and_a_damaged_manifest_are_named_and_repaired(small):
    small.setup()
    identity, path = parts.identity(), parts.installed().reader
    path.unlink()
    with pytest.raises(DeviceUnavailable) as caught:
        parts.installed()
    assert str(caught.value) == f"the emulator's log reader: {path} is missing\n{REPAIR}"
    small.setup()
    (small.root / "manifest.json").write_text("{")
    with pytest.raises(DeviceUnavailable, match=r"the emulator cannot be used: .*manifest\.json is damaged"):
        parts.installed()
    assert [state for _, state, _, _ in provision.examine()] == ["ok"] + ["missing"] * 4
    assert ": making" not in str(small.setup())
    assert parts.identity() == identity


def test_the_users_qemu_may_change_and_identity_with_it(small):
    small.setup()
    first = parts.identity()
    small.world.set_qemu("10.0.2")
    assert parts.installed().qemu_version == "10.0.2"
    second = parts.identity()
    assert second not in (first, "none")
    # The same version, built otherwise.
    with small.world.qemu.open("a") as file:
        file.write("# another build\n")
    assert parts.identity() not in (first, second, "none")
    small.world.set_qemu("7.2.22")
    assert parts.identity() == first


def test_a_qemu_that_went_away_is_named_and_another_is_found(small):
    small.setup()
    small.world.qemu.unlink()
    with pytest.raises(DeviceUnavailable) as caught:
        parts.installed()
    assert str(caught.value) == (
        f"the qemu of the emulator, {small.world.qemu}, cannot be used: No such file or directory\n"
        "  hint: look for another: pocketforge device setup emulator"
    )
    with pytest.raises(ToolMissing, match="no qemu-aarch64 could be had: none on PATH") as missing:
        provision.setup(lambda _: None)
    assert "POCKETFORGE_QEMU=PATH" in missing.value.hint
    with pytest.raises(DeviceUnavailable, match=f"{small.world.packages} has no qemu-user-static_….deb"):
        small.setup()
    other = script(small.world.folder / "bin" / "qemu-aarch64-static", "echo qemu-aarch64 version 8.2.2")
    said = small.setup()
    assert f"1/8 qemu: 8.2.2, {other}" in said and ": making" not in str(said)
    assert parts.installed().qemu == other


def test_the_qemu_that_the_user_names_is_used_from_then_on(small, tmp_path, monkeypatch):
    small.setup()
    first = parts.identity()
    mine = script(tmp_path / "mine", "echo qemu-aarch64 version 11.1.0")
    monkeypatch.setenv("POCKETFORGE_QEMU", str(mine))
    assert (parts.installed().qemu, parts.installed().qemu_version) == (mine, "11.1.0")
    assert parts.identity() not in (first, "none")
    mine.write_text("#!/bin/sh\necho qemu-aarch64 version 5.2.0\n")
    for call in (parts.installed, small.setup):
        with pytest.raises(DeviceUnavailable) as caught:
            call()
        assert caught.value.message == f"POCKETFORGE_QEMU names {mine}, which is version 5.2.0; 7.2 or newer is needed"
    monkeypatch.delenv("POCKETFORGE_QEMU")
    assert parts.identity() == first


def test_what_another_version_of_pocketforge_built_is_built_again(small):
    small.setup()
    first = parts.identity()
    (small.world.folder / "reader.py").write_text("# second version\n")
    with pytest.raises(DeviceUnavailable, match=r"the emulator's log reader .* is of another version") as caught:
        parts.installed()
    assert caught.value.hint == "bring it up to date: pocketforge device setup emulator"
    said = small.setup()
    assert small.world.built == ["runners", "reader", "reader"]
    assert any(line.startswith("7/8 runners: kept, ") for line in said)
    assert parts.identity() not in (first, "none")


def test_a_newer_pin_replaces_the_wheel_and_what_was_built_with_it(small, monkeypatch):
    small.setup()
    old = pinned.RUNTIMES["tflite"].file
    for module, name, value in small.world.patches((small.world.libraries / "libm.so.6").read_bytes()):
        monkeypatch.setattr(module, name, value)
    with pytest.raises(
        DeviceUnavailable, match=r"the emulator's executorch \(version pf_executorch 1.0\) is of another"
    ):
        parts.installed()
    downloads = small.root / "downloads"
    (downloads / "pf_old-0.9.whl").write_bytes(b"pinned by an older version")
    with (downloads / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  pf_old-0.9.whl\n")
    said = small.setup()
    kept = [line.partition(", ")[0] for line in said if ": kept, " in line]
    assert kept == ["8/8 log reader: kept"]  # the only part that has nothing to do with the wheels
    assert parts.installed().libraries["tflite"].stat().st_size == (small.world.libraries / "libm.so.6").stat().st_size
    assert sha256(downloads / old) == pinned.RUNTIMES["tflite"].sha256
    named = {line.split()[1] for line in (downloads / "SHA256SUMS").read_text().splitlines()}
    assert named == {path.name for path in downloads.iterdir() if path.suffix == ".whl"}


def test_libraries_that_are_too_old_are_refused_by_what_is_needed_of_them(small, tmp_path, monkeypatch, real):
    old = tmp_path / "old"
    shutil.copytree(small.world.libraries, old)
    shutil.copy(old / "libdl.so.2", old / "libc.so.6")  # has the oldest version only
    monkeypatch.setattr(pinned, "SYSTEM_FOLDERS", (str(old),))
    found = manifest.read(real)
    assert found is not None
    litert = found["tflite"].path("tflite")
    for module, name, value in small.world.patches(litert.read_bytes()):
        if name == "RUNTIMES":
            monkeypatch.setattr(module, name, value)
    said = Said()
    with pytest.raises(DeviceUnavailable, match=r"has no libc6-arm64-cross_….deb"):
        provision.setup(said.append, given=small.world.packages)
    assert f"  those of {old} will not do: main needs GLIBC_2.34 of libc.so.6, which has GLIBC_2.17" in said
    (old / "libstdc++.so.6").unlink()
    with pytest.raises(DeviceUnavailable):
        provision.setup(said.append, given=small.world.packages)
    assert f"  those of {old} will not do: libstdc++.so.6: not there" in said


def test_the_whole_may_be_moved(small, tmp_path, monkeypatch):
    small.setup()
    identity = parts.identity()
    (tmp_path / "environments").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("POCKETFORGE_ENVIRONMENTS_DIR", str(tmp_path / "elsewhere"))
    assert parts.identity() == identity and parts.installed().reader.is_relative_to(tmp_path / "elsewhere")


def test_another_system_is_refused(small, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(DeviceUnavailable) as caught:
        small.setup()
    assert caught.value.message == "the emulator needs Linux on x86_64 or aarch64; this is Linux on riscv64"


def test_a_folder_that_cannot_be_made_is_named(small, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("POCKETFORGE_ENVIRONMENTS_DIR", str(tmp_path / "file" / "environments"))
    with pytest.raises(StoreError) as caught:
        small.setup()
    assert str(caught.value) == (
        f"cannot write to {tmp_path}/file/environments/emulator-1: Not a directory\n"
        "  hint: choose a folder you can write to with POCKETFORGE_ENVIRONMENTS_DIR"
    )


def on_disk(small: Small, disk: Path, options: str, before: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The set-up with its folder on a tmpfs of its own, which is mounted again with `options` first."""
    disk.mkdir()
    shell = f'mount -t tmpfs tmpfs "$DISK"\n{before}\nmount -o "remount,$OPTIONS" "$DISK"\nexec "$@"'
    code = (
        "import runpy, sys; from small_emulator import World; from pathlib import Path; import os\n"
        "World.environment = property(lambda self, real=World.environment.fget: "
        "{**real(self), 'POCKETFORGE_ENVIRONMENTS_DIR': os.environ['DISK']})\n"
        "import small_emulator; from pocketforge.cli.main import main\n"
        "world = World(Path(sys.argv[1]), Path(os.environ['LIBRARIES']))\n"
        "[setattr(*patch) for patch in world.patches()]; os.environ.update(world.environment)\n"
        "sys.exit(main(['device', 'setup', 'emulator', *sys.argv[2:]]))"
    )
    return subprocess.run(
        ["/usr/bin/unshare", "--map-root-user", "--mount", "/bin/sh", "-eu", "-c", shell, "sh",
         sys.executable, "-c", code, small.world.folder, *arguments],
        env={**os.environ, "PATH": "/usr/bin:/bin", "DISK": str(disk), "OPTIONS": options, "ROOT": str(small.root),
             "LIBRARIES": str(small.world.libraries), "PYTHONPATH": f"{SOURCES}:{SMALL.parent}"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_a_read_only_disk_is_named_and_one_with_everything_on_it_serves(small, tmp_path):
    given = ("--from", str(small.world.packages))
    done = on_disk(small, tmp_path / "empty", "ro", "", *given)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        f"error: cannot write to {tmp_path}/empty/emulator-1: Read-only file system\n"
        "  hint: choose a folder you can write to with POCKETFORGE_ENVIRONMENTS_DIR\n"
    )
    small.setup()
    done = on_disk(small, tmp_path / "full", "ro", 'cp -a "$ROOT" "$DISK/"', *given)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/full/emulator-1\n"), done.stderr
    assert done.stderr.startswith("ready: qemu 7.2.22; ")


def test_a_full_disk_is_named(small, tmp_path):
    done = on_disk(small, tmp_path / "small", "size=1m", "", "--from", str(small.world.packages))
    assert (done.returncode, done.stdout) == (3, "")
    assert f"error: no space left on the disk of {tmp_path}/small/emulator-1\n" in done.stderr
    assert "POCKETFORGE_ENVIRONMENTS_DIR" in done.stderr


def test_pip_and_apt_get_are_what_is_called_without_a_given_folder(small):
    said = Said()
    provision.setup(said.append)
    assert "  fetching pf_onnx 1.0, " in str(said)
    assert parts.installed()
