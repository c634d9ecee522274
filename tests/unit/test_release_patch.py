"""Patches between releases: what they make is the new release to the bit, or nothing; and what changed for an app."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import releases
import zstandard
from releases import INPUT, OUTPUT, Net, make_keys

from pocketforge.errors import ReleaseError, StoreError, ToolMissing
from pocketforge.outcomes.package import Packed, PackedInput
from pocketforge.recipe import Release
from pocketforge.recipe.shipped_names import SIGNATURE
from pocketforge.release import apply as applying
from pocketforge.release import keys
from pocketforge.release.apply import apply_patch
from pocketforge.release.diff import Change, compare_releases
from pocketforge.release.patch import compressed, dictionary, window_log, write_patch
from pocketforge.release.sign import sign_release
from pocketforge.release.verify import verify_release

WEIGHTS = random.Random(0).randbytes(60_000)
OLD = Net(Release("1.0.0"), WEIGHTS)
# A layer that was trained again, and some bytes more before it.
NEW = Net(Release("1.1.0"), WEIGHTS[:1000] + b"more" + WEIGHTS[1000:50_000] + random.Random(1).randbytes(10_000))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("releases")
    pair = make_keys(folder / "keys")
    old, new = releases.write(folder / "old", OLD), releases.write(folder / "new", NEW)
    for release in (old, new):
        sign_release(release, *keys.signer_of_file(pair.private))
    write_patch(old, new, folder / "patch")
    return old, new, folder / "patch", pair


def test_a_patch_makes_the_new_release_to_the_bit(shared, tmp_path):
    old, new, patch, pair = shared
    before = contents(old)
    found = apply_patch(old, patch, tmp_path / "made", public=pair.public)
    assert contents(tmp_path / "made") == contents(new) and contents(old) == before
    assert (found.signed, found.version, found.passed) == ("valid", "1.1.0", True)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_patch_is_as_small_as_what_changed(shared):
    _, new, patch, _ = shared
    with zipfile.ZipFile(patch) as archive:
        head = json.loads(archive.read("patch.json"))
        sizes = {about.filename: about.file_size for about in archive.infolist()}
    told = {file["path"]: file for file in head["files"]}
    assert set(told) == set(contents(new))
    model = told["net.onnx"]
    assert model["how"] == "patch" and 10_000 < sizes[model["member"]] < 10_400  # the new bytes are noise
    assert told["net.ort"] == {**told["net.ort"], "how": "copy", "old": "net.ort", "member": ""}
    assert told[SIGNATURE]["how"] == "new"


def test_the_same_releases_give_the_same_patch(shared, tmp_path):
    old, new, patch, _ = shared
    write_patch(old, new, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == patch.read_bytes()


def test_a_frame_is_as_zstd_patch_from_reads_it():
    """Raw content as a dictionary, and no dictionary's number in the frame."""
    frame = compressed(NEW.model, WEIGHTS)
    about = zstandard.get_frame_parameters(frame)
    assert about.dict_id == 0 and about.has_checksum and about.content_size == len(NEW.model)
    assert about.window_size <= 1 << window_log(len(WEIGHTS), len(NEW.model))
    assert zstandard.ZstdDecompressor(dict_data=dictionary(WEIGHTS)).decompress(frame) == NEW.model


@pytest.mark.parametrize("size", [0, 1, 1023, 1025, 300_000])
def test_files_of_any_size_come_back(tmp_path, size):
    model = random.Random(size).randbytes(size) if size else b"x"
    old = releases.write(tmp_path / "old", Net(Release("1"), b"old"))
    new = releases.write(tmp_path / "new", Net(Release("2"), model, model[::-1] + b"y"))
    write_patch(old, new, tmp_path / "patch")
    apply_patch(old, tmp_path / "patch", tmp_path / "made")
    assert contents(tmp_path / "made") == contents(new)


def test_a_patch_fits_one_release(shared, tmp_path):
    _, _, patch, _ = shared
    other = releases.write(tmp_path / "other", Net(Release("1.0.0"), WEIGHTS[::-1]))
    with pytest.raises(ReleaseError, match=r"is for another release: for 1\.0\.0"):
        apply_patch(other, patch, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_neither_end_of_a_patch_may_have_a_fault(shared, tmp_path):
    old, new, patch, _ = shared
    broken = releases.write(tmp_path / "broken", OLD)
    (broken / "net.onnx").write_bytes(b"x")
    for make in (
        lambda: write_patch(broken, new, tmp_path / "p"),
        lambda: write_patch(old, broken, tmp_path / "p"),
        lambda: apply_patch(broken, patch, tmp_path / "made"),
    ):
        with pytest.raises(ReleaseError, match="is not whole"):
            make()
    assert {path.name for path in tmp_path.iterdir()} == {"broken"}


def test_a_release_is_not_patched_to_itself(shared, tmp_path):
    old, _, _, _ = shared
    with pytest.raises(ReleaseError, match="are the same release"):
        write_patch(old, old, tmp_path / "p")


def test_a_signature_alone_can_be_patched(shared, tmp_path):
    old, _, _, pair = shared
    bare = releases.write(tmp_path / "bare", OLD)
    write_patch(bare, old, tmp_path / "p")
    assert apply_patch(bare, tmp_path / "p", tmp_path / "made", public=pair.public).signed == "valid"


@pytest.mark.parametrize(
    ("before", "after"), [("1.1", "1.0"), ("1.0", "1.0"), ("1.0", "")], ids=["older", "the same", "none"]
)
def test_a_release_that_goes_back_is_refused_at_both_ends(tmp_path, before, after):
    old = releases.write(tmp_path / "old", Net(Release(before), b"old"))
    new = releases.write(tmp_path / "new", Net(Release(after), b"new"))
    with pytest.raises(ReleaseError, match=r"not higher than|has no version") as refused:
        write_patch(old, new, tmp_path / "p")
    assert "a roll-back is the old content under a new version" in refused.value.hint
    write_patch(old, new, tmp_path / "p", allow_older=True)
    with pytest.raises(ReleaseError, match=r"not higher than|has no version"):
        apply_patch(old, tmp_path / "p", tmp_path / "made")
    assert not (tmp_path / "made").exists()
    apply_patch(old, tmp_path / "p", tmp_path / "made", allow_older=True)
    assert contents(tmp_path / "made") == contents(new)


def test_the_new_release_must_be_signed_where_a_key_is_given(shared, tmp_path):
    old, _, patch, _ = shared
    stranger = make_keys(tmp_path / "keys")
    # It is looked at first: a draft could not even be made there.
    (tmp_path / "file").touch()
    with pytest.raises(ReleaseError, match="is not signed by key") as refused:
        apply_patch(old, patch, tmp_path / "file" / "made", public=stranger.public)
    assert refused.value.hint == "nothing was written"
    assert {path.name for path in tmp_path.iterdir()} == {"keys", "file"}
    bare = releases.write(tmp_path / "bare", NEW)
    write_patch(old, bare, tmp_path / "unsigned")
    with pytest.raises(ReleaseError, match="has no signature, and so is not signed by key"):
        apply_patch(old, tmp_path / "unsigned", tmp_path / "made", public=stranger.public)


def test_what_is_there_is_never_written_over(shared, tmp_path):
    old, _, patch, _ = shared
    for place in (tmp_path / "folder", tmp_path / "link"):
        place.mkdir() if place.name == "folder" else place.symlink_to("nowhere")
        with pytest.raises(ReleaseError, match="is there already"):
            apply_patch(old, patch, place)
    with pytest.raises(StoreError, match="No such file or directory"):
        write_patch(old, shared[1], tmp_path / "nowhere" / "p")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write to"):
        apply_patch(old, patch, tmp_path / "file" / "made")


def test_without_the_library_it_is_said_what_to_install(shared, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(ToolMissing, match="need the package zstandard"):
        apply_patch(shared[0], shared[2], tmp_path / "made")


def test_nothing_is_written_into_a_release(shared, tmp_path):
    """With a file more it would be none."""
    old, new, patch, _ = shared
    for inside in (old, new):
        with pytest.raises(ReleaseError, match="would lie in the release"):
            write_patch(old, new, inside / "p.patch")
    with pytest.raises(ReleaseError, match="would lie in the release"):
        apply_patch(old, patch, old / "made")
    assert verify_release(old).passed and verify_release(new).passed


def test_a_damaged_patch_is_said_to_be_one_whatever_zipfile_raises(shared, tmp_path):
    """A name in it that is no text; an archive whose parts lie elsewhere than it says."""
    content = shared[2].read_bytes()
    wrong = tmp_path / "wrong"
    at = content.index(b"PK\1\2")  # the central directory: its first name, said to be UTF-8
    for place, byte in ((at + 9, 8), (at + 46, 0xFF)):
        content = content[:place] + bytes([byte]) + content[place + 1 :]
    wrong.write_bytes(content)
    with pytest.raises(ReleaseError, match="is no patch, or not all of one"):
        apply_patch(shared[0], wrong, tmp_path / "made")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match=f"cannot read {tmp_path / 'pipe'}: it is no regular file"):
        apply_patch(shared[0], tmp_path / "pipe", tmp_path / "made")
    assert not (tmp_path / "made").exists()


def remade(patch: Path, out: Path, change: Any, how: int = zipfile.ZIP_STORED) -> Path:
    """A patch as somebody else would make it. change: of patch.json, and of the frames by name."""
    with zipfile.ZipFile(patch) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    head = json.loads(members.pop("patch.json"))
    head = change(head, members) or head
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("patch.json", json.dumps(head))
    return out


def model_of(head: dict[str, Any]) -> dict[str, Any]:
    (found,) = [file for file in head["files"] if file["path"] == "net.onnx"]
    return found


def other_path(path: str) -> Any:
    return lambda head, _: model_of(head).update(path=path)


def framed(content: bytes, window_log: int) -> bytes:
    """A frame that does not say how long its content is, with a window of its own."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=window_log)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return writer.compress(content) + writer.flush()


def bomb(head: dict[str, Any], members: dict[str, bytes]) -> None:
    """Fifty megabytes of zeros, in a window that the file may want."""
    members[model_of(head)["member"]] = framed(bytes(50_000_000), window_log=16)
    model_of(head).update(how="new", old="")


def wide(head: dict[str, Any], members: dict[str, bytes]) -> None:
    """A frame that wants 64 MB of window for a file of 60 KB: less than zstd's own limit."""
    members[model_of(head)["member"]] = framed(NEW.model, window_log=26)
    model_of(head).update(how="new", old="")


def flipped(head: dict[str, Any], members: dict[str, bytes]) -> None:
    name = model_of(head)["member"]
    members[name] = members[name][:-9] + bytes([members[name][-9] ^ 1]) + members[name][-8:]


def lied(head: dict[str, Any], members: dict[str, bytes]) -> None:
    """Other bytes, and their own hash in patch.json: the release's sums have another."""
    content = b"the weights of somebody else"
    members[model_of(head)["member"]] = zstandard.ZstdCompressor().compress(content)
    about = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content), "how": "new", "old": ""}
    model_of(head).update(about)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_path("../x"), "must not be applied: '../x' is no plain file name"),
        (other_path("/etc/x"), "is no plain file name"),
        (other_path("a\\b"), "is no plain file name"),
        (other_path(""), "must not be applied: '' is no plain file name"),
        (other_path("\udcff"), "is no plain file name"),
        (other_path("net.ort"), "a file is there twice"),
        (lambda head, _: model_of(head).update(how="copy", old=""), "it is no regular file"),
        (lambda head, _: model_of(head).update(old="../old/net.onnx"), "is no plain file name"),
        (lambda head, _: model_of(head).update(old="none.onnx"), "none.onnx: it is not there"),
        (lambda head, _: model_of(head).update(member="none"), "does not make net.onnx: .*no item named 'none'"),
        (lambda head, _: model_of(head).update(size_bytes=2**40), "has 1,099,511,627,776 bytes"),
        (lambda head, _: model_of(head).update(size_bytes=-1), "has -1 bytes"),
        (lambda head, _: model_of(head).update(size_bytes=5), "does not make net.onnx: "),
        (lambda head, _: model_of(head).update(size_bytes=10**5), "does not make net.onnx: wanted 100,000 bytes"),
        (lambda head, _: model_of(head).update(sha256="0" * 64), "wanted SHA-256 0000"),
        (lambda head, _: model_of(head).update(how="magic"), "is no patch: patch.json"),
        (lambda head, _: head.update(patch_version=2), "is no patch: patch.json"),
        (lambda head, _: head.update(new_sums_sha256="0" * 64), "is another release than it says"),
        (lambda head, _: head["files"].remove(model_of(head)), "makes is no release: net.onnx: it is not there"),
        (lambda head, _: "no table", "is no patch: patch.json"),
        (bomb, "does not make net.onnx: wanted 60,004 bytes, found more"),
        (wide, "does not make net.onnx: .*too much memory"),
        (flipped, "does not make net.onnx: "),
        (lied, "makes is no release: net.onnx: wanted SHA-256"),
    ],
)
def test_a_patch_that_lies_makes_nothing(shared, tmp_path, change, words):
    old, _, patch, _ = shared
    wrong = remade(patch, tmp_path / "wrong", lambda head, members: change(head, members))
    with pytest.raises(ReleaseError, match=words):
        apply_patch(old, wrong, tmp_path / "made")
    assert {path.name for path in tmp_path.iterdir()} == {"wrong"}


def test_members_that_zip_compresses_are_refused(shared, tmp_path):
    old, _, patch, _ = shared
    wrong = remade(patch, tmp_path / "wrong", lambda head, members: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(ReleaseError, match="is compressed by ZIP"):
        apply_patch(old, wrong, tmp_path / "made")


def test_a_frame_that_grows_is_stopped_at_its_size(shared, tmp_path, monkeypatch):
    """Not after all of it was unpacked."""
    old, _, patch, _ = shared
    written: list[int] = []
    real = applying._write

    def counted(stream: Any, into: Any, size_bytes: int) -> str:
        try:
            return real(stream, into, size_bytes)
        finally:
            written.append(into.tell())

    monkeypatch.setattr(applying, "_write", counted)
    with pytest.raises(ReleaseError):
        apply_patch(old, remade(patch, tmp_path / "wrong", bomb), tmp_path / "made")
    assert max(written) <= len(NEW.model)


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_a_patch_that_was_cut_is_none(shared, tmp_path, kept):
    old, _, patch, _ = shared
    content = patch.read_bytes()
    (tmp_path / "cut").write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(ReleaseError, match="is no patch, or not all of one"):
        apply_patch(old, tmp_path / "cut", tmp_path / "made")
    with pytest.raises(ReleaseError, match="there is no file"):
        apply_patch(old, tmp_path / "none", tmp_path / "made")


# What changed for an app


def changes(tmp_path: Path, **other: Any) -> list[Change]:
    one, two = Net(), dataclasses.replace(Net(), about=Release("1.1.0"), **other)
    return list(compare_releases(releases.write(tmp_path / "one", one), releases.write(tmp_path / "two", two)).changes)


@pytest.mark.parametrize(
    ("other", "what", "words"),
    [
        ({"name": "cat"}, "file", "net.onnx is gone"),
        ({"inputs": ({**INPUT, "shape": [1, 3, 9, 9]},)}, "inputs", "[1, 3, 8, 8] NCHW became x float32 [1, 3, 9, 9]"),
        ({"inputs": ({**INPUT, "layout": "NHWC"},)}, "inputs", "NHWC"),
        ({"inputs": ({**INPUT, "name": "z"},)}, "inputs", "became z float32"),
        ({"inputs": ({**INPUT, "dtype": "uint8", "scale": 0.5, "zero_point": 3},)}, "inputs", "scale 0.5 zero point 3"),
        ({"inputs": (INPUT, INPUT)}, "inputs", "1 (x) became 2 (x, x)"),
        ({"outputs": ({**OUTPUT, "shape": [1, 3]},)}, "outputs", "[1, 2] became y float32 [1, 3]"),
        ({"labels": ("dog", "cat")}, "labels", "the same 2, in another order"),
        ({"labels": ("cat", "dog", "owl")}, "labels", "2 became 3; new: owl"),
        ({"labels": ()}, "labels", "2 became 0; gone: cat, dog"),
        ({"steps": ({"step": "divide", "by": 127.5},)}, "preprocessing", '"by": 127.5'),
        ({"package": Packed((), "softmax", "y")}, "postprocess", "none became softmax"),
        ({"task": "regression"}, "task", "classification became regression"),
        ({"facts": {"opset": 19}}, "runtime", "operator set 18 became 19: an older runtime may not load it"),
        ({"runtimes": {"onnxruntime 1.32.0": "wrong: NaN"}}, "runtime", "it worked in onnxruntime 1.32.0, and"),
        ({"runtime": "tflite"}, "file", "net.onnx became net.tflite"),
        ({"runtime": "tflite"}, "runtime", "onnx became tflite"),
    ],
)  # fmt: skip
def test_what_breaks_an_app_is_said_as_such(tmp_path, other, what, words):
    found = changes(tmp_path, **other)
    assert [c for c in found if c.breaking and c.what == what and words in c.words], found
    assert sorted(found, key=lambda change: not change.breaking) == found


@pytest.mark.parametrize(
    ("other", "wanted"),
    [
        ({}, []),
        ({"accuracy": 0.85}, [("net", "accuracy", "accuracy_top1 0.9 became 0.85")]),
        ({"model": b"x" * 5_000}, [("net", "bytes", "10,500 bytes became 5,000 (-52.4%)")]),
        ({"facts": {"opset": 17}}, [("net", "runtime", "operator set 18 became 17"), ("net ort", "runtime", "")]),
        ({"versions": {"onnxruntime": "1.33.0"}}, [("net", "runtime", "onnxruntime 1.33.0, and before in 1.32.0")]),
        ({"latency_ms": 9.0}, []),
        ({"package": Packed((PackedInput("x", "float32", (1, 3, 8, 8), "NCHW", ({"step": "divide"},)),), "none", "")},
         [("net", "inside", '[] became [[{"step": "divide"}]]')]),
    ],
)  # fmt: skip
def test_what_an_app_only_has_to_know_breaks_nothing(tmp_path, other, wanted):
    found = changes(tmp_path, **other)
    assert not any(change.breaking for change in found)
    assert len(found) >= len(wanted) and (wanted or not found)
    for of, what, words in wanted:
        assert [c for c in found if (c.of, c.what) == (of, what) and words in c.words], found


def test_another_tokenizer_is_a_break(tmp_path):
    one, two = Net(tokenizer=b"{}"), Net(Release("1.1.0"), tokenizer=b"[{}]")
    found = compare_releases(releases.write(tmp_path / "one", one), releases.write(tmp_path / "two", two)).changes
    assert Change("", "tokenizer", True, "tokenizer.json is another: 2 bytes became 4") in found
    without = dataclasses.replace(one, about=Release("1.2.0"), tokenizer=b"")
    gone = compare_releases(tmp_path / "one/release", releases.write(tmp_path / "three", without)).changes
    assert Change("", "tokenizer", True, "tokenizer.json is gone") in gone


def test_a_target_more_breaks_nothing_and_its_absence_does(tmp_path):
    one, two = releases.write(tmp_path / "one"), releases.write(tmp_path / "two", Net(Release("2"), name="more"))
    found = compare_releases(one, two)
    assert {(c.of, c.what, c.breaking) for c in found.changes} == {
        ("net", "file", True), ("net ort", "file", True), ("more", "file", False), ("more ort", "file", False),
    }  # fmt: skip
    assert found.breaking and not found.same


@pytest.mark.parametrize(("after", "breaking"), [("1.0.0", True), ("0.9", True), ("", True), ("1.0.1", False)])
def test_a_version_that_is_not_higher_is_a_break(tmp_path, after, breaking):
    one, two = releases.write(tmp_path / "one"), releases.write(tmp_path / "two", Net(Release(after), b"x"))
    found = compare_releases(one, two)
    assert any(c.what == "release" and c.breaking for c in found.changes) is found.breaking is breaking


def test_a_release_is_the_same_as_its_copy(tmp_path):
    found = compare_releases(releases.write(tmp_path / "one"), releases.write(tmp_path / "two"))
    assert found.same and not found.changes and not found.breaking


def test_only_whole_releases_are_compared(tmp_path):
    one, two = releases.write(tmp_path / "one"), releases.write(tmp_path / "two", NEW)
    (two / "net.json").write_text("{}")
    with pytest.raises(ReleaseError, match=r"is not whole: net\.json"):
        compare_releases(one, two)


@pytest.mark.parametrize("content", ["{}", "[]", '{"inputs": 1}', "nothing"])
def test_sidecars_that_are_none_are_said(tmp_path, content):
    """Sums may be right of what no build writes."""
    from test_release_verify import rewritten

    one, two = releases.write(tmp_path / "one"), releases.write(tmp_path / "two", NEW)
    (two / "net.json").write_text(content)
    rewritten(two, "net.json")
    with pytest.raises(ReleaseError, match=r"net\.json"):
        compare_releases(one, two)
