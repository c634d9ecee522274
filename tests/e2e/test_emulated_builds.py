"""A build's emulated devices, through real qemu and the runtimes' real ARM kernels: the shipped recipe, variants of it.

models/digits_cnn/release.toml has two of them: a Pixel 4 (Cortex-A76, with dot products), on which the session's cold
build ran all six files, and a Raspberry Pi 3 (Cortex-A53, without), on which the int8 files run here. That the float32
files run there too is seen where all of the recipe is built: `nox -s wheel`, `nox -s demo`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RELEASE, SECOND, Release, pocketforge
from release_build import SOURCES

from pocketforge.runtimes.traffic import traffic_of

TARGETS = [f"digits_{runtime}_{scheme}" for runtime in ("executorch", "tflite", "onnx") for scheme in ("fp32", "int8")]
INT8 = [target for target in TARGETS if target.endswith("int8")]
DEVICES = {"pixel4": TARGETS, "rpi3bplus": INT8}


@pytest.fixture(scope="module")
def builds(release: Release, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Device → the folder with the report and the release of the build that ran on it."""
    folder = tmp_path_factory.mktemp("second")
    shutil.copytree(RELEASE.parent, folder / "digits")
    release.copy_cache(folder / "cache")
    head, *blocks = RELEASE.read_text(encoding="utf-8").split("\n[[")
    kept = [b for b in blocks if f'"{SECOND}"' in b or (b.startswith("target]]") and "static_int8" in b)]
    path = folder / "digits" / "second.toml"
    path.write_text("\n[[".join([head, *kept]), encoding="utf-8")
    code, report = build(path, "--jobs", "2")
    assert code == 0
    ran = {s["stage"] for s in report["steps"] if s["status"] == "run"}
    assert ran == {"verify_device", "count", "estimate"}, "another device is no reason to make anything else again"
    return {"pixel4": release.out, SECOND: path.parent / "out"}


@pytest.fixture(scope="module")
def reports(builds: dict[str, Path]) -> dict[str, Any]:
    return {device: json.loads((out / "report.json").read_text(encoding="utf-8")) for device, out in builds.items()}


@pytest.fixture(scope="module")
def emulated(reports: dict[str, Any]) -> dict[str, Any]:
    """target → device → what the report says of it."""
    found: dict[str, Any] = {target: {} for target in TARGETS}
    for device, report in reports.items():
        assert [t["name"] for t in report["targets"]] == DEVICES[device]
        for target in report["targets"]:
            found[target["name"]] |= target["facts"]["emulated"]
    return found


@pytest.fixture
def shop(release: Release, tmp_path: Path) -> Path:
    """A copy of the shipped model's folder, beside a cache in which all of it is built."""
    shutil.copytree(RELEASE.parent, tmp_path / "digits")
    release.copy_cache(tmp_path / "cache")
    return tmp_path / "digits"


def recipe(shop: Path, target: str, more: str) -> Path:
    """The shipped recipe with one target and the devices and budgets of `more`."""
    head, *blocks = RELEASE.read_text(encoding="utf-8").split("\n[[")
    kept = [b for b in blocks if b.startswith("target]]") and f'name = "{target}"' in b]
    path = shop / "one.toml"
    path.write_text("\n[[".join([head, *kept]) + more, encoding="utf-8")
    return path


def build(path: Path, *words: str) -> tuple[int, Any]:
    done = pocketforge(
        "build", path, "--out", path.parent / "out", "--json", *words, cache=path.parents[1] / "cache", cwd=path.parent
    )
    assert done.stdout, done.stderr
    return done.code, done.json()


def verdicts(report: Any) -> dict[tuple[str, str], str]:
    return {(g["budget"]["metric"], g["device"]): g["verdict"] for g in report["gates"]}


@pytest.mark.parametrize(("device", "target"), [(d, target) for d, targets in DEVICES.items() for target in targets])
def test_every_file_runs_in_arm_kernels_and_answers_as_on_the_host(emulated, target, device):
    about = emulated[target][device]
    host = about["verify"]["host"]
    assert host["sqnr_db"] >= (60 if target.endswith("fp32") else 20)
    assert host["argmax_agreement"] >= 0.97
    assert about["verify"]["device"]["accuracy"]["accuracy_top1"] >= 0.95
    assert about["counts"]["conclusive"], about["counts"]["windows"]
    assert sum(about["counts"]["by_class"].values()) == about["counts"]["instructions"]
    assert sum(about["counts"]["by_function"].values()) == about["counts"]["instructions"]
    assert about["counts"]["by_class"].get("unknown", 0) == 0


@pytest.mark.parametrize("target", INT8)
def test_the_profile_chooses_the_kernels(emulated, target):
    classes = {device: emulated[target][device]["counts"]["by_class"] for device in DEVICES}
    assert classes["pixel4"]["dot"] > 0.1 * emulated[target]["pixel4"]["counts"]["instructions"]
    assert "dot" not in classes["rpi3bplus"] and classes["rpi3bplus"]["int_mac"] > 0
    assert not any("i8mm" in found for found in classes.values())
    integer, floating = (emulated[t]["pixel4"]["counts"] for t in (target, target.replace("int8", "fp32")))
    assert integer["instructions"] < floating["instructions"]


@pytest.mark.parametrize("target", TARGETS)
def test_estimates_say_what_they_are(emulated, reports, target):
    for device, about in emulated[target].items():
        estimate, core = about["estimate"], {"pixel4": "cortex-a76", "rpi3bplus": "cortex-a53"}[device]
        assert "refused" not in estimate, estimate
        assert estimate["core"] == core and estimate["status"] in ("calibrated", "transferred", "uncalibrated")
        assert 0 < estimate["low_ms"] < estimate["latency_ms"] < estimate["high_ms"]
        parts = sum(estimate[f"{part}_cycles"] for part in ("compute", "memory", "overhead"))
        assert parts == pytest.approx(estimate["cycles"])
    for measurement in (m for report in reports.values() for m in report["measurements"]):
        if measurement["metric"].startswith("estimated_"):
            assert measurement["via"] == "emulator" and measurement["how"]["interval"][0] < measurement["value"]
        if measurement["via"] == "emulator":
            assert measurement["metric"] not in ("latency_ms", "load_ms", "peak_rss_bytes")


def test_what_operators_move_is_much_the_same_in_every_runtime(release):
    """The memory term's input, read out of each format on its own: equal weights, near activations."""
    for scheme, least in (("fp32", 4), ("int8", 1)):
        moved = {
            suffix: traffic_of(release.out / "release" / f"digits_{runtime}_{scheme}{suffix}")["operators"]
            for runtime, suffix in (("executorch", ".pte"), ("tflite", ".tflite"), ("onnx", ".onnx"))
        }
        weights = {suffix: sum(o["weight_bytes"] for o in operators) for suffix, operators in moved.items()}
        assert max(weights.values()) <= 1.002 * min(weights.values()), weights
        assert min(weights.values()) >= least * 113_000  # the model's parameters, batch norm folded
        activations = {s: sum(o["input_bytes"] + o["output_bytes"] for o in found) for s, found in moved.items()}
        assert max(activations.values()) <= 1.6 * min(activations.values()), activations  # some write their padding
        for operators in moved.values():
            assert sum("conv" in o["kind"].lower() and o["kind"] != "Convert" for o in operators) == 12
            assert all(o["rows"] > 0 for o in operators if o["kind"] in ("Gemm", "FULLY_CONNECTED", "FullyConnected"))


def test_the_shipped_recipe_gates_on_both_profiles(reports):
    gates = [g for report in reports.values() for g in report["gates"] if g["budget"]["metric"] == "instructions"]
    assert {(g["device"], g["target"]) for g in gates} == {(d, t) for d, targets in DEVICES.items() for t in targets}
    assert {g["verdict"] for g in gates} == {"PASS"}


def test_a_sidecar_has_the_counts_of_its_file(builds, emulated):
    for device, targets in DEVICES.items():
        for target in targets:
            side = json.loads((builds[device] / "release" / f"{target}.json").read_text(encoding="utf-8"))
            found = {entry["device"]: entry["instructions"] for entry in side["emulated"]}
            assert found == {device: emulated[target][device]["counts"]["instructions"]}


def test_bench_counts_the_same_file_to_the_same_number_and_says_where_cycles_go(release, emulated, tmp_path):
    samples = next(release.cache.rglob("eval_0.npy"))
    np.save(tmp_path / "real.npy", np.load(samples)[:1])
    words = ["--inputs", tmp_path / "real.npy", "--profile", "pixel4"]
    file = release.out / "release" / "digits_tflite_int8.tflite"
    done = pocketforge("bench", file, *words, "--json", cache=release.cache, cwd=tmp_path)
    (row,) = done.json()
    assert row["counts"]["instructions"] == emulated["digits_tflite_int8"]["pixel4"]["counts"]["instructions"]
    assert row["estimate"]["latency_ms"] == emulated["digits_tflite_int8"]["pixel4"]["estimate"]["latency_ms"]
    done = pocketforge("bench", file, *words, "--explain", cache=release.cache, cwd=tmp_path)
    assert done.code == 0 and "counting digits_tflite_int8.tflite on pixel4" in done.stderr
    assert "bound by" in done.stdout and "not phone time" in done.stdout and "cortex-a76" in done.stdout


def test_budgets_on_counts_estimates_and_accuracy_of_a_device(shop, emulated):
    about = emulated["digits_tflite_int8"]["pixel4"]
    instructions, estimate = about["counts"]["instructions"], about["estimate"]
    budgets = "".join(
        f'\n[[budget]]\nmetric = "{metric}"\nlimit = {limit}\ndevice = "pixel4"\n'
        for metric, limit in (
            ("instructions", instructions - 1),
            ("estimated_latency_ms", estimate["latency_ms"]),
            ("estimated_cycles", estimate["cycles"] * 100),
            ("accuracy_top1", 0.9),
        )
    )
    device = '\n[[device]]\nvia = "emulator"\nprofile = "pixel4"\neval_samples = 32\n'
    code, report = build(recipe(shop, "digits_tflite_int8", device + budgets))
    assert code == 1
    assert verdicts(report) == {
        ("instructions", "pixel4"): "FAIL",
        ("estimated_latency_ms", "pixel4"): "INCONCLUSIVE",
        ("estimated_cycles", "pixel4"): "PASS",
        ("accuracy_top1", "pixel4"): "PASS",
    }
    (said,) = [g["reason"] for g in report["gates"] if g["verdict"] == "FAIL"]
    assert said == "1 instructions over the maximum"


def test_a_difference_from_the_host_beyond_the_limit_fails_the_target_and_names_it(shop):
    """ONNX Runtime's integer kernels round otherwise on ARM than on x86; float sums differ in order everywhere."""
    device = '\n[[device]]\nvia = "emulator"\nprofile = "pixel4"\neval_samples = 32\nmin_sqnr_db = 190.0\n'
    code, report = build(recipe(shop, "digits_tflite_fp32", device))
    (target,) = report["targets"]
    assert code == 1 and target["status"] == "wrong" and report["verdict"] == "FAIL"
    (wrong,) = [c for c in target["checks"] if not c["passed"]]
    assert wrong["name"] == "sqnr_db on pixel4, against the host" and wrong["wanted"] == "at least 190"
    (step,) = [s for s in report["steps"] if s["stage"] == "verify_device"]
    assert step["status"] == "rejected" and step["lane"] == "digits_tflite_fp32"
    assert step["message"].startswith("on pixel4 (prime cores), against the host: sqnr_db: wanted at least 190")


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ('profile = "pixle4"', "pixel4"),
        ('profile = "pixel4"\ncores = "huge"', "little"),
        ('profile = "mine.toml"', "mine.toml"),
    ],
)
def test_a_device_that_is_not_there_is_said_before_anything_runs(shop, device, said):
    path = recipe(shop, "digits_tflite_int8", f'\n[[device]]\nvia = "emulator"\n{device}\n')
    done = pocketforge("build", path, "--out", shop / "out", cache=shop.parent / "cache", cwd=shop)
    assert done.code == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert not (shop / "out").exists()


def test_an_emulator_that_is_not_set_up_says_how_to(shop):
    path = recipe(shop, "digits_tflite_int8", '\n[[device]]\nvia = "emulator"\nprofile = "pixel4"\n')
    done = pocketforge(
        "build", path, "--out", shop / "out", cache=shop.parent / "cache", cwd=shop,
        env={"POCKETFORGE_ENVIRONMENTS_DIR": str(shop.parent / "nothing")},
    )  # fmt: skip
    assert done.code == 4 and "pocketforge device setup emulator" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_build_that_is_stopped_leaves_no_emulator_running(shop, how):
    path = recipe(shop, "digits_onnx_fp32", '\n[[device]]\nvia = "emulator"\nprofile = "pixel6"\n')
    mark = str(shop.parent)
    argv = [sys.executable, "-m", "pocketforge", "build", str(path), "--out", str(shop / "out")]
    environment = {**os.environ, "POCKETFORGE_CACHE_DIR": str(shop.parent / "cache"), "PYTHONPATH": SOURCES}
    with subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as started:
        try:
            assert wait_until(lambda: emulators(mark), 120), "no emulator was started"
            started.send_signal(how)
            assert started.wait(60) == (130 if how == signal.SIGINT else -how)
        finally:
            started.kill()
    assert wait_until(lambda: not emulators(mark), 20), emulators(mark)


def emulators(mark: str) -> list[str]:
    """Command lines of running emulators that run a file under `mark`."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "qemu" in Path(words[0]).name and any(mark in w for w in words):
            found.append(" ".join(words))
    return found


def wait_until(holds: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return False
