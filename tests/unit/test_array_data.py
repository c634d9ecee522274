"""Arrays from npz files and functions: which are scaled, which labels are labels, and damage named with its file."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pocketforge.commands.bench_files import given_file
from pocketforge.data import fingerprint_files, open_source
from pocketforge.data.labels import read_labels, repeated_names
from pocketforge.data.targets import class_number, real_target
from pocketforge.devices.profile_files import load_any
from pocketforge.errors import ModelError, RecipeError
from pocketforge.estimation import calibration_file
from pocketforge.facts.gather import gather
from pocketforge.files import hash_file, json_text, read_whole
from pocketforge.recipe import Data, Preprocess
from pocketforge.recipe.toml import load_recipe
from pocketforge.report.files import load_report
from pocketforge.runtimes.describe import describe as describe_file
from pocketforge.specs.data import data_spec
from pocketforge.stages.data import run

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 4, 5, 3), dtype=np.uint8)
Y = np.arange(20) % 2
MEAN = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def staged(root: Path, source: str, preprocess: Preprocess | None = None, labels: Path | None = None, **more):
    out = root / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    task = more.pop("task", "classification")
    spec = data_spec(Data(source, calibration_samples=4, preprocess=preprocess, **more), 0, task)
    run({"data_root": root, **({"labels": labels} if labels else {})}, spec, out, lambda *_: None)
    return np.load(out / "eval_0.npy"), json.loads((out / "data.json").read_text("utf-8"))


def written(root: Path, body: str) -> str:
    (root / "mine.py").write_text(f"import numpy as np\n{body}\n")
    return "mine.py:load"


FUNCTIONS = {
    "arrays": "def load(): f = np.load(__file__[:-7] + 'a.npz'); return f['x'], f['y']",
    "pairs": "def load(): f = np.load(__file__[:-7] + 'a.npz'); return [(x, int(y)) for x, y in zip(f['x'], f['y'])]",
    "pictures": "from PIL import Image\ndef load(): f = np.load(__file__[:-7] + 'a.npz'); "
    "return [(Image.fromarray(x), int(y)) for x, y in zip(f['x'], f['y'])]",
}


def test_8_bit_arrays_are_scaled_as_images_are(tmp_path):
    np.savez(tmp_path / "a.npz", x=IMAGES, y=Y)
    sources = ["npz:a.npz"]
    for name, body in FUNCTIONS.items():
        (tmp_path / f"{name}.py").write_text(f"import numpy as np\n{body}\n".replace("[:-7]", f"[:-{len(name) + 3}]"))
        sources.append(f"{name}.py:load")
    for source in sources:
        values, summary = staged(tmp_path, source, MEAN)
        assert -2.2 < values.min() < -1.9 and 2.2 < values.max() < 2.7, source
        steps = summary["preprocess"]["steps"]
        assert [step["step"] for step in steps] == ["divide", "normalize", "transpose"] and steps[0]["by"] == 255.0
    opened = open_source("npz:a.npz", lambda path: tmp_path / path)
    (image,), _ = opened.sample(0)
    wanted = ((image / 255 - MEAN.mean) / MEAN.std).transpose(2, 0, 1)
    found = open_dataset_sample(tmp_path, 0)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def open_dataset_sample(root: Path, index: int) -> np.ndarray:
    from pocketforge.data.dataset import open_dataset

    spec = data_spec(Data("npz:a.npz", calibration_samples=4, preprocess=MEAN), 0, "classification")
    return open_dataset(spec, lambda path: root / path).samples([index])[0][0][0]


def test_what_is_not_scaled(tmp_path):
    def values(x: np.ndarray, preprocess: Preprocess | None) -> tuple[np.ndarray, list[str]]:
        np.savez(tmp_path / "a.npz", x=x, y=Y)
        found, summary = staged(tmp_path, "npz:a.npz", preprocess)
        return found, [step["step"] for step in summary["preprocess"]["steps"]]

    # Floats are as the user scaled them, without preprocessing everything is.
    found, steps = values(IMAGES.astype(np.float32), MEAN)
    assert found.max() > 900 and steps == ["normalize", "transpose"]
    found, steps = values(IMAGES, None)
    assert found.dtype == np.uint8 and found.shape[1:] == (4, 5, 3) and steps == []
    found, steps = values(IMAGES, Preprocess(scale=0))
    assert found.max() > 250 and steps == ["transpose"]
    found, _ = values(IMAGES, Preprocess(scale=51))
    assert 4.9 < found.max() <= 5
    found, _ = values(IMAGES > 127, Preprocess())
    assert set(np.unique(found)) == {0.0, 1.0}
    # Other byte orders are the same numbers, in the order that torch knows.
    found, _ = values(IMAGES.astype(">i4"), None)
    assert found.dtype == np.int32 and found.dtype.isnative
    for kind in (np.uint16, np.int16, np.int32, np.int64, np.int8):
        with pytest.raises(
            ModelError, match=rf"sample '.*images are {np.dtype(kind)}, and nothing says.*npz:a.npz"
        ) as caught:
            values(IMAGES.astype(kind), MEAN)
        assert "data.preprocess.scale" in caught.value.hint
    assert 0.98 < values(IMAGES.astype(np.uint16) * 257, Preprocess(scale=65535))[0].max() <= 1.0


def test_channels_first_is_named(tmp_path):
    shape: tuple[int, ...]
    for shape in ((3, 8, 8), (1, 8, 8), (4, 9, 8)):
        np.savez(tmp_path / "a.npz", x=RNG.integers(0, 256, (20, *shape), dtype=np.uint8), y=Y)
        with pytest.raises(
            ModelError, match=r"sample .*, which looks like \(channels, height, width\) \(npz:a.npz"
        ) as caught:
            staged(tmp_path, "npz:a.npz", Preprocess())
        assert "x.transpose(0, 2, 3, 1)" in caught.value.hint
    for shape in ((8, 8, 13), (8, 8), (3, 8, 3), (8, 8, 1)):
        np.savez(tmp_path / "a.npz", x=RNG.integers(0, 256, (20, *shape), dtype=np.uint8), y=Y)
        assert staged(tmp_path, "npz:a.npz", Preprocess())[0].shape[1:] == ((*shape, 1)[2], *shape[:2])


def test_arrays_that_would_not_be_read_are_named(tmp_path):
    for more, words in (
        ({"x_test": IMAGES, "y_test": Y}, "'x_test', 'y_test'"),
        ({"x_2": IMAGES}, "'x_2'"),
        ({"Y": Y}, ""),
    ):
        np.savez(tmp_path / "a.npz", x=IMAGES, y=Y, **more)
        if not words:
            assert len(open_source("npz:a.npz", lambda path: tmp_path / path)) == 20
            continue
        with pytest.raises(ModelError, match=f"a.npz: arrays {words} would not be read"):
            open_source("npz:a.npz", lambda path: tmp_path / path)


def test_training_and_evaluation_arrays_are_of_one_kind(tmp_path):
    for more in ({"x_eval": IMAGES[:3] / 255.0}, {"x_eval": IMAGES[:3, :3]}):
        np.savez(tmp_path / "a.npz", x=IMAGES, y=Y, y_eval=Y[:3], **more)
        with pytest.raises(
            ModelError, match=r"a\.npz: samples to train on are \[4, 5, 3\] uint8, those to evaluate \["
        ):
            open_source("npz:a.npz", lambda path: tmp_path / path)
    body = "def load(): return [(np.zeros((2, 2), np.uint8), 0)] * 3 + [(np.zeros((2, 2)), 0)]"
    source = open_source(written(tmp_path, body), lambda path: tmp_path / path)
    assert source.value_max == 255.0
    with pytest.raises(ModelError, match=r"sample 3 of .*mine\.py has type float64, the first that was read has uint8"):
        source.sample(3)


LABELS = {
    "whole floats": (Y.astype(np.float64), None),
    "bools": (Y > 0, None),
    "a column": (Y[:, None], None),
    "bytes": (Y.astype(np.uint8), None),
    "unsigned": (Y.astype(np.uint64), None),
    "halves": (np.full(20, 0.5), "the target 0.5, not a class number"),
    "NaN": (np.full(20, np.nan), "the target nan, not a class number"),
    "infinity": (np.full(20, np.inf), "the target inf, not a class number"),
    "negative": (Y - 1, "label -1, out of range: wanted 0 or more"),
    "negative floats": (Y - 1.0, "label -1, out of range"),
    "2^62": (np.full(20, 2**62), "label 4611686018427387904, out of range: wanted 0 or more, below 1,000,000"),
    "2^64 - 1": (np.full(20, 2**64 - 1, np.uint64), "label 18446744073709551615, out of range"),
    "1e300": (np.full(20, 1e300), "out of range"),
    "one-hot": (np.eye(2, dtype=int)[Y], r"the target \[[01], [01]\], not a class number"),
    "texts": (np.array(["a"] * 20), "y has type <U1, not numbers"),
    "dates": (np.full(20, np.datetime64("2020-01-01")), "y has type datetime64.*, not numbers"),
    "complex": (np.full(20, 1j), "y has type complex128, not numbers"),
    "objects": (np.array([2**70] * 20), "cannot be read as npz: array 'y'"),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_right_or_named(tmp_path, name):
    values, words = LABELS[name]
    np.savez(tmp_path / "a.npz", x=np.arange(60.0).reshape(20, 3), y=values)
    if words is None:
        _, summary = staged(tmp_path, "npz:a.npz")
        assert [row["label"] for row in summary["eval_histogram"]] == ["0", "1"]
        assert sum(row["count"] for row in summary["eval_histogram"]) == summary["counts"]["eval"]
        return
    with pytest.raises(ModelError, match=words) as caught:
        staged(tmp_path, "npz:a.npz")
    assert "a.npz" in caught.value.message


def test_targets_of_functions(tmp_path):
    for target in (2**70, "cat", None, [1, [2]], {"a": 1}, b"x", -1, 0.25):
        with pytest.raises(ModelError, match=r"^here has "):
            class_number(target, 0, "here")
    for target in ("cat", None, [1, [2]], {}, float("nan"), 1e300, 10**400):
        with pytest.raises(ModelError, match=r"^here has (a|the) target"):
            real_target(target, "here")
    assert [class_number(target, 3, "") for target in (2, True, 2.0, np.array([1]), np.array([[2.0]]))] == [
        2,
        1,
        2,
        1,
        2,
    ]
    bodies = {
        "def load(): return [(np.full(2, n), 'cat') for n in range(20)]": "target 'cat', not a class .*mine.py:load",
        "def load(): return [([[1], [1, 2]], 0)] * 20": "sample [0-9]+ of .*mine.py cannot be made an array",
        "def load(): return np.ones((2, 2)), [[1], [1, 2]]": "what it returned cannot be made arrays",
        "def load(): return np.ones((2, 2)), [0, 1], 7": "what it returned cannot be made arrays",
        "def load(): return np.ones((2, 2)), [0, 1], ['a', '\\udc80']": "label 1 is not valid text: '.udc80'",
        "class Set(list):\n    def __len__(s): raise KeyError(3)\nload = Set": "raised KeyError",
    }
    for body, words in bodies.items():
        with pytest.raises(ModelError, match=words):
            staged(tmp_path, written(tmp_path, body))


def test_not_a_number_is_named_with_its_index(tmp_path):
    x = np.zeros((20, 3), np.float32)
    x[:, 0] = np.arange(20)
    for value in (np.nan, np.inf, -np.inf):
        x[7, 1] = value
        np.savez(tmp_path / "a.npz", x=x, y=Y)
        with pytest.raises(ModelError, match=r"sample '7' has 1 values that are NaN or infinite in input 0 .npz:a.npz"):
            staged(tmp_path, "npz:a.npz", eval_fraction=0.75)


def npz(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\0") -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text + data


GOOD = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", b"\0" * 8)
BROKEN = {
    "cut header": GOOD[:20],
    "cut data": GOOD[:-3],
    "no header": b"",
    "not Python": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,"),
    "odd bytes": npy("\x00\xff{"),
    "no dict": npy("[1, 2]"),
    "unknown type": npy("{'descr': 'spam', 'fortran_order': False, 'shape': (2,)}"),
    "odd type": npy("{'descr': (1, 2, 3), 'fortran_order': False, 'shape': (2,)}"),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", b"\0" * 8),
    "huge": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999,)}"),
    "beyond": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 8)}"),
    "negative": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-5,)}"),
    "a text for a shape": npy("{'descr': '<f4', 'fortran_order': False, 'shape': 'x'}"),
    "version 9": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", version=b"\x09\0"),
    "keys missing": npy("{'descr': '<f4'}"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_npz_headers_are_named(tmp_path, name):
    (tmp_path / "a.npz").write_bytes(npz(x=BROKEN[name], y=GOOD))
    with pytest.raises(
        ModelError, match=r"data\.source: .*a\.npz.* (cannot be read as npz: .+|not numbers|need one entry)"
    ):
        open_source("npz:a.npz", lambda path: tmp_path / path)


def test_a_single_array_is_named(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES)
    with pytest.raises(ModelError, match=r"a\.npy is a single array") as caught:
        open_source("npz:a.npy", lambda path: tmp_path / path)
    assert "np.savez" in caught.value.hint


def test_mutated_npz_files_are_read_or_named(tmp_path):
    rng = np.random.default_rng(2)
    file = io.BytesIO()
    np.savez_compressed(file, x=IMAGES[:4], y=Y[:4], labels=np.array(["a", "b"]))
    refused = 0
    for _ in range(150):
        data = bytearray(file.getvalue())
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(0, 256)
        (tmp_path / "a.npz").write_bytes(bytes(data))
        try:
            open_source("npz:a.npz", lambda path: tmp_path / path)
        except ModelError as error:
            refused += "a.npz" in error.message or pytest.fail(error.message)
    assert 20 < refused < 150


LABEL_FILES = {
    "BOM": (b"\xef\xbb\xbfcat\ndog\n", ("cat", "dog")),
    "CRLF": (b"cat\r\ndog\r\n", ("cat", "dog")),
    "BOM and CRLF": (b"\xef\xbb\xbfcat\r\ndog", ("cat", "dog")),
    "separators inside": ("c\u2028a\u0085t\ndo\x0bg\x0c\x1c.\n".encode(), ("c\u2028a\u0085t", "do\x0bg\x0c\x1c.")),
    "spaces": (b"  cat\t\n a dog \n\n\r\n  \n", ("cat", "a dog")),
    "letters": ("gr\u00fcn\n\u732b\n".encode(), ("gr\u00fcn", "\u732b")),
    "a number": (b"0\n1\n", ("0", "1")),
    "repeated": (b"crane\ncrane\n", ("crane", "crane")),
    "blank inside": (b"cat\n\ndog\n", "l.txt has an empty line, line 2"),
    "blank first": (b"\ncat\n", "l.txt has an empty line, line 1"),
    "blank CRLF": (b"cat\r\n \r\ndog\r\n", "l.txt has an empty line, line 2"),
    "empty": (b"", "l.txt is empty"),
    "BOM alone": (b"\xef\xbb\xbf\n", "l.txt is empty"),
    "latin-1": (b"cat\ngr\xfcn\n", "l.txt line 2 is not UTF-8: byte 0xfc at 3"),
    "UTF-16": ("cat\ndog\n".encode("utf-16"), "l.txt is UTF-16, not UTF-8"),
    "UTF-16 without BOM": ("cat\ndog\n".encode("utf-16-le"), "l.txt line 1 holds a NUL"),
    "old Mac": (b"cat\rdog\r", "l.txt line 1 holds a CR inside"),
    "surrogate": (b"cat\n\xed\xb2\x80\n", "l.txt line 2 is not UTF-8"),
}


@pytest.mark.parametrize("name", LABEL_FILES)
def test_label_files_are_right_or_named_with_the_line(tmp_path, name):
    data, wanted = LABEL_FILES[name]
    (tmp_path / "l.txt").write_bytes(data)
    if isinstance(wanted, tuple):
        assert read_labels(tmp_path / "l.txt") == wanted
        return
    with pytest.raises(ModelError, match=f"data.labels: .*{wanted}"):
        read_labels(tmp_path / "l.txt")


def test_labels_are_stored_as_they_are(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(60.0).reshape(20, 3), y=Y)
    (tmp_path / "l.txt").write_bytes("\ufeffc\u2028at\r\nc\u2028at\r\n".encode())
    _, summary = staged(tmp_path, "npz:a.npz", labels=tmp_path / "l.txt")
    assert summary["labels"] == ["c\u2028at"] * 2
    assert summary["notes"] == ["labels that several classes have: 'c\\u2028at' (classes 0, 1)"]
    assert repeated_names(["a", "b"]) == ""
    assert json_text({"a": "\u2028\x9b\ud800\u00e9"}) == '{\n  "a": "\\u2028\\u009b\\ud800\u00e9"\n}\n'


RECIPE = """
name = "n"
[model]
definition = "model.py"
weights = "w.safetensors"
[data]
source = "npz:a.npz"
labels = "l.txt"
[[target]]
name = "t"
runtime = "onnx"
"""


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_never_ends_is_refused_by_name(tmp_path, kind):
    """A FIFO is opened only when somebody writes, /dev/zero is never read to its end: neither is opened."""
    import socket

    def put(name: str) -> Path:
        path = tmp_path / name
        path.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(path))
        return path

    files = {"a.npz": npz(x=GOOD, y=GOOD), "l.txt": b"a\n", "model.py": b"def build(): ...", "w.safetensors": b"x"}
    for name in files:
        for other, content in files.items():
            (tmp_path / other).unlink(missing_ok=True)
            (tmp_path / other).write_bytes(content)
        put(name)
        (tmp_path / "recipe.toml").write_text(RECIPE)
        with pytest.raises(RecipeError, match=rf"the recipe names what is no regular file:\n  .*{name} is a pipe"):
            gather(load_recipe(tmp_path / "recipe.toml"))
    for source, name in (("npz:b.npz", "b.npz"), ("f.py:load", "f.py"), ("cifar10:c", "data_batch_1")):
        (tmp_path / "c").mkdir(exist_ok=True)
        put("c/data_batch_1" if "cifar" in source else name)
        for read in (fingerprint_files, open_source):
            with pytest.raises(ModelError, match=rf"data\.source: .*{name} is no regular file"):
                read(source, lambda path: tmp_path / path)
    with pytest.raises(ModelError, match=r"l2\.txt cannot be read: it is no regular file"):
        read_labels(put("l2.txt"))
    with pytest.raises(RecipeError, match=r"r\.toml: it is no regular file"):
        load_recipe(put("r.toml"))
    with pytest.raises(RecipeError, match="no regular file"):
        load_report(put("report.json"))
    with pytest.raises(RecipeError, match="no regular file"):
        load_any(put("profile.toml"))
    with pytest.raises(RecipeError, match="no regular file"):
        calibration_file.load(put("calibration.json"))
    with pytest.raises(ModelError, match="no regular file"):
        describe_file(put("m.onnx"))
    with pytest.raises(ModelError, match="no regular file"):
        read_whole(put("w"))
    with pytest.raises(OSError, match="no regular file"):
        hash_file(put("h"))
    (tmp_path / "m2.onnx").write_bytes(b"x")
    with pytest.raises(RecipeError, match=r"s\.npy: .*no regular file"):
        given_file(tmp_path / "m2.onnx", [put("s.npy")])


def test_cifar_labels_and_names(tmp_path):
    import pickle

    folder = tmp_path / "c"
    folder.mkdir()
    pixels = np.zeros((2, 3072), np.uint8)
    for labels in ([0, 10], [0, -1], [0, 2**70], [0, "cat"], [0, None]):
        (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": pixels, b"labels": labels}, protocol=2))
        with pytest.raises(ModelError, match=r"data_batch_1 has the label .*: wanted 0 to 9"):
            open_source("cifar10:c", lambda path: tmp_path / path)
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": pixels, b"labels": [0, 9]}, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"caf\xe9"]}, protocol=2))
    with pytest.raises(ModelError, match=r"batches\.meta: label 0 is not valid text"):
        open_source("cifar10:c", lambda path: tmp_path / path)
    (folder / "batches.meta").unlink()
    (folder / "batches.meta.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ModelError, match=r"data\.source: .*batches\.meta\.txt line 1 is not UTF-8"):
        open_source("cifar10:c", lambda path: tmp_path / path)
