"""`doctor` and `device`: what is here, what is not, and how to get it."""

from __future__ import annotations

from importlib import metadata

import pytest

from pocketforge.devices import legacy
from pocketforge.registries import RUNTIMES


@pytest.fixture
def environments(tmp_path, monkeypatch):
    folder = tmp_path / "environments"
    monkeypatch.setenv("POCKETFORGE_ENVIRONMENTS_DIR", str(folder))
    monkeypatch.setenv("POCKETFORGE_ADB", str(tmp_path / "no-adb"))
    return folder


def without(monkeypatch, *missing):
    real = metadata.version

    def version(name):
        if name in missing:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)


def rows(done):
    return {row["name"]: row for row in done.json()}


def test_doctor_says_what_is_installed(cli, cache):
    done = cli("doctor", "--no-imports", "--json")
    assert (done.code, done.stderr) == (0, "")
    found = rows(done)
    assert list(found)[:6] == ["python", "host", "torch", *RUNTIMES]
    assert all(found[name]["state"] == "ok" for name in RUNTIMES)
    for package in ("onnx", "onnxscript", "onnxruntime"):
        assert f"{package} {metadata.version(package)}" in found["onnx"]["found"]
    assert found["cache"]["found"].startswith(f"{cache}, ")
    assert all(set(row) == {"name", "state", "found", "get"} for row in found.values())


def test_doctor_exits_3_when_a_runtime_is_missing_and_says_how_to_get_it(cli, monkeypatch):
    without(monkeypatch, "litert-torch")
    done = cli("doctor", "--no-imports", "--json")
    assert done.code == 3
    row = rows(done)["tflite"]
    assert row["state"] == "missing" and row["found"] == "not installed: litert-torch"
    assert row["get"] == "pip install 'pocketforge[tflite]'"
    assert rows(done)["onnx"]["state"] == "ok"
    text = cli("doctor", "--no-imports").stdout
    assert "MISSING  tflite          not installed: litert-torch\n" in text
    assert "get it: pip install 'pocketforge[tflite]'" in text


def test_what_is_missing_but_optional_is_no_failure(cli, monkeypatch, environments):
    without(monkeypatch, "timm")
    done = cli("doctor", "--no-imports", "--json")
    assert done.code == 0
    assert rows(done)["timm"]["state"] == "optional" and "timm:NAME" in rows(done)["timm"]["found"]
    assert rows(done)["compress"]["state"] == "ok" and "torch-pruning 1.6.1" in rows(done)["compress"]["found"]
    assert rows(done)["tflite-runtime"]["state"] == "optional"
    assert rows(done)["adb"]["state"] == "optional" and "only for phones" in rows(done)["adb"]["found"]
    assert "apt install adb" in rows(done)["adb"]["get"]
    assert rows(done)["tflite-runtime"]["get"] == "pocketforge device setup tflite-runtime"


def test_a_toolchain_that_does_not_import_is_as_good_as_missing(cli, monkeypatch):
    import dataclasses

    broken = dataclasses.replace(RUNTIMES["onnx"], preload=("json", "no_such_module"))
    monkeypatch.setattr("pocketforge.commands.doctor.RUNTIMES", {"onnx": broken})
    monkeypatch.setattr(
        "pocketforge.commands.doctor._package", lambda name, *_: {"name": name, "state": "ok", "found": "", "get": ""}
    )
    done = cli("doctor", "--imports", "--json")
    assert done.code == 3
    assert rows(done)["onnx"]["state"] == "missing"
    assert rows(done)["onnx"]["found"].startswith(
        "installed, but does not import: ModuleNotFoundError: No module named"
    )


def test_doctor_says_that_the_cache_cannot_be_written(cli, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("POCKETFORGE_CACHE_DIR", str(tmp_path / "file" / "cache"))
    done = cli("doctor", "--no-imports", "--json")
    assert done.code == 3
    assert rows(done)["cache"]["state"] == "missing" and "cannot write to" in rows(done)["cache"]["found"]


def test_device_list(cli, environments):
    found = rows(cli("device", "list", "--json"))
    assert found["host"]["state"] == "ready"
    assert found["tflite-runtime"]["state"] == "not set up: pocketforge device setup tflite-runtime"
    assert str(environments) in found["tflite-runtime"]["what"]
    assert found["adb"]["state"].startswith("no phones: ") and "apt install adb" in found["adb"]["what"]
    folder = legacy.legacy_folder()
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()
    (folder / "ready").touch()
    assert rows(cli("device", "list", "--json"))["tflite-runtime"]["state"] == "ready"
    assert cli("device", "list").stdout.count("ready\n") == 2


def test_setup_of_an_unknown_name_says_the_known_one(cli, environments):
    done = cli("device", "setup", "tflite-runtimes")
    assert (done.code, done.stdout) == (2, "")
    assert "nothing named 'tflite-runtimes' can be set up\n  hint: known: tflite-runtime" in done.stderr
    assert not environments.exists()


def test_setup_that_fails_says_why_and_leaves_nothing_that_looks_ready(cli, environments, monkeypatch):
    monkeypatch.setattr(legacy, "REQUIREMENTS", ("no-such-package-at-all==1",))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    done = cli("device", "setup", "tflite-runtime")
    assert (done.code, done.stdout) == (3, "")
    assert "no-such-package-at-all" in done.stderr and "package index must be reachable" in done.stderr
    assert legacy.legacy_python() is None
