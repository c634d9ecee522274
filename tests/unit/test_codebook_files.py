"""Codebook storage gives back the same bytes, whatever they were, and is as small as it says."""

from __future__ import annotations

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
from safetensors.numpy import load_file, save, save_file

from pocketforge.errors import ModelError, StoreError
from pocketforge.outcomes import files
from pocketforge.outcomes.weights import CodebookSizes
from pocketforge.quantization.codebook_files import (
    FILE,
    Codebook,
    bits_for,
    decode,
    encode,
    entropy_bits,
    load_codebooks,
    pack_bits,
    save_codebooks,
    unpack_bits,
)

DIGITS = Path(__file__).parents[2] / "models/digits_cnn/weights.safetensors"
ITEM_BYTES = {"BOOL": 1, "U8": 1, "F8_E4M3": 1, "F16": 2, "BF16": 2, "F32": 4, "I32": 4, "F64": 8, "I64": 8, "C64": 8}


def raw_file(tensors: dict[str, tuple[str, tuple[int, ...], bytes]], metadata=None, spaces: int = 0) -> bytes:
    """A safetensors file with tensors in the order given, as any writer may lay it out."""
    content, end = ({"__metadata__": metadata} if metadata is not None else {}), 0
    for name, (dtype, shape, data) in tensors.items():
        content[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + len(data)]}
        end += len(data)
    header = json.dumps(content, ensure_ascii=False).encode() + b" " * spaces
    return len(header).to_bytes(8, "little") + header + b"".join(data for _, _, data in tensors.values())


def there_and_back(data: bytes, folder: Path) -> tuple[bytes, CodebookSizes]:
    dense, packed, back = folder / "dense", folder / "packed", folder / "back"
    dense.write_bytes(data)
    found = encode(dense, packed)
    assert found.codebook_bytes == packed.stat().st_size
    assert decode(packed, back).sha256 == hashlib.sha256(data).hexdigest()
    return back.read_bytes(), found


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, tuple[int, ...], bytes]:
    dtype = draw(st.sampled_from(sorted(ITEM_BYTES)))
    shape = tuple(draw(st.lists(st.integers(0, 12), max_size=4)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Any bits at all, so NaNs of every kind, infinities, subnormals, -0.0; few different ones, or many.
    entries = draw(st.sampled_from([1, 2, 3, 16, 17, 255, 256, 257, 5000]))
    values = random.integers(0, 256, (entries, ITEM_BYTES[dtype]), dtype=np.uint8)
    return dtype, shape, values[random.integers(0, entries, math.prod(shape))].tobytes()


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda name: name != "__metadata__")


@given(
    content=st.dictionaries(names, tensors(), max_size=6),
    metadata=st.none() | st.dictionaries(st.text("abc", max_size=5), st.text("xyz", max_size=5), max_size=3),
    spaces=st.integers(0, 9),
)
def test_any_file_comes_back_byte_for_byte(tmp_path_factory, content, metadata, spaces):
    data = raw_file(content, metadata, spaces)
    back, found = there_and_back(data, tmp_path_factory.mktemp("any"))
    assert back == data
    assert {row.name for row in found.tensors} == set(content)
    for row in found.tensors:
        dtype, shape, raw = content[row.name]
        assert row.codebook_bytes <= row.dense_bytes == len(raw)
        size = ITEM_BYTES[dtype]
        distinct = {raw[i : i + size] for i in range(0, len(raw), size)}
        if row.encoding == "codebook":
            assert row.entries == len(distinct) <= 256
            assert row.codebook_bytes == len(distinct) * size + math.ceil(math.prod(shape) * row.bits / 8)
            assert 0 <= row.entropy_bits <= row.bits


@given(st.integers(1, 8), st.lists(st.integers(0, 255), max_size=70))
def test_bits_are_packed_without_gaps_and_come_back(bits, values):
    indices = np.array(values, np.uint8) & (2**bits - 1)
    packed = pack_bits(indices, bits)
    assert len(packed) == math.ceil(len(values) * bits / 8)
    assert np.array_equal(unpack_bits(packed, bits, len(values)), indices)
    # As written in the format: the index of place i is bits [i * bits, i * bits + bits) of the whole, lowest first.
    number = int.from_bytes(packed.tobytes(), "little")
    assert [(number >> (place * bits)) % 2**bits for place in range(len(values))] == indices.tolist()


def test_the_number_of_bits_and_the_entropy():
    assert [bits_for(n) for n in (1, 2, 3, 4, 5, 16, 17, 255, 256)] == [1, 1, 2, 2, 3, 4, 5, 8, 8]
    assert entropy_bits(np.zeros(10, np.uint8)) == 0
    assert entropy_bits(np.arange(256, dtype=np.uint8)) == 8
    assert entropy_bits(np.array([0, 0, 0, 1], np.uint8)) == pytest.approx(0.8112781)


@pytest.fixture
def clustered(tmp_path: Path) -> Path:
    """The shipped digits weights, each convolution rounded to 16 values."""
    values = load_file(DIGITS)
    for name, value in values.items():
        if value.ndim == 4:
            levels = np.quantile(value, np.linspace(0, 1, 16)).astype(np.float32)
            values[name] = levels[np.abs(value[..., None] - levels).argmin(-1)]
    save_file(values, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_clustered_weights_get_small(clustered, tmp_path):
    packed = tmp_path / "packed.safetensors"
    found = encode(clustered, packed)
    original = clustered.read_bytes()
    rows = {row.name: row for row in found.tensors}
    assert rows["down2.conv.0.weight"].encoding == "codebook"
    assert rows["down2.conv.0.weight"].bits == 4
    assert rows["classifier.weight"].encoding == "dense"
    # 4 bits of 32, besides tables, float vectors and headers.
    assert len(original) / 8 < found.codebook_bytes < len(original) / 4 < found.dense_bytes
    assert found.codebook_gzip_bytes < found.gzip_bytes < found.dense_bytes
    assert found.entropy_bytes < found.codebook_bytes
    decode(packed, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == original
    # It is a safetensors file, whose parts anyone can put together.
    parts = load_file(packed)
    centroids = parts["codebook.centroids:down2.conv.0.weight"]
    assert centroids.dtype == np.float32 and len(centroids) == 16
    weight = load_file(clustered)["down2.conv.0.weight"]
    indices = unpack_bits(parts["codebook.indices:down2.conv.0.weight"], 4, weight.size)
    assert np.array_equal(centroids[indices].reshape(weight.shape), weight)


def test_the_same_input_gives_the_same_bytes_in_another_process(clustered, tmp_path):
    encode(clustered, tmp_path / "a")
    code = "import sys; from pathlib import Path; from pocketforge.quantization.codebook_files import encode; " \
           "encode(Path(sys.argv[1]), Path(sys.argv[2]))"  # fmt: skip
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    argv = [sys.executable, "-c", code, str(clustered), str(tmp_path / "b")]
    subprocess.run(argv, check=True, cwd=Path(__file__).parents[2], env=env)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_it_needs_no_torch():
    code = "import sys, pocketforge.quantization.codebook_files, pocketforge.quantization.quantizers; " \
           "print('torch' in sys.modules)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "False\n", done.stderr


def some_codebooks() -> dict[str, Codebook]:
    random = np.random.default_rng(0)
    table = random.normal(size=16).astype(np.float32)
    return {
        "a.weight": Codebook(random.integers(0, 16, (40, 30), dtype=np.uint8), table),
        "b.weight": Codebook(random.integers(0, 3, (64, 8, 3, 3), dtype=np.uint8), table[:3].copy()),
    }


def test_codebooks_of_a_step_come_back_by_name(tmp_path):
    books = some_codebooks()
    # Too small for a table of its values to save anything: stored as it is.
    books["small"] = Codebook(np.arange(24, dtype=np.uint8).reshape(4, 6), np.arange(24, dtype=np.float32))
    rest = {"a.bias": np.arange(40, dtype=np.float32), "zeros": np.zeros((50, 50), np.float32)}
    summary = save_codebooks(books, rest, tmp_path)
    found = load_codebooks(tmp_path)
    assert set(found) == set(books)  # zeros are packed too, but nobody clustered them
    for name, book in books.items():
        assert np.array_equal(found[name].values(), book.values())
        assert found[name].indices.dtype == np.uint8 and (np.diff(found[name].centroids) > 0).all()
    assert files.read(tmp_path, CodebookSizes) == summary and summary.codebooks == ("a.weight", "b.weight", "small")
    decode(tmp_path / FILE, tmp_path / "dense")
    dense = load_file(tmp_path / "dense")
    assert set(dense) == {*books, *rest}
    assert np.array_equal(dense["b.weight"], books["b.weight"].values())
    assert books["a.weight"].packed_bytes == 40 * 30 / 2 + 16 * 4


@pytest.mark.parametrize("name", [FILE, "weights.json"])
def test_a_damaged_folder_is_said(tmp_path, name):
    save_codebooks(some_codebooks(), {}, tmp_path)
    content = (tmp_path / name).read_bytes()
    for wrong in (content[: len(content) // 2], b"", b"{}"):
        (tmp_path / name).write_bytes(wrong)
        with pytest.raises(ModelError, match="no whole codebooks"):
            load_codebooks(tmp_path)


def test_any_damage_is_noticed(clustered, tmp_path):
    packed = tmp_path / "packed"
    encode(clustered, packed)
    whole = packed.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    random = np.random.default_rng(0)
    places = [*random.integers(0, header, 40), *random.integers(header, len(whole), 40)]
    for place in map(int, places):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(random.integers(0, 8))
        packed.write_bytes(bytes(broken))
        try:
            decode(packed, tmp_path / "back")
        except ModelError:
            continue
        # Only what does not matter to the content may change unnoticed: a space, a name that nobody reads.
        assert (tmp_path / "back").read_bytes() == clustered.read_bytes()
    for cut in (0, 7, 8, header - 1, header, len(whole) - 1):
        packed.write_bytes(whole[:cut])
        with pytest.raises(ModelError, match="cannot be unpacked"):
            decode(packed, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_index_beyond_the_table_and_another_version_are_refused(tmp_path):
    (tmp_path / "dense").write_bytes(save({"w": np.tile(np.arange(3, dtype=np.float32), 500)}))
    encode(tmp_path / "dense", tmp_path / "packed")
    parts = load_file(tmp_path / "packed")
    text = (tmp_path / "packed").read_bytes()
    about = json.loads(text[8 : 8 + int.from_bytes(text[:8], "little")])["__metadata__"]
    parts["codebook.indices:w"][:] = 255
    (tmp_path / "bad").write_bytes(save(parts, about))
    with pytest.raises(ModelError, match="an index of w is beyond its 3 values"):
        decode(tmp_path / "bad", tmp_path / "none")
    (tmp_path / "bad").write_bytes(save(parts, {**about, "version": "2"}))
    with pytest.raises(ModelError, match="it has version 2, this Pocketforge reads version 1"):
        decode(tmp_path / "bad", tmp_path / "none")


def test_files_of_before_one_container_are_still_read(tmp_path):
    """They have one key of metadata, with JSON, and dense tensors as bytes."""
    dense = save({"few": np.tile(np.arange(3, dtype=np.float32), 500), "many": np.arange(9, dtype=np.float64)})
    length = int.from_bytes(dense[:8], "little")
    about = {"header": dense[8 : 8 + length].decode(), "sha256": hashlib.sha256(dense).hexdigest(), "version": 1}
    parts = {
        "codebook.centroids:few": np.arange(3, dtype=np.float32),
        "codebook.indices:few": pack_bits(np.tile(np.arange(3, dtype=np.uint8), 500), 2),
        "dense:many": np.frombuffer(np.arange(9, dtype=np.float64).tobytes(), np.uint8),
    }
    old = save(parts, {"pocketforge-codebook": json.dumps(about, sort_keys=True)})
    (tmp_path / "old").write_bytes(old)
    decode(tmp_path / "old", tmp_path / "dense")
    assert (tmp_path / "dense").read_bytes() == dense
    with pytest.raises(ModelError, match="is stored with codebooks already"):
        encode(tmp_path / "old", tmp_path / "out")
    (tmp_path / "old").write_bytes(save(parts, {"pocketforge-codebook": json.dumps({**about, "version": 2})}))
    with pytest.raises(ModelError, match="it has version 2, this Pocketforge reads version 1"):
        decode(tmp_path / "old", tmp_path / "none")


def test_wrong_files_are_said(tmp_path):
    (tmp_path / "text").write_text("not weights at all")
    with pytest.raises(ModelError, match="there is no file"):
        encode(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ModelError, match="is not a whole safetensors file"):
        encode(tmp_path / "text", tmp_path / "out")
    with pytest.raises(ModelError, match="cannot be unpacked"):
        decode(tmp_path / "text", tmp_path / "out")
    with pytest.raises(ModelError, match="it is not stored with codebooks"):
        decode(DIGITS, tmp_path / "out")
    encode(DIGITS, tmp_path / "packed")
    with pytest.raises(ModelError, match="is stored with codebooks already"):
        encode(tmp_path / "packed", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(StoreError, match="--output"):
        encode(DIGITS, tmp_path / "text" / "out")
