"""`doctor` and `device`: what is here, what is not, and how to get it."""

from __future__ import annotations

import dataclasses
import os
from importlib import metadata

import pytest

from pocketforge.commands import doctor
from pocketforge.devices import environments as pythons
from pocketforge.facts.tested import TESTED
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
    assert all(set(row) == {"name", "state", "found", "get", "libraries"} for row in found.values())
    told = {each["name"]: each for name in ("torch", *RUNTIMES) for each in found[name]["libraries"]}
    assert told["executorch"] == {
        "name": "executorch", "wanted": "==1.5.1", "found": metadata.version("executorch"), "state": "ok",
    }  # fmt: skip
    assert told["torch"]["wanted"] == "==2.13.0" and "torch 2.13.0" in found["torch"]["found"]
    assert all(each["wanted"].startswith("==") and each["state"] == "ok" for each in told.values())
    assert found["compress"]["libraries"][0]["wanted"] == "==1.6.1" and found["host"]["libraries"] == []


def installed(folder, name, version):
    """What importlib.metadata finds of a distribution, and nothing else of it."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_another_version_than_the_pinned_one_is_untested_and_no_failure(cli, tmp_path, monkeypatch, environments):
    installed(tmp_path, "executorch", "1.4.1")
    installed(tmp_path, "onnxruntime", "1.33.0")
    installed(tmp_path, "accelerate", "2.0.1")
    monkeypatch.syspath_prepend(tmp_path)
    done = cli("doctor", "--no-imports", "--json")
    assert done.code == 0
    found = rows(done)
    assert {n: found[n]["state"] for n in (*RUNTIMES, "compress")} == {
        "executorch": "untested", "tflite": "ok", "onnx": "untested", "compress": "untested",
    }  # fmt: skip
    assert found["executorch"]["found"].startswith("executorch: wanted 1.5.1, found 1.4.1 (older); torchao 0.18.0 (pin")
    assert found["executorch"]["get"] == "pip install 'executorch==1.5.1'"
    assert [each["state"] for each in found["onnx"]["libraries"]] == ["ok", "ok", "newer"]
    assert "accelerate: wanted <2,>=1.15, found 2.0.1 (newer)" in found["compress"]["found"]
    text = cli("doctor", "--no-imports").stdout
    assert "UNTESTED onnx " in text and "get the tested one: pip install 'onnxruntime==1.32.0'" in text


def test_a_version_in_the_tested_range_is_ok_and_the_recommended_one_is_said(cli, tmp_path, monkeypatch, environments):
    installed(tmp_path, "onnxruntime", TESTED["onnxruntime"].oldest)
    installed(tmp_path, "executorch", "1.4.9")
    monkeypatch.syspath_prepend(tmp_path)
    found = rows(cli("doctor", "--no-imports", "--json"))
    assert (found["onnx"]["state"], found["executorch"]["state"]) == ("ok", "untested")
    assert [each["state"] for each in found["onnx"]["libraries"]] == ["ok", "ok", "tested"]
    assert "onnxruntime 1.31.0 (tested; recommended: 1.32.0)" in found["onnx"]["found"]


def test_an_optional_library_that_does_not_import_is_not_ok(cli, tmp_path, monkeypatch, environments):
    installed(tmp_path, "torchvision", "0.28.0")
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms is gone')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    real = doctor.import_trouble
    monkeypatch.setattr(doctor, "import_trouble", lambda m: real(m) if m == ["torchvision.models"] else "")
    monkeypatch.setattr(doctor, "_engines", lambda: doctor.Row("torch engines", "ok", ""))
    done = cli("doctor", "--imports", "--json")
    row = rows(done)["torchvision"]
    assert (done.code, row["state"]) == (3, "missing")
    assert row["found"].startswith("installed, but does not import: RuntimeError: operator torchvision::nms is gone")
    # Without trying it nobody knows, and nobody says so.
    assert rows(cli("doctor", "--no-imports", "--json"))["torchvision"]["found"] == "torchvision 0.28.0; not imported"


def test_doctor_exits_3_when_a_runtime_is_missing_and_says_how_to_get_it(cli, monkeypatch):
    without(monkeypatch, "litert-torch")
    done = cli("doctor", "--no-imports", "--json")
    assert done.code == 3
    row = rows(done)["tflite"]
    assert row["state"] == "missing" and row["found"] == "not installed: litert-torch"
    get = "pip install litert-torch==0.10.0 ai-edge-litert==2.3.0 torchao==0.18.0 executorch==1.5.1"
    get += " 'ruamel.yaml[oldlibyaml]'"
    assert row["get"] == get
    assert rows(done)["onnx"]["state"] == "ok"
    text = cli("doctor", "--no-imports").stdout
    assert "MISSING  tflite          not installed: litert-torch\n" in text
    assert " ".join(f"get it: {get}".split()) in " ".join(text.split())


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
    broken = dataclasses.replace(RUNTIMES["onnx"], preload=("json", "no_such_module"))
    monkeypatch.setattr(RUNTIMES, "ours", {"onnx": broken})
    real = doctor.import_trouble
    monkeypatch.setattr(doctor, "import_trouble", lambda m: real(m) if "no_such_module" in m else "")
    monkeypatch.setattr(doctor, "_engines", lambda: doctor.Row("torch engines", "ok", ""))
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
    folder = pythons.TFLITE_RUNTIME.folder
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
    lacking = dataclasses.replace(pythons.TFLITE_RUNTIME, requirements=("no-such-package-at-all==1",))
    monkeypatch.setitem(pythons.ENVIRONMENTS, "tflite-runtime", lacking)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    done = cli("device", "setup", "tflite-runtime")
    assert (done.code, done.stdout) == (3, "")
    assert "no-such-package-at-all" in done.stderr and "package index must be reachable" in done.stderr
    assert pythons.TFLITE_RUNTIME.python is None
