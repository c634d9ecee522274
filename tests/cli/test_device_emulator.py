"""The emulator in `device list`, `device setup` and `doctor`."""

from __future__ import annotations

from importlib import metadata

import pytest

from pocketforge.devices.emulator import pinned

TITLES = ["packages", "qemu", "arm64 libraries", "runtimes", "runners"]


@pytest.fixture(autouse=True)
def environments(tmp_path, monkeypatch):
    folder = tmp_path / "environments"
    monkeypatch.setenv("POCKETFORGE_ENVIRONMENTS_DIR", str(folder))
    monkeypatch.delenv("POCKETFORGE_QEMU", raising=False)
    return folder


def emulator_rows(done):
    rows = {row["name"]: row for row in done.json() if row["name"].startswith("emulator: ")}
    assert list(rows) == [f"emulator: {title}" for title in TITLES]
    return rows


def test_before_the_set_up_doctor_says_how_and_nothing_is_missing(cli):
    done = cli("doctor", "--no-imports", "--json")
    assert done.code == 0
    packages, *others = emulator_rows(done).values()
    assert packages["state"] == "ok"
    assert packages["found"].startswith(f"capstone {metadata.version('capstone')}, pyelftools")
    for row in others:
        assert (row["state"], row["get"]) == ("optional", "pocketforge device setup emulator")
        assert row["found"] == "not set up: no ARM device can be emulated"


def test_a_set_up_that_is_broken_is_missing(cli, environments):
    (environments / "emulator-1").mkdir(parents=True)
    (environments / "emulator-1" / "manifest.json").write_text('{"parts": {}}')
    done = cli("doctor", "--no-imports", "--json")
    assert done.code == 3
    _, *others = emulator_rows(done).values()
    assert [row["state"] for row in others] == ["missing"] * 4
    assert [row["found"] for row in others] == [
        f"the emulator has no {name}" for name in ("qemu", "arm64 libraries", "executorch", "runners")
    ]
    assert "get it: pocketforge device setup emulator" in cli("doctor", "--no-imports").stdout


def test_without_the_extra_each_command_names_it(cli, monkeypatch):
    real = metadata.version

    def version(name):
        if name == "capstone":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    row = emulator_rows(cli("doctor", "--no-imports", "--json"))["emulator: packages"]
    assert (row["state"], row["found"]) == ("optional", "not installed: capstone")
    assert row["get"] == "pip install 'capstone>=5.0.6' 'pyelftools>=0.32'"
    done = cli("device", "setup", "emulator")
    assert (done.code, done.stdout) == (3, "")
    assert done.stderr == (
        "error: the emulator needs capstone, which is not installed\n"
        "  hint: pip install 'capstone>=5.0.6' 'pyelftools>=0.32'\n"
    )


def test_device_list_has_the_emulator(cli, environments):
    row = next(row for row in cli("device", "list", "--json").json() if row["name"] == "emulator")
    assert row == {
        "name": "emulator",
        "kind": "device",
        "state": "the emulator is not set up on this machine: set it up: pocketforge device setup emulator",
        "what": f"ARM CPUs, in {environments}/emulator-1",
    }


def test_options_of_the_emulator_are_the_emulators(cli, tmp_path, environments):
    for options in (["--refresh"], ["--from", str(tmp_path)]):
        done = cli("device", "setup", "tflite-runtime", *options)
        assert done.code == 2 and "--from and --refresh are for the emulator" in done.stderr
    done = cli("device", "setup", "emulator", "--from", str(tmp_path / "absent"))
    assert done.code == 2 and f"Directory '{tmp_path}/absent' does not exist" in done.stderr
    done = cli("device", "setup", "emulatr")
    assert done.code == 2 and "nothing named 'emulatr' can be set up" in done.stderr
    assert "known: tflite-runtime, mediapipe, web, emulator" in done.stderr
    assert not environments.exists()


def test_an_empty_given_folder_says_what_it_lacks(cli, tmp_path, monkeypatch):
    given = tmp_path / "given"
    given.mkdir()
    qemu = tmp_path / "qemu"
    qemu.write_text("#!/bin/sh\necho qemu-aarch64 version 9.2.0\n")
    qemu.chmod(0o755)
    monkeypatch.setenv("POCKETFORGE_QEMU", str(qemu))
    done = cli("device", "setup", "emulator", "--from", str(given))
    assert (done.code, done.stdout) == (4, "")
    assert f"1/8 qemu: 9.2.0, {qemu}\n2/8 executorch: making\n" in done.stderr
    assert f"error: {given} has no {pinned.RUNTIMES['executorch'].file}\n" in done.stderr
    assert "hint: without network: run this command on a machine that has it" in done.stderr
