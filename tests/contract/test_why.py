"""Stage `why` on the shipped digits model: a fault at each stage is named with its layer; without one, none is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shared_store import DigitsParts

from pocketforge.specs.why import WhySpec
from pocketforge.stages import why
from pocketforge.why import files

ROOT = Path(__file__).parents[2]
INT8 = ("digits_onnx_int8", "digits_tflite_int8", "digits_executorch_int8")
TARGETS = (*INT8, "digits_onnx_fp32", "digits_executorch_fp32")
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the toolchains deprecate parts of each other
    pytest.mark.usefixtures("runtimes_of_all_workers"),
]


# Target → what stage `why` gets for it: its inputs by role, and its spec.
Built = Mapping[str, tuple[dict[str, Path], WhySpec]]


@pytest.fixture(scope="module")
def built(digits_parts: DigitsParts) -> Built:
    """Files of the shipped recipe, made by a build's own steps. Each form answers one sample at a time: a third of the
    samples that a build takes, twice of what layers are looked at with.
    """
    made = digits_parts.for_why(*TARGETS)
    return {name: (inputs, dataclasses.replace(spec, samples=32)) for name, (inputs, spec) in made.items()}


@pytest.fixture(scope="module", autouse=True)
def one_calibration() -> Any:
    """Calibrating is the same in every test that does not meddle with it: once is enough."""
    from pocketforge.quantization import pt2e
    from pocketforge.why import prepared

    made: dict[Any, Any] = {}
    real, calibrate = prepared.prepare_again, pt2e.calibrate

    def once(program: Any, samples: Any, quantize: Any, *rest: Any) -> Any:
        content = hashlib.sha256()
        for array in [*(t.detach().numpy() for t in program.state_dict.values()), *samples]:
            content.update(np.ascontiguousarray(array).tobytes())
        key = (pt2e.calibrate is calibrate, content.digest(), quantize)
        if key not in made:
            made[key] = real(program, samples, quantize, *rest)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared, "prepare_again", once)
        yield


@pytest.fixture(scope="module", autouse=True)
def one_loading() -> Any:
    """Tests change graphs in their files: those that lie in them unchanged are read once."""
    from pocketforge.rewrites import graph_files

    made: dict[bytes, Any] = {}
    real = graph_files.load

    def once(path: Path) -> Any:
        content = hashlib.sha256(path.read_bytes()).digest()
        if content not in made:
            made[content] = real(path)
        return made[content]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_files, "load", once)
        yield


@pytest.fixture(scope="module", autouse=True)
def one_lowering() -> Any:
    """Two tests lower the same graphs for ExecuTorch, which takes longest: each graph is lowered once."""
    from pocketforge.runtimes import tap_executorch

    made: dict[Any, Any] = {}
    real = tap_executorch.lower

    def once(program: Any, pte: Path | None = None) -> Any:
        content = hashlib.sha256(str(program.graph).encode())
        for name, tensor in sorted({**program.state_dict, **program.constants}.items()):
            content.update(name.encode() + tensor.detach().numpy().tobytes())
        key = (content.digest(), pte is None)
        if key not in made:
            made[key] = real(program, pte), b"" if pte is None else pte.read_bytes()
        run, file = made[key]
        if pte is not None:
            pte.write_bytes(file)
        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tap_executorch, "lower", once)
        yield


@pytest.fixture
def explained(built: Built, tmp_path: Path) -> Callable[..., Any]:
    """Run the stage on a target, with some of its folders copied and edited: role → what edits the copy."""

    def run(target: str, **edits: Callable[[Path], None]) -> Any:
        inputs, spec = dict(built[target][0]), built[target][1]
        for role, edit in edits.items():
            inputs[role] = Path(shutil.copytree(inputs[role], tmp_path / role))
            for path in inputs[role].rglob("*"):
                path.chmod(0o644)
            edit(inputs[role])
        out = tmp_path / "out"
        out.mkdir()
        why.run(inputs, spec, out, lambda fraction, message: None)
        return json.loads((out / "why.json").read_text("utf-8"))

    return run


def names(found: Mapping[str, Any], stage: str, layer: str) -> None:
    """That this stage and layer are named, and none before them is bad."""
    assert (found["first_bad_stage"], found["first_bad_layer"]) == (stage, layer), found["sentence"]
    order = [s["name"] for s in found["stages"]]
    assert not any(s["bad"] for s in found["stages"][: order.index(stage)])
    assert f"first bad stage: {stage}" in found["sentence"]
    assert f"first bad layer: {layer}" in found["sentence"]


@pytest.mark.parametrize("target", [*INT8, "digits_onnx_fp32"])
def test_a_good_target_has_no_bad_stage(explained, target):
    found = explained(target)
    assert found["first_bad_stage"] == "" and found["sentence"].startswith("no bad stage: runtime is at ")
    assert [s["name"] for s in found["stages"]] == ["eager", "exported", "prepared", "converted", "lowered", "runtime"]
    missing = {s["name"] for s in found["stages"] if s["missing"]}
    assert missing == (set() if target in INT8 else {"prepared", "converted"})
    # Where most is lost is looked into all the same: int8's price is paid in the prepared graph.
    assert found["layers_of"] == "prepared" or target not in INT8
    layers = [row["layer"] for row in found["layers"]]
    assert layers[0] == "stem.0" and layers[-1] == "classifier"
    # Three additions and poolings can be told in graphs; in files, what has weights.
    assert len(layers) == (16 if target in INT8 else 13)
    own = [row["own_sqnr_db"] for row in found["layers"]]
    assert all(20 < db < 60 or db == 200 for db in own) if target in INT8 else own == [None] * 13


def edit_program(file: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        import torchao.quantization.pt2e  # noqa: F401  registers the ops of a quantized graph

        program = torch.export.load(folder / file)
        change(program)
        torch.export.save(program, folder / file)

    return edit


def test_a_swapped_layout_in_the_traced_graph(explained):
    def swap(program: Any) -> None:
        weight = program.state_dict["residual.conv.3.weight"]
        weight.data = weight.data.swapaxes(2, 3).contiguous()

    found = explained("digits_onnx_int8", reference=edit_program("model.pt2", swap))
    names(found, "exported", "residual.conv.3")
    assert "a swapped layout: its weight is there with the last two axes exchanged" in found["sentence"]
    before = found["layers"][[r["layer"] for r in found["layers"]].index("residual.conv.3") - 1]
    assert before["sqnr_db"] > 100


def test_a_clipped_range_of_one_observer(explained, monkeypatch):
    from pocketforge.quantization import pt2e

    real = pt2e.calibrate

    def clipped(prepared: Any, *rest: Any) -> None:
        real(prepared, *rest)
        node = next(n for n in prepared.graph.nodes if "down1.conv.3.weight" in str(n.target))
        while node.op != "call_module" or "weight" in str(node.args[0].target):
            # From the weight through its observer, the convolution and its activation to their observer.
            node = next(iter(node.users))
        observer = getattr(prepared, node.target)
        observer.calculate_qparams = lambda: _quarter(type(observer).calculate_qparams(observer))

    def _quarter(found: Any) -> Any:
        scale, zero_point = found
        return scale / 4, zero_point

    monkeypatch.setattr(pt2e, "calibrate", clipped)
    found = explained("digits_onnx_int8")
    names(found, "prepared", "down1.conv.3")
    assert "likely a clipped range: its output ends at" in found["sentence"]


def test_calibration_samples_that_are_not_like_the_real_ones(built, explained):
    """Dark pictures: every range is too small, and the first layer is where it begins."""

    def darken(folder: Path) -> None:
        path = folder / "calibration_0.npy"
        np.save(path, np.load(path) * 0.1)

    found = explained("digits_tflite_int8", data=darken)
    names(found, "prepared", "stem.0")
    assert "clipped range" in found["likely"]
    counts = json.loads((built["digits_tflite_int8"][0]["data"] / "data.json").read_text("utf-8"))["counts"]
    wanted = min(4 * counts["calibration"], counts["calibration"] + counts["train"] // 2)
    assert found["sentence"].endswith(f": write calibration_samples = {wanted} under [data]")


@pytest.mark.parametrize(
    ("target", "file"), [("digits_onnx_int8", "folded.pt2"), ("digits_tflite_int8", "unfolded.pt2")]
)
def test_a_wrong_zero_point_in_the_converted_graph(explained, target, file):
    def shift(program: Any) -> None:
        convolution = [n for n in program.graph.nodes if "conv2d" in str(n.target)][6]  # inverted.conv.0
        behind = (convolution, *convolution.users)  # its activation comes first
        quantizer = next(
            n for n in program.graph.nodes if ".quantize_per_tensor" in str(n.target) and n.args[0] in behind
        )
        for reader in list(quantizer.users):
            reader.args = (*reader.args[:2], reader.args[2] + 30, *reader.args[3:])

    found = explained(target, quantize=edit_program(file, shift))
    names(found, "converted", "inverted.conv.0")
    assert "a wrong zero point or bias: its output is off by -" in found["sentence"]


def transpose_onnx(path: Path, shape: tuple[int, ...], which: int) -> None:
    """Swap height and width of a convolution's weight, found by its shape, in a file."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    weight = [i for i in model.graph.initializer if tuple(i.dims) == shape][which]
    turned = np.ascontiguousarray(numpy_helper.to_array(weight).swapaxes(2, 3))
    weight.CopyFrom(numpy_helper.from_array(turned, weight.name))
    path.write_bytes(model.SerializeToString())


def test_a_wrong_weight_in_an_onnx_file(explained):
    found = explained("digits_onnx_int8", export=lambda f: transpose_onnx(f / "model.onnx", (32, 32, 3, 3), 1))
    names(found, "lowered", "residual.conv.3")
    index = [r["layer"] for r in found["layers"]].index("residual.conv.3")
    assert found["layers"][index - 1]["sqnr_db"] > 35 and found["layers"][index]["sqnr_db"] < 20


def test_a_wrong_weight_in_a_tflite_file(explained):
    def reverse(folder: Path) -> None:
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema

        path = folder / "model.tflite"
        model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(path.read_bytes()), 0))
        depthwise = [t for t in model.subgraphs[0].tensors if list(t.shape) == [1, 3, 3, 256]]
        buffer = model.buffers[depthwise[0].buffer]
        buffer.data = np.frombuffer(bytes(bytearray(buffer.data)), np.uint8)[::-1].copy()
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))

    names(explained("digits_tflite_int8", export=reverse), "lowered", "inverted.conv.3")


def test_a_runtime_that_computes_a_layer_wrongly(explained, monkeypatch):
    """What plain kernels compute rightly and the app's session does not: a kernel's fault, played by another weight."""
    real = files.run_file

    def faulty(path: Path, session: str, samples: Any, out: Path) -> Any:
        if session != "onnx":
            return real(path, session, samples, out)
        out.mkdir(parents=True, exist_ok=True)
        played = Path(shutil.copyfile(path, out / path.name))
        transpose_onnx(played, (32, 32, 3, 3), 0)
        return real(played, session, samples, out)

    monkeypatch.setattr(files, "run_file", faulty)
    found = explained("digits_onnx_int8")
    names(found, "runtime", "residual.conv.0")
    assert "the same file is right in reference kernels" in found["sentence"]


def roll_pte(path: Path) -> None:
    """Give every class another's weights: nothing in a .pte's interface tells."""
    from safetensors.numpy import load_file

    weight = load_file(ROOT / "models" / "digits_cnn" / "weights.safetensors")["classifier.weight"]
    content = path.read_bytes()
    assert content.count(weight.tobytes()) == 1
    path.write_bytes(content.replace(weight.tobytes(), np.roll(weight, 1, axis=0).tobytes()))


def test_a_wrong_kernel_in_executorch(explained, monkeypatch):
    """Layers are looked at in a second file of the same graph, which the same kernels compute."""
    real = files.run_file

    def faulty(path: Path, session: str, samples: Any, out: Path) -> Any:
        out.mkdir(parents=True, exist_ok=True)
        played = Path(shutil.copyfile(path, out / path.name))
        roll_pte(played)
        return real(played, session, samples, out)

    monkeypatch.setattr(files, "run_file", faulty)
    found = explained("digits_executorch_fp32")
    names(found, "runtime", "classifier")
    assert len(found["layers"]) == 16 and all(row["sqnr_db"] > 100 for row in found["layers"][:-1])


def test_a_pte_that_is_not_of_its_graph(explained):
    """No layer can be read from a .pte: that is said, and that a new file of the same graph is right."""
    found = explained("digits_executorch_fp32", export=lambda folder: roll_pte(folder / "model.pte"))
    assert found["first_bad_stage"] == "runtime" and found["first_bad_layer"] == "" and found["layers"] == []
    assert "layer not resolved" in found["sentence"]
    assert "the shipped file is not what the exporter writes from it" in found["sentence"]
