"""Code for apps: what is the app's and what the code does, the names in it, the folder, and files it is refused for."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import releases

from pocketforge.commands.package import file_of_target, package
from pocketforge.errors import ModelError, PocketforgeError, RecipeError, ReleaseError
from pocketforge.outcomes.package import Packed
from pocketforge.package.generators import GENERATORS, AppSamples, generate
from pocketforge.package.loop import loop_of
from pocketforge.package.model import identifier_of, read_model
from pocketforge.package.output import MARKER
from pocketforge.package.pictures import fitting
from pocketforge.package.steps import Divide, Normalize, Quantize, ReverseChannels, Transpose, shape_before, split
from pocketforge.package.templates import FOLDER, c_text, float32, kotlin_text
from pocketforge.release.verify import whole_release

DIVIDE = {"step": "divide", "by": 255.0}
TO_PLANES = {"step": "transpose", "from": "HWC", "to": "CHW"}
RESIZE = {"step": "resize", "height": 8, "width": 8, "filter": "bilinear", "antialias": True}
LANCZOS = RESIZE | {"filter": "lanczos"}
LIKE_TF = RESIZE | {"like": "tf"}
ORIENT = {"step": "orient", "by": "exif"}
KINDS = ("android", "cpp", "python")


def net(**changes: object) -> releases.Net:
    return releases.Net(steps=(RESIZE, DIVIDE, TO_PLANES), **changes)  # type: ignore[arg-type]


def test_what_another_library_defines_is_left_to_the_app_with_all_before_it() -> None:
    left, ours = split([DIVIDE, RESIZE, {"step": "reverse_channels"}, DIVIDE, TO_PLANES])
    assert left == (DIVIDE, RESIZE)
    assert ours == (ReverseChannels(), Divide(255.0), Transpose((2, 0, 1)))
    assert shape_before(ours, (3, 8, 6)) == (8, 6, 3)
    rounded = {"step": "cast", "dtype": "uint8", "round": "half_to_even"}
    assert split([rounded, DIVIDE]) == ((rounded,), (Divide(255.0),))
    frames = {"step": "layout", "to": "NFT"}
    assert split([DIVIDE, frames]) == ((DIVIDE, frames), ())


def test_a_loop_refuses_an_order_of_axes_that_it_has_not(tmp_path: Path) -> None:
    turned = {"step": "transpose", "from": "HWC", "to": "WHC"}
    shape = {**releases.INPUT, "shape": [1, 8, 8, 3]}
    made = releases.write(tmp_path, releases.Net(steps=(turned,), inputs=(shape,)))
    (given,) = read_model(made / "net.onnx").inputs
    with pytest.raises(ModelError, match="no order of an image's; use --for python"):
        loop_of(given)


@pytest.mark.parametrize(
    ("name", "identifier"),
    [("inputValues", "input_values"), ("x:0", "x_0"), ("class", "class_value"), ("3d", "model_3d"), ("ü", "value")],
)
def test_names_are_identifiers_of_every_language(name: str, identifier: str) -> None:
    assert identifier_of(name) == identifier


def test_inputs_and_outputs_share_no_identifier(tmp_path: Path) -> None:
    changed = net(outputs=({**releases.OUTPUT, "name": "x"}, {**releases.OUTPUT, "name": "outputs"}))
    model = read_model(releases.write(tmp_path, changed) / "net.onnx")
    assert [*(each.identifier for each in model.inputs), *(each.identifier for each in model.outputs)] == [
        "x",
        "x_2",
        "outputs_value",
    ]


def test_names_that_meet_in_another_case_or_with_ours_are_told_apart(tmp_path: Path) -> None:
    outputs = tuple({**releases.OUTPUT, "name": name} for name in ("x1", "x_1", "x_buffer"))
    model = read_model(releases.write(tmp_path, net(outputs=outputs)) / "net.onnx")
    assert model.inputs[0].identifier == "x"
    assert [each.identifier for each in model.outputs] == ["x1", "x_1_2", "x_buffer_value"]
    named = read_model(releases.write(tmp_path / "other", net(name="random")) / "random.onnx")
    assert named.identifier == "random_model"  # random.py would stand in front of Python's own


def test_an_output_says_what_the_file_did_to_it(tmp_path: Path) -> None:
    """An app that takes logits for what they are called does softmax twice."""
    made = releases.write(tmp_path, net(package=Packed((), "softmax", "y")))
    model = read_model(made / "net.onnx")
    assert model.outputs[0].told == "logits after softmax"
    for kind in GENERATORS:
        files = generate(kind, model, None)
        assert "logits after softmax" in files["README.md"].decode()
        code = [content for name, content in files.items() if name.endswith((".py", ".h", ".ts", "Net.java", "Net.kt"))]
        assert any(b"logits after softmax" in content for content in code)


def test_a_class_closes_its_session_once(tmp_path: Path) -> None:
    """ONNX Runtime's Java throws at the second time; a page's first one may still be at it."""
    model = read_model(releases.write(tmp_path, net()) / "net.onnx")
    android = generate("android", model, None)
    assert b"if (closed)" in android["java/net/Net.java"] and b"if (!closed)" in android["kotlin/net/Net.kt"]
    page = generate("web", model, None)["src/net.ts"]
    assert page.index(b"this.session = null;\n    await session?.release()")


def test_a_readme_makes_pictures_fit_beside_another_input(tmp_path: Path) -> None:
    model = read_model(releases.write(tmp_path, net()) / "net.onnx")
    (picture,) = model.inputs
    both = dataclasses.replace(model, inputs=(picture, dataclasses.replace(picture, identifier="age", fit=None)))
    calls = {
        "cpp": "model.Predict(net::FitX(picture, height, width).data(), age)",
        "android": "model.predict(NetPictures.fitX(rgb, height, width), age)",
        "python": "model.predict(fit_x(picture), age)",
    }
    for kind, call in calls.items():
        assert call in generate(kind, both, None)["README.md"].decode()


def test_no_class_is_called_as_one_that_its_code_imports() -> None:
    """`number` would be Number, in which a page's code counts; a JVM loads no class of a package `java`."""
    code = "".join(each.read_text() for each in (FOLDER / "android").glob("*.j2"))
    imported = set(re.findall(r"^import [\w.]+\.([A-Z]\w+)", code, re.MULTILINE))
    assert {"ByteBuffer", "EValue", "OnnxTensor"} < imported
    for name in (*imported, "Number", "Promise", "Record", "Override", "Java", "Kotlin", "Module"):
        spelt = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        assert identifier_of(spelt) == f"{spelt}_value"


@pytest.mark.parametrize(("shape", "labels"), [([1, 2], ("cat", "dog")), ([1, 5, 2], ()), ([1, 1, 2], ("cat", "dog"))])
def test_an_output_of_several_rows_has_no_labels(shape: list[int], labels: tuple[str, ...], tmp_path: Path) -> None:
    model = read_model(releases.write(tmp_path, net(outputs=({**releases.OUTPUT, "shape": shape},))) / "net.onnx")
    assert model.outputs[0].labels == labels


@pytest.mark.parametrize(
    ("steps", "takes"),
    [
        ((RESIZE, DIVIDE), True),
        (({"step": "reverse_channels"}, RESIZE, DIVIDE), True),
        (({"step": "reverse_channels"}, LANCZOS, DIVIDE), False),
        ((DIVIDE, RESIZE), False),
    ],
)
def test_bitmaps_are_taken_only_where_the_app_has_no_colours_to_change(
    steps: tuple[dict[str, object], ...], takes: bool, tmp_path: Path
) -> None:
    """Red, green and blue of a Bitmap or an ImageData would go where the file has blue, green and red: code turns them
    where all of the steps are code."""
    made = releases.write(tmp_path, releases.Net(steps=(*steps, TO_PLANES)))
    model = read_model(made / "net.onnx")
    assert model.inputs[0].takes_pixels == takes
    for kind, word in (("android", "Bitmap"), ("web", "ImageData")):
        files = generate(kind, model, None)
        code = b"".join(content for name, content in files.items() if name.endswith((".java", ".ts")))
        assert (word.encode() in code) == takes


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ((LANCZOS, DIVIDE), "resize with filter lanczos like pil"),
        ((RESIZE | {"like": "opencv", "filter": "area"}, DIVIDE), "resize with filter area like opencv"),
        ((LIKE_TF, RESIZE, DIVIDE), "resize of floats like pil"),
        ((LIKE_TF, {"step": "grayscale"}, {"step": "rgb"}, DIVIDE), "rgb of a picture made gray"),
        ((DIVIDE, RESIZE), "divide among the steps of pictures"),
        ((RESIZE, {"step": "blur"}, DIVIDE), "blur among the steps of pictures"),
        ((RESIZE, {"step": "divide", "by": 16.0}), "nothing says that the recipe's pictures are bytes"),
    ],
)
def test_pictures_that_no_code_fits_are_left_to_the_app_with_the_reason(
    steps: tuple[dict[str, object], ...], why: str, tmp_path: Path
) -> None:
    model = read_model(releases.write(tmp_path, releases.Net(steps=(ORIENT, *steps, TO_PLANES))) / "net.onnx")
    (given,) = model.inputs
    assert given.fit is None and given.left[:1] == (ORIENT,) and len(given.left) > 1
    for kind in GENERATORS:
        files = generate(kind, model, None)
        assert f"No code is written that makes pictures of any size fit: {why}" in files["README.md"].decode()
        assert not [name for name in files if "ictures" in name]


def test_pictures_of_any_size_fit_by_code_and_what_reads_them_is_left(tmp_path: Path) -> None:
    crop = {"step": "center_crop", "height": 8, "width": 8, "rounding": "half_even"}
    steps = (ORIENT, {"step": "rgb"}, {**RESIZE, "like": "opencv"}, crop, DIVIDE, TO_PLANES)
    model = read_model(releases.write(tmp_path, releases.Net(steps=steps)) / "net.onnx")
    (given,) = model.inputs
    assert given.left == (ORIENT,) and not given.unfit
    assert given.fit is not None and (given.fit.channels, given.fit.dtype, given.fit.shape) == (3, "uint8", (8, 8, 3))
    files = generate("android", model, None)
    assert b"public Answer predict(Bitmap bitmap)" in files["java/net/Net.java"]
    assert b"predict(NetPictures.fitX(rgb, height, width))" in files["java/net/Net.java"]
    assert b"opencv-python-headless" in generate("python", model, None)["requirements.txt"]
    older = dataclasses.replace(model, libraries={"pillow": "12.1.0"})
    by_pillow = dataclasses.replace(given, fit=fitting((RESIZE,), (8, 8, 3))[1])
    for each, pin, order in ((model, b"pillow>=13", True), (older, b"pillow<13", False)):
        made = dataclasses.replace(each, inputs=(by_pillow,))
        assert pin in generate("python", made, None)["requirements.txt"]
        assert (b"2 * (of.width - width)" in generate("android", made, None)["java/net/NetPictures.java"]) == order


def test_means_before_channels_change_places_are_of_the_channel_that_comes_of_them(tmp_path: Path) -> None:
    means = {"step": "normalize", "mean": [1.0, 2.0, 3.0], "std": [1.0, 1.0, 1.0]}
    made = releases.write(tmp_path, releases.Net(steps=(means, {"step": "reverse_channels"}, TO_PLANES)))
    (given,) = read_model(made / "net.onnx").inputs
    loop = loop_of(given)
    assert loop.reverses and loop.planes and loop.arithmetic == (Normalize((3.0, 2.0, 1.0), (1.0,) * 3),)


def test_labels_are_what_they_were_in_python(tmp_path: Path) -> None:
    labels = ("\U0001f600 $x", 'a "b"\\')
    model = read_model(releases.write(tmp_path, net(labels=labels)) / "net.onnx")
    namespace: dict[str, object] = {"__file__": str(tmp_path / "net.py"), "__name__": "net"}
    exec(compile(generate("python", model, None)["net.py"], "net.py", "exec"), namespace)
    assert namespace["Y_LABELS"] == labels
    assert rb'"\ud83d\ude00 \$x"' in generate("android", model, None)["kotlin/net/Net.kt"]
    assert rb'"\360\237\230\200 $x"' in generate("cpp", model, None)["net.h"]


def test_labels_that_no_class_holds_are_lines_of_an_asset(tmp_path: Path) -> None:
    """A method of Java's has at most 65,535 bytes: javac refuses a list of more than eight thousand."""
    many = {"labels": tuple(f"ü {n}" for n in range(9000)), "outputs": ({**releases.OUTPUT, "shape": [1, 9000]},)}
    model = read_model(releases.write(tmp_path / "many", net(**many)) / "net.onnx")
    files = generate("android", model, None)
    assert files["assets/net_y_labels.txt"].decode().splitlines() == list(model.outputs[0].labels)
    for name in ("java/net/Net.java", "kotlin/net/Net.kt"):
        assert b"net_y_labels.txt" in files[name] and "ü".encode() not in files[name] and b"u00fc" not in files[name]
    broken = dataclasses.replace(model.outputs[0], labels=("a\nb", *model.outputs[0].labels[1:]))
    with pytest.raises(ModelError, match=r"label 'a\\nb' of y is no line of text"):
        generate("android", dataclasses.replace(model, outputs=(broken,)), None)
    few = read_model(releases.write(tmp_path / "few", net()) / "net.onnx")
    assert not [name for name in generate("android", few, None) if name.endswith("labels.txt")]


def test_nothing_is_written_into_a_release_or_over_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = releases.write(tmp_path / "a", net()) / "net.onnx"
    with pytest.raises(RecipeError, match=r"lies in the release .*, which would be whole no more"):
        package(file, "python", file.parent / "app" / "python", samples=None)
    monkeypatch.chdir(tmp_path / "a")
    for out in (Path(), Path(".."), tmp_path):
        with pytest.raises(RecipeError, match="is the folder that this command runs in"):
            package(file, "python", out, samples=None)
    whole_release(file.parent)


def test_numbers_are_the_shortest_of_that_float32_and_texts_are_bytes() -> None:
    assert (float32(0.485), float32(255.0), float32(1e-5)) == ("0.485", "255.0", "1e-05")
    assert kotlin_text("$\f\\f") == r'"\$\u000c\\f"'
    assert c_text('ä"?\n') == r'"\303\244\"\?\012"'


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_release_gives_the_same_folder_which_may_be_written_again(kind: str, tmp_path: Path) -> None:
    file = releases.write(tmp_path / "a", net()) / "net.onnx"
    written = package(file, kind, tmp_path / "one", samples=None)
    package(file, kind, tmp_path / "two", samples=None)
    package(file, kind, tmp_path / "two", samples=None)
    for name in (*written.files, MARKER):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "one", "two"]
    assert "resize" in (tmp_path / "one" / "README.md").read_text()


def test_nothing_is_written_over_that_is_not_ours(tmp_path: Path) -> None:
    file = releases.write(tmp_path / "a", net()) / "net.onnx"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "app.py").write_text("mine")
    with pytest.raises(RecipeError, match=r"holds what pocketforge did not write: app\.py"):
        package(file, "python", tmp_path / "mine", samples=None)
    package(file, "python", tmp_path / "ours", samples=None)
    (tmp_path / "ours" / "net.py").write_text("changed")
    with pytest.raises(RecipeError, match=r"net\.py is not as pocketforge wrote it"):
        package(file, "python", tmp_path / "ours", samples=None)
    assert (tmp_path / "ours" / "net.py").read_text() == "changed"
    (tmp_path / "ours" / MARKER).write_text("[]")
    with pytest.raises(RecipeError, match="is not what pocketforge writes"):
        package(file, "python", tmp_path / "ours", samples=None)


def test_a_file_is_taken_from_a_whole_release_only(tmp_path: Path) -> None:
    folder = releases.write(tmp_path, net())
    with pytest.raises(ReleaseError, match="there is no model file"):
        read_model(folder / "other.onnx")
    with pytest.raises(ReleaseError, match=r"manifest\.json is no model file of the release"):
        read_model(folder / "manifest.json")
    (folder / "net.onnx").write_bytes(b"another")
    with pytest.raises(ReleaseError, match=r"is not whole: net\.onnx: wanted SHA-256"):
        read_model(folder / "net.onnx")


@pytest.mark.parametrize(
    ("inputs", "kind", "words"),
    [
        ({"shape": [1, 3, -1, 8]}, "python", "has a size that is left open"),
        ({"dtype": "float16"}, "cpp", "code is written for float32, .*found float16"),
        ({"dtype": "float16"}, "android", "code is written for float32, .*found float16"),
        ({"dtype": "complex64"}, "web", "code is written for float32, .*found complex64"),
    ],
)
def test_files_that_code_is_not_written_for(inputs: dict[str, object], kind: str, words: str, tmp_path: Path) -> None:
    folder = releases.write(tmp_path, net(inputs=({**releases.INPUT, **inputs},)))
    with pytest.raises(PocketforgeError, match=words):
        package(folder / "net.onnx", kind, tmp_path / "out", samples=None)
    assert not (tmp_path / "out").exists()


def test_targets_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Path(__file__).parents[2] / "models" / "digits_cnn" / "release.toml"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="has 6 targets"):
        file_of_target(recipe, "")
    with pytest.raises(RecipeError, match="no target is named 'digits_tflite'; did you mean"):
        file_of_target(recipe, "digits_tflite")
    with pytest.raises(RecipeError, match="there is no release in build/digits_cnn/release"):
        file_of_target(recipe, "digits_tflite_fp32")


def test_kinds_are_told_without_loading_them() -> None:
    from pocketforge.cli.package import KINDS as told

    assert told == tuple(GENERATORS)


def test_quantized_borders_are_levels_and_answers_real(tmp_path: Path) -> None:
    levels = {"dtype": "int8", "scale": 0.5, "zero_point": 3}
    changed = net(inputs=({**releases.INPUT, **levels},), outputs=({**releases.OUTPUT, **levels},))
    model = read_model(releases.write(tmp_path, changed) / "net.onnx")
    assert model.inputs[0].steps == (Divide(255.0), Transpose((2, 0, 1)), Quantize(0.5, 3, "int8"))
    assert model.inputs[0].shape == (8, 8, 3) and model.outputs[0].labels == ("cat", "dog")
    given = np.full((1, 8, 8, 3), 255, np.uint8)
    samples = AppSamples((given,), (np.full((1, 3, 8, 8), 5, np.int8),), (np.zeros((1, 2), np.int8),))
    files = generate("python", model, samples)
    namespace: dict[str, object] = {"__file__": str(tmp_path / "net.py"), "__name__": "net"}
    exec(compile(files["net.py"], "net.py", "exec"), namespace)
    assert np.array_equal(namespace["prepare_x"](given[0]), samples.tensors[0])  # type: ignore[operator]
    assert namespace["real_values"](np.array([5], np.int8), 0.5, 3).tolist() == [1.0]  # type: ignore[operator]
    with pytest.raises(Exception, match=r"x: wanted uint8 or float32 \[8, 8, 3\], found int64 \[2\]"):
        namespace["prepare_x"](np.zeros(2, np.int64))  # type: ignore[operator]
