"""`gate-file` and `compare-files`: a file of another tool, from the command line to a release and back."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from made_files import Floats, fitted, linear_onnx, linear_tflite, two_sided_onnx
from release_build import Done
from shared_store import DigitsParts
from warm_server import in_process

import pocketforge

PACKAGE = Path(pocketforge.__file__).parent
SAMPLES = (
    "--data", "digits", "--preprocess", "resize = [32, 32]", "--preprocess", "scale = 16.0",
    "--preprocess", "mean = [0.5]", "--preprocess", "std = [0.5]",
)  # fmt: skip


@pytest.fixture(scope="module")
def linear(digits_parts: DigitsParts) -> tuple[Floats, Floats]:
    return fitted(digits_parts.data)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: the samples are read once."""
    return tmp_path_factory.mktemp("cache")


def test_a_file_is_gated_shipped_and_refused_once_it_is_dead(
    linear: tuple[Floats, Floats], cache: Path, tmp_path: Path
) -> None:
    keras = linear_tflite(tmp_path / "keras.tflite", *linear)
    linear_onnx(tmp_path / "float.onnx", *linear)
    budgets = ("--budget", "top1 >= 0.9", "--budget", f"size_bytes <= {keras.stat().st_size}")
    asked = ("gate-file", "keras.tflite", *SAMPLES, *budgets, "--reference", "float.onnx", "--progress", "none")

    def run(*more: str) -> tuple[int, dict[str, Any], str]:
        done = in_process(*asked, "--json", *more, cache=cache, cwd=tmp_path)
        return done.code, done.json(), done.stderr

    code, report, _ = run()
    assert code == 0 and report["verdict"] == "PASS", report["gates"]
    (target,) = report["targets"]
    assert target["facts"]["elsewhere"]["against"] == "float.onnx" and target["scheme"] == "static_int8"
    assert {m["metric"] for m in report["measurements"]} >= {"accuracy_top1", "parity_sqnr_db", "latency_ms"}
    assert not {"parameters", "macs"} & {m["metric"] for m in report["measurements"]}
    release = tmp_path / "build" / "keras" / "release"
    sha256 = hashlib.sha256(keras.read_bytes()).hexdigest()
    assert (release / "keras.tflite").read_bytes() == keras.read_bytes()
    assert f"{sha256}  keras.tflite" in (release / "SHA256SUMS").read_text("utf-8")
    card = (release / "model-card.md").read_text("utf-8")
    assert "keras is keras.tflite, made elsewhere, as it was; held against float.onnx." in card.replace("\\", "")
    assert in_process("verify-release", release, cache=cache, cwd=tmp_path).code == 0
    # Half a step more than allowed is too much, and nothing is judged anew for it.
    code, smaller, _ = run("--budget", f"size_bytes <= {keras.stat().st_size - 1}", "--history", "kept.db")
    assert code == 1 and {step["status"] for step in smaller["steps"]} == {"reused"}
    assert not release.exists()
    kept = in_process("history", "list", "--history", "kept.db", "--json", cache=cache, cwd=tmp_path).json()
    assert [(each["recipe"], each["verdict"]) for each in kept] == [("keras", "FAIL")]
    # Other bytes under the same name are another file.
    linear_tflite(keras, np.full_like(linear[0], 1e-5), np.clip(linear[1], -4, 4))
    code, dead, _ = run()
    assert code == 1 and dead["targets"][0]["status"] == "wrong"
    failed = {check["name"] for check in dead["targets"][0]["checks"] if not check["passed"]}
    assert {"answers", "classes answered", "sqnr_db"} <= failed
    steps = {step["stage"]: step["status"] for step in dead["steps"]}
    assert steps == {
        "data": "reused",
        "answers": "reused",
        "adopt": "run",
        "verify_file": "rejected",
        "bench": "skipped",
    }


def test_two_files_on_the_same_samples(linear: tuple[Floats, Floats], cache: Path, tmp_path: Path) -> None:
    linear_onnx(tmp_path / "net.onnx", *linear)
    linear_tflite(tmp_path / "net.tflite", *linear)
    shutil.copy(tmp_path / "net.onnx", tmp_path / "same.onnx")

    def run(*words: str) -> Done:
        return in_process("compare-files", *words, *SAMPLES, "--blocks", "0", "--progress", "none",
                          cache=cache, cwd=tmp_path)  # fmt: skip

    found = run("net.onnx", "net.tflite", "--json").json()
    assert [found[side]["scheme"] for side in ("first", "second")] == ["fp32", "static_int8"]
    assert found["first"]["accuracy"]["accuracy_top1"] > 0.9 and found["argmax_agreement"] > 0.95
    ((name, sqnr_db),) = [(each["name"], each["sqnr_db"]) for each in found["outputs"]]
    assert name == "scores_0" and 15 < sqnr_db < 60
    assert found["operators"]["FULLY_CONNECTED"] == [0, 1] and found["operators"]["Gemm"] == [1, 0]
    same = run("net.onnx", "same.onnx").stdout
    assert "the same class of 100.00% of the samples" in same and "operators that differ" not in same
    mismatch = run("net.onnx", "gone.onnx")
    assert mismatch.code == 2 and "gone.onnx" in mismatch.stderr


def test_inputs_and_outputs_in_another_order(cache: Path, tmp_path: Path) -> None:
    """Names say nothing here, shapes do: what is compared, timed and shipped is of the right tensors. No PyTorch is
    there for it."""
    import onnxruntime

    straight = two_sided_onnx(tmp_path / "straight.onnx")
    two_sided_onnx(tmp_path / "swapped.onnx", swapped=True)
    random = np.random.default_rng(0)
    samples = {"x_0": random.normal(size=(90, 6)), "x_1": random.normal(size=(90, 4))}
    samples = {name: values.astype(np.float32) for name, values in samples.items()}
    scores = onnxruntime.InferenceSession(straight).run(["scores"], dict(zip("ab", samples.values(), strict=True)))
    np.savez(tmp_path / "two.npz", x_0=samples["x_0"], x_1=samples["x_1"], y=scores[0].argmax(1))
    done = in_process(
        "gate-file", "swapped.onnx", "--data", "npz:two.npz", "--reference", "straight.onnx", "--progress", "none",
        "--budget", "top1 >= 1", "--budget", "parity_sqnr_db >= 100", "--json", cache=cache, cwd=tmp_path,
        hidden=("torch", "executorch", "litert_torch"),
    )  # fmt: skip
    assert done.code == 0, done.stderr
    (target,) = done.json()["targets"]
    made = target["facts"]["elsewhere"]
    assert (made["feeds"], made["answers"]) == ([1, 0], ["beside", "scores"])
    assert {each["name"] for each in target["facts"]["files"]["model"]["outputs"]} == {"scores", "beside"}
    sidecar = json.loads((tmp_path / "build" / "swapped" / "release" / "swapped.json").read_text("utf-8"))
    schema = json.loads((PACKAGE / "release" / "sidecar.schema.json").read_text("utf-8"))
    jsonschema.validate(sidecar, schema)
    assert [each["name"] for each in sidecar["inputs"]] == ["x:0", "x:1"]
    # The task is about the scores, wherever they stand in the file.
    assert [(each["name"], each["role"]) for each in sidecar["output_roles"]] == [("y:1", "logits")]


def test_a_recipe_of_a_file_is_planned_and_checked(linear: tuple[Floats, Floats], cache: Path, tmp_path: Path) -> None:
    linear_onnx(tmp_path / "net.onnx", *linear)
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        'name = "r"\n[data]\nsource = "digits"\n'
        "preprocess = { resize = [32, 32], scale = 16.0, mean = [0.5], std = [0.5] }\n"
        '[[target]]\nname = "net"\nfile = "net.onnx"\n',
        encoding="utf-8",
    )

    def run(*words: object) -> Done:
        return in_process(*words, cache=cache, cwd=tmp_path)

    steps = [step["stage"] for step in run("plan", recipe, "--json").json()["steps"]]
    assert steps == ["data", "adopt", "verify_file", "bench"]
    checked = run("check", recipe, "--progress", "none")
    assert checked.code == 0 and "net.onnx, fp32: pixels float32 [-1, 32, 32, 1] → scores:0" in checked.stdout
    refused = run("why", "net", recipe)
    assert refused.code == 2 and "is a file made elsewhere" in refused.stderr
