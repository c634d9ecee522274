"""The native runners under the emulator: the host's answers on real files, else a message and an exit code."""

from __future__ import annotations

import hashlib
import importlib
import json
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.bundle import parts_beside
from pocketforge.device_calibration import micro_models
from pocketforge.devices import host
from pocketforge.devices.base import RunRequest
from pocketforge.devices.emulator import device, pinned
from pocketforge.devices.emulator.launch import Machine, Order, environment, launch, prefix
from pocketforge.devices.emulator.parts import Emulator
from pocketforge.devices.emulator.qemu import cpu_option
from pocketforge.devices.profile_files import load_profile
from pocketforge.errors import DeviceError, RecipeError, ToolFailed
from pocketforge.files import hash_file
from pocketforge.registries import RUNTIMES
from pocketforge.specs.count import EmulatedPlace

PROFILE = load_profile("pixel4")
PROGRAMS = {"tflite": "pf_litert", "onnx": "pf_onnxruntime", "executorch": "pf_executorch"}
CODES = {0, 64, 65, 66, 69, 70}
SAMPLES = 3
# Not in alphabetical order: some formats keep names sorted, and would then swap the tensors.
NAMES = (("zebra", "ant"), ("last", "first"))
Names = tuple[str, ...]


@dataclass(frozen=True)
class Bench:
    """The three runners as they are started under qemu, without what `launch` adds."""

    emulator: Emulator
    start: tuple[str, ...]
    models: dict[str, Path]
    samples: list[np.ndarray]

    def run(self, runtime: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        argv = [*self.start, str(self.emulator.runners[runtime]), *map(str, arguments)]
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", env=environment(1), timeout=120)
        assert done.returncode in CODES, done
        if done.returncode:
            assert done.stderr.rstrip("\n").split("\n")[-1].startswith(f"{PROGRAMS[runtime]}: "), done
            assert done.stdout == ""
        return done

    def opened(self, runtime: str, model: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run(runtime, "--library", self.emulator.libraries[runtime], "--model", model, *arguments)


@pytest.fixture(scope="module")
def bench(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Two inputs, two outputs and one small linear layer, from each exporter."""
    import torch

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)

        def forward(self, a, b):
            return self.linear(a) + b, a - 2 * b

    folder = tmp_path_factory.mktemp("models")
    random = np.random.default_rng(0)
    samples = [random.uniform(-1, 1, (SAMPLES, 4)).astype(np.float32) for _ in range(2)]
    torch.manual_seed(0)
    models = {runtime: exported(Two(), samples, NAMES, runtime, folder) for runtime in RUNTIMES}
    cluster = PROFILE.cluster()
    with prefix(emulator, PROFILE, cluster) as made:
        cpu = cpu_option(PROFILE, cluster, emulator.qemu, emulator.qemu_version)
        yield Bench(emulator, (str(emulator.qemu), "-cpu", cpu, "-L", str(made)), models, samples)


def exported(net: Any, samples: list[np.ndarray], names: tuple[Names, Names], runtime: str, folder: Path) -> Path:
    """The model's file. names: of its inputs, and of its outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
        import torch

        from pocketforge.runtimes.base import ExportRequest

        example = tuple(torch.from_numpy(s[:1]) for s in samples)
        program = torch.export.export(net.eval(), example)
        (folder / runtime).mkdir()
        request = ExportRequest(program, None, example, *names, layout="NCHW", io="float32", opset=None)
        result = importlib.import_module(RUNTIMES[runtime].module).export(request, folder / runtime)
    return folder / runtime / result.files["model"]


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    return request.param


def place_of(cores: str) -> EmulatedPlace:
    return EmulatedPlace("emulator", cores, 1800.0, 0)


def request_for(runtime: str, model: Path, arrays: list[np.ndarray], folder: Path, **more: Any) -> RunRequest:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, array in enumerate(arrays):
        paths.append(folder / f"in_{number}.npy")
        np.save(paths[-1], array)
    more = {"sha256": hash_file(model), "place": place_of(""), "files": {"profile": "pixel4"}, **more}
    return RunRequest(runtime, model, inputs=tuple(paths), outputs=folder / "out", **more)


def both(request: RunRequest) -> list[tuple[Any, list[np.ndarray]]]:
    """Host's and emulated device's answer and outputs."""
    found = []
    for run in (host.run, device.run):
        answer = run(request)
        found.append((answer, [np.load(request.outputs / f"outputs_{i}.npy") for i in range(len(answer.outputs))]))
    return found


def raw(bench: Bench, folder: Path) -> list[str | Path]:
    """The samples as arguments."""
    arguments: list[str | Path] = []
    for number, array in enumerate(bench.samples):
        array.tofile(folder / f"{number}.bin")
        arguments += ["--input", folder / f"{number}.bin"]
    return arguments


def onnx_file(path: Path, dtypes: tuple[int, ...], shape: list[Any], io: dict[str, Any] | None = None) -> Path:
    """An input in0 … of each dtype (ONNX's number), given back as it is: out0 …"""
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("Identity", [f"in{i}"], [f"out{i}"]) for i in range(len(dtypes))]
    ends = [[value(f"{end}{i}", dtype, shape) for i, dtype in enumerate(dtypes)] for end in ("in", "out")]
    graph = onnx.helper.make_graph(nodes, "g", *ends)
    model = onnx.helper.make_model(graph, ir_version=9, opset_imports=[onnx.helper.make_opsetid("", 17)])
    if io:
        onnx.helper.set_model_props(model, {"io_quantization": json.dumps(io)})
    onnx.save(model, path)
    return path


def test_inputs_and_outputs_are_those_of_the_host_in_its_order(bench, runtime, tmp_path):
    (wanted, host_outputs), (found, outputs) = both(
        request_for(runtime, bench.models[runtime], bench.samples, tmp_path)
    )
    assert [t.name for t in found.inputs] == list(NAMES[0])
    assert found.inputs == wanted.inputs and found.outputs == wanted.outputs and found.runtime == wanted.runtime
    assert (found.modules, found.cpus, found.samples_ms) == ((), (), ())
    assert found.load_ms > 0 and found.peak_rss_bytes > found.loaded_rss_bytes >= 0
    for ours, theirs in zip(outputs, host_outputs, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape == (SAMPLES, 4)
        # Sums below 4 of a bias, an input and four products: five roundings by 2^-23 at most in both, in any order.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=10 * 2**-23)


def test_pcm_goes_in_as_it_is(emulator, runtime, tmp_path):
    import torch

    class Heard(torch.nn.Module):
        def forward(self, pcm):
            return pcm.float() * 2**-15

    pcm = np.random.default_rng(0).integers(-(2**15), 2**15, (SAMPLES, 40)).astype(np.int16)
    pcm[0, :2] = -(2**15), 2**15 - 1
    model = exported(Heard(), [pcm], (("pcm",), ("wave",)), runtime, tmp_path)
    (wanted, _), (found, (wave,)) = both(request_for(runtime, model, [pcm], tmp_path))
    assert found.inputs == wanted.inputs and found.inputs[0].dtype == "int16"
    assert np.array_equal(wave, pcm.astype(np.float32) / np.float32(2**15))


def test_dynamic_int8_and_what_xnnpack_leaves_run_as_on_the_host(emulator, tmp_path):
    """On a core with dot products, whose kernels for dynamic int8 are KleidiAI's; cumsum is no operator of XNNPACK."""
    import torch

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(40, 24)

        def forward(self, x):
            return self.linear(x), x.cumsum(1)

    torch.manual_seed(0)
    samples = np.random.default_rng(0).uniform(-1, 1, (SAMPLES, 40)).astype(np.float32)
    example = (torch.from_numpy(samples[:1]),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pocketforge.quantization.pt2e import quantize_graph
        from pocketforge.recipe.quantize import Quantize
        from pocketforge.runtimes import executorch
        from pocketforge.runtimes.base import ExportRequest

        program = torch.export.export(Two().eval(), example)
        graphs = quantize_graph(program, [samples], Quantize("dynamic_int8"))
        folded, unfolded = (torch.export.export(graph, example) for graph in graphs)
        names = ("x",), ("y", "sums")
        asked = ExportRequest(folded, unfolded, example, *names, "NCHW", "float32", None, scheme="dynamic_int8")
        model = tmp_path / executorch.export(asked, tmp_path).files["model"]
    (_, theirs), (found, ours) = both(request_for("executorch", model, [samples], tmp_path / "run"))
    assert found.runtime == "executorch " + pinned.RUNTIMES["executorch"].version
    for one, other in zip(ours, theirs, strict=True):
        # An activation is one of 255 levels on both; the sums of products differ in the last bits.
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    assert len(np.unique(ours[0])) > 20


def test_the_runner_loads_the_libraries_that_the_python_binding_names(emulator):
    """So that a file finds the same operators in both. Not needed by our files: profiling, and backends of others."""
    from elftools.elf.elffile import ELFFile

    from pocketforge.runtimes.sessions.executorch import binding

    with Path(str(binding().__file__)).open("rb") as file:
        tags = list(ELFFile(file).get_section_by_name(".dynamic").iter_tags("DT_NEEDED"))
    named = {tag.needed for tag in tags if tag.needed.startswith("libexecutorch")}
    main = emulator.libraries["executorch"]
    ours = {path.name for path in (main, *parts_beside(main))}
    others = {"libexecutorch_etdump.so", "libexecutorch_backend_openvino.so", "libexecutorch_backend_qnn.so"}
    assert ours <= named and named - ours <= others


def test_int8_inputs_are_quantized_as_on_the_host(emulator, tmp_path):
    model = tmp_path / "conv.tflite"
    model.write_bytes(micro_models.operator("conv-bn-relu", 12, 8, 16, 3, 1))
    images = np.random.default_rng(0).uniform(-1.5, 1.5, (2, 8, 12, 12)).astype(np.float32)
    (wanted, theirs), (found, ours) = both(request_for("tflite", model, [images], tmp_path / "run"))
    assert found.inputs == wanted.inputs and found.inputs[0].dtype == "int8" and (found.inputs[0].scale or 0) > 0
    assert found.outputs == wanted.outputs
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert len(np.unique(ours[0])) > 10


def test_onnx_takes_the_quantization_from_the_files_metadata(emulator, tmp_path):
    levels = {"scale": 0.05, "zero_point": -3}
    model = onnx_file(tmp_path / "m.onnx", (3,), [1, 4], {"in0": levels, "out0": levels})
    samples = [np.array([[-9.0, -0.07, 0.1, 9.0]], np.float32)]
    (wanted, theirs), (found, ours) = both(request_for("onnx", model, samples, tmp_path / "run"))
    assert found.inputs == wanted.inputs and found.inputs[0].scale == levels["scale"]
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert ours[0].tolist() == [[-128, -4, -1, 127]]


DTYPES = {1: "float32", 2: "uint8", 3: "int8", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}


def test_every_dtype_goes_in_and_comes_out(emulator, tmp_path):
    model = onnx_file(tmp_path / "m.onnx", tuple(DTYPES), [1, 2, 3])
    sent = np.random.default_rng(0).integers(0, 2, (2, 1, 2, 3))
    paths = [tmp_path / f"{dtype}.bin" for dtype in DTYPES.values()]
    for path, dtype in zip(paths, DTYPES.values(), strict=True):
        sent.astype(dtype).tofile(path)
    answer = launch(
        Machine(emulator, PROFILE, PROFILE.cluster(), 60),
        Order("onnx", model, "", tuple(paths), tmp_path / "out", "run"),
    )
    for side in (answer["inputs"], answer["outputs"]):
        assert [(t["dtype"], t["shape"]) for t in side] == [(dtype, [1, 2, 3]) for dtype in DTYPES.values()]
    for i, path in enumerate(paths):
        assert (tmp_path / "out" / f"outputs_{i}.bin").read_bytes() == path.read_bytes()


def test_the_answer_says_what_ran(bench, runtime, tmp_path):
    done = bench.opened(
        runtime, bench.models[runtime], *raw(bench, tmp_path), "--output-dir", tmp_path / "o", "--mode", "run"
    )
    assert done.stdout.count("\n") == 1
    answer = json.loads(done.stdout)
    assert answer["model_sha256"] == hash_file(bench.models[runtime])
    assert all(t["sha256"] == hash_file(Path(t["file"])) for t in answer["outputs"])
    assert [Path(t["file"]).stat().st_size for t in answer["outputs"]] == [
        SAMPLES * t["size_bytes"] for t in answer["outputs"]
    ]
    loaded = {Path(library["path"]).name: int(library["base"], 16) for library in answer["libraries"]}
    assert loaded[bench.emulator.libraries[runtime].name] > 0 and PROGRAMS[runtime] in loaded
    extents = sorted((int(entry["base"], 16), entry["size"]) for entry in answer["libraries"])
    ends = [base + size for base, size in extents]
    assert all(end <= base for end, (base, _) in zip(ends, extents[1:], strict=False))
    assert all(size > 0 for _, size in extents)


def test_timing_goes_on_for_as_many_and_as_long_as_asked(bench, runtime, tmp_path):
    request = request_for(runtime, bench.models[runtime], bench.samples, tmp_path, samples=5, warmup=1, time_s=0.2)
    answer = device.run(request)
    assert len(answer.samples_ms) >= 5 and min(answer.samples_ms) > 0
    assert sum(answer.samples_ms) < 5000 and not request.outputs.exists()
    order = ["--mode", "time", "--samples", "7", "--warmup", "0"]
    done = bench.opened(runtime, bench.models[runtime], *raw(bench, tmp_path), *order)
    assert len(json.loads(done.stdout)["samples_ms"]) == 7


def test_a_count_runs_the_first_sample_between_the_two_marks(bench, runtime, tmp_path):
    from elftools.elf.elffile import ELFFile

    with bench.emulator.runners[runtime].open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".symtab")
        marks = [symbols.get_symbol_by_name(f"bench_mark_{end}")[0]["st_value"] for end in ("begin", "end")]
    log = tmp_path / "log"
    watched = ",".join(f"{mark:#x}+4" for mark in marks)
    traced = Bench(bench.emulator, (*bench.start, "-d", "exec,nochain", "-dfilter", watched, "-D", str(log)), {}, [])
    arguments = [*raw(bench, tmp_path), "--output-dir", tmp_path / "o", "--mode", "count", "--windows", "3"]
    traced.opened(runtime, bench.models[runtime], *arguments)
    passed = [line.split()[-1] for line in log.read_text().splitlines() if line.startswith("Trace")]
    assert passed == ["bench_mark_begin", "bench_mark_end"] * 3
    one = np.fromfile(tmp_path / "o" / "outputs_1.bin", np.float32)
    np.testing.assert_allclose(one, bench.samples[0][0] - 2 * bench.samples[1][0], atol=1e-6)
    alone = bench.opened(runtime, bench.models[runtime], *arguments, "--gate", "987")
    assert (alone.returncode, alone.stderr.splitlines()[-1]) == (
        66,
        f"{PROGRAMS[runtime]}: nobody answers at --gate 987",
    )


def test_two_threads_give_what_one_gives(bench, runtime, tmp_path):
    answers = []
    for threads in ("1", "2"):
        arguments = [*raw(bench, tmp_path), "--output-dir", tmp_path / threads, "--mode", "run", "--threads", threads]
        done = bench.opened(runtime, bench.models[runtime], *arguments)
        assert done.returncode == 0, done
        answers.append([tensor["sha256"] for tensor in json.loads(done.stdout)["outputs"]])
    assert answers[0] == answers[1]
    if runtime == "executorch":
        assert "Resetting threadpool to 2 threads" in done.stderr


def test_bad_models(bench, runtime, tmp_path):
    whole = bench.models[runtime].read_bytes()
    bad = {"empty": b"", "short": whole[:7], "header": whole[:8], "garbage": bytes(range(256)) * 40}
    bad |= {f"cut{n}": whole[: len(whole) * n // 10] for n in (1, 5, 9)}
    bad |= {"scrambled": whole[:8] + bytes(reversed(whole[8:]))}
    bad |= {name: path.read_bytes() for name, path in bench.models.items() if name != runtime}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        assert bench.opened(runtime, tmp_path / name, "--mode", "describe").returncode == 65, name


def test_files_that_cannot_be_used(bench, tmp_path):
    # What reads and writes files is the same in all three; this one loads fastest.
    runtime = "tflite"
    model, inputs = bench.models[runtime], raw(bench, tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "short.bin").write_bytes(b"\0" * 12)
    (tmp_path / "five.bin").write_bytes(b"\0" * 16 * 5)
    run = ["--mode", "run", "--output-dir", tmp_path / "out"]

    def fails(code: int, words: str, file: Path = model, *arguments: str | Path) -> None:
        done = bench.opened(runtime, file, *arguments)
        assert (done.returncode, words in done.stderr) == (code, True), done

    fails(66, "No such file", tmp_path / "absent", *run, *inputs)
    fails(66, "not a regular file", tmp_path, *run, *inputs)
    fails(66, "not a regular file", Path("/dev/zero"), *run, *inputs)
    fails(66, "cannot open the input", model, *run, "--input", tmp_path / "absent", *inputs[2:])
    fails(66, "cannot make the output folder", model, *inputs, "--mode", "run", "--output-dir", tmp_path / "file" / "x")
    fails(66, "cannot write", model, *inputs, "--mode", "run", "--output-dir", tmp_path / "file")
    fails(65, "takes samples of 16 bytes", model, *run, "--input", tmp_path / "short.bin", *inputs[2:])
    fails(65, "different numbers of samples: 5", model, *run, "--input", tmp_path / "five.bin", *inputs[2:])
    fails(65, "takes 2 inputs, 1 --input were given", model, *run, *inputs[2:])
    fails(65, f"found {hash_file(model)}", model, *run, *inputs, "--sha256", "0" * 64)


def test_libraries_that_are_missing_or_another_ones(bench, runtime, tmp_path):
    (tmp_path / "cut.so").write_bytes(bench.emulator.libraries[runtime].read_bytes()[:100_000])
    for library in ("/absent.so", tmp_path, tmp_path / "cut.so", bench.emulator.sysroot / "lib" / "libm.so.6"):
        done = bench.run(runtime, "--library", library, "--model", bench.models[runtime], "--mode", "describe")
        assert done.returncode == 69, library


def test_shapes_that_are_not_fixed_are_refused(emulator, tmp_path):
    model = onnx_file(tmp_path / "m.onnx", (1,), ["batch", 4])
    with pytest.raises(ToolFailed, match="input 0 \\(in0\\) has no fixed shape"):
        device.run(request_for("onnx", model, [np.zeros((1, 4), np.float32)], tmp_path / "run"))


def test_hashes_of_every_length_around_a_block(bench, tmp_path):
    for size in (1, 3, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000, 70_001):
        content = bytes(n * 7 % 256 for n in range(size))
        (tmp_path / "f").write_bytes(content)
        done = bench.opened("tflite", tmp_path / "f", "--mode", "describe", "--sha256", "0" * 64)
        assert f"found {hashlib.sha256(content).hexdigest()}" in done.stderr


def test_help(bench, runtime):
    done = bench.run(runtime, "--help")
    assert done.stdout.startswith(f"usage: {PROGRAMS[runtime]} --library SO") and done.stderr == ""


OPTIONS = ("--library", "--model", "--sha256", "--input", "--output-dir", "--mode", "--threads", "--warmup",
           "--samples", "--windows", "--time-ms", "--gate", "--Help", "-h", "--", "")  # fmt: skip
NUMBERS = ("0", "1", "2", "-1", "+1", " 1", "1 ", "1.5", "1e3", "0x10", "nan", "inf", "9" * 30, "-" + "9" * 30)
text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
value = st.one_of(st.sampled_from((*NUMBERS, "run", "time", "count", "/dev/null", "/absent", ".")), text)
# No argument list has a library that loads, so none runs a model.
pairs = st.lists(st.tuples(st.sampled_from(OPTIONS), value).map(list), max_size=8).map(
    lambda p: [word for pair in p for word in pair]
)
needed = ["--library", "/absent", "--model", "/absent", "--mode", "describe"]


@settings(max_examples=120)
@given(
    runtime=st.sampled_from(list(PROGRAMS)),
    arguments=st.one_of(
        pairs, pairs.map(lambda p: [*needed, *p]), st.lists(st.one_of(st.sampled_from(OPTIONS), value))
    ),
)
def test_no_arguments_make_it_crash(bench, runtime, arguments):
    with tempfile.TemporaryDirectory() as folder:
        arguments = [a if a != "." else folder for a in arguments]
        assert bench.run(runtime, *arguments).returncode in ((0,) if "--help" in arguments else (64, 69))


def test_a_session_without_a_runner_and_places_that_are_not(emulator, bench, tmp_path):
    model = bench.models["onnx"]
    with pytest.raises(DeviceError, match="no runner for onnx_reference"):
        device.run(request_for("onnx_reference", model, bench.samples, tmp_path))
    with pytest.raises(RecipeError):
        device.run(request_for("onnx", model, bench.samples, tmp_path, files={"profile": "pixel44"}))
    with pytest.raises(RecipeError, match="no cores named 'huge'; known: "):
        device.run(request_for("onnx", model, bench.samples, tmp_path, place=place_of("huge")))
    with pytest.raises(ToolFailed, match="takes 2 inputs, 1 were given"):
        device.run(request_for("onnx", model, bench.samples[:1], tmp_path))
    with pytest.raises(ToolFailed, match=r"takes shape \[1, 4\], the samples have \[1, 5\]"):
        device.run(request_for("onnx", model, [np.zeros((1, 5), np.float32)] * 2, tmp_path))
