"""Each source reads tiny real files in its official format, and says what is wrong with others."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pocketforge.data import fingerprint_files, open_source
from pocketforge.data.dataset import Dataset, open_dataset
from pocketforge.errors import ModelError
from pocketforge.recipe import Data, Preprocess
from pocketforge.run import tracker
from pocketforge.specs.data import data_spec
from pocketforge.stages.data import run

RNG = np.random.default_rng(0)


def opened(source: str, root: Path):
    return open_source(source, lambda path: root / path)


def dataset(data: Data, root: Path, labels: Path | None = None, task: str = "classification") -> Dataset:
    return open_dataset(data_spec(data, 0, task), lambda path: root / path, labels)


def stage(data: Data, root: Path, labels: Path | None = None, task: str = "classification") -> tuple[Path, dict]:
    out = root / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    seen = []
    inputs = {"data_root": root, **({"labels": labels} if labels else {})}
    run(inputs, data_spec(data, 0, task), out, lambda fraction, message: seen.append(fraction))
    assert seen == sorted(seen) and seen[0] == 0.0 and seen[-1] == 1.0
    return out, json.loads((out / "data.json").read_text("utf-8"))


def image(path: Path, mode: str = "RGB", size: tuple[int, int] = (6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = RNG.integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    Image.fromarray(pixels[:, :, 0] if bands == 1 else pixels).save(path)


def test_the_tracker_of_what_user_code_opens_knows_where_it_is_called_from():
    package = Path(tracker.__file__).parents[1]
    assert [name for name in (*tracker._BOUNDARIES, *tracker._BEGIN) if not (package / name).is_file()] == []


# digits


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    source, wanted = opened("digits", Path()), load_digits()
    assert len(source) == len(wanted.target) == 1797
    assert source.value_max == 16.0 and source.labels == tuple("0123456789")
    for index in (0, 1000, 1796):
        (pixels,), label = source.sample(index)
        assert pixels.shape == (8, 8, 1) and np.array_equal(pixels[:, :, 0], wanted.images[index])
        assert label == wanted.target[index] and type(label) is int


def test_the_data_stage_on_digits(tmp_path):
    data = Data("digits", eval_samples=200, preprocess=Preprocess(resize=(32, 32), mean=(0.5,), std=(0.5,)))
    out, summary = stage(data, tmp_path)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(first) == {"calibration_0.npy", "eval_0.npy", "eval_targets.npy", "data.json"}
    calibration, evaluated = np.load(out / "calibration_0.npy"), np.load(out / "eval_0.npy")
    assert calibration.shape == (100, 1, 32, 32) and evaluated.shape == (200, 1, 32, 32)
    assert calibration.dtype == evaluated.dtype == np.float32
    assert -1 <= evaluated.min() < -0.9 and 0.5 < evaluated.max() <= 1
    targets = np.load(out / "eval_targets.npy")
    assert targets.dtype == np.int64 and set(targets) == set(range(10))
    counts = summary["counts"]
    assert counts["calibration"] + counts["train"] + counts["eval"] + counts["held_out"] == counts["source"] == 1797
    assert summary["inputs"] == [{"shape": [1, 32, 32], "dtype": "float32"}]
    assert [row["label"] for row in summary["eval_histogram"]] == list("0123456789")
    assert sum(row["count"] for row in summary["eval_histogram"]) == 200
    assert [step["step"] for step in summary["preprocess"]["steps"]] == ["resize", "divide", "normalize", "transpose"]
    out, _ = stage(data, tmp_path)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


# cifar10


def cifar_python(folder: Path, per_batch: int = 6) -> dict[str, tuple[np.ndarray, list[int]]]:
    """As the official archive: protocol 2, bytes keys (pickled by Python 2)."""
    folder.mkdir(parents=True)
    batches = {}
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        pixels = RNG.integers(0, 256, (per_batch, 3072), dtype=np.uint8)
        labels = [int(label) for label in RNG.integers(0, 10, per_batch)]
        batches[name] = (pixels, labels)
        (folder / name).write_bytes(pickle.dumps({b"data": pixels, b"labels": labels}, protocol=2))
    names = [f"class{number}".encode() for number in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, protocol=2))
    return batches


def cifar_binary(folder: Path, batches: dict[str, tuple[np.ndarray, list[int]]]) -> None:
    folder.mkdir(parents=True)
    for name, (pixels, labels) in batches.items():
        rows = np.concatenate([np.asarray(labels, np.uint8)[:, None], pixels], axis=1)
        rows.tofile(folder / f"{name}.bin")
    (folder / "batches.meta.txt").write_text("".join(f"class{number}\n" for number in range(10)) + "\n")


def test_cifar10_in_both_official_formats(tmp_path):
    batches = cifar_python(tmp_path / "py" / "cifar-10-batches-py")
    cifar_binary(tmp_path / "bin" / "cifar-10-batches-bin", batches)
    python, binary = opened("cifar10:py", tmp_path), opened("cifar10:bin/cifar-10-batches-bin", tmp_path)
    assert python.labels == binary.labels == tuple(f"class{number}" for number in range(10))
    assert python.ids == binary.ids and python.ids[0] == "data_batch_1/0" and python.ids[-1] == "test_batch/5"
    assert python.split == binary.split == ["train"] * 12 + ["eval"] * 6
    for index in range(18):
        (one,), label = python.sample(index)
        (other,), same = binary.sample(index)
        assert one.shape == (32, 32, 3) and np.array_equal(one, other) and label == same
    pixels, labels = batches["test_batch"]
    (one,), label = python.sample(12)
    assert one[1, 2, 0] == pixels[0, 34] and one[0, 0, 2] == pixels[0, 2048] and label == labels[0]
    files = fingerprint_files("cifar10:py", lambda path: tmp_path / path)
    assert [path.name for path in files] == ["batches.meta", "data_batch_1", "data_batch_2", "test_batch"]


def test_cifar10_newer_pickle_protocols_load_too(tmp_path):
    batches = cifar_python(tmp_path / "c")
    for protocol in (3, 4, 5):
        for name, (pixels, labels) in batches.items():
            (tmp_path / "c" / name).write_bytes(pickle.dumps({"data": pixels, "labels": labels}, protocol=protocol))
        assert np.array_equal(
            opened("cifar10:c", tmp_path).sample(0)[0][0][0, 0], batches["data_batch_1"][0][0, ::1024]
        )


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_cifar10_pickles_run_no_code(tmp_path, capsys):
    cifar_python(tmp_path / "c")
    for payload in (Evil(), {b"data": np.array([Evil()], object), b"labels": [0]}):
        (tmp_path / "c" / "data_batch_1").write_bytes(pickle.dumps(payload, protocol=2))
        with pytest.raises(ModelError, match=r"data_batch_1 is not a CIFAR-10 batch: .* not allowed"):
            opened("cifar10:c", tmp_path)
    assert "executed" not in capsys.readouterr().out


def test_cifar10_damage(tmp_path):
    batches = cifar_python(tmp_path / "py")
    cifar_binary(tmp_path / "bin", batches)
    whole = (tmp_path / "bin" / "test_batch.bin").read_bytes()
    (tmp_path / "bin" / "test_batch.bin").write_bytes(whole[:-5])
    with pytest.raises(ModelError, match="not a whole number of CIFAR-10 records"):
        opened("cifar10:bin", tmp_path)
    (tmp_path / "py" / "data_batch_2").write_bytes((tmp_path / "py" / "data_batch_2").read_bytes()[:100])
    with pytest.raises(ModelError, match="data_batch_2 is not a CIFAR-10 batch"):
        opened("cifar10:py", tmp_path)
    (tmp_path / "py" / "data_batch_2").write_bytes(pickle.dumps({b"data": np.zeros((2, 9), np.uint8), b"labels": [0]}))
    with pytest.raises(ModelError, match="it needs data"):
        opened("cifar10:py", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no CIFAR-10 batches"):
        opened("cifar10:empty", tmp_path)
    with pytest.raises(ModelError, match="there is no folder"):
        opened("cifar10:none", tmp_path)


# imagefolder


def test_imagefolder_classes(tmp_path):
    for number in range(6):
        image(tmp_path / "d" / "dog" / f"{number}.png")
        image(tmp_path / "d" / "cat" / "more" / f"{number}.JPG")
    (tmp_path / "d" / "cat" / "readme.txt").write_text("no image")
    image(tmp_path / "d" / ".ipynb_checkpoints" / "x.png")
    source = opened("imagefolder:d", tmp_path)
    assert source.labels == ("cat", "dog") and len(source) == 12
    assert source.ids[0] == "cat/more/0.JPG" and source.ids[-1] == "dog/5.png"
    assert [source.sample(index)[1] for index in (0, 11)] == [0, 1]
    (pixels,), _ = source.sample(11)
    assert np.array_equal(pixels, np.asarray(Image.open(tmp_path / "d" / "dog" / "5.png"))) and pixels.shape == (
        5,
        6,
        3,
    )
    assert set(source.split) == {None}
    assert len(fingerprint_files("imagefolder:d", lambda path: tmp_path / path)) == 12


@pytest.mark.parametrize(("name", "others"), [("val", ()), ("test", ("val",)), ("eval", ("test", "val"))])
def test_imagefolder_official_split(tmp_path, name, others):
    for part in ("train", name, *others):
        for label in ("a", "b"):
            image(tmp_path / "d" / part / label / "1.png")
    source = opened("imagefolder:d", tmp_path)
    assert source.labels == ("a", "b")
    assert dict(zip(source.ids, source.split, strict=True)) == {
        "train/a/1.png": "train",
        "train/b/1.png": "train",
        f"{name}/a/1.png": "eval",
        f"{name}/b/1.png": "eval",
    }


def test_imagefolder_a_class_may_be_called_train(tmp_path):
    image(tmp_path / "d" / "train" / "1.png")
    image(tmp_path / "d" / "test" / "2.png")
    assert opened("imagefolder:d", tmp_path).labels == ("test", "train")


def test_imagefolder_modes(tmp_path):
    for number, mode in enumerate(("L", "RGB", "RGBA")):
        image(tmp_path / "d" / "x" / f"{number}.png", mode)
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "d" / "x" / "3.png")
    Image.new("P", (2, 2)).save(tmp_path / "d" / "x" / "4.png")
    Image.new("1", (2, 2), 1).save(tmp_path / "d" / "x" / "5.png")
    source = opened("imagefolder:d", tmp_path)
    arrays = [source.sample(index)[0][0] for index in range(6)]
    assert [array.shape[2] for array in arrays] == [1, 3, 4, 1, 3, 1]
    assert arrays[3].ravel().tolist() == [0.0, 1.0, 255.0]
    assert arrays[5].max() == 255


def test_imagefolder_errors(tmp_path):
    with pytest.raises(ModelError, match="there is no folder"):
        opened("imagefolder:none", tmp_path)
    (tmp_path / "d").mkdir()
    with pytest.raises(ModelError, match="has no class folders") as caught:
        opened("imagefolder:d", tmp_path)
    assert "DIR/cat/1.jpg" in caught.value.hint
    (tmp_path / "d" / "cat").mkdir()
    with pytest.raises(ModelError, match="has folders without images: cat"):
        opened("imagefolder:d", tmp_path)
    image(tmp_path / "d" / "dog" / "1.png")
    with pytest.raises(ModelError, match="has folders without images: cat"):
        fingerprint_files("imagefolder:d", lambda path: tmp_path / path)


def test_imagefolder_an_empty_split(tmp_path):
    image(tmp_path / "d" / "train" / "cat" / "1.png")
    (tmp_path / "d" / "val" / "cat").mkdir(parents=True)
    with pytest.raises(ModelError, match="has folders without images: val/"):
        opened("imagefolder:d", tmp_path)


@pytest.mark.parametrize("damage", [lambda data: b"not an image", lambda data: data[:-30], lambda data: b""])
def test_imagefolder_an_unreadable_image_is_named(tmp_path, damage):
    for number in range(6):
        image(tmp_path / "d" / "x" / f"{number}.png")
    broken = tmp_path / "d" / "x" / "3.png"
    broken.write_bytes(damage(broken.read_bytes()))
    with pytest.raises(ModelError, match=r"the image .*x/3\.png cannot be read"):
        opened("imagefolder:d", tmp_path).sample(3)


def test_imagefolder_sizes_must_agree(tmp_path):
    for number in range(8):
        image(tmp_path / "d" / "x" / f"{number}.png", size=(6, 5 + number))
    data = Data("imagefolder:d", calibration_samples=2)
    with pytest.raises(ModelError, match=r"samples must be alike|has shape") as caught:
        stage(data, tmp_path)
    assert "data.preprocess.resize" in caught.value.hint
    _, summary = stage(Data("imagefolder:d", calibration_samples=2, preprocess=Preprocess(resize=(4, 4))), tmp_path)
    assert summary["inputs"] == [{"shape": [3, 4, 4], "dtype": "float32"}]


def test_copies_of_eval_images_are_not_trained_on(tmp_path):
    for number in range(5):
        image(tmp_path / "d" / "train" / "x" / f"{number}.png")
        image(tmp_path / "d" / "val" / "x" / f"{number}.png")
    shutil.copy(tmp_path / "d" / "val" / "x" / "2.png", tmp_path / "d" / "train" / "x" / "copy.png")
    parts = dataset(Data("imagefolder:d", calibration_samples=2), tmp_path)
    assert len(parts.eval) == 5 and len(parts.calibration) + len(parts.train) == 5
    assert "train/x/copy.png" not in [*parts.calibration.ids, *parts.train.ids]


# npz


def test_npz(tmp_path):
    x, y = RNG.normal(size=(20, 3, 4)), RNG.integers(0, 3, 20)
    np.savez(tmp_path / "a.npz", x=x, y=y, labels=np.array(["a", "b", "c"]))
    source = opened("npz:a.npz", tmp_path)
    assert (len(source), source.labels, source.value_max) == (20, ("a", "b", "c"), 0.0)
    assert np.array_equal(source.sample(7)[0][0], x[7]) and source.sample(7)[1] == y[7]
    assert fingerprint_files("npz:a.npz", lambda path: tmp_path / path) == [tmp_path / "a.npz"]


def test_npz_several_inputs_official_eval_and_regression(tmp_path):
    ids, mask = RNG.integers(0, 99, (9, 5)), np.ones((9, 5), np.int32)
    np.savez(
        tmp_path / "a.npz",
        x_0=ids,
        x_1=mask,
        y=RNG.normal(size=9),
        x_eval_0=ids[:2] + 100,
        x_eval_1=mask[:2],
        y_eval=[1, 2],
    )
    out, summary = stage(Data("npz:a.npz", calibration_samples=4), tmp_path, task="regression")
    assert summary["inputs"] == [{"shape": [5], "dtype": "int64"}, {"shape": [5], "dtype": "int32"}]
    assert summary["counts"]["eval"] == 2 and summary["counts"]["train"] == 5
    assert np.load(out / "eval_targets.npy").dtype == np.float32
    assert np.load(out / "eval_0.npy").min() >= 100 and np.load(out / "calibration_1.npy").shape == (4, 5)
    assert summary["eval_histogram"] is None and summary["preprocess"]["steps"] == []


def test_npz_vector_targets(tmp_path):
    np.savez(tmp_path / "a.npz", x=RNG.normal(size=(20, 3)), y=RNG.normal(size=(20, 2)))
    out, summary = stage(Data("npz:a.npz", calibration_samples=4), tmp_path, task="regression")
    assert summary["targets"] == {"shape": [2], "dtype": "float32"}
    assert np.load(out / "eval_targets.npy").shape[1:] == (2,)


def test_npz_errors(tmp_path):
    x, y = np.zeros((20, 3), np.float32), np.arange(20) % 2
    x[:, 0] = np.arange(20)

    def fails(words: str, task: str = "classification", **arrays) -> None:
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(ModelError, match=words):
            stage(Data("npz:a.npz", calibration_samples=4), tmp_path, task=task)

    fails("has no array 'y'; it has: x", x=x)
    fails("has no array 'x'", y=y)
    fails("object arrays|cannot be read as npz", x=np.array([{}] * 20), y=y)
    fails(r"x_0 has shape \(20, 3\) and y \(3,\)", x=x, y=y[:3])
    fails("not numbers", x=np.array([["a"]] * 20), y=y)
    fails("a text goes to no model as it is", x=np.array([f"text {k}" for k in range(20)]), y=y)
    fails(r"label 7, out of range: wanted 0 to 1", x=x, y=np.full(20, 7), labels=np.array(["a", "b"]))
    fails("label -1, out of range: wanted 0 or more", x=x, y=np.full(20, -1))
    fails("the target 0.5, not a class number", x=x, y=np.full(20, 0.5))
    fails("target that is NaN", task="regression", x=x, y=np.full(20, np.nan))
    bad = x.copy()
    bad[:, 1] = np.nan
    fails("sample '[0-9]+' has 1 values that are NaN or infinite in input 0", x=bad, y=y)
    fails("too few samples: wanted 4 for calibration", x=x[:3], y=y[:3])
    fails("labels must be a list of texts", x=x, y=y, labels=np.array([1, 2]))
    (tmp_path / "a.npz").write_bytes(b"PK nothing")
    with pytest.raises(ModelError, match="cannot be read as npz"):
        opened("npz:a.npz", tmp_path)
    with pytest.raises(ModelError, match="there is no npz file"):
        opened("npz:none.npz", tmp_path)


def test_labels_file(tmp_path):
    np.savez(tmp_path / "a.npz", x=RNG.normal(size=(20, 3)), y=np.arange(20) % 2, labels=np.array(["a", "b"]))
    labels, data = tmp_path / "labels.txt", Data("npz:a.npz", calibration_samples=4)
    labels.write_text("Alpha\nBeta\n\n")
    _, summary = stage(data, tmp_path, labels)
    assert summary["labels"] == ["Alpha", "Beta"]
    for text, words in (
        ("a\nb\nc\n", r"labels.txt has 3 labels, the data has 2 classes \(a, b\)"),
        ("b\na\n", "the data's classes in another order"),
        ("B\n A \n", "the data's classes in another order: line 1 is 'B', class 0 of the data is 'a'"),
        ("b\nother\n", "the data's classes in another order"),
        ("\n", "is empty"),
        ("a\n\nb\n", "empty line"),
    ):
        labels.write_text(text)
        with pytest.raises(ModelError, match=words):
            stage(data, tmp_path, labels)
    with pytest.raises(ModelError, match="cannot be read"):
        stage(data, tmp_path, tmp_path / "none.txt")


# function


def written(tmp_path: Path, body: str) -> str:
    (tmp_path / "mine.py").write_text(f"import numpy as np\n{body}\n")
    return "mine.py:load"


@pytest.mark.parametrize(
    "body",
    [
        "def load(): return np.ones((4, 2)), [0, 1, 0, 1]",
        "def load(): return (np.ones((4, 2)),), np.array([0, 1, 0, 1]), ['no', 'yes']",
        "def load(): return [(np.ones(2), n % 2) for n in range(4)]",
        "def load():\n    for n in range(4): yield [1.0, 1.0], np.int64(n % 2)",
        "from near import load",
        "class Set:\n    def __len__(s): return 4\n    def __getitem__(s, i): return (np.ones(2),), i % 2\nload = Set",
    ],
)
def test_function_in_every_form(tmp_path, body):
    (tmp_path / "near.py").write_text("def load(): return [([1., 1.], 0), ([1., 1.], 1), ([1., 1.], 0), ([1., 1.], 1)]")
    source = opened(written(tmp_path, body), tmp_path)
    assert len(source) == 4 and source.ids == ["0", "1", "2", "3"]
    inputs, label = source.sample(3)
    assert len(inputs) == 1 and inputs[0].tolist() == [1.0, 1.0]
    assert label == 1 and type(label) is int
    assert source.labels == (("no", "yes") if "yes" in body else ())
    files = [path.name for path in fingerprint_files("mine.py:load", lambda path: tmp_path / path)]
    assert files == (["mine.py", "near.py"] if "near" in body else ["mine.py"])


def test_function_edits_are_seen_at_once(tmp_path):
    for value in (1, 2, 3):
        source = opened(written(tmp_path, f"def load(): return np.full((2, 2), {value}), [0, 1]"), tmp_path)
        assert source.sample(0)[0][0][0] == value
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def other(): pass", "has no function 'load'"),
        (
            "def load():\n    return 1 / 0",
            r"load\(\) in .*ZeroDivisionError: division by zero\n  at .*mine\.py:3 in load",
        ),
        ("1 / 0", r"the data file .* raised ZeroDivisionError: division by zero\n  at .*mine\.py:2"),
        ("def load(:", r"raised SyntaxError: .*\n  at .*mine\.py:2"),
        ("def load(): return None", "TypeError: 'NoneType' object is not iterable"),
        ("def load(): return []", r"returned list \(empty\)"),
        ("def load(): return {'x': 1}", "returned dict"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
    ],
)
def test_function_errors(tmp_path, body, words):
    with pytest.raises(ModelError, match=words):
        opened(written(tmp_path, body), tmp_path)


def test_function_sample_errors(tmp_path):
    source = opened(written(tmp_path, "def load(): return [np.ones(3), (['a'], 1)]"), tmp_path)
    with pytest.raises(ModelError, match=r"sample 0 of .* is a ndarray, not a pair"):
        source.sample(0)
    with pytest.raises(ModelError, match="not numbers"):
        source.sample(1)
    with pytest.raises(ModelError, match="there is no"):
        opened("none.py:load", tmp_path)
