"""Every runtime keeps the same promises: its exporter, its session and what `describe` reads out of its files."""

from __future__ import annotations

import hashlib
import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketforge.devices import host
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.errors import StageFailed, ToolFailed
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.recipe import Target
from pocketforge.recipe.quantize import Quantize
from pocketforge.registries import RUNTIMES
from pocketforge.runtimes.describe import describe

# Real starts of an interpreter are in tests/contract/test_devices.py, and here where a test sets the environment.
pytestmark = pytest.mark.usefixtures("runtimes_of_all_workers")

SAMPLES = 8
# Not in alphabetical order: some formats keep names sorted, and would then swap the tensors.
NAMED_IN, NAMED_OUT = ("zebra", "ant", "ids"), ("last", "first", "said")


class Net(torch.nn.Module):
    """The smallest conv net: something to fold, to fuse and to quantize."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


class Named(torch.nn.Module):
    """Two inputs of one shape and two outputs of one shape: only their names and order tell them apart. And token ids:
    integers that are looked up, not computed with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.table = torch.nn.Embedding(10, 6)
        self.head = torch.nn.Linear(6, 3)

    def forward(self, a, b, ids):
        return self.linear(a) + b, a - 2 * b, self.head(self.table(ids).mean(1))


@dataclass(frozen=True)
class Exported:
    """A model in a runtime's format, and what PyTorch answers."""

    runtime: str
    folder: Path
    result: Any
    samples: list[np.ndarray]
    wanted: list[np.ndarray]
    scale: float = 0.0  # of the output's int8 steps

    @property
    def model(self) -> Path:
        return self.folder / self.result.files["model"]

    def run(self, out: Path, samples: list[np.ndarray] | None = None, **more: Any) -> RunAnswer:
        out.mkdir(parents=True, exist_ok=True)
        paths = []
        for number, array in enumerate(self.samples if samples is None else samples):
            paths.append(out / f"in_{number}.npy")
            np.save(paths[-1], array)
        model = more.pop("model", self.model)
        sha256 = more.pop("sha256", hashlib.sha256(model.read_bytes()).hexdigest())
        return host.run(RunRequest(RUNTIMES[self.runtime].session, model, sha256, tuple(paths), out / "out", **more))


def _traced(module: torch.nn.Module, samples: list[np.ndarray]) -> Any:
    return torch.export.export(module.eval(), tuple(torch.from_numpy(s[:1]) for s in samples))


def _answers(module: Any, samples: list[np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        rows = [module(*(torch.from_numpy(s[i : i + 1]) for s in samples)) for i in range(len(samples[0]))]
    rows = [r if isinstance(r, tuple) else (r,) for r in rows]
    return [np.concatenate([o.numpy() for o in column]) for column in zip(*rows, strict=True)]


def _export(runtime: str, folder: Path, program: Any, names: Any, unfolded: Any = None, **more: Any) -> Any:
    from pocketforge.runtimes.base import ExportRequest

    folder.mkdir()
    request = ExportRequest(
        **{
            "program": program,
            "unfolded": unfolded,
            "example": tuple(program.example_inputs[0]),
            "input_names": names[0],
            "output_names": names[1],
            "layout": "NCHW",
            "io": "float32",
            "opset": None,
            **more,
        }
    )
    return importlib.import_module(RUNTIMES[runtime].module).export(request, folder)


@pytest.fixture(scope="module")
def graphs() -> dict[str, Any]:
    """What the runtimes get to export, each traced (and quantized) once: every runtime gets the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
        from pocketforge.quantization import pt2e

        torch.manual_seed(0)
        random = np.random.default_rng(0)
        images = [random.uniform(-1, 1, (SAMPLES, 3, 12, 10)).astype(np.float32)]
        net = Net().eval()
        torch.nn.init.uniform_(net.norm.running_var, 0.5, 1.5)
        torch.nn.init.uniform_(net.norm.running_mean, -0.2, 0.2)
        pair = [random.uniform(-1, 1, (SAMPLES, 4)).astype(np.float32) for _ in range(2)]
        values: list[Any] = [*pair, random.integers(0, 10, (SAMPLES, 5))]
        float32 = _traced(net, images)
        folded, unfolded = pt2e.quantize_graph(float32, images, Quantize("static_int8", calibration="minmax"))
        example = (torch.from_numpy(images[0][:1]),)
        int8 = [torch.export.export(m, example) for m in (folded, unfolded)]
        levels = pt2e.describe(unfolded)[1][0]
        assert levels is not None
        named = Named().eval()
        return {
            "fp32": (float32, None, images, _answers(net, images), 0.0),
            "int8": (*int8, images, _answers(folded, images), levels.scale),
            "named": (_traced(named, values), None, values, _answers(named, values), 0.0),
        }


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def exported(runtime: str, graphs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    folder = tmp_path_factory.mktemp(runtime)
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case, (program, unfolded, samples, wanted, scale) in graphs.items():
            names = (NAMED_IN, NAMED_OUT) if case == "named" else (("photo",), ("scores",))
            result = _export(runtime, folder / case, program, names, unfolded)
            found[case] = Exported(runtime, folder / case, result, samples, wanted, scale)
    return found


@pytest.fixture(scope="module")
def answered(
    exported: dict[str, Exported], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], tuple[RunAnswer, Path]]:
    """(case, role) → what a session on that file says in a process of its own, and the folder with its outputs."""
    folder = tmp_path_factory.mktemp("answers")
    return {
        (name, role): (case.run(folder / name / role, model=case.folder / file), folder / name / role / "out")
        for name, case in exported.items()
        for role, file in case.result.files.items()
    }


@pytest.fixture(params=["fp32", "int8"])
def image_net(request: pytest.FixtureRequest, exported: dict[str, Exported]) -> Exported:
    return exported[request.param]


def _plain(tensor: TensorSpec) -> tuple[Any, ...]:
    """A tensor of ExportResult or of a session, as far as both know it."""
    scale = tensor.scale and pytest.approx(tensor.scale, rel=1e-6)
    return tensor.name, tensor.shape, tensor.dtype, scale, tensor.zero_point


def test_the_exporter_writes_what_it_says(runtime, exported):
    for case in exported.values():
        assert set(case.result.files) == ({"model", "ort"} if runtime == "onnx" else {"model"})
        # For the words of a file that is dead at load (measure/dead_files.py).
        beside = {"nodes.json"} if runtime == "executorch" else set()
        assert {p.name for p in case.folder.iterdir()} == set(case.result.files.values()) | beside
        assert case.model.suffix == RUNTIMES[runtime].suffix
        assert case.result.warnings == []


def test_a_session_sees_what_the_exporter_promised(exported, answered):
    for name, case in exported.items():
        for role in case.result.files:
            answer, outputs = answered[name, role]
            assert [_plain(t) for t in answer.inputs] == [_plain(t) for t in case.result.inputs]
            assert [_plain(t) for t in answer.outputs] == [_plain(t) for t in case.result.outputs]
            assert {t.shape[0] for t in (*answer.inputs, *answer.outputs)} == {1}
            for number, wanted in enumerate(case.wanted):
                found = np.load(outputs / f"outputs_{number}.npy")
                # One step of int8, for the order in which a runtime rounds; float sums in any order.
                atol = 1.01 * case.scale if case.scale else 1e-5
                np.testing.assert_allclose(found, wanted, atol=atol, rtol=0)


def test_a_run_leaves_nothing_behind_and_tells_nobody(exported, tmp_path, monkeypatch):
    """ONNX Runtime's official builds keep a telemetry session in the folder for temporary files (`.ses`)."""
    for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("CI", raising=False)  # there it is off by itself
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr("tempfile.tempdir", None)
    exported["fp32"].run(tmp_path / "run", samples=[exported["fp32"].samples[0][:1]])
    left = [p for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME") for p in (tmp_path / name).rglob("*")]
    assert left == []


def test_names_and_layout(exported):
    for case in ("fp32", "int8"):
        result = exported[case].result
        assert [(t.name, t.shape, t.dtype, t.layout) for t in result.inputs] == [
            ("photo", (1, 3, 12, 10), "float32", "NCHW")
        ]
        assert [(t.name, t.shape, t.dtype, t.layout) for t in result.outputs] == [("scores", (1, 4), "float32", "")]


def test_two_inputs_and_two_outputs_keep_their_order(runtime, exported, tmp_path):
    case = exported["named"]
    assert tuple(t.name for t in case.result.inputs) == NAMED_IN
    assert tuple(t.name for t in case.result.outputs) == NAMED_OUT
    a, b, ids = case.samples
    case.run(tmp_path, samples=[b, a, ids])
    swapped = np.load(tmp_path / "out" / "outputs_1.npy")
    np.testing.assert_allclose(swapped, b - 2 * a, atol=1e-5)
    assert not np.allclose(swapped, case.wanted[1], atol=1e-2)


def test_a_name_means_the_tensor_it_was_given_to(runtime, exported, answered):
    """Apps feed by name, not by position: the runtime's own interface, as an app uses it."""
    case = exported["named"]
    a, b, ids = (s[:1] for s in case.samples)
    if runtime == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(case.model), providers=["CPUExecutionProvider"])
        last, first = session.run(["last", "first"], {"ant": b, "ids": ids, "zebra": a})
    elif runtime == "tflite":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(model_path=str(case.model)).get_signature_runner("serving_default")
        answer = runner(ant=b, ids=ids.astype(np.int32), zebra=a)
        last, first = answer["last"], answer["first"]
    else:  # .pte files have positions, no names of their own: theirs are in a constant method, which sessions read
        answer, _ = answered["named", "model"]
        assert [t.name for t in (*answer.inputs, *answer.outputs)] == [*NAMED_IN, *NAMED_OUT]
        return
    np.testing.assert_allclose(last, case.wanted[0][:1], atol=1e-5)
    np.testing.assert_allclose(first, case.wanted[1][:1], atol=1e-5)


def test_integer_inputs_stay_integers(runtime, exported):
    ids = exported["named"].result.inputs[2]
    assert ids.dtype == ("int32" if runtime == "tflite" else "int64")
    assert ids.layout == ""


def test_describe_reads_it(runtime, image_net):
    for file in image_net.result.files.values():
        path = image_net.folder / file
        found = describe(path)
        assert found.format == path.suffix.lstrip(".")
        assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert found.size_bytes == path.stat().st_size
        for seen, promised in ((found.inputs, image_net.result.inputs), (found.outputs, image_net.result.outputs)):
            assert [(t.shape, t.dtype) for t in seen] == [(t.shape, t.dtype) for t in promised]
            if runtime != "executorch":
                assert [t.name for t in seen] == [t.name for t in promised]
        matrices = [w for w in found.weights if len(w.shape) > 1]
        assert sorted(w.parameters for w in matrices) == [4 * 8, 8 * 3 * 9]
        wanted = {"float32"} if not image_net.scale else {"uint8"} if runtime == "onnx" else {"int8"}
        assert {w.dtype for w in matrices} == wanted


class Segments(torch.nn.Module):
    """Scores, and a map that a float operator and an argmax go on from: what reads an output besides the app makes
    converters treat it otherwise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 5, 3, padding=1)
        self.head = torch.nn.Linear(5 * 8 * 8, 4)

    def forward(self, x):
        y = self.conv(x)
        return self.head(y.flatten(1)), y, torch.relu(y), y.argmax(1)


@pytest.fixture(scope="module")
def segments() -> Any:
    """The two graphs in int8, the samples, and what the graph answers."""
    torch.manual_seed(0)
    samples = [np.random.default_rng(0).uniform(-1, 1, (16, 3, 8, 8)).astype(np.float32)]
    example = (torch.from_numpy(samples[0][:1]),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pocketforge.quantization import pt2e

        program = torch.export.export(Segments().eval(), example)
        graphs = pt2e.quantize_graph(program, samples, Quantize("static_int8", calibration="minmax"))
        return [torch.export.export(graph, example) for graph in graphs], samples, _answers(graphs[0], samples)


def test_int8_inputs_and_outputs_beside_an_integer_one(runtime, segments, tmp_path):
    """Scores and maps in levels, maps channels first, the argmax as it is."""
    (program, unfolded), samples, wanted = segments
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # ExecuTorch's own pass changes the program that it is given.
        if runtime == "executorch":
            torch.export.save(program, tmp_path / "own.pt2")
            program = torch.export.load(tmp_path / "own.pt2")
        names = (("photo",), ("scores", "map", "rest", "top"))
        result = _export(runtime, tmp_path / "io8", program, names, unfolded, io="int8")
    (given,), (*levels, top) = result.inputs, result.outputs
    dtype, middle = ("uint8", 128) if runtime == "onnx" else ("int8", 0)
    assert (given.name, given.dtype, given.shape) == ("photo", dtype, (1, 3, 8, 8))
    assert given.scale == pytest.approx(2 / 255, rel=0.01) and abs(given.zero_point - middle) <= 1
    shapes = {"scores": (1, 4), "map": (1, 5, 8, 8), "rest": (1, 5, 8, 8)}
    assert [(t.name, t.dtype, t.shape) for t in levels] == [(name, dtype, shape) for name, shape in shapes.items()]
    integer = "int32" if runtime == "tflite" else "int64"
    assert (top.name, top.dtype, top.shape, top.scale) == ("top", integer, (1, 8, 8), None)
    answer = Exported(runtime, tmp_path / "io8", result, samples, wanted).run(tmp_path / "run")
    assert [_plain(t) for t in (*answer.inputs, *answer.outputs)] == [_plain(t) for t in (given, *levels, top)]
    *raws, tops = (np.load(tmp_path / "run" / "out" / f"outputs_{k}.npy") for k in range(4))
    for raw, gives, values in zip(raws, levels, wanted, strict=False):
        assert raw.dtype == np.dtype(dtype)
        real = (raw.astype(np.float64) - gives.zero_point) * gives.scale
        np.testing.assert_allclose(real, values, atol=1.01 * gives.scale, rtol=0)
    assert (tops == wanted[3]).mean() > 0.98


def test_nhwc_is_for_tflite(graphs, exported, tmp_path, runtime):
    if runtime != "tflite":
        with pytest.raises(ValueError, match="layout NHWC is for runtime tflite"):
            Target("photos", runtime, layout="NHWC")
        return
    program, _, samples, wanted, _ = graphs["fp32"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = _export(runtime, tmp_path / "nhwc", program, (("photo",), ("scores",)), layout="NHWC")
    assert (result.inputs[0].shape, result.inputs[0].layout) == ((1, 12, 10, 3), "NHWC")
    case = Exported(runtime, tmp_path / "nhwc", result, samples, wanted)
    answer = case.run(tmp_path / "run")
    assert answer.inputs[0].shape == (1, 12, 10, 3)
    np.testing.assert_allclose(np.load(tmp_path / "run" / "out" / "outputs_0.npy"), wanted[0], atol=1e-5)


# Wrong ways to run a file


def test_another_sha_is_refused(exported, tmp_path):
    with pytest.raises(ToolFailed, match=r"model\.\w+ changed: wanted SHA-256 f{64}, found [0-9a-f]{64}"):
        exported["int8"].run(tmp_path, sha256="f" * 64)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["empty", "half", "text", "noise"])
def test_a_damaged_file_is_an_error_not_our_end(exported, tmp_path, damage):
    case = exported["fp32"]
    whole = case.model.read_bytes()
    data = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "text": b"<html>404 Not Found</html>\n" * 20,
        "noise": whole[:8] + np.random.default_rng(3).bytes(len(whole) - 8),
    }[damage]
    broken = tmp_path / f"broken{case.model.suffix}"
    broken.write_bytes(data)
    with pytest.raises(ToolFailed) as caught:
        case.run(tmp_path / "run", model=broken)
    assert f"the {case.runtime} runtime on {broken.name} ended with" in caught.value.message
    assert not (tmp_path / "run" / "out").exists()


def test_samples_of_another_shape(exported, tmp_path):
    words = r"ValueError: input photo takes shape \[1, 3, 12, 10\], the samples have \[1, 3, 10, 12\]"
    with pytest.raises(ToolFailed, match=words) as caught:
        exported["fp32"].run(tmp_path, samples=[exported["fp32"].samples[0].transpose(0, 1, 3, 2)])
    assert caught.value.returncode == 3


def test_another_number_of_inputs(exported, tmp_path):
    with pytest.raises(ToolFailed, match=r"takes 1 inputs, 2 were given"):
        exported["fp32"].run(tmp_path, samples=exported["fp32"].samples * 2)
    with pytest.raises(ToolFailed, match=r"takes 3 inputs, 1 were given"):
        exported["named"].run(tmp_path, samples=exported["named"].samples[:1])


def test_names_that_do_not_fit_the_model(runtime, graphs, tmp_path):
    """A wrong number of names is a mistake in our own plan: it must not become a file with other names."""
    program = graphs["named"][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((ValueError, StageFailed)):
            _export(runtime, tmp_path / "names", program, (("only",), NAMED_OUT))


def test_what_every_export_to_executorch_looks_for_is_made_once(exported):
    """Where it is looked for at all (test_patterns.py): no export in this process had to make it again."""
    from executorch.backends.xnnpack.partition.graphs import bilinear_2d, sdpa

    assert "pocketforge.runtimes.executorch_patterns" in RUNTIMES["executorch"].preload
    for make in (bilinear_2d._get_bilinear_2d_graphs, sdpa.get_graphs):
        assert make.cache_info().misses == make.cache_info().currsize <= 1
