"""Files on other x86 hosts than this machine: the same wheel under qemu, or natively where this machine is one.

What a file must not do is seen on one made by hand: ONNX Runtime's AVX2 kernel for uint8 × int8 adds two products in 16
bits, which saturate. It gives what it gives there on any machine, so the tests hold on all of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from conftest import ROOT, in_process
from onnx import TensorProto, helper, numpy_helper

from pocketforge.devices.kernels import kernels_here
from pocketforge.devices.profile_files import find_profile, load_any
from pocketforge.devices.x86 import cpuid, qemu
from pocketforge.devices.x86.device import player
from pocketforge.devices.x86.hosts import X86Host
from pocketforge.errors import DeviceError, DeviceTimeout, DeviceUnavailable
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Counts, Preprocessing, Sampled, SampleTensor
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.quantize import OutputLevels, Quantized
from pocketforge.outcomes.reference import ModelTensor, Reference
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.outcomes.verify import Verdict
from pocketforge.outcomes.verify_device import KernelsThere, VerifiedThere
from pocketforge.recipe.limits import DeviceLimits
from pocketforge.specs.count import EmulatedPlace
from pocketforge.specs.verify_device import VerifyDeviceSpec
from pocketforge.stages import verify_device

SCHEMA = json.loads((ROOT / "pipeline" / "pocketforge" / "report" / "schema.json").read_text(encoding="utf-8"))
SAMPLES, INPUTS, OUTPUTS = 6, 64, 8

RECIPE = """\
name = "mlp"

[model]
definition = "model.py"
weights = "weights.safetensors"

[data]
source = "digits"
labels = "labels.txt"
preprocess = { resize = [28, 28], scale = 16.0, mean = [0.5], std = [0.5] }

[[target]]
name = "mlp_static"
runtime = "onnx"
quantize = { scheme = "static_int8" }

[[device]]
via = "emulator"
profile = "x86-avx2"
eval_samples = 24

[[device]]
name = "old-laptop"
via = "emulator"
profile = "x86-sse4"
eval_samples = 24

[[budget]]
metric = "parity_sqnr_db"
limit = 20
device = "old-laptop"
"""


def host(name: str) -> X86Host:
    found = load_any(name)
    assert isinstance(found, X86Host)
    return found


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The report of a build for two hosts, with what was printed."""
    folder = shutil.copytree(ROOT / "models" / "mlp_digits", tmp_path_factory.mktemp("x86") / "mlp")
    (folder / "x86.toml").write_text(RECIPE, encoding="utf-8")
    done = in_process("build", "x86.toml", "--out", "out", cache=folder / "cache", cwd=folder)
    assert done.code == 0, done.stderr
    report = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    jsonschema.validate(report, SCHEMA)
    return done, report, folder


def test_a_release_file_answers_on_other_hosts_as_on_this_one(mlp: Any) -> None:
    _, report, _ = mlp
    (target,) = report["targets"]
    assert (report["verdict"], target["status"]) == ("PASS", "built")
    for device, kernels in (("x86-avx2", "AVX2"), ("old-laptop", "SSE4")):
        about = target["facts"]["emulated"][device]
        how = "emulated" if player(host("x86-avx2" if kernels == "AVX2" else "x86-sse4")).start else "this machine"
        assert about["verify"]["kernels"] == {"kernels": kernels, "how": how}
        assert about["verify"]["host"]["max_steps"] <= 1, "uint8 × uint8 is exact everywhere, but for ties"
        assert about["verify"]["device"]["samples"] == 24
        assert set(about) == {"architecture", "verify"}, "nothing is counted or estimated"
    named = {c["name"] for c in target["checks"]}
    assert {"max_steps on old-laptop, against the host", "sqnr_db on x86-avx2, against the host"} <= named
    measured = {(m["metric"], m["device"]) for m in report["measurements"] if m["via"] == "emulator"}
    assert ("parity_sqnr_db", "old-laptop") in measured
    assert not {metric for metric, _ in measured} & {"instructions", "estimated_cycles", "estimated_latency_ms"}


def test_the_report_says_on_which_kernels_a_file_was_judged(mlp: Any) -> None:
    done, report, folder = mlp
    judged = report["targets"][0]["facts"]["kernels"]
    assert judged[0] == {"device": "host", "kernels": kernels_here(), "how": "this machine"}
    assert [(j["device"], j["kernels"]) for j in judged[1:]] == [("x86-avx2", "AVX2"), ("old-laptop", "SSE4")]
    if all(j["how"] == "emulated" for j in judged[1:]):
        said = f" judged on: {kernels_here()} (this machine), AVX2 and SSE4 (emulated)"
        assert said in " ".join(done.stdout.split())
    sidecar = json.loads((folder / "out" / "release" / "mlp_static.json").read_text(encoding="utf-8"))
    assert sidecar["kernels"] == judged and sidecar["emulated"] == []


def product(path: Path) -> Path:
    """y = 1e-4 · MatMulInteger(x as uint8, w as int8): w is 120 everywhere."""
    constants = {
        "scale": np.array(1.0, np.float32),
        "zero_of_x": np.array(0, np.uint8),
        "w": np.full((INPUTS, OUTPUTS), 120, np.int8),
        "zero_of_w": np.array(0, np.int8),
        "back": np.array(1e-4, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero_of_x"], ["q"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero_of_x", "zero_of_w"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "back"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, OUTPUTS])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def stage_inputs(folder: Path) -> dict[str, Path]:
    """What the stage reads, of a file made by hand. The host's outputs are exact, as a host with VNNI gives them."""
    roles = {name: folder / name for name in ("data", "reference", "export", "verify", "quantize")}
    for path in (*roles.values(), folder / "verify" / "model"):
        path.mkdir(parents=True)
    samples = np.random.default_rng(0).integers(200, 251, (SAMPLES, INPUTS)).astype(np.float32)
    exact = np.repeat(samples.sum(1, keepdims=True) * 120 * 1e-4, OUTPUTS, 1).astype(np.float32)
    np.save(roles["data"] / "eval_0.npy", samples)
    for path in (roles["data"] / "eval_targets.npy", roles["reference"] / "outputs_0.npy",
                 roles["verify"] / "model" / "outputs_0.npy"):  # fmt: skip
        np.save(path, exact)
    product(roles["export"] / "model.onnx")
    shapes = {"x": (1, INPUTS), "y": (1, OUTPUTS)}
    x, y = (TensorSpec(name, shape, "float32") for name, shape in shapes.items())
    files.write(roles["export"], Exported({"model": "model.onnx"}, (x,), (y,)))
    takes, gives = (ModelTensor(name, shape, "float32") for name, shape in shapes.items())
    files.write(roles["reference"], Reference(0, 0, {}, SAMPLES, (takes,), (gives,)))
    counts = Counts(SAMPLES, SAMPLES, 0, SAMPLES, 0, 0)
    sampled = Sampled(
        "npz:x.npz", "regression", (), counts, {}, (SampleTensor((INPUTS,), "float32"),),
        SampleTensor((OUTPUTS,), "float32"), Preprocessing(None, None, ()), None, (),
    )  # fmt: skip
    files.write(roles["data"], sampled)
    files.write(roles["quantize"], Quantized("static_int8", "", (), (OutputLevels(0.5, 0),)))
    return roles


def run_there(folder: Path, profile: str, **device: Any) -> tuple[VerifiedThere, Verdict]:
    inputs = {**stage_inputs(folder), "profile": find_profile(profile)}
    place = dataclasses.replace(EmulatedPlace("emulator", "", 300.0, 2**32), **device)
    spec = VerifyDeviceSpec("onnx", "static_int8", "regression", place, 0, DeviceLimits())
    out = folder / "out"
    out.mkdir()
    verify_device.run(inputs, spec, out, lambda *_: None)
    return files.read(out, VerifiedThere), files.read(out, Verdict)


@pytest.fixture(scope="module", autouse=True)
def set_up() -> None:
    """Not skipped: without it the tests fail."""
    qemu.installed()


def test_a_file_that_saturates_on_a_host_fails_there_and_says_which_kernels(tmp_path: Path) -> None:
    found, verdict = run_there(tmp_path, "x86-avx2")
    # Where this machine is one, it plays itself.
    how = "emulated" if player(host("x86-avx2")).start else "this machine"
    assert verdict.passed is False and found.kernels == KernelsThere("AVX2", how)
    steps = found.host.max_steps or 0.0
    assert steps > 50 and (found.host.sqnr_db or 0) < 20
    wanted = f"on x86-avx2 (AVX2), against the host: max_steps: wanted at most 3, found {steps:.6g}"
    assert wanted in verdict.reasons
    # A recipe may allow it.
    limits = found.limits.common
    assert (limits["min_sqnr_db"], limits["min_argmax_agreement"], limits["max_steps"]) == (40.0, 0.99, 3.0)


def test_what_is_exact_there_passes(tmp_path: Path) -> None:
    found, verdict = run_there(tmp_path, "x86-sse4")
    assert verdict == Verdict(True)
    assert found.host.max_steps == 0 and found.runtime.startswith("onnxruntime ")


def test_a_host_with_vnni_is_played_by_such_a_machine_alone(tmp_path: Path) -> None:
    if player_or_none("x86-avx512-vnni") is not None:
        found, verdict = run_there(tmp_path, "x86-avx512-vnni")
        assert verdict.passed and found.kernels is not None and found.kernels.how == "this machine"
        return
    with pytest.raises(DeviceUnavailable, match="as no qemu emulates AVX-512 VNNI: this machine has "):
        run_there(tmp_path, "x86-avx512-vnni")


def player_or_none(name: str) -> object | None:
    try:
        return player(host(name))
    except DeviceUnavailable:
        return None


def test_a_machine_without_the_instructions_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine as another would be: the one thing about it that is not real."""
    haswell = cpuid.under(qemu.installed().path("qemu"), "Haswell")
    assert haswell is not None and haswell >= set(host("x86-avx2").has)
    monkeypatch.setattr(cpuid, "here", lambda: haswell)
    with pytest.raises(DeviceUnavailable, match="this machine has no avx512f, avx512bw, avx512dq, avx512vl, avx512_vn"):
        player(host("x86-avx512-vnni"))
    assert player(host("x86-avx2")).start == (), "it is one itself"
    assert player(host("x86-sse4")).start[-1] == "Nehalem"
    monkeypatch.setattr(cpuid, "here", lambda: None)
    with pytest.raises(DeviceUnavailable, match="must be for x86-64"):
        player(host("x86-sse4"))


def test_limits_of_time_and_memory_leave_nothing_running(tmp_path: Path) -> None:
    with pytest.raises(DeviceTimeout, match=r"model.onnx was not done in 0 s on x86-sse4 \(qemu .*, Nehalem\)"):
        run_there(tmp_path / "slow", "x86-sse4", time_limit_s=0.4)
    with pytest.raises(DeviceError, match="needs more memory than it may use: wanted at most 16 MiB"):
        run_there(tmp_path / "big", "x86-sse4", memory_limit_bytes=2**24)
    time.sleep(0.1)
    assert str(tmp_path) not in subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True).stdout


def test_a_file_that_does_not_load_there_fails_in_the_runtimes_words(tmp_path: Path) -> None:
    from pocketforge.devices.base import RunRequest
    from pocketforge.devices.emulator import device
    from pocketforge.errors import ToolFailed

    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    np.save(tmp_path / "x.npy", np.zeros((1, 4), np.float32))
    request = RunRequest("onnx", path, hashlib.sha256(b"no model").hexdigest(), (tmp_path / "x.npy",), tmp_path,
                         place=EmulatedPlace("emulator", "", 300.0, 2**32), files={"profile": "x86-sse4"})  # fmt: skip
    with pytest.raises(ToolFailed) as caught:
        device.run(request)
    assert "onnx runtime on broken.onnx on x86-sse4 (qemu" in caught.value.message
    assert "INVALID_PROTOBUF" in str(caught.value) and "warning: TCG" not in str(caught.value)
