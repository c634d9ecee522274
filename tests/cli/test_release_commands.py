"""`sign`, `verify-release` and `release`: exit codes by kind, one error in words, JSON."""

from __future__ import annotations

import pytest
import releases
from releases import Net, make_keys

from pocketforge.recipe import Release


@pytest.fixture
def pair(tmp_path):
    return make_keys(tmp_path / "keys")


@pytest.fixture
def old(tmp_path):
    return releases.write(tmp_path / "old")


@pytest.fixture
def new(tmp_path):
    return releases.write(tmp_path / "new", Net(Release("1.1.0"), accuracy=0.95))


def test_a_release_is_signed_and_verified(cli, old, pair):
    done = cli("sign", old, "--key", pair.private, "--json")
    assert done.code == 0, done.stderr
    key = done.json()["key"]
    done = cli("verify-release", old, "--key", pair.public)
    assert done.code == 0 and done.stderr == ""
    assert done.stdout.splitlines()[0].startswith("release    pets 1.0.0: 9 files, SHA256SUMS ")
    assert done.stdout.splitlines()[1:] == [f"signature  valid, by key {key}", "verdict    PASS"]
    said = cli("verify-release", old, "--json").json()
    assert (said["passed"], said["signed"], said["faults"], said["version"]) == (True, "not checked", [], "1.0.0")
    assert "give --key to check it" in cli("verify-release", old).stdout


def test_a_failed_check_exits_1_and_names_every_file(cli, old, pair):
    (old / "net.onnx").write_bytes(b"x")
    (old / "more").touch()
    done = cli("verify-release", old, "--key", pair.public)
    assert done.code == 1 and "verdict    FAIL" in done.stdout
    kinds = [line.partition(": ")[::2] for line in done.stderr.splitlines()]
    assert [(kind, rest.partition(":")[0]) for kind, rest in kinds] == [
        ("unsigned", "SHA256SUMS.sig"), ("extra", "more"), ("changed", "net.onnx"),
    ]  # fmt: skip
    done = cli("verify-release", old, "--json")
    assert done.code == 1 and done.stderr == ""
    assert [fault["kind"] for fault in done.json()["faults"]] == ["extra", "changed"]


def test_names_that_a_terminal_obeys_are_shown(cli, old):
    (old / "x\x1b[2J\nverdict    PASS").touch()
    done = cli("verify-release", old)
    assert done.code == 1 and done.stderr == "extra: x\\x1b[2J\n  verdict    PASS: SHA256SUMS does not name it\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("verify-release", "{tmp}/none"), 2, "there is no folder"),
        (("verify-release", "{old}", "--key", "{tmp}/none"), 2, "cannot read the key"),
        (("verify-release", "{old}", "--key", "{private}"), 2, "is a private key"),
        (("sign", "{old}"), 2, "give one of --key, --key-env and --key-command"),
        (("sign", "{old}", "--key", "{private}", "--key-env", "X"), 2, "give one of"),
        (("sign", "{old}", "--key-env", "POCKETFORGE_NO_SUCH"), 2, "has no variable POCKETFORGE_NO_SUCH"),
        (("sign", "{old}", "--key-command", "true"), 2, "--key-command needs --public-key"),
        (("sign", "{old}", "--key-command", "false", "--public-key", "{public}"), 3, "false ended with exit code 1"),
        (("sign", "{old}", "--key-command", "/no/kms", "--public-key", "{public}"), 3, "cannot run /no/kms"),
        (("sign", "{tmp}", "--key", "{private}"), 2, "is not whole: SHA256SUMS"),
        (("release", "diff", "{old}", "{tmp}"), 2, "is not whole: SHA256SUMS"),
        (("release", "patch", "{old}", "{old}", "-o", "{tmp}/p"), 2, "are the same release"),
        (("release", "patch", "{new}", "{old}", "-o", "{tmp}/p"), 2, "it is version 1.0.0, which is not higher"),
        (("release", "patch", "{old}", "{new}", "-o", "{tmp}/no/p"), 3, "--output"),
        (("release", "patch", "{old}", "{new}", "-o", "{private}"), 2, "exists"),
        (("release", "apply", "{old}", "{private}", "-o", "{tmp}/made"), 2, "is no patch, or not all of one"),
        (("release", "apply", "{old}", "{tmp}/none", "-o", "{tmp}/made"), 2, "there is no file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_one_error(cli, old, new, pair, tmp_path, words, code, message):
    places = {"tmp": tmp_path, "old": old, "new": new, "private": pair.private, "public": pair.public}
    before = sorted(tmp_path.rglob("*"))
    done = cli(*(word.format(**places) for word in words))
    assert done.code == code and done.stdout == "", done
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert done.stderr.count("error: ") == 1
    left = [path for path in sorted(tmp_path.rglob("*")) if "cache" not in path.parts]
    assert left == [path for path in before if "cache" not in path.parts]


def test_a_diff_exits_1_for_what_breaks_an_app(cli, old, new, tmp_path):
    done = cli("release", "diff", old, new)
    assert done.code == 0, done.stderr
    assert "changed   net  accuracy: accuracy_top1 0.9 became 0.95" in done.stdout and "breaking" not in done.stdout
    other = releases.write(tmp_path / "other", Net(Release("2"), labels=("dog", "cat")))
    done = cli("release", "diff", old, other)
    assert done.code == 1 and "breaking  net  labels: the same 2, in another order" in done.stdout
    said = cli("release", "diff", old, other, "--json")
    assert said.code == 1 and said.json()["breaking"] and said.json()["changes"][0]["what"] == "labels"
    assert "the same release" in cli("release", "diff", old, old).stdout


def test_a_patch_is_made_and_applied(cli, old, new, pair, tmp_path):
    assert cli("sign", new, "--key", pair.private).code == 0
    done = cli("release", "patch", old, new, "-o", tmp_path / "p")
    assert done.code == 0 and "copy    2 as it was: net.onnx, net.ort" in done.stdout, done.stderr
    done = cli("release", "apply", old, tmp_path / "p", "-o", tmp_path / "made", "--key", pair.public)
    assert done.code == 0 and "signature  valid" in done.stdout, done.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()} == {
        path.name: path.read_bytes() for path in new.iterdir()
    }
    done = cli("release", "patch", old, new, "-o", tmp_path / "p", "--force", "--json")
    assert done.json()["patch_bytes"] == (tmp_path / "p").stat().st_size
    done = cli("release", "apply", old, tmp_path / "p", "-o", tmp_path / "again", "--json")
    assert done.json()["faults"] == [] and done.json()["version"] == "1.1.0"
