"""Parts of the emulator's set-up, each alone: which qemu will do, packages by pip and apt-get, records of files."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.devices.emulator import commands, elf_versions, manifest, packages, parts, pinned, qemu_binary
from pocketforge.devices.emulator.packages import Packages
from pocketforge.devices.emulator.qemu_binary import UnfitQemuError
from pocketforge.devices.x86 import qemu as x86_qemu
from pocketforge.errors import DeviceUnavailable, ToolFailed, ToolMissing


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def fake_qemu(path: Path, version: str = "7.2.22") -> Path:
    return script(path, f"echo 'qemu-aarch64 version {version}'")


# Which qemu


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c) 2003-2022 …", "7.2.22"),
        ("qemu-aarch64 version 8.2.2 (Debian 1:8.2.2+ds-0ubuntu1.4)\n", "8.2.2"),
        ("qemu-aarch64 version 10.0.2 (qemu-10.0.2-1.fc43)", "10.0.2"),
        ("qemu-aarch64 version 9.0.50 (v9.0.0-1234-gabcdef0)", "9.0.50"),
        ("qemu-aarch64 version 11.1", "11.1"),
    ],
)
def test_the_version_is_read_from_what_qemu_prints(printed, version):
    assert qemu_binary.parse_version(printed) == version


@pytest.mark.parametrize(
    "printed",
    ["QEMU emulator version 7.2.22 (Debian 1:7.2)", "qemu-x86_64 version 7.2.22", "qemu-aarch64 version x", "", "\n\n"],
)
def test_another_programs_words_are_not_qemus(printed):
    with pytest.raises(UnfitQemuError, match="is not qemu-aarch64: --version prints "):
        qemu_binary.parse_version(printed)


@given(st.text())
def test_whatever_is_printed_is_a_version_or_refused(text):
    try:
        version = qemu_binary.parse_version(text)
    except UnfitQemuError:
        return
    assert qemu_binary.new_enough(version) in (True, False)


@pytest.mark.parametrize(
    ("version", "fit"),
    [("7.2.0", True), ("7.2", True), ("7.1.99", False), ("6.2.0", False), ("10.0.2", True), ("11.1.0", True)],
)
def test_seven_two_is_the_oldest(version, fit):
    assert qemu_binary.new_enough(version) is fit


def test_a_fit_qemu_is_known_by_version_and_hash(tmp_path):
    path = fake_qemu(tmp_path / "qemu-aarch64")
    found = qemu_binary.examine(path)
    assert (found.path, found.version, found.sha256) == (path, "7.2.22", sha256(path))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("echo 'qemu-aarch64 version 6.2.0 (Debian 1:6.2)'", "is version 6.2.0; 7.2 or newer is needed"),
        (
            "echo 'qemu-aarch64: error while loading shared libraries: libgmodule-2.0.so.0: cannot open' >&2; exit 127",
            "does not start: qemu-aarch64: error while loading shared libraries: libgmodule-2.0.so.0: cannot open",
        ),
        ("exit 3", "does not start: exit code 3"),
        ("echo hello", "is not qemu-aarch64: --version prints 'hello'"),
        ("sleep 60", "did not say its version in 0.2 s"),
    ],
)
def test_why_a_qemu_will_not_do(tmp_path, monkeypatch, text, why):
    monkeypatch.setattr(qemu_binary, "_TIMEOUT_S", 0.2 if "sleep" in text else 20)
    path = script(tmp_path / "qemu-aarch64", text.replace("sleep", "exec sleep"))
    with pytest.raises(UnfitQemuError) as caught:
        qemu_binary.examine(path)
    assert str(caught.value) == why


def test_a_qemu_that_is_absent_or_no_program(tmp_path):
    with pytest.raises(UnfitQemuError, match="cannot be used: No such file or directory"):
        qemu_binary.examine(tmp_path / "absent")
    (tmp_path / "text").write_text("not a program")
    with pytest.raises(UnfitQemuError, match="does not start: Permission denied"):
        qemu_binary.examine(tmp_path / "text")
    (tmp_path / "text").chmod(0o755)
    with pytest.raises(UnfitQemuError, match="does not start: Exec format error"):
        qemu_binary.examine(tmp_path / "text")


def test_the_first_fit_one_on_path_is_taken_and_the_others_are_named(tmp_path, monkeypatch):
    old = fake_qemu(tmp_path / "qemu-aarch64-static", "6.2.0")
    fit = fake_qemu(tmp_path / "qemu-aarch64", "8.2.2")
    monkeypatch.setenv("PATH", str(tmp_path))
    found, passed_over = qemu_binary.on_path()
    assert found is not None and found.path == fit
    assert passed_over == [f"{old} is version 6.2.0; 7.2 or newer is needed"]
    fit.unlink()
    assert qemu_binary.on_path() == (None, passed_over)


def test_the_qemu_that_the_user_names_is_taken_or_refused_never_replaced(tmp_path, monkeypatch):
    monkeypatch.delenv(qemu_binary.VARIABLE, raising=False)
    assert qemu_binary.chosen() is None
    path = tmp_path / "mine"
    monkeypatch.setenv(qemu_binary.VARIABLE, str(path))
    assert qemu_binary.chosen() == path
    with pytest.raises(DeviceUnavailable) as caught:
        qemu_binary.examine_chosen(path)
    assert str(caught.value) == (
        f"POCKETFORGE_QEMU names {path}, which cannot be used: No such file or directory\n"
        "  hint: name a qemu-aarch64 of version 7.2 or newer, or unset POCKETFORGE_QEMU"
    )
    fake_qemu(path, "9.1.0")
    assert qemu_binary.examine_chosen(path).version == "9.1.0"


# Records of files


def part_in(folder: Path, **more: Any) -> manifest.Part:
    more = {"version": "1", "origin": "here", "key": "k", "folder": folder, "roles": {"main": "sub/a"}, **more}
    return manifest.Part(name="thing", files=manifest.look_at_folder(folder), **more)


@pytest.fixture
def part(tmp_path):
    folder = tmp_path / "parts" / "thing-1"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_bytes(b"some bytes")
    (folder / "link").symlink_to("sub/a")
    return part_in(folder)


def test_a_part_and_the_manifest_are_read_back_as_written(part, tmp_path):
    assert sorted(part.files) == ["link", "sub/a"] and part.size_bytes == 20
    path = part.folder / manifest.RECORD
    manifest.write_part(path, part, tmp_path)
    assert manifest.read_part(path, tmp_path) == part
    assert str(tmp_path) not in path.read_text()
    manifest.write(tmp_path, {"thing": part})
    assert manifest.read(tmp_path) == {"thing": part}
    assert sorted(p.name for p in tmp_path.iterdir()) == [manifest.MANIFEST, "parts"]


def test_what_is_written_may_be_moved(part, tmp_path):
    manifest.write(tmp_path, {"thing": part})
    moved = tmp_path.rename(tmp_path.with_name(tmp_path.name + "-moved"))
    read = manifest.read(moved)
    assert read is not None
    found = read["thing"]
    assert found.path("main") == moved / "parts" / "thing-1" / "sub" / "a"
    assert manifest.trouble(found, deep=True) == ""


def test_no_manifest_is_none_and_a_damaged_one_is_named(tmp_path):
    assert manifest.read(tmp_path) is None
    assert manifest.read(tmp_path / "no" / "folder") is None
    for text in ("", "{", "[]", "{}", '{"parts": {"qemu": {}}}', '{"parts": {"qemu": 1}}', "\x00"):
        (tmp_path / manifest.MANIFEST).write_text(text)
        with pytest.raises(ValueError, match=f"{tmp_path}/manifest.json is damaged"):
            manifest.read(tmp_path)
        (tmp_path / "part.json").write_text(text)
        assert manifest.read_part(tmp_path / "part.json", tmp_path) is None


def test_damage_is_found_and_named(part):
    path = part.folder / "sub" / "a"
    assert manifest.trouble(part, deep=False) == manifest.trouble(part, deep=True) == ""
    wanted = sha256(path)
    path.write_bytes(b"some bytez")
    for deep in (False, True):
        found = manifest.trouble(part, deep=deep)
        assert found == f"{part.folder / 'link'} is damaged: sha256 wanted {wanted}, found {sha256(path)}"
    path.unlink()
    assert manifest.trouble(part, deep=False) == f"{part.folder / 'link'} is missing"


def test_a_new_time_of_change_alone_is_no_damage_and_an_old_one_hides_nothing_from_a_deep_look(part):
    path = part.folder / "sub" / "a"
    recorded = path.stat().st_mtime_ns
    os.utime(path, (1, 1))
    assert manifest.trouble(part, deep=False) == ""
    path.write_bytes(b"some bytez")
    os.utime(path, ns=(recorded, recorded))
    assert manifest.trouble(part, deep=False) == ""
    assert "is damaged" in manifest.trouble(part, deep=True)


# Packages


@pytest.fixture
def said():
    return []


@pytest.fixture
def shelf(tmp_path, said):
    """Packages with an empty folder of kept ones."""

    def make(**more: Any) -> Packages:
        for name in ("kept", "scratch"):
            (tmp_path / name).mkdir(exist_ok=True)
        return Packages(tmp_path / "kept", tmp_path / "scratch", said.append, **more)

    return make


def small_wheel(folder: Path, content: bytes = b"library", name: str = "pf_small") -> pinned.Wheel:
    """A real wheel of a few files for arm64, as pip takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = f"{name}-1.0-cp311-cp311-manylinux_2_28_aarch64.whl"
    with zipfile.ZipFile(folder / file, "w") as archive:
        archive.writestr(f"{name}/lib.so", content)
        archive.writestr(f"{name}/include/a.h", "// a")
        archive.writestr(f"{name}/include/deep/b.h", "// b")
        archive.writestr(f"{name}/other.so", "not wanted")
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{name}-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-manylinux_2_28_aarch64\n",
        )
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return pinned.Wheel(
        name=name, version="1.0", file=file, sha256=sha256(folder / file), size_bytes=(folder / file).stat().st_size,
        main=f"{name}/lib.so", members=(f"{name}/lib.so", f"{name}/include/*"),
    )  # fmt: skip


@pytest.fixture
def index(tmp_path, monkeypatch):
    """The only place where pip looks."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_wheel_comes_by_pip_once_and_is_kept_with_its_hash(shelf, index, said):
    wheel = small_wheel(index)
    path = shelf().wheel(wheel)
    assert path == shelf().kept / wheel.file and sha256(path) == wheel.sha256
    assert (path.parent / "SHA256SUMS").read_text() == f"{wheel.sha256}  {wheel.file}\n"
    assert said == [f"  fetching pf_small 1.0, {wheel.size_bytes:,} bytes"]
    (index / wheel.file).unlink()
    assert shelf().wheel(wheel) == path


def test_a_kept_wheel_that_is_damaged_is_fetched_again(shelf, index, said):
    wheel = small_wheel(index)
    path = shelf().wheel(wheel)
    damaged = bytearray(path.read_bytes())
    damaged[40] ^= 1
    path.write_bytes(damaged)
    assert sha256(shelf().wheel(wheel)) == wheel.sha256
    assert f"  {path} is damaged: getting it again" in said


def test_pip_refuses_a_file_that_is_not_the_pinned_one(shelf, index):
    wheel = small_wheel(index)
    small_wheel(index, b"another library")
    with pytest.raises(ToolFailed) as caught:
        shelf().wheel(wheel)
    assert "PACKAGES DO NOT MATCH THE HASHES" in caught.value.message and wheel.sha256 in caught.value.message
    assert caught.value.exit_code == 3 and "--from" in caught.value.hint
    assert list(shelf().kept.iterdir()) == []


def test_an_index_without_the_wheel_is_told_in_pips_words(shelf, index):
    wheel = small_wheel(index)
    (index / wheel.file).unlink()
    with pytest.raises(ToolFailed, match=r"No matching distribution found for pf_small==1\.0") as caught:
        shelf().wheel(wheel)
    assert caught.value.hint == (
        "the package index must be reachable; without network: run this command on a machine that has it, "
        "copy its downloads folder here, and name that with --from"
    )


def test_a_python_without_pip_is_told_how_to_get_it(shelf, index, tmp_path, monkeypatch):
    wheel = small_wheel(index)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(ToolMissing) as caught:
        shelf().wheel(wheel)
    assert caught.value.message == f"pip is needed to fetch {wheel.file}, and {python} has none"
    assert caught.value.hint == f"{python} -m ensurepip, then this command again"


def test_a_given_folder_is_asked_and_nothing_else(shelf, index, tmp_path):
    wheel = small_wheel(index)
    given = tmp_path / "given"
    given.mkdir()
    with pytest.raises(DeviceUnavailable, match=f"{given} has no {wheel.file}"):
        shelf(given=given).wheel(wheel)
    shutil.copy(index / wheel.file, given)
    path = shelf(given=given).wheel(wheel)
    assert sha256(path) == wheel.sha256
    path.unlink()
    (given / wheel.file).write_bytes(b"something else")
    with pytest.raises(DeviceUnavailable) as caught:
        shelf(given=given).wheel(wheel)
    assert caught.value.exit_code == 4 and str(caught.value) == (
        f"{given / wheel.file} is damaged or another file: sha256 wanted {wheel.sha256}, "
        f"found {sha256(given / wheel.file)}\n"
        f"  hint: copy it again to {given}, then: pocketforge device setup emulator --from {given}"
    )
    assert not path.exists()


def test_only_wanted_members_are_unpacked(tmp_path):
    wheel = small_wheel(tmp_path)
    packages.unpack_wheel(tmp_path / wheel.file, wheel, tmp_path / "out")
    found = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert found == ["pf_small/include/a.h", "pf_small/include/deep/b.h", "pf_small/lib.so"]
    assert os.access(tmp_path / "out" / "pf_small" / "lib.so", os.X_OK)


def test_a_wheel_that_would_write_elsewhere_or_lacks_its_library_is_refused(tmp_path):
    wheel = small_wheel(tmp_path)
    with zipfile.ZipFile(tmp_path / "bad.whl", "w") as archive:
        archive.writestr("pf_small/include/../../../evil", "x")
    with pytest.raises(DeviceUnavailable, match=r"holds a file outside its folder: pf_small/include/\.\./"):
        packages.unpack_wheel(tmp_path / "bad.whl", wheel, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "empty.whl", "w") as archive:
        archive.writestr("pf_small/include/a.h", "x")
    with pytest.raises(DeviceUnavailable, match=r"empty.whl has no pf_small/lib.so"):
        packages.unpack_wheel(tmp_path / "empty.whl", wheel, tmp_path / "out")


def test_the_pins_are_whole():
    for wheel in (*pinned.RUNTIMES.values(), *pinned.COMPILERS.values()):
        assert wheel.file.startswith(f"{wheel.name.replace('-', '_')}-{wheel.version}-")
        assert len(wheel.sha256) == 64 and int(wheel.sha256, 16) and wheel.size_bytes > 10**7
        assert all(tag.startswith(("manylinux", "musllinux")) for tag in wheel.platforms)
    assert {wheel.platforms for wheel in pinned.RUNTIMES.values()} == {
        ("manylinux_2_28_aarch64",),
        ("manylinux_2_27_aarch64",),
    }


def small_deb(folder: Path, name: str, files: dict[str, str], version: str = "1") -> Path:
    tree = folder / f"tree-{name}"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: none <none@example.org>\nDescription: x\n"
    )
    for path, text in files.items():
        script(tree / path, text)
    made = folder / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, made], check=True, capture_output=True)
    shutil.rmtree(tree)
    return made


@pytest.fixture
def apt_log(tmp_path):
    """Where `apt` writes down how it was called."""
    return tmp_path / "apt.log"


@pytest.fixture
def apt(tmp_path, monkeypatch, apt_log):
    """An apt-get that copies packages from $MIRROR, and writes down how it was called."""
    mirror, bin_folder = tmp_path / "mirror", tmp_path / "bin"
    mirror.mkdir()

    def install(refuses_system_lists: bool = False) -> Path:
        script(
            bin_folder / "apt-get",
            f'echo "$@" >>{apt_log}\n'
            + ('case "$*" in *State::Lists*) ;; *) echo "E: Unable to locate package" >&2; exit 100;; esac\n')
            * refuses_system_lists
            + 'while [ $# -gt 0 ]; do case "$1" in -o) shift;; -*) ;; update) exit 0;; download) shift; break;; esac;'
            + " shift; done\n"
            + f'for n in "$@"; do cp {mirror}/"$n"_*.deb . 2>/dev/null || {{ echo "E: Unable to locate package $n" >&2;'
            + " exit 100; }; done",
        )
        monkeypatch.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
        return mirror

    return install


def test_debian_packages_come_by_apt_get_once(shelf, apt, apt_log):
    mirror = apt()
    for name in ("pf-one", "pf-two"):
        small_deb(mirror, name, {"usr/bin/x": "true"})
    found = shelf().debs(["pf-one", "pf-two"])
    assert [path.name for path in found] == ["pf-one_1_all.deb", "pf-two_1_all.deb"]
    assert all(path.parent == shelf().kept for path in found)
    shutil.rmtree(mirror)
    assert shelf().debs(["pf-one", "pf-two"]) == found
    assert apt_log.read_text() == "--quiet download pf-one pf-two\n"


def test_where_the_system_has_no_package_lists_ours_are_read_without_touching_its(shelf, apt, apt_log, said):
    small_deb(apt(refuses_system_lists=True), "pf-one", {"usr/bin/x": "true"})
    assert shelf().debs(["pf-one"])[0].is_file()
    first, update, again = apt_log.read_text().splitlines()
    assert first == "--quiet download pf-one"
    lists = f"-o Dir::State::Lists={shelf().scratch}/apt-lists/lists -o Dir::Cache={shelf().scratch}/apt-lists/cache"
    assert (update, again) == (f"--quiet {lists} update", f"--quiet {lists} download pf-one")
    assert any("package lists into a folder of our own" in line for line in said)


def test_a_package_that_no_mirror_has_is_told_in_apts_words(shelf, apt):
    apt()
    with pytest.raises(ToolFailed, match="E: Unable to locate package pf-none") as caught:
        shelf().debs(["pf-none"])
    assert caught.value.hint.startswith("the package mirrors of this system must be reachable; without network: ")


def test_without_apt_get_the_message_says_what_to_do(shelf, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing) as caught:
        shelf().debs(["pf-one", "pf-two"])
    assert caught.value.message == "apt-get is needed to fetch pf-one, pf-two, and this system has none"
    assert "name that with --from" in caught.value.hint


def test_debian_packages_from_a_given_folder(shelf, tmp_path, apt, apt_log):
    apt()
    given = tmp_path / "given"
    given.mkdir()
    with pytest.raises(DeviceUnavailable, match=f"{given} has no pf-one_….deb"):
        shelf(given=given).debs(["pf-one"])
    deb = small_deb(given, "pf-one", {"usr/bin/x": "true"})
    (given / "SHA256SUMS").write_text(f"{'0' * 64}  {deb.name}\n")
    with pytest.raises(DeviceUnavailable) as caught:
        shelf(given=given).debs(["pf-one"])
    assert caught.value.message == (f"{deb} is damaged or another file: sha256 wanted {'0' * 64}, found {sha256(deb)}")
    (given / "SHA256SUMS").write_text(f"{sha256(deb)}  {deb.name}\n")
    small_deb(given, "pf-one", {"usr/bin/x": "true"}, version="2")
    with pytest.raises(DeviceUnavailable, match=r"several of pf-one: pf-one_1_all\.deb, pf-one_2_all\.deb"):
        shelf(given=given).debs(["pf-one"])
    (given / "pf-one_2_all.deb").unlink()
    assert sha256(shelf(given=given).debs(["pf-one"])[0]) == sha256(deb)
    assert not apt_log.exists()


def test_a_damaged_debian_package_is_refused_by_name(shelf, tmp_path):
    deb = small_deb(tmp_path, "pf-one", {"usr/bin/x": "true"})
    data = bytearray(deb.read_bytes())
    data[-40] ^= 0xFF
    deb.write_bytes(data)
    (tmp_path / "out").mkdir()
    with pytest.raises(ToolFailed, match="dpkg-deb ended with exit code 2") as caught:
        shelf().unpack_deb(deb, tmp_path / "out")
    assert caught.value.hint == (f"if {deb} is damaged, fetch it again: pocketforge device setup emulator --refresh")


def test_without_dpkg_deb_the_message_says_what_to_install(shelf, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match=r"dpkg-deb is needed to unpack x\.deb"):
        shelf().unpack_deb(tmp_path / "x.deb", tmp_path)


# A qemu from a package


def test_the_package_that_has_a_fit_qemu_is_found(shelf, apt, tmp_path):
    mirror = apt()
    # Debian 13: the first package is empty, the second has the program.
    small_deb(mirror, "qemu-user-static", {"usr/share/doc/x": ""})
    small_deb(mirror, "qemu-user", {"usr/bin/qemu-aarch64": "echo qemu-aarch64 version 10.0.2"})
    (tmp_path / "out").mkdir()
    found, deb = qemu_binary.from_packages(shelf(), tmp_path / "out", [])
    assert (found.path, found.version) == (tmp_path / "out" / "qemu-aarch64", "10.0.2")
    assert deb.name == "qemu-user_1_all.deb"


def test_the_qemu_of_x86_hosts_is_unpacked_from_the_same_package(apt, apt_log, tmp_path, monkeypatch):
    mirror = apt()
    programs = {f"usr/bin/qemu-{name}-static": f"echo qemu-{name} version 7.2.22" for name in ("aarch64", "x86_64")}
    small_deb(mirror, "qemu-user-static", programs)
    monkeypatch.setenv("POCKETFORGE_ENVIRONMENTS_DIR", str(tmp_path / "environments"))
    said: list[str] = []
    program = x86_qemu.setup(said.append)
    assert program == tmp_path / "environments" / "x86-emulator-1" / "qemu" / "qemu-x86_64-static"
    assert said == ["  fetching qemu-user-static", "ready: qemu-x86_64 7.2.22"]
    assert [p.name for p in program.parent.iterdir()] == [program.name], "the ARM one is the ARM emulator's"
    assert sorted(p.name for p in program.parents[1].iterdir()) == ["manifest.json", "qemu"]
    asked = apt_log.read_text()
    program.write_text("#!/bin/sh\necho qemu-x86_64 version 7.2.21\n")
    with pytest.raises(DeviceUnavailable, match=r"qemu-x86_64-static is damaged: sha256 wanted \w+, found") as caught:
        x86_qemu.installed()
    assert caught.value.hint == "repair it: pocketforge device setup x86-emulator"
    assert x86_qemu.setup(said.append) == program and x86_qemu.installed().version == "7.2.22"
    assert apt_log.read_text() == asked, "the kept package does"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DeviceUnavailable, match="no qemu-x86_64 could be had") as caught:
        x86_qemu.setup(said.append, given=tmp_path / "empty", refresh=True)
    assert "has no qemu-user-static_….deb" in caught.value.message
    assert "POCKETFORGE_QEMU_X86_64=PATH" in caught.value.hint
    assert x86_qemu.installed().version == "7.2.22", "what was there stays"


def test_when_no_package_has_a_fit_qemu_every_reason_is_given(shelf, apt, tmp_path):
    mirror = apt()
    small_deb(mirror, "qemu-user-static", {"usr/bin/qemu-aarch64-static": "echo qemu-aarch64 version 6.2.0"})
    small_deb(
        mirror,
        "qemu-user",
        {"usr/bin/qemu-aarch64": "echo 'error while loading shared libraries: libglib-2.0.so.0' >&2; exit 127"},
    )
    (tmp_path / "out").mkdir()
    with pytest.raises(DeviceUnavailable) as caught:
        qemu_binary.from_packages(shelf(), tmp_path / "out", ["/usr/bin/qemu-aarch64 is version 5.2.0; …"])
    assert caught.value.message == (
        "no qemu-aarch64 could be had:\n"
        "  /usr/bin/qemu-aarch64 is version 5.2.0; …\n"
        "  qemu-aarch64-static of qemu-user-static_1_all.deb is version 6.2.0; 7.2 or newer is needed\n"
        "  qemu-aarch64 of qemu-user_1_all.deb does not start: error while loading shared libraries: libglib-2.0.so.0"
    )
    assert caught.value.hint.startswith(
        "install qemu's user mode (package qemu-user-static or qemu-user, 7.2 or newer), "
        "or name a qemu-aarch64 with POCKETFORGE_QEMU=PATH; "
    )
    assert list((tmp_path / "out").iterdir()) == []


def test_without_a_qemu_and_without_apt_get_both_are_said(shelf, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing) as caught:
        qemu_binary.from_packages(shelf(), tmp_path, [])
    assert caught.value.message == (
        "no qemu-aarch64 could be had: none on PATH; "
        "apt-get is needed to fetch qemu-user-static, and this system has none"
    )
    assert "POCKETFORGE_QEMU=PATH" in caught.value.hint


# Programs that we run


def test_a_failed_program_leaves_its_words_and_a_slow_one_is_mentioned(tmp_path, said, monkeypatch):
    def run(*argv: str) -> str:
        return commands.run(argv, cwd=tmp_path, doing="waiting", emit=said.append, hint="try again")

    with pytest.raises(ToolFailed) as caught:
        run("sh", "-c", "echo its words >&2; exit 5")
    assert str(caught.value) == "sh ended with exit code 5:\nits words\n  hint: try again"
    monkeypatch.setattr(commands, "SAY_EVERY_S", 0.3)
    assert run("sh", "-c", "sleep 0.5; echo done") == "done\n"
    assert said == ["  still waiting, 0 s"]


def test_a_program_that_is_stopped_takes_its_children_with_it(tmp_path, monkeypatch):
    def stop(text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "SAY_EVERY_S", 0.5)
    with pytest.raises(KeyboardInterrupt):
        commands.run(
            ["sh", "-c", f"sleep 77 & echo $! >{tmp_path}/pid; wait"], cwd=tmp_path, doing="", emit=stop, hint=""
        )
    child = Path("/proc", (tmp_path / "pid").read_text().strip())
    until = time.monotonic() + 5
    while child.exists() and "\nState:\tZ" not in (child / "status").read_text() and time.monotonic() < until:
        time.sleep(0.05)
    assert not child.exists() or "\nState:\tZ" in (child / "status").read_text()


# Libraries


def test_a_file_that_is_no_arm64_library_is_refused(tmp_path):
    (tmp_path / "text.so").write_text("INPUT(libm.so.6)")
    (tmp_path / "cut.so").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(20))
    for name in ("text.so", "cut.so", "absent.so"):
        with pytest.raises(DeviceUnavailable, match=f"{name} cannot be read as a library"):
            elf_versions.read_versions(tmp_path / name)
    # Any library of an x86 host will do; this interpreter's own program is one.
    host = Path(sys.executable).resolve()
    if elf_machine(host) != 183:
        with pytest.raises(DeviceUnavailable, match="is not for arm64 but for EM_X86_64"):
            elf_versions.read_versions(host)


def elf_machine(path: Path) -> int:
    with path.open("rb") as file:
        return int.from_bytes(file.read(20)[18:20], "little")


# What is asked of the environment


def test_without_the_extra_the_message_names_it(monkeypatch):
    real = metadata.version

    def version(name: str) -> str:
        if name in parts.PACKAGES:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(ToolMissing) as caught:
        parts.installed()
    assert str(caught.value) == (
        "the emulator needs capstone and pyelftools, which are not installed\n"
        "  hint: pip install 'capstone>=5.0.6' 'pyelftools>=0.32'"
    )
    assert parts.identity() == "none"


def test_what_was_never_set_up_says_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("POCKETFORGE_ENVIRONMENTS_DIR", str(tmp_path))
    with pytest.raises(DeviceUnavailable) as caught:
        parts.installed()
    assert str(caught.value) == (
        "the emulator is not set up on this machine\n  hint: set it up: pocketforge device setup emulator"
    )
    assert parts.identity() == "none"
    (tmp_path / "emulator-1").mkdir()
    (tmp_path / "emulator-1" / "manifest.json").write_text("{")
    with pytest.raises(DeviceUnavailable, match=r"the emulator cannot be used: .*manifest.json is damaged"):
        parts.installed()
    assert parts.identity() == "none"
