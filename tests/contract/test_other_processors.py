"""Files mean the same on processors without this machine's instructions: other kernels, played by qemu.

Haswell has AVX2 and neither AVX-512 nor VNNI, Nehalem ends with SSE 4.2. What runs there is this environment's Python
with the very wheels of ONNX Runtime and LiteRT; they choose their kernels by what the processor says it has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketforge.devices.host import environment_of_another_processor
from pocketforge.devices.profile_files import load_any
from pocketforge.devices.x86 import qemu
from pocketforge.devices.x86.device import player
from pocketforge.devices.x86.hosts import X86Host

HERE = Path(__file__).parent
# The -cpu that the profile of an x86 host asks for → that profile.
PROCESSORS = {"Haswell": "x86-avx2", "Nehalem": "x86-sse4"}
SAMPLES = 8
FILES = {
    "digits_onnx_int8.onnx": "onnx",
    "digits_onnx_int8.ort": "onnx",
    "digits_onnx_fp32.onnx": "onnx",
    "digits_tflite_int8.tflite": "tflite",
    "digits_tflite_fp32.tflite": "tflite",
}
# How .ort files are made, and of which: what stores its weights in fewer bits is computed in float.
HOW = {"converter": ("digits_onnx_int8.onnx", "digits_onnx_fp32.onnx"),
       "keep casts": ("digits_onnx_fp32.onnx",), "fold casts": ("digits_onnx_fp32.onnx",)}  # fmt: skip


@dataclass(frozen=True)
class Played:
    """What a processor made: answers by file, .ort files by source and way, sums by the weights' type."""

    answers: dict[str, np.ndarray]
    ort: dict[tuple[str, str], Path]
    sums: dict[str, int]


@dataclass(frozen=True)
class Stored:
    """What the run's cold build has of a target on this machine."""

    outputs: dict[str, np.ndarray]
    step: float


def entry(release: Any, stage: str, target: str) -> Path:
    (key,) = [s["key"] for s in release.report["steps"] if s["stage"] == stage and target in s["lane"].split("+")]
    return release.cache / "v1" / "entries" / key[:2] / key / "files"


def stored(release: Any, target: str) -> Stored:
    folder = entry(release, "verify", target)
    outputs = {role: np.load(folder / role / "outputs_0.npy")[:SAMPLES] for role in ("model", "ort")
               if (folder / role).is_dir()}  # fmt: skip
    if not target.endswith("int8"):
        return Stored(outputs, 0.0)
    said = json.loads((entry(release, "quantize", target) / "quantize.json").read_text(encoding="utf-8"))
    return Stored(outputs, float(said["outputs"][0]["scale"]))


def order_of(release: Any, folder: Path) -> tuple[dict[str, Any], dict[tuple[str, str], Path]]:
    shipped = release.out / "release"
    inputs = str(entry(release, "data", "trunk") / "eval_0.npy")
    runs = [{"session": session, "model": str(shipped / name), "inputs": inputs, "samples": SAMPLES,
             "outputs": str(folder / f"{name}.npy")} for name, session in FILES.items()]  # fmt: skip
    targets = {(name, how): folder / f"{name}-{how.replace(' ', '-')}.ort" for how in HOW for name in HOW[how]}
    ort = [{"source": str(shipped / name), "target": str(path), "how": how} for (name, how), path in targets.items()]
    return {"runs": runs, "ort": ort, "sums": str(folder / "sums.json")}, targets


def play(release: Any, folder: Path, start: list[str]) -> Played:
    order, targets = order_of(release, folder)
    (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")
    argv = [*start, sys.executable, str(HERE / "on_a_processor.py"), str(folder / "order.json")]
    env = environment_of_another_processor()
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=600, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = {name: np.load(folder / f"{name}.npy") for name in FILES}
    return Played(answers, targets, json.loads((folder / "sums.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module", params=PROCESSORS)
def played(request: pytest.FixtureRequest, release: Any, tmp_path_factory: Any) -> Played:
    """Not skipped: without `pocketforge device setup x86-emulator` it fails."""
    profile = load_any(PROCESSORS[request.param])
    assert isinstance(profile, X86Host)
    start = player(profile).start or (os.fspath(qemu.installed().path("qemu")), "-cpu", profile.qemu_cpu)
    assert start[-1] == request.param
    return play(release, tmp_path_factory.mktemp(request.param), list(start))


@pytest.fixture(scope="module")
def here(release: Any, tmp_path_factory: Any) -> Played:
    return play(release, tmp_path_factory.mktemp("here"), [])


def test_other_kernels_run_there_and_uint8_weights_are_exact_in_all(played, here, request):
    """What int8 weights would cost is seen too: AVX2's uint8 × int8 kernel adds two products in 16 bits."""
    saturated, exact = 1_048_544, 1_920_000
    name = request.node.callspec.params["played"]
    told = {"product": 17_280_000, "conv": 200, "depthwise": 200}
    if name == "Haswell":
        told |= {"product": 9_436_896, "conv": 109}
    assert played.sums == {"int8": saturated if name == "Haswell" else exact, "uint8": exact, **told}
    assert here.sums["uint8"] == exact and here.sums["int8"] in (saturated, exact)


@pytest.mark.parametrize("name", FILES)
def test_a_file_answers_as_on_this_processor(played, release, name):
    target, _, suffix = name.partition(".")
    known = stored(release, target)
    wanted = known.outputs["ort" if suffix == "ort" else "model"]
    difference = float(np.abs(played.answers[name].astype(np.float64) - wanted).max())
    print(f"{name}: {difference:.3g}, {difference / known.step if known.step else 0:.2f} steps")
    assert played.answers[name].shape == wanted.shape == (SAMPLES, 10)
    # Integer sums are exact in any order, and each scaling back is rounded once, to the nearest: a step where a value
    # lies between two. Float sums differ by their order: 2^-24 for each of some hundred additions, seldom one way.
    assert difference <= (1.01 * known.step if known.step else 1e-5 * float(np.abs(wanted).max()))


@pytest.mark.parametrize("how", HOW)
def test_an_ort_file_holds_the_same_wherever_it_was_made(played, here, release, how):
    for name in HOW[how]:
        made = inside(played.ort[name, how])
        assert made == inside(here.ort[name, how])
        if how == "converter":
            assert made == inside((release.out / "release" / name).with_suffix(".ort")), "what the build ships"


def inside(ort: Path) -> Any:
    """What an .ort file holds: constants and nodes, without the order in which it stores them."""
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs.InferenceSession import InferenceSession

    graph = InferenceSession.GetRootAs(ort.read_bytes(), 0).Model().Graph()
    tensors = [graph.Initializers(k) for k in range(graph.InitializersLength())]
    nodes = sorted((graph.Nodes(k) for k in range(graph.NodesLength())), key=lambda node: node.Index())
    constants = {t.Name(): (t.DataType(), tuple(t.DimsAsNumpy()), t.RawDataAsNumpy().tobytes()) for t in tensors}
    wires = [(n.OpType(), [n.Inputs(k) for k in range(n.InputsLength())],
              [n.Outputs(k) for k in range(n.OutputsLength())]) for n in nodes]  # fmt: skip
    assert len(constants) == len(tensors) > 12 and len(wires) > 12
    return constants, wires
