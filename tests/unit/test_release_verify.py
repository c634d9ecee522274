"""Verifying a release: every fault is found and named, by kind; signatures; what changes while it is read."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from pathlib import Path

import pytest
import releases
from releases import Keys, Net, make_keys

from pocketforge.errors import ReleaseError, ToolFailed, ToolMissing
from pocketforge.recipe import Release
from pocketforge.recipe.shipped_names import MANIFEST, PROVENANCE, SIGNATURE, SUMS
from pocketforge.release import keys, reading, verify
from pocketforge.release.sign import sign_release
from pocketforge.release.sums import read_sums, write_sums
from pocketforge.release.verify import verify_release

NEW = b"other bytes"


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def release(tmp_path) -> Path:
    return releases.write(tmp_path / "out")


def signed(folder: Path, by: Keys) -> Path:
    sign_release(folder, *keys.signer_of_file(by.private))
    return folder


def faults(folder: Path, public: Path | None = None) -> set[tuple[str, str]]:
    found = verify_release(folder, public)
    assert found.passed is (not found.faults) and all(fault.words for fault in found.faults)
    return {(fault.kind, fault.path) for fault in found.faults}


def rewritten(folder: Path, *changed: str, **more: str) -> None:
    """SHA256SUMS as somebody writes it who may change the release: without a signature nobody can tell."""
    hashes, _ = read_sums((folder / SUMS).read_bytes())
    for name in changed:
        hashes[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / SUMS).write_bytes(write_sums(hashes | more))


def test_a_release_as_it_was_built_passes(release):
    found = verify_release(release)
    assert (found.faults, found.files, found.signed, found.version, found.recipe) == ((), 9, "none", "1.0.0", "pets")
    assert found.sums_sha256 == hashlib.sha256((release / SUMS).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda r: (r / "net.onnx").write_bytes(NEW), {("changed", "net.onnx")}),
        (lambda r: (r / "net.json").write_bytes(NEW), {("changed", "net.json")}),
        (lambda r: (r / "net.onnx").unlink(), {("missing", "net.onnx")}),
        (lambda r: (r / MANIFEST).unlink(), {("missing", MANIFEST)}),
        (lambda r: (r / "net.onnx").rename(r / "old.onnx"), {("renamed", "old.onnx")}),
        (lambda r: (r / "more").write_bytes(NEW), {("extra", "more")}),
        (lambda r: (r / ".hidden").write_bytes(NEW), {("extra", ".hidden")}),
        (lambda r: (r / "folder").mkdir(), {("extra", "folder")}),
        (lambda r: os.mkfifo(r / "pipe"), {("extra", "pipe")}),
        (lambda r: (r / "again.onnx").write_bytes((r / "net.onnx").read_bytes()), {("extra", "again.onnx")}),
        (lambda r: (r / "n\u202e\x1b[2J").touch(), {("extra", "n\u202e\x1b[2J")}),
        (lambda r: Path(os.fsdecode(os.fsencode(r) + b"/\xff")).touch(), {("extra", "\udcff")}),
    ],
    ids=[
        "model", "sidecar", "gone", "manifest gone", "renamed", "more", "hidden", "folder", "pipe", "copy",
        "control", "bytes",
    ],
)  # fmt: skip
def test_each_kind_of_fault_is_named_with_its_file(release, change, wanted):
    change(release)
    assert faults(release) == wanted


def test_every_fault_is_found_not_the_first(release):
    (release / "net.onnx").write_bytes(NEW)
    (release / "net.ort").unlink()
    (release / "net.json").rename(release / "x.json")
    (release / "more").touch()
    assert faults(release) == {
        ("changed", "net.onnx"),
        ("missing", "net.ort"),
        ("renamed", "x.json"),
        ("extra", "more"),
    }


def test_a_file_of_another_name_was_one_that_is_missing_not_one_that_is_there(release):
    """Two files of one content, one renamed: the other is where it was."""
    (release / "twin").write_bytes((release / "net.onnx").read_bytes())
    rewritten(release, "twin")
    (release / "twin").rename(release / "moved")
    assert faults(release) == {("renamed", "moved")}


@pytest.mark.parametrize("where", ["a file", "the sums", "the signature", "nowhere"])
def test_links_are_never_followed(release, pair, tmp_path, where):
    signed(release, pair)
    name = {"a file": "net.onnx", "the sums": SUMS, "the signature": SIGNATURE, "nowhere": "net.onnx"}[where]
    place = tmp_path / "elsewhere"
    if where == "nowhere":
        (release / name).unlink()
    else:
        (release / name).rename(place)  # the same bytes: only the link is wrong
    (release / name).symlink_to(place)
    assert ("link", name) in faults(release, pair.public)


@pytest.mark.parametrize("name", ["net.onnx", MANIFEST, SUMS, SIGNATURE])
def test_a_folder_in_a_file_s_place_is_a_fault_of_the_release(release, pair, name):
    signed(release, pair)
    (release / name).unlink()
    (release / name).mkdir()
    assert ("special", name) in faults(release, pair.public)


@pytest.mark.parametrize("name", ["net.onnx", SUMS, SIGNATURE])
def test_what_is_no_regular_file_is_not_waited_for(release, pair, monkeypatch, name):
    signed(release, pair)
    (release / name).unlink()
    os.mkfifo(release / name)
    assert ("special", name) in faults(release)
    (release / name).unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(release)  # a socket's path is short
        listening.bind(name)
        assert ("special", name) in faults(release)


LINE = f"{'0' * 64}  x"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (LINE.encode(), "it was cut off"),
        (LINE[:40].encode() + b"\n", "line 1: wanted"),
        (f"{LINE}\n{LINE}\n".encode(), "line 2: name 'x' is there twice"),
        (f"{LINE[:66]}../x\n".encode(), "is no plain file name"),
        (f"{LINE[:66]}/etc/passwd\n".encode(), "is no plain file name"),
        (f"{LINE[:66]}a/b\n".encode(), "is no plain file name"),
        (f"{LINE[:66]}..\n".encode(), "is no plain file name"),
        (f"{LINE[:66]}a\\b\n".encode(), "is no plain file name"),
        (f"{LINE[:66]}a\x00b\n".encode(), "is no plain file name"),
        (f"{LINE[:66]}{SUMS}\n".encode(), "cannot be listed in the file itself"),
        (f"{LINE[:66]}{'x' * 300}\n".encode(), "has more than 255 bytes"),
        (f"{LINE}\r\n".encode(), "is no plain file name"),
        (LINE.upper().replace("X", "x").replace("0", "A").encode() + b"\n", "line 1: wanted"),
        (f"{LINE[:66]}".encode() + b"\xff\n", "line 1: wanted"),
        (b"\n", "line 1: wanted"),
        (b"x" * (2**20 + 1), "wanted at most 1,048,576 bytes"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_sums_that_are_none_are_faults_of_the_file(release, content, words):
    (release / SUMS).write_bytes(content)
    found = [fault for fault in verify_release(release).faults if fault.path == SUMS and fault.kind == "malformed"]
    assert any(words in fault.words for fault in found), found


def test_sums_cut_at_a_line_leave_files_that_they_do_not_name(release):
    lines = (release / SUMS).read_bytes().splitlines(keepends=True)
    (release / SUMS).write_bytes(b"".join(lines[:-2]))
    named = {line[66:-1].decode() for line in lines[-2:]}
    assert {("extra", name) for name in named} <= faults(release)


def test_documents_that_speak_of_different_files_are_faults(release):
    said = json.loads((release / MANIFEST).read_text())
    (release / MANIFEST).write_text(json.dumps({**said, "files": said["files"][:1]}))
    rewritten(release, MANIFEST)
    assert faults(release) == {("contents", PROVENANCE)}


def test_a_sidecar_that_the_sums_do_not_name_is_a_fault(release):
    hashes, _ = read_sums((release / SUMS).read_bytes())
    del hashes["net.json"]
    (release / "net.json").unlink()
    (release / SUMS).write_bytes(write_sums(hashes))
    assert faults(release) == {("contents", MANIFEST)}


def test_a_document_that_changes_after_it_was_hashed_is_said(release, monkeypatch):
    real = reading.hash_regular

    def hashed(path: Path) -> reading.Hashed:
        found = real(path)
        if path.name == MANIFEST:
            path.write_text(path.read_text().replace("1.0.0", "9.9.9"))
        return found

    monkeypatch.setattr(verify, "hash_regular", hashed)
    assert faults(release) == {("changing", MANIFEST)}


@pytest.mark.parametrize("name", [MANIFEST, PROVENANCE])
def test_documents_that_speak_of_other_files_are_faults(release, name):
    said = (release / name).read_text()
    (release / name).write_text(said.replace(hashlib.sha256(Net().model).hexdigest(), "0" * 64))
    rewritten(release, name)
    assert faults(release) == {("contents", name), ("contents", PROVENANCE)}


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"\xff", b'{"subject": [1]}', b"[" * 10**5, b'{"subject": {"name": NaN}}']
)
def test_documents_that_cannot_be_read_are_faults(release, content):
    for name in (MANIFEST, PROVENANCE):
        (release / name).write_bytes(content)
    rewritten(release, MANIFEST, PROVENANCE)
    assert faults(release) == {("contents", MANIFEST), ("contents", PROVENANCE)}


def test_a_release_without_its_documents_is_none(release):
    hashes, _ = read_sums((release / SUMS).read_bytes())
    for name in (MANIFEST, PROVENANCE):
        del hashes[name]
        (release / name).unlink()
    (release / SUMS).write_bytes(write_sums(hashes))
    assert faults(release) == {("contents", SUMS)}


def meddling(monkeypatch, meddle):
    """`meddle` happens once, after the first bytes of a file were read."""
    real, done = hashlib.sha256, list[bool]()

    class Digest:
        def __init__(self) -> None:
            self._under = real()

        def update(self, chunk: bytes) -> None:
            self._under.update(chunk)
            if not done and chunk == Net().model:
                done.append(True)
                meddle()

        def hexdigest(self) -> str:
            return self._under.hexdigest()

    monkeypatch.setattr(hashlib, "sha256", lambda *given: real(*given) if given else Digest())
    return done


@pytest.mark.parametrize("how", ["appended", "cut", "swapped", "gone", "linked"])
def test_a_file_that_changes_while_it_is_read_is_said(release, monkeypatch, tmp_path, how):
    path = release / "net.onnx"

    def meddle() -> None:
        if how == "appended":
            with path.open("ab") as file:
                file.write(b"x")
        elif how == "cut":
            os.truncate(path, 3)
        else:
            path.rename(tmp_path / "aside")
            if how == "swapped":
                path.write_bytes(Net().model)
            elif how == "linked":
                path.symlink_to(tmp_path / "aside")

    done = meddling(monkeypatch, meddle)
    assert ("changing", "net.onnx") in faults(release) and done


def test_a_signed_release_is_the_key_owner_s(release, pair):
    before = {path.name: path.read_bytes() for path in release.iterdir()}
    signed(release, pair)
    assert {path.name for path in release.iterdir()} - set(before) == {SIGNATURE}
    assert all((release / name).read_bytes() == content for name, content in before.items())
    found = verify_release(release, pair.public)
    assert (found.signed, found.passed) == ("valid", True)
    assert found.key == keys.key_id(keys.load_public(pair.public)) and len(found.key) == 16
    assert verify_release(release).signed == "not checked"


def test_a_release_that_is_not_signed_fails_where_a_key_is_given(release, pair):
    assert faults(release, pair.public) == {("unsigned", SIGNATURE)}
    assert verify_release(release, pair.public).signed == "missing"


def test_a_signature_of_another_key_fails(release, pair, stranger):
    signed(release, stranger)
    assert faults(release, pair.public) == {("signature", SIGNATURE)}


def test_a_signature_of_another_release_fails(release, pair, tmp_path):
    other = signed(releases.write(tmp_path / "other", Net(Release("2.0.0"))), pair)
    (release / SIGNATURE).write_bytes((other / SIGNATURE).read_bytes())
    assert faults(release, pair.public) == {("signature", SIGNATURE)}


def test_who_changes_a_file_and_its_sum_has_no_signature(release, pair):
    signed(release, pair)
    (release / "net.json").write_bytes(NEW)
    rewritten(release, "net.json")
    assert faults(release, pair.public) == {("signature", SIGNATURE)}
    assert faults(release) == set()  # which is why a release is signed


@pytest.mark.parametrize("content", [b"", b"x" * 63, b"x" * 65, b"x" * 10**6])
def test_a_signature_of_another_size_is_none(release, pair, content):
    (release / SIGNATURE).write_bytes(content)
    assert faults(release, pair.public) == {("malformed", SIGNATURE)} == faults(release)


def test_signing_again_takes_the_place_of_what_was_there(release, pair, stranger):
    signed(release, stranger)
    signed(release, pair)
    assert faults(release, pair.public) == set()
    (release / SIGNATURE).write_bytes(b"broken")
    signed(release, pair)
    assert faults(release, pair.public) == set()


def test_what_is_not_whole_is_not_signed(release, pair):
    (release / "net.onnx").write_bytes(NEW)
    with pytest.raises(ReleaseError, match=r"is not whole: net\.onnx: wanted SHA-256"):
        signed(release, pair)
    assert not (release / SIGNATURE).exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no public key in PEM"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "is no public key in PEM"),
        (b"x" * 10**6, "is no key: it has more than"),
        (None, "cannot read the key"),
    ],
)
def test_what_is_no_public_key_is_said(release, tmp_path, content, words):
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ReleaseError, match=words):
        verify_release(release, path)


def test_keys_are_not_taken_for_each_other(release, pair):
    with pytest.raises(ReleaseError, match="is a private key"):
        verify_release(release, pair.private)
    with pytest.raises(ReleaseError, match="is no private key in PEM"):
        keys.signer_of_file(pair.public)


def test_keys_of_other_kinds_and_encrypted_ones_are_refused(tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    def written(key, encryption) -> Path:
        path = tmp_path / "key"
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
        return path

    with pytest.raises(ReleaseError, match="wanted an Ed25519 key, found"):
        keys.signer_of_file(written(ec.generate_private_key(ec.SECP256R1()), serialization.NoEncryption()))
    secret = serialization.BestAvailableEncryption(b"word")
    with pytest.raises(ReleaseError, match="the key is encrypted"):
        keys.signer_of_file(written(ed25519.Ed25519PrivateKey.generate(), secret))


def test_a_key_from_the_environment(release, pair, monkeypatch):
    with pytest.raises(ReleaseError, match="has no variable RELEASE_KEY"):
        keys.signer_of_variable("RELEASE_KEY")
    monkeypatch.setenv("RELEASE_KEY", pair.pem)
    sign_release(release, *keys.signer_of_variable("RELEASE_KEY"))
    assert faults(release, pair.public) == set()
    monkeypatch.setenv("RELEASE_KEY", "\udcff\udcfe")  # bytes that are no text
    with pytest.raises(ReleaseError, match="variable RELEASE_KEY is no private key in PEM"):
        keys.signer_of_variable("RELEASE_KEY")


@pytest.fixture
def kms(tmp_path, pair):
    """A command that signs with a key that we never see: `kms FORM`."""
    signature = tmp_path / "signature"

    def command(sums: bytes, script: str) -> str:
        signer, _ = keys.signer_of_file(pair.private)
        signature.write_bytes(signer(sums))
        return f"sh -c 'cat > {tmp_path}/got; {script.format(file=signature)}'"

    return command


@pytest.mark.parametrize("script", ["cat {file}", "base64 {file}"], ids=["raw", "base64"])
def test_a_command_gets_the_sums_and_gives_the_signature(release, pair, kms, tmp_path, script):
    sums = (release / SUMS).read_bytes()
    sign_release(release, keys.signer_of_command(kms(sums, script)), keys.load_public(pair.public))
    assert (tmp_path / "got").read_bytes() == sums
    assert faults(release, pair.public) == set()


@pytest.mark.parametrize(
    ("command", "error", "words"),
    [
        ("", ReleaseError, "--key-command is empty"),
        ("'", ReleaseError, "cannot be read as words"),
        ("/nowhere/kms", ToolMissing, "cannot run /nowhere/kms"),
        ("sh -c 'cat > /dev/null; echo no access >&2; exit 7'", ToolFailed, "exit code 7:\nno access"),
        ("true", ReleaseError, "gave 0 bytes, wanted an Ed25519 signature"),
        ("yes", ReleaseError, "yes gave more than 4,096 bytes, wanted an Ed25519 signature"),
        ("sh -c 'yes no access | head -c 3000000 >&2; exit 7'", ToolFailed, "exit code 7:\n(.|\n)*no access"),
        ("head -c 64 /dev/zero", ReleaseError, r"is no signature of SHA256SUMS by key [0-9a-f]{16}"),
    ],
)
def test_a_command_that_gives_no_signature_leaves_none(release, pair, command, error, words):
    with pytest.raises(error, match=words):
        sign_release(release, keys.signer_of_command(command), keys.load_public(pair.public))
    assert not (release / SIGNATURE).exists()


def test_without_the_library_files_are_verified_and_signatures_are_not(release, pair, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives", None)
    assert verify_release(release).passed
    with pytest.raises(ToolMissing, match="need the package cryptography"):
        verify_release(release, pair.public)


def test_what_is_no_release_folder_is_said(release, tmp_path):
    with pytest.raises(ReleaseError, match="there is no folder"):
        verify_release(tmp_path / "none")
    with pytest.raises(ReleaseError, match="is a build's folder") as refused:
        verify_release(release.parent)
    assert refused.value.hint == f"the release is {release}"
    (release / SUMS).unlink()
    assert ("missing", SUMS) in faults(release)


def test_a_later_version_of_the_manifest_is_said_to_be_one(release):
    said = json.loads((release / MANIFEST).read_text())
    (release / MANIFEST).write_text(json.dumps({**said, "manifest_version": 2, "channel": "beta"}))
    rewritten(release, MANIFEST)
    (fault,) = verify_release(release).faults
    assert (fault.kind, fault.path) == ("contents", MANIFEST) and "channel" in fault.words
