"""Code that `pocketforge package` writes, run: Python here, C++ as ARM code in the emulator, Java and Kotlin on a JVM.

Neither Android's API nor the runtimes' Android libraries can be had here: whole Android classes are compiled against
interfaces written from their public documentation (tests/contract/app_interfaces), their preprocessing is run.
"""

from __future__ import annotations

import dataclasses
import os
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import every_fit
import numpy as np
import pytest
import releases
from release_build import Release
from warm_server import in_process

from pocketforge.data.preprocess import About, prepare
from pocketforge.data.preprocess_words import describe
from pocketforge.devices.emulator.arrays import converted
from pocketforge.devices.emulator.launch import environment, prefix
from pocketforge.devices.emulator.parts import Emulator
from pocketforge.devices.emulator.qemu import cpu_option
from pocketforge.devices.profile_files import load_profile
from pocketforge.outcomes.data import Preprocessing
from pocketforge.package.generators import AppSamples, generate
from pocketforge.package.model import AppModel, read_model
from pocketforge.package.output import write_folder
from pocketforge.recipe.image_steps import Color, Layout, Normalize, Scale
from pocketforge.recipe.preprocess import InputSteps, Step

INTERFACES = Path(__file__).parents[1] / "contract" / "app_interfaces"
# The JVM's quick compiler alone, and one thread for its garbage: what runs once and briefly gains nothing by the other.
BRIEFLY = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
JAVAC, KOTLINC = ((program, *(f"-J{option}" for option in BRIEFLY)) for program in ("javac", "kotlinc"))
KOTLIN_LIBRARY = Path("/usr/share/java/kotlin-stdlib.jar")
TARGETS = {"tflite": "digits_tflite_int8", "onnx": "digits_onnx_fp32", "executorch": "digits_executorch_int8"}
SUFFIXES = {"tflite": ".tflite", "onnx": ".onnx", "executorch": ".pte"}
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), dtype=np.uint8)
MEANS = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Nets of pictures, of whose files only the preprocessing is run: steps of the recipe, and what the file takes.
PICTURE_NETS: Mapping[str, tuple[tuple[Step, ...], dict[str, object]]] = {
    "bgr_planes": ((Color("bgr"), Scale(by=255.0), MEANS, Layout("NCHW")), {"shape": [1, 3, 6, 5]}),
    "int8_levels": (
        (Scale(by=255.0), MEANS, Layout("NHWC")),
        {"shape": [1, 6, 5, 3], "layout": "NHWC", "dtype": "int8", "scale": 0.0187, "zero_point": -14},
    ),
    "bgr_bytes": (
        (Color("bgr"), Layout("NHWC")),
        {"shape": [1, 6, 5, 3], "layout": "NHWC", "dtype": "uint8"},
    ),
}
# Python that imports nothing of Pocketforge: what generated code prepares and answers, to the bit.
DRIVER = """
import importlib, sys
import numpy as np
folder, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.path.insert(0, folder)
code = importlib.import_module(name)
(cls,) = [each for key, each in vars(code).items() if hasattr(each, "predict")]
given = np.fromfile(f"{folder}/samples/given_0.bin", np.float32).reshape(count, 32, 32, 1)
tensors = np.fromfile(f"{folder}/samples/tensor_0.bin", np.float32).reshape(count, -1)
wanted = np.fromfile(f"{folder}/samples/output_0.bin", np.float32).reshape(count, -1)
with cls(threads=1) as model:
    for raw, tensor, output in zip(given, tensors, wanted):
        assert code.prepare_input(raw).tobytes() == tensor.tobytes()
        answer = model.predict(raw)
        assert answer.output.reshape(-1).tobytes() == output.tobytes()
        assert answer.top_output(1)[0][0] == str(output.argmax())
assert not [name for name in sys.modules if name.startswith("pocketforge")]
print("same bits")
"""


@pytest.fixture(scope="module")
def cache(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release.copy_cache(tmp_path_factory.mktemp("package") / "cache")


def write(release: Release, cache: Path, runtime: str, kind: str, folder: Path) -> Path:
    out = folder / f"{kind}_{runtime}"
    file = release.out / "release" / f"{TARGETS[runtime]}{SUFFIXES[runtime]}"
    words = ("package", file, "--for", kind, "--out", out, "--recipe", release.recipe, "--json")
    done = in_process(*words, cache=cache, cwd=folder)
    assert done.code == 0, done.stderr
    assert done.json()["samples"] == 4 and (out / done.json()["files"][0]).is_file()
    return out


def run(argv: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        list(map(str, argv)), cwd=folder, env=env or {**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("runtime", TARGETS)
def test_python_gives_the_bits_that_were_verified(runtime: str, release: Release, cache: Path, tmp_path: Path) -> None:
    folder = write(release, cache, runtime, "python", tmp_path)
    told = run([sys.executable, "-c", DRIVER, folder, TARGETS[runtime], "4"], tmp_path)
    assert told == "same bits\n"


def test_the_test_beside_python_passes_and_tells_of_another_answer(
    release: Release, cache: Path, tmp_path: Path
) -> None:
    folder = write(release, cache, "onnx", "python", tmp_path)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    assert "6 passed" in run(words, folder)
    outputs = folder / "samples" / "output_0.bin"
    np.roll(np.fromfile(outputs, np.float32), 1).tofile(outputs)
    done = subprocess.run([*words, "-k", "answers"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "1 failed" in done.stdout


def picture_model(name: str, folder: Path) -> tuple[AppModel, AppSamples]:
    """A release of a net of pictures, and samples as the data stage prepares them."""
    steps, tensor = PICTURE_NETS[name]
    lists = (InputSteps(steps),)
    said = describe(lists, About())
    assert isinstance(said, Preprocessing)
    net = releases.Net(
        name=name, runtime="tflite", steps=tuple(map(dict, said.steps)), inputs=(releases.INPUT | tensor,)
    )
    model = read_model(releases.write(folder / name, net) / f"{name}.tflite")
    prepared = np.stack([prepare(lists, (picture,), About()).inputs[0] for picture in PICTURES])
    fed = converted(prepared, model.inputs[0].tensor, name).reshape(len(PICTURES), *model.inputs[0].tensor.shape[1:])
    return model, AppSamples((PICTURES,), (fed,), (np.zeros((len(PICTURES), 2), np.float32),))


def fitted_model(name: str, folder: Path) -> tuple[AppModel, AppSamples]:
    """A release of a net that takes pictures of any size, with some of other sizes each."""
    steps, shape, dtype = every_fit.FITTED[name]
    lists = (InputSteps((*steps, Scale(by=255.0), Layout("NHWC"))),)
    said = describe(lists, About())
    assert isinstance(said, Preprocessing)
    net = releases.Net(
        name=name, steps=tuple(map(dict, said.steps)),
        inputs=(releases.INPUT | {"shape": [1, *shape], "layout": "NHWC"},),
    )  # fmt: skip
    model = read_model(releases.write(folder / name, net) / f"{name}.onnx")
    pictures = every_fit.pictures()
    given, fed = (
        np.stack([prepare(each, (picture,), About()).inputs[0] for picture in pictures])
        for each in ((InputSteps(steps),), lists)
    )
    assert given.dtype == dtype
    return model, AppSamples((given,), (fed,), (np.zeros((len(given), 2), np.float32),), (pictures,))


def mixed_model(runtime: str, folder: Path) -> tuple[AppModel, AppSamples]:
    """Several inputs and outputs of other types: what is written for it is compiled, and its file is none."""
    tensors: list[dict[str, Any]] = [
        {"name": "input", "shape": [1, 4, 4, 3], "dtype": "uint8", "layout": "NHWC", "scale": None, "zero_point": None},
        {"name": "ids", "shape": [1, 6], "dtype": "int64", "layout": "", "scale": None, "zero_point": None},
        {"name": "level", "shape": [1, 2], "dtype": "int8", "layout": "", "scale": 0.25, "zero_point": -3},
    ]
    given = [*tensors[:2], {**tensors[2], "name": "state"}]
    answers = [{**tensors[2], "name": "output"}, {**tensors[1], "name": "ids"}, {**tensors[2], "name": "class"}]
    name = f"mixed_{runtime}"
    net = releases.Net(name=name, runtime=runtime, steps=(), inputs=tuple(given), outputs=tuple(answers))
    suffix = SUFFIXES[runtime]
    model = read_model(releases.write(folder / name, net) / f"{name}{suffix}")
    arrays = tuple(np.zeros((1, *each.shape), each.accepts[0]) for each in model.inputs)
    zeros = [each.tensor.zero_point or 0 for each in model.inputs]
    fed = tuple(
        np.full((1, *each.tensor.shape[1:]), zero, each.tensor.dtype)
        for each, zero in zip(model.inputs, zeros, strict=True)
    )
    outputs = tuple(np.zeros((1, *each.tensor.shape[1:]), each.tensor.dtype) for each in model.outputs)
    return model, AppSamples(arrays, fed, outputs)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[AppModel, AppSamples]]:
    folder = tmp_path_factory.mktemp("pictures")
    return {name: picture_model(name, folder) for name in PICTURE_NETS}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[AppModel, AppSamples]]:
    folder = tmp_path_factory.mktemp("fitted")
    return {name: fitted_model(name, folder) for name in every_fit.FITTED}


PREPARE = """
#include "NAME.h"
#include <cstdio>
#include <vector>
int main() {
    std::vector<VALUE> given(COUNT * NAME::kXSize);
    if (std::fread(given.data(), sizeof(VALUE), given.size(), stdin) != given.size()) return 1;
    for (std::size_t i = 0; i < COUNT; ++i) {
        const auto tensor = NAME::PrepareX(given.data() + i * NAME::kXSize);
        std::fwrite(tensor.data(), sizeof(tensor[0]), tensor.size(), stdout);
    }
}
"""
COMPILER = (
    "aarch64-linux-gnu-g++",
    "-std=c++17",
    "-O2",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-pedantic",
)


def emulated(emulator: Emulator, argv: Sequence[str | Path], given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A program of ours on a Pixel 4's core, as runners are started."""
    profile = load_profile("pixel4")
    cluster = profile.cluster()
    cpu = cpu_option(profile, cluster, emulator.qemu, emulator.qemu_version)
    with prefix(emulator, profile, cluster) as root:
        return subprocess.run(
            [str(emulator.qemu), "-cpu", cpu, "-L", str(root), *map(str, argv)],
            env=environment(1), input=given, capture_output=True, timeout=120, check=False,
        )  # fmt: skip


def words_to_link(runtime: str, emulator: Emulator, folder: Path) -> list[str | Path]:
    """As the README has it, with the runtimes' arm64 libraries."""
    library = emulator.libraries[runtime]
    if runtime == "executorch":
        heads = library.parents[1] / "include"
        macros = heads / "executorch" / "runtime" / "core" / "portable_type" / "c10"
        names = ("executorch", "executorch_kernels_optimized", "executorch_backend_xnnpack")
        return [
            "-DC10_USING_CUSTOM_GENERATED_MACROS", "-isystem", heads, "-isystem", macros, f"-L{library.parent}",
            "-Wl,--no-as-needed", *(f"-l{name}" for name in names), f"-Wl,-rpath,{library.parent}",
        ]  # fmt: skip
    name = {"tflite": "libLiteRt.so", "onnx": "libonnxruntime.so.1"}[runtime]
    (folder / name).symlink_to(library)
    return ["-I", INTERFACES / "cpp", folder / name, f"-Wl,-rpath,{folder}"]


@pytest.mark.parametrize("runtime", TARGETS)
def test_cpp_answers_on_arm_as_was_verified(
    runtime: str, release: Release, cache: Path, emulator: Emulator, tmp_path: Path
) -> None:
    folder = write(release, cache, runtime, "cpp", tmp_path)
    linked = words_to_link(runtime, emulator, tmp_path)
    words = [*COMPILER, folder / "example.cpp", *linked, "-Wl,--allow-shlib-undefined", "-o", tmp_path / "example"]
    run(words, tmp_path)
    model = folder / f"{TARGETS[runtime]}{SUFFIXES[runtime]}"
    done = emulated(emulator, [tmp_path / "example", model, folder / "samples", tmp_path])
    assert done.returncode == 0, done.stdout + done.stderr
    wanted, found = (
        np.fromfile(place / "output_0.bin", np.float32).reshape(4, -1) for place in (folder / "samples", tmp_path)
    )
    assert re.findall(r"sample \d: (\d)", done.stdout.decode()) == [str(row.argmax()) for row in wanted]
    most = {"tflite": 0.05, "onnx": 1e-4, "executorch": 0.05}[runtime]
    assert np.abs(found - wanted).max() <= most * np.abs(wanted).max()
    cut = tmp_path / "cut"
    cut.write_bytes(model.read_bytes()[:-1])
    done = emulated(emulator, [tmp_path / "example", cut, folder / "samples"])
    assert done.returncode == 2 and b"is not the file that this code is written for" in done.stderr


def test_cpp_prepares_pictures_as_the_data_stage_does(
    pictures: Mapping[str, tuple[AppModel, AppSamples]], emulator: Emulator, tmp_path: Path
) -> None:
    for name, (model, samples) in pictures.items():
        for given in (samples.given[0], samples.given[0].astype(np.float32)):
            if given.dtype.name not in model.inputs[0].accepts:
                continue
            folder = tmp_path / f"{name}_{given.dtype}"
            write_folder(folder, generate("cpp", model, samples), {})
            value = {"uint8": "std::uint8_t", "float32": "float"}[given.dtype.name]
            text = PREPARE.replace("NAME", name).replace("VALUE", value).replace("COUNT", str(len(given)))
            (folder / "prepare.cpp").write_text(text)
            run([*COMPILER, "prepare.cpp", "-o", "prepare"], folder)
            done = emulated(emulator, [folder / "prepare"], given.tobytes())
            assert (done.returncode, done.stdout) == (0, samples.tensors[0].tobytes()), name


FIT = """
    if (words[1] == std::string("NAME")) {
        const auto fitted = NAME::FitX(picture.data(), sides[0], sides[1]);
        std::fwrite(fitted.data(), sizeof(fitted[0]), fitted.size(), stdout);
    }
"""
FIT_PICTURES = """
int main(int, char** words) {
    int sides[2];
    while (std::fread(sides, sizeof(int), 2, stdin) == 2) {
        std::vector<std::uint8_t> picture(static_cast<std::size_t>(3 * sides[0] * sides[1]));
        if (std::fread(picture.data(), 1, picture.size(), stdin) != picture.size()) return 1;
        CASES
    }
}
"""


def test_cpp_makes_pictures_of_any_size_fit_as_the_data_stage_does(
    fitted: Mapping[str, tuple[AppModel, AppSamples]], emulator: Emulator, tmp_path: Path
) -> None:
    for name, (model, samples) in fitted.items():
        write_folder(tmp_path / name, generate("cpp", model, samples), {})
    run([*COMPILER, "-fsyntax-only", "-I", INTERFACES / "cpp", tmp_path / "any_size" / "example.cpp"], tmp_path)
    heads = "".join(f'#include "{name}/{name}_pictures.h"\n' for name in fitted)
    cases = "".join(FIT.replace("NAME", name) for name in fitted)
    (tmp_path / "fit.cpp").write_text(f"#include <cstdio>\n{heads}{FIT_PICTURES.replace('CASES', cases)}")
    run([*COMPILER, "fit.cpp", "-o", "fit"], tmp_path)
    for name, (_, samples) in fitted.items():
        given = b"".join(np.array(each.shape[:2], np.int32).tobytes() + each.tobytes() for each in samples.pictures[0])
        done = emulated(emulator, [tmp_path / "fit", name], given)
        assert (done.returncode, done.stdout) == (0, samples.given[0].tobytes()), name


def test_python_makes_pictures_of_any_size_fit_as_the_data_stage_does(
    fitted: Mapping[str, tuple[AppModel, AppSamples]],
) -> None:
    for name, (model, samples) in fitted.items():
        code: dict[str, Any] = {"__file__": f"{name}.py", "__name__": name}
        exec(compile(generate("python", model, None)[f"{name}.py"], f"{name}.py", "exec"), code)
        for picture, given in zip(samples.pictures[0], samples.given[0], strict=True):
            assert np.array_equal(code["fit_x"](picture), given), name
        with pytest.raises(Exception, match=r"x: wanted uint8 \[height, width, 3\], found float32 \[2, 2, 3\]"):
            code["fit_x"](np.zeros((2, 2, 3), np.float32))
        if name == "any_size":
            narrow = "a picture so narrow becomes 65535 × 12 pixels|12 × .* pixels"
            with pytest.raises(Exception, match=narrow):
                code["fit_x"](np.zeros((1, 1_500_000, 3), np.uint8))


@pytest.mark.parametrize("runtime", ["tflite", "onnx"])
def test_cpp_of_several_inputs_and_outputs_compiles(runtime: str, tmp_path: Path) -> None:
    model, samples = mixed_model(runtime, tmp_path)
    assert [each.identifier for each in model.outputs] == ["output", "ids_2", "class_value"]
    assert model.outputs[0].labels == ("cat", "dog")
    for name, given in (("with", samples), ("without", None)):
        write_folder(tmp_path / name, generate("cpp", model, given), {})
        run([*COMPILER, "-fsyntax-only", "-I", INTERFACES / "cpp", "example.cpp"], tmp_path / name)


@pytest.fixture(scope="module")
def android(
    release: Release, cache: Path, pictures: Mapping[str, tuple[AppModel, AppSamples]],
    fitted: Mapping[str, tuple[AppModel, AppSamples]], tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    """All Android code, compiled at one go into java/ and kotlin/."""
    folder = tmp_path_factory.mktemp("android")
    for runtime in TARGETS:
        write(release, cache, runtime, "android", folder)
    for name, (model, samples) in pictures.items():
        write_folder(folder / f"android_{name}", generate("android", model, samples), {})
        floats = dataclasses.replace(samples, given=(samples.given[0].astype(np.float32),))
        if "float32" in model.inputs[0].accepts:
            other = dataclasses.replace(model, identifier=f"{name}_floats", class_name=f"{model.class_name}Floats")
            write_folder(folder / f"android_{name}_floats", generate("android", other, floats), {})
    for name, (model, samples) in fitted.items():
        write_folder(folder / f"android_{name}", generate("android", model, samples), {})
    for runtime in TARGETS:
        write_folder(folder / f"android_mixed_{runtime}", generate("android", *mixed_model(runtime, folder)), {})
    many = releases.Net(
        name="many", outputs=({**releases.OUTPUT, "shape": [1, 9000]},), labels=tuple(f"ü {n}" for n in range(9000))
    )
    write_folder(
        folder / "android_many",
        generate("android", read_model(releases.write(folder / "many", many) / "many.onnx"), None), {},
    )  # fmt: skip
    (folder / "interfaces").mkdir()
    run([*JAVAC, "-d", "interfaces", *sorted((INTERFACES / "java").rglob("*.java"))], folder)
    java = sorted(folder.glob("android_*/**/*.java"))
    run([*JAVAC, "-Xlint:all", "-Werror", "-cp", "interfaces", "-d", "java", *java], folder)
    kotlin = sorted(folder.glob("android_*/**/*.kt"))
    (folder / "kotlin").mkdir()
    run([*KOTLINC, "-cp", "interfaces", "-d", "kotlin", *kotlin], folder)
    return folder


@pytest.mark.parametrize("language", ["java", "kotlin"])
def test_the_jvm_prepares_as_the_data_stage_does(language: str, android: Path) -> None:
    tests = sorted(android.glob(f"android_*/test/{language}/*/*Test.*"))
    assert len(tests) == 3 + len(PICTURE_NETS) + 2 + len(every_fit.FITTED) + 3
    classes = f"{language}:{KOTLIN_LIBRARY}" if language == "kotlin" else language
    for test in tests:
        name = f"{test.parent.name}.{test.stem}{'Kt' if language == 'kotlin' else ''}"
        samples = test.parents[2] / "samples"
        assert ", 0 faults" in run(["java", *BRIEFLY, "-cp", classes, name, samples], android)
    picture = android / "android_any_size" / "test" / "samples" / "picture_0.bin"
    picture.write_bytes(bytes(reversed(picture.read_bytes())))
    name = f"anysize.AnySizeTest{'Kt' if language == 'kotlin' else ''}"
    words = ["java", *BRIEFLY, "-cp", classes, name, str(picture.parent)]
    done = subprocess.run(words, cwd=android, capture_output=True, check=False)
    picture.write_bytes(bytes(reversed(picture.read_bytes())))
    assert done.returncode == 1 and b"sample 0: x is fitted otherwise" in done.stdout
    name = f"{tests[-1].parent.name}.{tests[-1].stem}{'Kt' if language == 'kotlin' else ''}"
    tensor = samples / "tensor_0.bin"
    before = tensor.read_bytes()
    try:
        tensor.write_bytes(bytes([before[0] ^ 1]) + before[1:])
        words = ["java", *BRIEFLY, "-cp", classes, name, str(samples)]
        done = subprocess.run(words, cwd=android, capture_output=True, check=False)
    finally:
        tensor.write_bytes(before)
    assert done.returncode == 1 and b"sample 0" in done.stdout


def test_the_model_is_stored_and_aligned_in_an_apk(android: Path, tmp_path: Path) -> None:
    code = android / "android_tflite"
    (ending,) = re.findall(r'noCompress \+= "(.*)"', (code / "gradle" / "model.gradle").read_text())
    (tmp_path / "AndroidManifest.xml").write_text('<manifest package="app.digits"/>')
    linked: list[str | Path] = ["aapt2", "link", "--manifest", "AndroidManifest.xml", "-A", code / "assets"]
    ways = {}
    for name, words in {"plain": (), "without_dot": ("-0", ending[1:]), "ours": ("-0", ending)}.items():
        run([*linked, *words, "-o", f"{name}.apk"], tmp_path)
        ways[name] = zipfile.ZipFile(tmp_path / f"{name}.apk").getinfo("assets/digits_tflite_int8.tflite").compress_type
    assert ways == {"plain": zipfile.ZIP_DEFLATED, "without_dot": zipfile.ZIP_DEFLATED, "ours": zipfile.ZIP_STORED}
    run(["zipalign", "-f", "4", "ours.apk", "aligned.apk"], tmp_path)
    content = (tmp_path / "aligned.apk").read_bytes()
    entry = zipfile.ZipFile(tmp_path / "aligned.apk").getinfo("assets/digits_tflite_int8.tflite")
    name_bytes, extra_bytes = struct.unpack_from("<HH", content, entry.header_offset + 26)
    start = entry.header_offset + 30 + name_bytes + extra_bytes
    assert start % 4 == 0
    assert content[start : start + entry.file_size] == (code / "assets" / "digits_tflite_int8.tflite").read_bytes()
