"""Builds and benchmarks with phones: the command line, the real adb and adbd, every runtime's real ARM kernels."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from release_build import RELEASE, ROOT, SOURCES, Done, Release, pocketforge
from warm_server import in_process

from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.facts.phones import asked_phones, find_phones
from pocketforge.recipe.device import AdbDevice
from pocketforge.recipe.toml import load_recipe
from pocketforge.run.store import Store

RUNTIMES = ("executorch", "tflite", "onnx")
# As little as is measured at all: qemu is slow, and its times say nothing.
SHORT = "rounds = 3\nmin_samples = 30\nmin_seconds = 0.0\nwarmup = 1\neval_samples = 6\n"
HOST = '\n[[device]]\nname = "host"\nmin_samples = 10\nmin_seconds = 0.0\n'


def device(more: str = "") -> str:
    return '\n[[device]]\nvia = "adb"\n' + SHORT + more


def budget(limit: float, name: str, metric: str = "latency_ms") -> str:
    return f'\n[[budget]]\nmetric = "{metric}"\nlimit = {limit}\ndevice = "{name}"\n'


class Shop:
    """A copy of the shipped model's folder, beside a cache in which its files are exported already."""

    def __init__(self, folder: Path, release: Release) -> None:
        self.folder = folder / "digits"
        self.cache = folder / "cache"
        self.phones = folder / "phones"
        shutil.copytree(RELEASE.parent, self.folder)
        release.copy_cache(self.cache)

    def recipe(self, more: str, *targets: str) -> Path:
        """The shipped recipe with these targets, and the devices and budgets of `more`."""
        head, *blocks = RELEASE.read_text(encoding="utf-8").split("\n[[")
        kept = [b for b in blocks if b.startswith("target]]") and any(f'name = "{t}"' in b for t in targets)]
        path = self.folder / "phone.toml"
        path.write_text("\n[[".join([head, *kept]) + more, encoding="utf-8")
        return path

    @property
    def env(self) -> dict[str, str]:
        """With noise floors of its own: other tests' phones have the same ports at times."""
        return {"POCKETFORGE_PHONES_DIR": str(self.phones)}

    def run(self, *words: object, json_out: bool = True) -> Done:
        return in_process(
            *words, *(["--json"] if json_out else []), cache=self.cache, cwd=self.folder, timeout=600, env=self.env
        )

    def build(self, path: Path, *words: object) -> Done:
        return self.run("build", path, "--out", self.folder / "out", *words)


@pytest.fixture(scope="module")
def shop(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"), release)


@pytest.fixture(scope="module")
def files(release: Release) -> Path:
    return release.out / "release"


@pytest.fixture(scope="module")
def samples(shop: Shop, release: Release) -> Path:
    """Real digits as the model takes them: the build's own eval samples."""
    (data,) = (s["key"] for s in release.report["steps"] if s["stage"] == "data")
    entry = Store(release.cache).get(data)
    assert entry is not None
    (found,) = sample_paths(entry.files, "eval")
    path = shop.folder / "samples.npy"
    np.save(path, np.load(found)[:6])
    return path


def measurements(report: Any, target: str, name: str) -> dict[str, Any]:
    return {m["metric"]: m for m in report["measurements"] if (m["target"], m["device"]) == (target, name)}


def test_files_of_every_runtime_on_a_phone(shop, make_phone):
    """The exact files that ship: outputs as on the host, time from the phone, nothing left there; then reused."""
    phone = make_phone()
    before = phone.settings()
    targets = [f"digits_{runtime}_int8" for runtime in RUNTIMES]
    path = shop.recipe(
        device('profile = "pixel8"\n') + budget(5000, "pixel8") + budget(0.5, "pixel8", "accuracy_top1"), *targets
    )
    done = shop.build(path)
    report = done.json()
    assert (done.code, report["verdict"]) == (0, "PASS"), done.stderr
    jsonschema.validate(
        report, json.loads((ROOT / "pipeline" / "pocketforge" / "report" / "schema.json").read_text(encoding="utf-8"))
    )
    for target in report["targets"]:
        about = target["facts"]["phones"]["pixel8"]
        assert about["phone"]["model"] == "Pixel 8" and about["phone"]["serial"] == phone.serial
        assert about["verify"]["host"]["sqnr_db"] >= 20
        how = about["bench"]["how"]
        assert how["cores"] == "big" and how["cpus"] == [1] and how["conclusive"]
        assert len(how["rounds"]) >= 3 and all(r["samples"] >= 2 for r in how["rounds"])
        assert [s["name"] for s in how["settings"]]
        model = target["artifacts"][0]
        shipped = shop.folder / "out" / "release" / model["path"]
        assert hashlib.sha256(shipped.read_bytes()).hexdigest() == about["bench"]["sha256"]
        sidecar = json.loads(shipped.with_suffix(".json").read_text(encoding="utf-8"))
        (timed,) = sidecar["latency_ms"]
        phone_told = {"model": "Pixel 8", "soc": "Tensor G3", "android_version": "16", "cores": "big"}
        assert timed["phone"] == phone_told and timed["via"] == "adb"
        found = measurements(report, target["name"], "pixel8")
        assert {m["via"] for m in found.values()} == {"adb"}
        assert {m["artifact_sha256"] for m in found.values()} == {model["sha256"]}
        assert found["latency_ms"]["samples"] == about["bench"]["samples_ms"]
        assert found["accuracy_top1"]["value"] >= 0.5 and found["load_ms"]["value"] > 0
        assert any("not the profile's phone: cores" in w for w in target["warnings"]), "two cores are no Pixel 8's nine"
    assert len(report["gates"]) == 6 and {g["verdict"] for g in report["gates"]} == {"PASS"}
    assert phone.settings() == before and not phone.fixed_performance
    # The shell of the last command ends by itself, a moment after adb has its answer.
    end = time.monotonic() + 20
    while phone.ps() and time.monotonic() < end:
        time.sleep(0.1)
    assert phone.list("/data/local/tmp") == () and phone.ps() == ()
    phone.forget_calls()
    again = shop.build(path)
    assert again.code == 0
    assert {s["status"] for s in again.json()["steps"]} == {"reused"}
    assert phone.calls("cmd", "settings", "svc") == (), "what is stored is not measured again"


def test_a_budget_that_a_phone_does_not_keep(shop, make_phone):
    make_phone()
    target = "digits_tflite_int8"
    done = shop.build(shop.recipe(device('profile = "pixel8"\n') + budget(0.0001, "pixel8"), target))
    assert done.code == 1
    (gate,) = done.json()["gates"]
    assert (gate["verdict"], gate["device"], gate["measurement"]["via"]) == ("FAIL", "pixel8", "adb")
    assert not (shop.folder / "out" / "release").exists()


def test_every_connected_phone_and_two_of_one_model(shop, make_phone):
    """Devices for phones that the recipe does not name; budgets on the profile hold for both."""
    phones = [make_phone("pixel4", serial_number=f"A{n}") for n in (1, 2)]
    target = "digits_tflite_int8"
    path = shop.recipe(
        HOST + device('name = "first"\nprofile = "pixel4"\nserial = "SERIAL"\n') + budget(5000, "pixel4"), target
    )
    path.write_text(path.read_text().replace("SERIAL", phones[0].serial), encoding="utf-8")
    done = shop.build(path, "--device", "adb:all")
    report = done.json()
    assert done.code == 0, done.stderr
    (built,) = report["targets"]
    by_device = {name: about["phone"]["serial"] for name, about in built["facts"]["phones"].items()}
    assert set(by_device.values()) == {p.serial for p in phones}
    second = next(name for name in by_device if name != "first")
    assert second.startswith("pixel4-")
    assert sorted(g["device"] for g in report["gates"]) == sorted(["first", second])


def test_a_phone_that_is_not_there(shop, adb_server):
    target = "digits_tflite_int8"
    needed = shop.recipe(HOST + device('profile = "pixel8"\n') + budget(5, "pixel8"), target)
    shutil.rmtree(shop.folder / "out", ignore_errors=True)
    done = shop.build(needed)
    assert done.code == 4 and not done.stdout and "Traceback" not in done.stderr
    assert "device 'pixel8': wanted a phone that is a Google Pixel 8, connected: none" in done.stderr
    assert "required = false" in done.stderr
    assert not (shop.folder / "out").exists(), "nothing ran"
    path = shop.recipe(HOST + device('profile = "pixel8"\nrequired = false\n') + budget(5, "pixel8"), target)
    done = shop.build(path)
    assert done.code == 0, done.stderr
    said = done.json()["warnings"]
    assert any(w.startswith("pixel8 was left out: wanted a phone") for w in said)
    assert "not judged without pixel8: latency_ms" in said
    assert done.json()["gates"] == []
    asked = shop.build(shop.recipe(HOST, target), "--device", "adb:all")
    assert asked.code == 4 and "no phone is connected" in asked.stderr


def test_of_several_phones_one_must_be_named(shop, make_phone, monkeypatch):
    phones = [make_phone("pixel4", serial_number=f"B{n}") for n in (1, 2)]
    done = shop.run("bench", shop.recipe(HOST, "digits_tflite_int8"), "--device", "adb")
    assert done.code == 4 and all(p.serial in done.stderr for p in phones) and "adb:SERIAL" in done.stderr
    monkeypatch.setenv("ANDROID_SERIAL", phones[1].serial)
    recipe = load_recipe(shop.recipe(HOST + device('profile = "pixel4"\n'), "digits_tflite_int8"))
    (wanted,) = (d for d in recipe.devices if isinstance(d, AdbDevice))
    assert find_phones([wanted])["pixel4"].serial == phones[1].serial
    assert [d.serial for d in asked_phones(["adb"], [])] == [phones[1].serial]
    assert {d.serial for d in asked_phones(["adb:all"], [])} == {p.serial for p in phones}


def test_an_interrupted_build_leaves_nothing_on_the_phone(shop, make_phone, tmp_path):
    """^C in the middle of a round: what ran there is killed, settings are put back, the folder is removed."""
    phone = make_phone()
    before = phone.settings()
    long = device('profile = "pixel8"\n').replace("min_seconds = 0.0", "min_seconds = 60.0")
    path = shop.recipe(long, "digits_tflite_int8")
    build = subprocess.Popen(
        [sys.executable, "-m", "pocketforge", "build", str(path), "--out", str(tmp_path / "out"), "--json"],
        cwd=tmp_path,
        env={**os.environ, "POCKETFORGE_CACHE_DIR": str(shop.cache), "PYTHONPATH": SOURCES},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + 120
        while not (phone.fixed_performance and any("pf_litert" in line for line in phone.ps())):
            assert build.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        build.send_signal(signal.SIGINT)
        _, said = build.communicate(timeout=60)
    finally:
        build.kill()
    assert build.returncode == 130, said
    assert phone.settings() == before and not phone.fixed_performance
    assert phone.list("/data/local/tmp") == () and phone.ps() == ()


def test_a_b_on_one_phone(shop, files, samples, make_phone):
    """A wide tolerance is kept; the same file twice is the phone's noise floor, stored for its gate."""
    phone = make_phone()
    words = ["--inputs", samples, "--device", "adb", "--rounds", 4, "--samples", 10, "--seconds", 0]
    int8, fp32 = files / "digits_tflite_int8.tflite", files / "digits_tflite_fp32.tflite"
    done = shop.run("bench", int8, "--against", fp32, "--tolerance", 900, *words)
    (row,) = done.json()
    assert (done.code, row["verdict"], row["blocks"]) == (0, "PASS", 4), (row["reason"], done.stderr)
    assert row["sha256"] == [hashlib.sha256(f.read_bytes()).hexdigest() for f in (int8, fp32)]
    order = sorted((r["index"], side) for side in ("file", "against") for r in row["how"][side]["rounds"])
    assert [side for _, side in order[:4]] == ["against", "file", "file", "against"]
    done = shop.run("bench", int8, "--noise-floor", *words)
    (row,) = done.json()
    assert done.code == 0 and row["same_file"] and row["noise_floor"]["blocks"] == 4, done.stderr
    kept = json.loads(Path(row["kept_in"]).read_text(encoding="utf-8"))
    assert kept["serial"] == phone.serial and Path(row["kept_in"]).is_relative_to(shop.phones)
    assert kept["noise_floors"][0]["relative"] == pytest.approx(row["noise_floor"]["session_percent"] / 100)
    # The gate of a build uses it.
    path = shop.recipe(device('profile = "pixel8"\n') + budget(1.0, "pixel8"), "digits_tflite_int8")
    how = measurements(shop.build(path).json(), "digits_tflite_int8", "pixel8")["latency_ms"]["how"]
    assert how["noise_floor"] >= kept["noise_floors"][0]["relative"] - 1e-9 and how["noise_floor_from"]


def test_bench_of_a_file(shop, files, samples, make_phone):
    """On a phone of the network that adb does not know yet."""
    phone = make_phone("galaxy_s22", connect=False)
    done = shop.run(
        "bench", files / "digits_onnx_int8.onnx", "--inputs", samples, "--device", f"adb:{phone.serial}", "--cores",
        "little", "--rounds", 3, "--samples", 10, "--seconds", 0,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    (row,) = done.json()
    assert row["via"] == "adb" and row["device"] == "galaxy-s22" and row["how"]["cpus"] == [0]
    assert row["sha256"] == hashlib.sha256((files / "digits_onnx_int8.onnx").read_bytes()).hexdigest()
    assert row["against_host"][0]["samples"] == 6 and row["against_host"][0]["sqnr_db"] >= 20
    assert row["samples"] >= 10 and row["p50_ms"] > 0
    assert json.dumps(row, allow_nan=False)


def test_a_recipes_own_profile_is_found_from_anywhere(shop, make_phone, tmp_path):
    """Its path is the recipe's, wherever the command is run. As a program, which the others here do without."""
    make_phone("pixel4")
    profile = (ROOT / "device_profiles" / "pixel4.toml").read_text(encoding="utf-8")
    (shop.folder / "mine.toml").write_text(profile.replace('name = "pixel4"', 'name = "mine"', 1), encoding="utf-8")
    path = shop.recipe(device('profile = "mine.toml"\n'), "digits_tflite_int8")
    done = pocketforge("bench", path, "--json", cache=shop.cache, cwd=tmp_path, timeout=300, env=shop.env)
    assert done.code == 0, done.stderr
    (row,) = done.json()
    assert (row["device"], row["phone"]["model"]) == ("mine", "Pixel 4")


def test_bench_on_every_phone_at_once(shop, files, samples, make_phone):
    phones = [make_phone("pixel4"), make_phone("pixel8")]
    words = ("--inputs", samples, "--device", "adb:all", "--rounds", 3, "--samples", 10, "--seconds", 0)
    done = shop.run("bench", files / "digits_tflite_int8.tflite", *words)
    assert done.code == 0, done.stderr
    rows = done.json()
    assert {(row["serial"], row["phone"]["model"]) for row in rows} == {
        (phone.serial, model) for phone, model in zip(phones, ("Pixel 4", "Pixel 8"), strict=True)
    }
    assert all(row["samples"] >= 10 and row["against_host"][0]["sqnr_db"] >= 20 for row in rows)
    # Side by side: each phone's first round comes before the other's last.
    told = [line.split(": round ")[0] for line in done.stderr.splitlines() if ": round " in line]
    first, last = ({p.serial: found.index(p.serial) for p in phones} for found in (told, told[::-1]))
    assert max(first.values()) < len(told) - 1 - max(last.values())


def test_one_phone_that_fails_ends_the_others_in_order(shop, files, samples, make_phone):
    """One lacks what a run needs: the other's session is ended too, and nothing stays on either."""
    good, bad = make_phone("pixel4"), make_phone("pixel8", missing=("taskset",))
    words = ("--inputs", samples, "--device", "adb:all", "--rounds", 50, "--samples", 1000, "--seconds", 1)
    done = shop.run("bench", files / "digits_tflite_int8.tflite", *words)
    assert done.code == 4 and "taskset" in done.stderr and "Traceback" not in done.stderr
    for phone in (good, bad):
        assert phone.list("/data/local/tmp") == () and phone.ps() == () and not phone.fixed_performance


def test_bench_on_a_phone_as_a_table(shop, files, samples, make_phone):
    make_phone()
    words = ("--inputs", samples, "--device", "adb", "--rounds", 3, "--samples", 10, "--seconds", 0)
    done = shop.run("bench", files / "digits_tflite_int8.tflite", *words, json_out=False)
    assert done.code == 0, done.stderr
    assert "via adb" in done.stdout and "3 of 3" in done.stdout and "Pixel 8, Tensor G3, Android 16" in done.stdout


@pytest.mark.parametrize("words", [("--against", "x.tflite"), ("--noise-floor",), ("--rounds", "4")])
def test_options_of_phones_need_a_phone(shop, files, samples, words):
    done = shop.run("bench", files / "digits_tflite_int8.tflite", "--inputs", samples, *words)
    assert done.code == 2 and f"{words[0]} is for phones" in done.stderr


def test_a_file_that_does_not_load_there(shop, samples, make_phone, tmp_path):
    phone = make_phone()
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(64))
    done = shop.run("bench", broken, "--inputs", samples, "--device", "adb", "--rounds", 3, "--samples", 10)
    assert done.code == 3 and "broken.tflite" in done.stderr and "Traceback" not in done.stderr
    assert phone.list("/data/local/tmp") == ()


# Says what TensorFlow Lite's benchmark_model says (android_bench/parse_litert.py), which is an NDK build: none is at
# hand. How it is pushed, started and read is real.
TALKING_RUNNER = """\
#!/system/bin/sh
for word; do case "$word" in --graph=*) [ -s "${word#--graph=}" ] || exit 1;; esac; done
cat <<'END'
INFO: STARTING!
INFO: Initialized session in 92.318ms.
INFO: count=3 first=235158 curr=200386 min=199462 max=235158 avg=211669 std=16613 p5=199462 median=200386 p95=235158

INFO: count=25 first=187533 curr=140990 min=140071 max=195121 avg=145528 std=13583 p5=140545 median=141253 p95=187533

INFO: Inference timings in us: Init: 92318, First inference: 235158, Warmup (avg): 211669, Inference (avg): 145528
END
"""


def test_a_runner_of_another_make_on_a_phone_with_a_hostile_name(shop, files, samples, make_phone, tmp_path):
    name = "a'; touch /data/local/tmp/x; $(touch /data/local/tmp/y) `touch /data/local/tmp/z` \"|&"
    phone = make_phone(properties={"ro.product.model": name, "ro.product.device": "x", "ro.soc.model": "none"})
    runner = tmp_path / "benchmark_model"
    runner.write_text(TALKING_RUNNER, encoding="utf-8")
    words = ("--inputs", samples, "--device", "adb", "--rounds", 3, "--samples", 10, "--seconds", 0, "--runner", runner)
    done = shop.run("bench", files / "digits_tflite_int8.tflite", *words)
    assert done.code == 0, done.stderr
    (row,) = done.json()
    assert row["samples_ms"] == [145.528] * 3 and row["load_ms"] == 92.318 and row["against_host"] == []
    assert row["how"]["runner_sha256"] == hashlib.sha256(runner.read_bytes()).hexdigest()
    assert row["how"]["runtime"] == "benchmark_model" and any("random inputs" in note for note in row["how"]["notes"])
    assert (
        row["phone"]["model"] == name
        and row["device"] == "a-touch-data-local-tmp-x-touch-data-local-tmp-y-touch-data-local-tmp-z"
    )
    assert phone.list("/data/local/tmp") == ()
    refused = shop.run("bench", files / "digits_onnx_int8.onnx", *words)
    assert refused.code == 2 and "is a benchmark_model: it runs tflite files, not onnx" in refused.stderr
