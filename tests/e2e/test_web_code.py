"""`pocketforge package --for web`: the code is compiled, strictly, and run in a browser on what was verified."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import every_fit
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from release_build import Release, pocketforge

from pocketforge.data.preprocess import About, prepare
from pocketforge.data.preprocess_words import describe
from pocketforge.devices.web import WEB
from pocketforge.errors import ModelError
from pocketforge.files import hash_file
from pocketforge.measure.browser import Page, run_pages
from pocketforge.outcomes.data import Preprocessing
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.package.generators import AppSamples, generate
from pocketforge.package.model import AppInput, AppModel, AppOutput
from pocketforge.package.pictures import fitting
from pocketforge.package.steps import Divide, Normalize, Quantize, ReverseChannels, ToFloat, Transpose
from pocketforge.recipe.preprocess import InputSteps

WASM = {"onnx": "/modules/onnxruntime-web/dist/", "tflite": "/modules/@litertjs/core/wasm/"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STEPS = (
    ReverseChannels(), ToFloat(), Divide(255.0), Normalize(MEAN, STD), Normalize((0.1,), (1.5,)), Transpose((2, 0, 1)),
    Quantize(0.01, 113, "uint8"),
)  # fmt: skip
RNG = np.random.default_rng(0)


def made_model(folder: Path) -> AppModel:
    """A file of uint8 [1, 3, 5, 7], sums by class, for pixels of 5 x 7."""
    weights = RNG.normal(size=(105, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["f"], ["v"]),
        helper.make_node("MatMul", ["v", "w"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 3, 5, 7])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = folder / "sums.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    said = describe((InputSteps(every_fit.EVERY_STEP),), About())
    assert isinstance(said, Preprocessing)
    left, fit = fitting(said.steps, (5, 7, 3))
    taken = AppInput(
        "for_pixels", TensorSpec("x", (1, 3, 5, 7), "uint8", "NCHW"), "image", left, STEPS, (5, 7, 3),
        ("uint8", "float32"), fit,
    )  # fmt: skip
    given = AppOutput("scores", TensorSpec("scores", (1, 4), "float32"), "logits", ("a", 'b "\n', "ü", "</script>"), {})
    return AppModel(
        path, "sums", "onnx", "Sums", "sums", hash_file(path), path.stat().st_size, "r", "1.0.0", {}, (taken,),
        (given,), tolerance=1e-5,
    )  # fmt: skip


def made_samples(model: AppModel) -> AppSamples:
    """Prepared by NumPy, as `prepare` has it, and answered by ONNX Runtime."""
    pictures = every_fit.pictures()
    steps = (InputSteps(every_fit.EVERY_STEP),)
    raw = np.stack([prepare(steps, (each,), About()).inputs[0] for each in pictures])
    values: np.ndarray = raw[..., ::-1].astype(np.float32) / np.float32(255)
    values = (values - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    values = (values - np.float32(0.1)) / np.float32(1.5)
    levels = np.rint(values.transpose(0, 3, 1, 2) / np.float32(0.01)) + np.float32(113)
    tensors = np.ascontiguousarray(levels.clip(0, 255).astype(np.uint8))
    assert {0, 255} < set(tensors.ravel().tolist()), "values beyond both limits, and between"
    session = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    scores = np.concatenate([session.run(None, {"x": each[None]})[0] for each in tensors])
    return AppSamples((raw,), (tensors,), (scores,), (pictures,))


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def compiled(folder: Path) -> Path:
    """By tsc, as `npm run build` does."""
    (folder / "node_modules").symlink_to(WEB.modules)
    argv = [str(WEB.modules / ".bin" / "tsc"), "--project", "."]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    return folder


def page(folder: Path, name: str, runtime: str) -> Page:
    argument = {"folder": "/app/", "wasm": WASM[runtime]}
    return Page(f"/app/dist/test/{name}.test.js", argument, {"/app": folder}, folder)


@pytest.mark.skipif(WEB.words == "none", reason="apt-get install chromium; pocketforge device setup web")
def test_code_for_pages_gives_what_was_verified(release: Release, tmp_path: Path) -> None:
    pages = []
    for target, file in (("digits_tflite_int8", "tflite"), ("digits_onnx_fp32", "onnx")):
        model = release.out / "release" / f"{target}.{file}"
        words = ("package", model, "--for", "web", "--recipe", release.recipe, "--out", tmp_path / target, "--json")
        done = pocketforge(*words, cache=release.cache, cwd=tmp_path)
        assert done.code == 0, done.stderr
        assert done.json()["samples"] == 4
        pages.append(page(compiled(tmp_path / target), target, file))
    made = made_model(tmp_path)
    samples = made_samples(made)
    right = write(tmp_path / "right", generate("web", made, samples))
    flipped = tuple(np.flipud(picture) for picture in samples.pictures[0])
    other = dataclasses.replace(samples, given=(np.flip(samples.given[0], -1),), pictures=(flipped,))
    wrong = write(tmp_path / "wrong", generate("web", made, other))
    again = write(tmp_path / "again", generate("web", made, samples))
    (again / "sums.onnx").write_bytes(b"another file")
    pages += [page(compiled(folder), "sums", "onnx") for folder in (right, wrong, again)]
    found = run_pages(pages)
    assert not any(each.refused for each in found), "a page that asks for nothing outside"
    for each, count in zip(found[:3], (4, 4, 6), strict=True):
        assert not each.fault and (each.answer["samples"], each.answer["failures"]) == (count, []), each
        assert each.answer["difference"] < 1e-2, "sums are of hundreds; digits' scores of tens"
    failures = found[3].answer["failures"]
    assert "sample 0: for_pixels is prepared otherwise" in failures
    assert "sample 0: for_pixels is fitted otherwise" in failures
    assert "sample 5: for_pixels of an ImageData is prepared otherwise" in failures
    assert found[4].fault.startswith(f"SumsError: wanted sums.onnx of SHA-256 {made.sha256}, found "), found[4].fault


def test_code_for_pages_is_the_same_each_time_and_has_pins(tmp_path: Path) -> None:
    made = made_model(tmp_path)
    files = generate("web", made, None)
    assert files == generate("web", made, None)
    source = {"package.json", "src/sums.ts", "src/sums_pictures.ts", "tsconfig.json"}
    assert set(files) == {"README.md", "sums.onnx", *source}
    told = json.loads(files["package.json"])
    assert told["dependencies"] == {"onnxruntime-web": "1.30.0"} and told["devDependencies"] == {"typescript": "7.0.2"}


def test_types_that_no_page_has_are_refused_by_name(tmp_path: Path) -> None:
    made = made_model(tmp_path)
    taken = dataclasses.replace(made.inputs[0], tensor=TensorSpec("x", (1, 3, 5, 7), "int8"))
    words = r"x int8 .*, in @litertjs/core: code is written for float32, int32, uint8, found int8"
    with pytest.raises(ModelError, match=words):
        generate("web", dataclasses.replace(made, runtime="tflite", inputs=(taken,)), None)
