"""Sparse storage gives back the same bytes, whatever they were, and is as small as it says."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import deserialize, safe_open
from safetensors.numpy import load_file, save_file

from pocketforge.errors import ModelError, StoreError
from pocketforge.model.tensor_files import ITEM_BYTES
from pocketforge.pruning.sparse_storage import SparseSizes, decode, encode

DIGITS = Path(__file__).parents[2] / "models/digits_cnn/weights.safetensors"


def raw_file(tensors: dict[str, tuple[str, tuple[int, ...], bytes]], metadata=None, spaces: int = 0) -> bytes:
    """A safetensors file with tensors in the order given, as any writer may lay it out."""
    content, end = ({"__metadata__": metadata} if metadata is not None else {}), 0
    for name, (dtype, shape, data) in tensors.items():
        content[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + len(data)]}
        end += len(data)
    header = json.dumps(content, ensure_ascii=False).encode() + b" " * spaces
    return len(header).to_bytes(8, "little") + header + b"".join(data for _, _, data in tensors.values())


def there_and_back(data: bytes, folder: Path) -> tuple[bytes, SparseSizes]:
    dense, packed, back = folder / "dense", folder / "packed", folder / "back"
    dense.write_bytes(data)
    found = encode(dense, packed)
    assert decode(packed, back).sha256 == hashlib.sha256(data).hexdigest()
    return back.read_bytes(), found


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, tuple[int, ...], bytes]:
    dtype = draw(st.sampled_from(sorted(ITEM_BYTES)))
    shape = tuple(draw(st.lists(st.integers(0, 9), max_size=4)))
    count, size = math.prod(shape), ITEM_BYTES[dtype]
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Any bits at all, so NaNs of every kind, infinities, subnormals, -0.0.
    values = random.integers(0, 256, (count, size), dtype=np.uint8)
    values[random.random(count) < draw(st.sampled_from([0.0, 0.3, 0.5, 0.9, 0.99, 1.0]))] = 0
    return dtype, shape, values.tobytes()


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda name: name != "__metadata__")


@given(
    content=st.dictionaries(names, tensors(), max_size=6),
    metadata=st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    spaces=st.integers(0, 9),
)
def test_any_file_comes_back_byte_for_byte(tmp_path_factory, content, metadata, spaces):
    folder = tmp_path_factory.mktemp("any")
    metadata = json.loads(json.dumps(metadata).encode("utf-8", "replace").decode()) if metadata else metadata
    try:
        data = raw_file(content, metadata, spaces)
    except UnicodeEncodeError:  # a lone surrogate is no text, and no file can hold it
        return
    back, found = there_and_back(data, folder)
    assert back == data
    zeros = {
        name: sum(not any(raw[i : i + ITEM_BYTES[dtype]]) for i in range(0, len(raw), ITEM_BYTES[dtype]))
        for name, (dtype, _, raw) in content.items()
    }
    assert {row.name: row.zeros for row in found.tensors} == zeros
    assert found.values == sum(math.prod(shape) for _, shape, _ in content.values())
    # Never more than the dense data, and every tensor has one of the three forms.
    for row in found.tensors:
        assert row.sparse_bytes <= row.dense_bytes
        assert row.encoding in ("dense", "bitmask", "csr")
    # It is a safetensors file: the library that all others read them with agrees.
    deserialize((folder / "packed").read_bytes())


@given(rows=st.integers(1, 40), columns=st.integers(1, 700), kept=st.floats(0, 0.2), seed=st.integers(0, 2**32 - 1))
def test_rows_with_long_gaps_come_back(tmp_path_factory, rows, columns, kept, seed):
    """Wider than a byte holds, with rows and ends that are empty."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, columns)).astype(np.float32)
    values[random.random(values.shape) >= kept] = 0
    data = raw_file({"w": ("F32", values.shape, values.tobytes())})
    assert there_and_back(data, tmp_path_factory.mktemp("rows"))[0] == data


@pytest.mark.parametrize(
    ("share", "encoding"), [(0.0, "dense"), (0.02, "dense"), (0.5, "bitmask"), (0.8, "bitmask"), (0.95, "csr")]
)
def test_each_tensor_takes_the_form_that_is_smallest_for_it(tmp_path, share, encoding):
    random = np.random.default_rng(0)
    values = random.normal(size=(64, 400)).astype(np.float32)
    values[random.random(values.shape) < share] = 0
    save_file({"w": values}, tmp_path / "w.safetensors")
    found = encode(tmp_path / "w.safetensors", tmp_path / "packed")
    (row,) = found.tensors
    assert row.encoding == encoding
    kept = int((values != 0).sum())
    expected = {
        "dense": 4 * values.size,
        "bitmask": 4 * kept + values.size // 8,
        "csr": 5 * kept + 2 * 65,  # a byte a gap; 65 row pointers of two bytes
    }
    assert row.sparse_bytes == min(expected.values()) == expected[encoding]
    assert (row.zeros, row.values) == (values.size - kept, values.size)


def test_a_little_sparse_tensor_is_a_bitmask_only_where_that_pays(tmp_path):
    """A bit a value is 1/32 of float32 and 1/8 of int8: fewer zeros than that are not worth it."""
    encodings = {}
    for dtype, kind in (("F32", np.float32), ("I8", np.int8)):
        values = np.ones(8000, kind)
        values[:800] = 0  # 10 %
        raw = raw_file({"w": (dtype, values.shape, values.tobytes())})
        encodings[dtype] = there_and_back(raw, tmp_path)[1].tensors[0].encoding
    assert encodings == {"F32": "bitmask", "I8": "dense"}


def test_minus_zero_and_nan_payloads_are_values(tmp_path):
    bits = np.zeros(4000, np.uint32)
    bits[:4] = [0x80000000, 0x7FC00001, 0xFFFFFFFF, 0x00000001]  # -0.0, two NaNs, the smallest subnormal
    data = raw_file({"w": ("F32", (4000,), bits.tobytes())})
    back, found = there_and_back(data, tmp_path)
    assert back == data
    assert found.zeros == 3996 and found.tensors[0].encoding != "dense"


def test_types_that_are_not_known_stay_dense(tmp_path):
    data = raw_file({"packed": ("F4", (2, 500), bytes(500)), "known": ("F16", (500,), bytes(1000))})
    back, found = there_and_back(data, tmp_path)
    assert back == data
    assert [(r.encoding, r.zeros, r.sparse_bytes) for r in found.tensors] == [
        ("dense", 0, 500),
        ("bitmask", 500, 63),
    ]


def test_names_that_look_like_ours_do_not_collide(tmp_path):
    zeros = ("F32", (64, 64), bytes(4 * 64 * 64))
    ones = ("F32", (3,), np.ones(3, np.float32).tobytes())
    data = raw_file({"w": zeros, "csr.rows:w": ones, "dense:w": ones, "values": zeros, "é\n\"'": ones})
    assert there_and_back(data, tmp_path)[0] == data


def test_the_same_file_gives_the_same_bytes_and_sizes_are_those_of_the_files(tmp_path):
    values = load_file(DIGITS)
    for value in values.values():
        if value.ndim == 4:
            value[np.abs(value) < np.quantile(np.abs(value), 0.8)] = 0
    save_file(values, tmp_path / "pruned.safetensors")
    first = encode(tmp_path / "pruned.safetensors", tmp_path / "a")
    second = encode(tmp_path / "pruned.safetensors", tmp_path / "b")
    assert first == second and (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    dense, packed = (tmp_path / "pruned.safetensors").read_bytes(), (tmp_path / "a").read_bytes()
    assert first.dense_bytes == len(dense) and first.sparse_bytes == len(packed)
    assert gzip.decompress(gzip.compress(dense, 9, mtime=0)) == dense
    assert first.gzip_bytes == len(gzip.compress(dense, 9, mtime=0))
    assert first.sparse_gzip_bytes == len(gzip.compress(packed, 9, mtime=0))
    assert first.zeros == sum(int((value == 0).sum()) for value in values.values())
    # 80 % of nearly all weights are gone, and the form itself costs little.
    assert first.sparse_bytes < 0.4 * first.dense_bytes


def test_what_is_written_says_what_it_is(tmp_path):
    encode(DIGITS, tmp_path / "packed.safetensors")
    with safe_open(tmp_path / "packed.safetensors", "numpy") as file:
        about = file.metadata()
        assert "dense:classifier.weight" in file.keys()  # noqa: SIM118 - not a dict
    assert (about["format"], about["version"]) == ("pocketforge-sparse", "1")
    assert about["sha256"] == hashlib.sha256(DIGITS.read_bytes()).hexdigest()
    assert json.loads(about["header"])["classifier.weight"]["shape"] == [10, 96]


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> tuple[bytes, bytes]:
    """(dense, sparse): one tensor of each form."""
    folder = tmp_path_factory.mktemp("packed")
    random = np.random.default_rng(1)
    values = {name: random.normal(size=(40, 60)).astype(np.float32) for name in ("bitmask", "csr", "dense")}
    values["bitmask"][random.random((40, 60)) < 0.5] = 0
    values["csr"][random.random((40, 60)) < 0.98] = 0
    save_file(values, folder / "dense")
    rows = encode(folder / "dense", folder / "sparse").tensors
    assert {row.name: row.encoding for row in rows} == {name: name for name in values}
    return (folder / "dense").read_bytes(), (folder / "sparse").read_bytes()


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_never_passes_for_the_file(tmp_path_factory, packed, place, flip):
    folder = tmp_path_factory.mktemp("damaged")
    dense, sparse = packed
    broken = bytearray(sparse)
    broken[int(place * len(broken))] ^= flip
    (folder / "broken").write_bytes(broken)
    try:
        decode(folder / "broken", folder / "out")
    except ModelError:
        assert os.listdir(folder) == ["broken"]
    else:  # what was changed means the same, as another kind of space in the header's padding
        assert (folder / "out").read_bytes() == dense


@given(st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused(tmp_path_factory, packed, length):
    folder = tmp_path_factory.mktemp("cut")
    (folder / "cut").write_bytes(packed[1][: int(length * len(packed[1]))])
    with pytest.raises(ModelError, match="cannot be unpacked"):
        decode(folder / "cut", folder / "out")
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        encode(folder / "cut", folder / "out")
    assert os.listdir(folder) == ["cut"]


def changed(sparse: bytes, change) -> bytes:
    """The sparse file with its header's JSON changed."""
    length = int.from_bytes(sparse[:8], "little")
    content = json.loads(sparse[8 : 8 + length])
    change(content)
    header = json.dumps(content).encode()
    return len(header).to_bytes(8, "little") + header + sparse[8 + length :]


def grow(content: dict) -> None:
    """A dense file of 4 EB, in a few bytes."""
    header = json.loads(content["__metadata__"]["header"])
    header["csr"] = {"dtype": "F32", "shape": [40, 10**17], "data_offsets": [0, 16 * 10**18]}
    content["__metadata__"]["header"] = json.dumps(header)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["__metadata__"].update(version="2"), "version 2, this Pocketforge reads version 1"),
        (lambda c: c["__metadata__"].update(format="pt"), "not stored sparsely: its format is 'pt'"),
        (lambda c: c.pop("__metadata__"), "not stored sparsely"),
        (lambda c: c["__metadata__"].pop("sha256"), "lack the header or the hash"),
        (lambda c: c["__metadata__"].update(sha256="0" * 64), "not what was packed"),
        (lambda c: c.update({"lost": c.pop("csr.values:csr")}), "csr is missing or not whole"),
        (grow, "csr is missing or not whole|would not fit into memory"),
    ],
)
def test_a_foreign_file_is_refused_with_the_reason(tmp_path, packed, change, said):
    (tmp_path / "file").write_bytes(changed(packed[1], change))
    with pytest.raises(ModelError, match=said):
        decode(tmp_path / "file", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"12345678",
        (2**63).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"\xff\xfe",
        (2).to_bytes(8, "little") + b"{}extra",
        raw_file({"w": ("F32", (2, 2), bytes(12))}),
        raw_file({"w": ("F32", (-1,), b"")}),
    ],
    ids=["empty", "no header", "header too long", "list", "no text", "bytes of nothing", "size", "negative"],
)
def test_what_is_no_safetensors_file_is_not_packed(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ModelError, match="file is not a whole safetensors file: "):
        encode(tmp_path / "file", tmp_path / "out")
    assert os.listdir(tmp_path) == ["file"]


def test_packing_twice_and_missing_files_are_refused(tmp_path, packed):
    (tmp_path / "sparse").write_bytes(packed[1])
    with pytest.raises(ModelError, match="stored sparsely already"):
        encode(tmp_path / "sparse", tmp_path / "out")
    for call in (encode, decode):
        with pytest.raises(ModelError, match="there is no file"):
            call(tmp_path / "nowhere", tmp_path / "out")
        with pytest.raises(ModelError, match="cannot be read: Is a directory"):
            call(tmp_path, tmp_path / "out")


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "in_the_way").write_text("")
    with pytest.raises(StoreError, match="--output") as caught:
        encode(DIGITS, tmp_path / "in_the_way" / "out")
    assert "in_the_way" in caught.value.message
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError):
        encode(DIGITS, tmp_path / "folder")
    assert sorted(os.listdir(tmp_path)) == ["folder", "in_the_way"]


def test_it_needs_no_torch(repo_root):
    code = (
        "import sys, pocketforge.pruning.sparse_storage as s; assert 'torch' not in sys.modules, 'torch'; "
        "print(s.CODEC.format)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "pocketforge-sparse\n"), done.stderr
