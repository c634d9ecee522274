"""A build's emulated devices, through real qemu and the runtimes' real ARM kernels: the shipped recipe, variants of it.

models/digits_cnn/release.toml has two of them: a Pixel 4 (Cortex-A76, with dot products), on which files of both
schemes run here, and a Raspberry Pi 3 (Cortex-A53, without), on which the int8 files do. The rest of that recipe is
built where all of it is, in the same run of CI: `nox -s wheel`, `nox -s demo`. One ONNX file is counted here, of a
network with two convolutions. fp32 runs in its kernels in tests/contract/test_emulator_runners.py.
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
from typing import Any, NamedTuple

import jsonschema
import numpy as np
import pytest
from conftest import EMULATED, RELEASE, ROOT, Release, in_process
from release_build import SOURCES

from pocketforge import records
from pocketforge.runtimes.traffic import traffic_of

SCHEMA = json.loads((ROOT / "pipeline" / "pocketforge" / "report" / "schema.json").read_text(encoding="utf-8"))
FIRST, SECOND = EMULATED
SCHEMES = ("fp32", "int8")
TARGETS = [f"digits_{runtime}_{scheme}" for runtime in ("executorch", "tflite") for scheme in SCHEMES]
INT8 = [target for target in TARGETS if target.endswith("int8")]
ONNX = "two_conv_onnx_int8"
DEVICES = {FIRST: [*TARGETS, ONNX], SECOND: INT8}
# What another device is a reason to run.
OF_A_DEVICE = {"verify_device", "count", "estimate"}

TWO_CONV = """\
name = "two_conv"

[model]
definition = "model.py"
weights = "weights.safetensors"

[data]
source = "digits"
labels = "labels.txt"
preprocess = {{ resize = [32, 32], color = "rgb", scale = 16.0, mean = [0.5], std = [0.5] }}

[[target]]
name = "two_conv_onnx_int8"
runtime = "onnx"
quantize = {{ scheme = "static_int8" }}

[[device]]
via = "emulator"
profile = "{device}"
eval_samples = 32

[[budget]]
metric = "instructions"
limit = 9_000_000
device = "{device}"
"""


class Build(NamedTuple):
    recipe: Path
    report: Any

    @property
    def release(self) -> Path:
        return out_of(self.recipe) / "release"


def on_device(device: str, *targets: str) -> str:
    """The shipped recipe with these targets, and this device and its budgets."""
    head, *blocks = RELEASE.read_text(encoding="utf-8").split("\n[[")
    kept = [b for b in blocks if b.startswith("target]]") and any(f'name = "{target}"' in b for target in targets)]
    assert len(kept) == len(targets)
    return "\n[[".join([head, *kept, *(b for b in blocks if not b.startswith("target]]") and f'"{device}"' in b)])


@pytest.fixture(scope="module")
def stored(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models beside a cache, in which the shipped recipe is built for the host, and then `builds`."""
    folder = tmp_path_factory.mktemp("devices")
    release.copy_cache(folder / "cache")
    for name in ("digits_cnn", "two_conv"):
        shutil.copytree(ROOT / "models" / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def builds(stored: Path) -> dict[tuple[str, str], Build]:
    """The builds of each device's recipe, by device and model."""
    ended = {}
    for device, targets in DEVICES.items():
        texts = {"digits_cnn": on_device(device, *(t for t in targets if t != ONNX))}
        if ONNX in targets:
            texts["two_conv"] = TWO_CONV.format(device=device)
        for model, text in texts.items():
            path = stored / model / f"{device}.toml"
            path.write_text(text, encoding="utf-8")
            code, report = build(path, "--jobs", "2")
            assert code == 0
            ended[device, model] = Build(path, report)
            if (device, model) != (FIRST, "two_conv"):
                ran = {s["stage"] for s in report["steps"] if s["status"] == "run"}
                assert ran == OF_A_DEVICE, "another device is no reason to make anything else again"
    return ended


@pytest.fixture(scope="module")
def emulated(builds: dict[tuple[str, str], Build]) -> dict[str, Any]:
    """target → device → what the report says of it."""
    found: dict[str, Any] = {target: {} for target in DEVICES[FIRST]}
    for done in builds.values():
        for target in done.report["targets"]:
            found[target["name"]] |= target["facts"]["emulated"]
    assert {device: [t for t in found if device in found[t]] for device in DEVICES} == DEVICES
    return found


@pytest.fixture
def shop(stored: Path, builds: object, tmp_path: Path) -> Path:
    """A copy of the shipped model's folder, beside a cache in which all of it is built, also for devices."""
    shutil.copytree(RELEASE.parent, tmp_path / "digits")
    shutil.copytree(stored / "cache", tmp_path / "cache")
    return tmp_path / "digits"


def recipe(shop: Path, target: str, more: str) -> Path:
    """The shipped recipe with one target and the devices and budgets of `more`."""
    head, *blocks = RELEASE.read_text(encoding="utf-8").split("\n[[")
    kept = [b for b in blocks if b.startswith("target]]") and f'name = "{target}"' in b]
    path = shop / "one.toml"
    path.write_text("\n[[".join([head, *kept]) + more, encoding="utf-8")
    return path


def out_of(recipe: Path) -> Path:
    return recipe.parent / "out" / recipe.stem


def build(path: Path, *words: str) -> tuple[int, Any]:
    cache = path.parents[1] / "cache"
    done = in_process("build", path, "--out", out_of(path), "--json", *words, cache=cache, cwd=path.parent)
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


@pytest.mark.parametrize("target", DEVICES[FIRST])
def test_estimates_say_what_they_are(emulated, builds, target):
    for device, about in emulated[target].items():
        estimate, core = about["estimate"], {"pixel4": "cortex-a76", "rpi3bplus": "cortex-a53"}[device]
        assert "refused" not in estimate, estimate
        assert estimate["core"] == core and estimate["status"] in ("calibrated", "transferred", "uncalibrated")
        assert 0 < estimate["low_ms"] < estimate["latency_ms"] < estimate["high_ms"]
        parts = sum(estimate[f"{part}_cycles"] for part in ("compute", "memory", "overhead"))
        assert parts == pytest.approx(estimate["cycles"])
    for measurement in (m for done in builds.values() for m in done.report["measurements"]):
        if measurement["metric"].startswith("estimated_"):
            assert measurement["via"] == "emulator" and measurement["how"]["interval"][0] < measurement["value"]
        if measurement["via"] == "emulator":
            assert measurement["metric"] not in ("latency_ms", "load_ms", "peak_rss_bytes")


def test_what_operators_move_is_much_the_same_in_every_runtime(release):
    """The memory term's input, read out of each format on its own: equal weights, near activations."""
    for scheme, least in (("fp32", 4), ("int8", 1)):
        moved: dict[str, Any] = {
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


def test_the_shipped_recipe_gates_on_both_profiles(builds):
    gates = [g for done in builds.values() for g in done.report["gates"] if g["budget"]["metric"] == "instructions"]
    assert {(g["device"], g["target"]) for g in gates} == {(d, t) for d, targets in DEVICES.items() for t in targets}
    assert {g["verdict"] for g in gates} == {"PASS"}


def test_a_sidecar_has_the_counts_of_its_file(builds, emulated):
    for (device, _), done in builds.items():
        for target in (t["name"] for t in done.report["targets"]):
            side = json.loads((done.release / f"{target}.json").read_text(encoding="utf-8"))
            found = {entry["device"]: entry["instructions"] for entry in side["emulated"]}
            assert found == {device: emulated[target][device]["counts"]["instructions"]}


def test_a_report_of_devices_fits_its_schema_and_reads_back(builds):
    for done in builds.values():
        assert list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(done.report)) == []
        assert json.loads(json.dumps(records.Report.from_json(done.report).to_json())) == done.report


def test_building_again_counts_nothing_again(builds):
    for done in builds.values():
        code, again = build(done.recipe)
        assert code == 0 and {s["status"] for s in again["steps"]} == {"reused"}
        assert [s["key"] for s in again["steps"]] == [s["key"] for s in done.report["steps"]]
        assert again["measurements"] == done.report["measurements"]


def test_one_targets_quantization_counts_only_its_file_again(shop, builds):
    before = builds[FIRST, "digits_cnn"]
    # Of TFLite: ONNX Runtime takes ten times as long to be counted.
    old = 'name = "digits_tflite_int8"\nruntime = "tflite"\nquantize = { scheme = "static_int8" }'
    text = before.recipe.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path = shop / "changed.toml"
    path.write_text(text.replace(old, old.replace(" }", ", per_channel = false }")), encoding="utf-8")
    code, report = build(path)
    assert code == 0
    run = {(s["stage"], s["lane"]) for s in report["steps"] if s["status"] == "run"}
    assert run == {(stage, "digits_tflite_int8") for stage in ("quantize", "export", "verify", *OF_A_DEVICE)}
    assert {s["status"] for s in report["steps"] if (s["stage"], s["lane"]) not in run} == {"reused"}
    assert len(report["steps"]) == len(before.report["steps"]) + 1


def test_bench_counts_the_same_file_to_the_same_number_and_says_where_cycles_go(release, emulated, tmp_path):
    samples = next(release.cache.rglob("eval_0.npy"))
    np.save(tmp_path / "real.npy", np.load(samples)[:1])
    words = ["--inputs", tmp_path / "real.npy", "--profile", "pixel4"]
    file = release.out / "release" / "digits_tflite_int8.tflite"
    done = in_process("bench", file, *words, "--json", cache=release.cache, cwd=tmp_path)
    (row,) = done.json()
    assert row["counts"]["instructions"] == emulated["digits_tflite_int8"]["pixel4"]["counts"]["instructions"]
    assert row["estimate"]["latency_ms"] == emulated["digits_tflite_int8"]["pixel4"]["estimate"]["latency_ms"]
    assert sum(layer["cycles"] for layer in row["layers"]) == pytest.approx(row["estimate"]["cycles"])
    words += ["--what-if", "width=0.5"]
    done = in_process("bench", file, *words, "--explain", cache=release.cache, cwd=tmp_path)
    assert done.code == 0 and "counting digits_tflite_int8.tflite on pixel4" in done.stderr
    assert "bound by" in done.stdout and "not phone time" in done.stdout and "cortex-a76" in done.stdout
    assert "CONV_2D" in done.stdout and "if width=0.5: " in done.stdout


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
    """More than there can be: an SQNR ends at 200 dB, which kernels that sum in the same order may reach."""
    device = '\n[[device]]\nvia = "emulator"\nprofile = "pixel4"\neval_samples = 32\nmin_sqnr_db = 201.0\n'
    code, report = build(recipe(shop, "digits_tflite_fp32", device))
    (target,) = report["targets"]
    assert code == 1 and target["status"] == "wrong" and report["verdict"] == "FAIL"
    (wrong,) = [c for c in target["checks"] if not c["passed"]]
    assert wrong["name"] == "sqnr_db on pixel4, against the host" and wrong["wanted"] == "at least 201"
    (step,) = [s for s in report["steps"] if s["stage"] == "verify_device"]
    assert step["status"] == "rejected" and step["lane"] == "digits_tflite_fp32"
    assert step["message"].startswith("on pixel4 (prime cores), against the host: sqnr_db: wanted at least 201")


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
    done = in_process("build", path, "--out", shop / "out", cache=shop.parent / "cache", cwd=shop)
    assert done.code == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert not (shop / "out").exists()


def test_an_emulator_that_is_not_set_up_says_how_to(shop):
    path = recipe(shop, "digits_tflite_int8", '\n[[device]]\nvia = "emulator"\nprofile = "pixel4"\n')
    done = in_process(
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
