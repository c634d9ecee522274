"""Disks that are full, read-only or damaged: one message that says so, nothing half-written, and work that is kept.

A full or read-only disk is a real one: a tmpfs of a few MB in a mount namespace, of the test's own where its builds are
programs, one for all (small_disk.py) where they run stages that import the toolchain.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Done, in_process
from release_build import SOURCES
from small_disk import FUNCTION, NAMESPACE, SmallDisks

from pocketforge.errors import StoreError

DIGITS = ROOT / "models" / "digits_cnn"
TARGET = "digits_onnx_fp32"

# In a namespace: $DISK is the small disk, with the cache (and what else the test put beside it) copied onto it.
# pocketforge NAME ARGUMENTS… leaves NAME.code, NAME.stdout and NAME.stderr in $ANSWERS.
PREAMBLE = """
mount -t tmpfs -o size=32m tmpfs "$DISK"
cp -a "$CACHE" "$DISK/cache"
leave() {  # all but so many KiB are taken
    fallocate -l $(( $(stat -f -c '%a * %S' "$DISK") - $1 * 1024 )) "$DISK/filler"
}
pocketforge() {
    answer="$ANSWERS/$1"; shift; code=0
    "$PYTHON" -m pocketforge "$@" --cache-dir "$DISK/cache" >"$answer.stdout" 2>"$answer.stderr" || code=$?
    echo $code >"$answer.code"
}
listed() {  # what lies in a folder, all levels
    (cd "$2" && find . -mindepth 1 | sort) >"$ANSWERS/$1.list"
}
"""


class Shop:
    """The digits recipe, cut to one target, and a copy of a cache in which it is built."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder / "work"
        self.answers = folder / "answers"
        self.cache = cache
        self.disk = folder / "disk"
        for made in (self.folder, self.answers, self.disk):
            made.mkdir()
        for name in ("model.py", "weights.safetensors", "labels.txt"):
            shutil.copy(DIGITS / name, self.folder)
        head, *blocks = re.split(r"^\[\[", (DIGITS / "release.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)
        (block,) = [b for b in blocks if b.startswith("target") and f'"{TARGET}"' in b]
        (self.folder / "recipe.toml").write_text(f"{head}[[{block}", encoding="utf-8")
        self.env = {
            **os.environ,
            "POCKETFORGE_CACHE_DIR": str(cache),
            "PYTHONPATH": SOURCES,
            "PYTHON": sys.executable,
            "DISK": str(self.disk),
            "CACHE": str(cache),
            "ANSWERS": str(self.answers),
        }

    def run(self, *args: object) -> Done:
        return in_process(*args, cache=self.cache, cwd=self.folder, timeout=300)

    def on_small_disk(self, script: str, disks: SmallDisks | None = None) -> None:
        """Run a shell script after PREAMBLE in a mount namespace, or in the one of `disks`."""
        if disks is not None:
            code, said = disks.run(PREAMBLE + FUNCTION + script, self.folder, self.env)
            assert code == 0, said
            return
        done = subprocess.run(
            [*NAMESPACE, "sh", "-eu", "-c", PREAMBLE + script],
            cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def answer(self, name: str) -> Done:
        stdout, stderr = ((self.answers / f"{name}.{stream}").read_text() for stream in ("stdout", "stderr"))
        return Done(int((self.answers / f"{name}.code").read_text()), stdout, stderr)

    def listed(self, name: str) -> list[str]:
        return (self.answers / f"{name}.list").read_text().split()

    def forget(self, *stages: str) -> None:
        for step in self.plan():
            if step["stage"] in stages:
                shutil.rmtree(self.entry(step["key"]))

    def plan(self) -> list[dict[str, Any]]:
        done = self.run("plan", "recipe.toml", "--json")
        assert done.code == 0, done.stderr
        return json.loads(done.stdout)["steps"]

    def entry(self, key: str) -> Path:
        return self.cache / "v1" / "entries" / key[:2] / key

    def key(self, stage: str) -> str:
        (key,) = [step["key"] for step in self.plan() if step["stage"] == stage]
        return key


@pytest.fixture
def shop(release: Any, tmp_path: Path) -> Shop:
    assert release.done.code == 0, release.done.stderr
    return Shop(tmp_path, release.copy_cache(tmp_path / "cache"))


@pytest.fixture(scope="session")
def namespaces(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Needed for a disk of one's own; skips where the machine forbids them."""
    if shutil.which("unshare") is None:
        pytest.skip("the program unshare is missing; it is in the package util-linux")
    folder = tmp_path_factory.mktemp("probe")
    done = subprocess.run(
        [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", folder],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(
            f"a tmpfs cannot be mounted in a user namespace ({done.stderr.strip()}); allow it with "
            "`sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0`, "
            "or run the tests in a container with --cap-add SYS_ADMIN"
        )


@pytest.fixture(scope="module")
def disks(namespaces: None) -> Iterator[SmallDisks]:
    disks = SmallDisks()
    yield disks
    disks.close()


def one_message(done: Done, *says: str) -> None:
    """Failed with exit code 3 and one error on stderr, which matches every regex of `says`."""
    assert done.code == 3, f"exit code {done.code}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert len(re.findall("^error: ", done.stderr, re.MULTILINE)) == 1, done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    for words in says:
        assert re.search(words, done.stderr), f"no {words!r} in:\n{done.stderr}"
    assert len(done.stderr.splitlines()) <= 4, done.stderr


# A full disk


@pytest.mark.parametrize(
    ("stage", "left_kib", "as_programs"),
    [
        # Nothing at all; then arrays that are written through a memory map: there a full disk is a SIGBUS.
        ("data", 0, False),
        ("data", 512, False),
        # torch, NumPy and the exporter each have their own words for it.
        ("reference", 300, False),
        ("reference", 620, False),
        ("export", 300, True),
        # Another process writes the outputs, through a map too.
        ("verify", 16, False),
        # The stage is done; its manifest does not fit any more.
        ("bench", 0, False),
    ],
)
def test_a_disk_that_fills_up_in_a_stage(
    shop: Shop, disks: SmallDisks, stage: str, left_kib: int, as_programs: bool
) -> None:
    shop.forget(stage)
    shop.on_small_disk(
        f"""
        leave {left_kib}
        pocketforge full build recipe.toml --out out
        listed tmp "$DISK/cache/v1/tmp"
        rm "$DISK/filler"
        pocketforge verify cache verify
        pocketforge again build recipe.toml --out out --progress plain
        """,
        None if as_programs else disks,
    )
    one_message(
        shop.answer("full"),
        rf"no space left on the disk of {shop.disk}/cache/",
        r"hint: free some space \(pocketforge cache clear --keep-bytes 1GB\) or choose another disk with --cache-dir",
    )
    assert shop.listed("tmp") == []
    verified = shop.answer("verify")
    assert (verified.code, verified.stderr) == (0, "")
    again = shop.answer("again")
    assert again.code == 0, again.stderr
    assert re.findall(r"^  done    (\S+)", again.stderr, re.MULTILINE) == [stage]
    assert (shop.folder / "out" / "release" / "SHA256SUMS").is_file()


def test_a_disk_that_is_full_of_logs_and_results(shop: Shop, disks: SmallDisks) -> None:
    shop.forget("reference")
    shop.on_small_disk(
        """
        leave 200
        pocketforge check build recipe.toml --out "$DISK/out"
        listed out "$DISK/out"
        """,
        disks,
    )
    one_message(shop.answer("check"), r"no space left on the disk of ")
    assert [name for name in shop.listed("out") if "release" in name or "/." in name] == []


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("left_kib", [0, 400, 850])
def test_a_full_output_disk_gets_no_half_report_and_no_half_release(shop: Shop, left_kib: int) -> None:
    shop.on_small_disk(
        f"""
        leave {left_kib}
        pocketforge full build recipe.toml --out "$DISK/out"
        listed out "$DISK/out"
        rm "$DISK/filler"
        pocketforge again build recipe.toml --out "$DISK/out"
        listed then "$DISK/out"
        """
    )
    full = shop.answer("full")
    one_message(full, rf"no space left on the disk of {shop.disk}/out", r"hint: .* choose another disk with --out")
    # With 400 KiB a report would fit, with 850 KiB one of the two files of the release too: all of it, or nothing.
    assert shop.listed("out") == []
    assert shop.answer("again").code == 0
    assert {"./report.json", "./release/SHA256SUMS", f"./release/{TARGET}.onnx"} <= set(shop.listed("then"))


# A place that cannot be written to


@pytest.mark.usefixtures("namespaces")
def test_a_read_only_cache_is_read_and_what_is_new_is_kept_for_the_run(shop: Shop) -> None:
    shop.on_small_disk(
        f"""
        mount -o remount,ro "$DISK"
        export TMPDIR="$PWD/tmp"; mkdir "$TMPDIR"
        pocketforge build build recipe.toml --out out --progress plain
        pocketforge check check recipe.toml
        pocketforge clear cache clear --yes
        pocketforge verify cache verify
        mount -o remount,rw "$DISK"; rm -r "$DISK/cache/v1/entries/{shop.key("bench")[:2]}/{shop.key("bench")}"
        mount -o remount,ro "$DISK"
        pocketforge more build recipe.toml --out more --progress plain
        listed tmp "$TMPDIR"
        """
    )
    refused = f"cannot write to {shop.disk}/cache/v1: Read-only file system"
    stored, more = shop.answer("build"), shop.answer("more")
    assert stored.code == 0, stored.stderr
    assert "5 steps, 5 of them stored\n" in stored.stderr
    assert "warning" not in stored.stderr
    assert shop.answer("check").code == 0
    for command in ("clear", "verify"):
        one_message(
            shop.answer(command),
            refused,
            r"hint: choose a folder you can write to with --cache-dir or POCKETFORGE_CACHE_DIR",
        )
    assert more.code == 0, more.stderr
    assert more.stderr.count(f"warning: {refused}; what this run makes is gone when it ends\n") == 1
    assert re.findall(r"^  done    (\S+)", more.stderr, re.MULTILINE) == ["bench"]
    for out in ("out", "more"):
        assert (shop.folder / out / "release" / "SHA256SUMS").is_file()
    assert shop.listed("tmp") == []


@pytest.mark.usefixtures("namespaces")
def test_a_read_only_output_folder_is_found_before_anything_runs(shop: Shop) -> None:
    shop.forget("reference", "export")
    shop.on_small_disk(
        """
        mkdir "$DISK/out"
        mount -o remount,ro "$DISK"
        code=0; "$PYTHON" -m pocketforge build recipe.toml --out "$DISK/out" --progress plain \
            >"$ANSWERS/build.stdout" 2>"$ANSWERS/build.stderr" || code=$?
        echo $code >"$ANSWERS/build.code"
        """
    )
    one_message(
        shop.answer("build"),
        rf"cannot write to {shop.disk}/out: Read-only file system",
        r"hint: choose a folder you can write to with --out",
    )


def test_places_under_a_regular_file(shop: Shop) -> None:
    (shop.folder / "file").write_text("not a folder")
    under = "file/below"
    done = shop.run("build", "recipe.toml", "--cache-dir", under)
    one_message(done, r"cannot write to .*file/below/v1: Not a directory", r"hint: .*--cache-dir")
    done = shop.run("build", "recipe.toml", "--out", under)
    one_message(done, r"cannot write to file/below: Not a directory", r"hint: .*with --out$")
    done = shop.run("build", "recipe.toml", "--out", "file")
    assert done.code == 2
    assert "'file' is a file" in done.stderr
    assert (shop.folder / "file").read_text() == "not a folder"


# A damaged store


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("files/model.onnx", flipped),
        ("manifest.json", lambda path: path.write_text("{")),
    ],
    ids=["a bit", "the manifest"],
)
def test_a_damaged_result_is_told_and_made_again(shop: Shop, name: str, damage: Callable[[Path], Any]) -> None:
    key = shop.key("export")
    before = (shop.entry(key) / "files" / "model.onnx").read_bytes()
    damage(shop.entry(key) / name)
    benched = shop.run("bench", "recipe.toml")
    one_message(
        benched, rf"stored result {key[:12]} is damaged", r"hint: pocketforge build recipe\.toml makes it again"
    )
    done = shop.run("build", "recipe.toml", "--out", "out")
    assert done.code == 0, done.stderr
    said = name.removeprefix("files/")
    assert done.stderr == (
        f"warning: export[{TARGET}]: stored result {key[:12]} is damaged ({said} does not match its hash); "
        "it is made again\n"
    )
    assert (shop.folder / "out" / "release" / f"{TARGET}.onnx").read_bytes() == before
    verified = shop.run("cache", "verify")
    assert (verified.code, verified.stderr) == (0, "")


def test_cache_verify_removes_what_is_damaged(shop: Shop) -> None:
    key = shop.key("reference")
    flipped(shop.entry(key) / "files" / "model.pt2")
    done = shop.run("cache", "verify")
    assert done.code == 3
    assert done.stderr == f"stored result {key[:12]} is damaged (model.pt2 does not match its hash); removed\n"
    assert done.stdout.endswith("results whole, 1 damaged\n")
    assert not shop.entry(key).exists()
    assert shop.run("cache", "verify").code == 0


def test_a_build_is_kept_in_a_history_and_is_what_it_is_where_that_fails(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, history = shop.folder / "build" / "digits_cnn", shop.folder / "history.sqlite"
    (shop.folder / "text").write_text("no database, and longer than one's head is: " * 40)
    foreign = shop.run("build", "recipe.toml", "--history", "text")
    assert foreign.code == 2 and "is no database" in foreign.stderr and not built.exists()
    monkeypatch.setenv("POCKETFORGE_HISTORY", str(history))
    kept = shop.run("build", "recipe.toml")
    assert kept.code == 0 and f"history  build 1 in {history}" in kept.stdout, kept.stderr
    (row,) = json.loads(shop.run("history", "list", "--json").stdout)
    assert (row["recipe"], row["verdict"], row["host"]) == ("digits_cnn", "PASS", json.loads(
        (built / "report.json").read_text())["environment"]["host"])  # fmt: skip
    shown = json.loads(shop.run("history", "show", "1", "--json").stdout)["report"]
    assert shown == json.loads((built / "report.json").read_text())
    assert "history" not in shop.run("build", "recipe.toml", "--history", "off").stdout
    monkeypatch.setattr("pocketforge.history.keeper.History.add", _gone)
    shutil.rmtree(built)
    lost = shop.run("build", "recipe.toml")
    assert lost.code == 3 and "error: the build is not in the history: the server is gone" in lost.stderr
    assert (built / "release").is_dir() and "verdict  PASS" in lost.stdout and "history  " not in lost.stdout


def _gone(*_: object) -> None:
    raise StoreError("the server is gone")
