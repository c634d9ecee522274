"""The store keeps whole results only: published in one rename, verified on every read, one maker at a time."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from release_build import SOURCES

from pocketforge.errors import EXIT_STAGE, DamagedEntry, StoreError
from pocketforge.files import explain_os_error, hash_file
from pocketforge.run.store import Store

ROOT = Path(__file__).resolve().parents[2]
KEY, OTHER = hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"two").hexdigest()


def put(store: Store, key: str, **files: str) -> None:
    with store.workspace() as out:
        for name, text in files.items():
            path = out / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        store.publish(key, out, {"stage": "export", "wall_s": 1.5})


def entry_folder(store: Store, key: str) -> Path:
    return store.root / "entries" / key[:2] / key


def left_in_tmp(store: Store) -> list[str]:
    return sorted(p.name for p in (store.root / "tmp").iterdir())


@pytest.fixture
def store(cache: Path) -> Store:
    return Store(cache)


@contextlib.contextmanager
def another_process(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Python code running beside us; it has come to its point when it has printed a line."""
    program = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": SOURCES},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        yield program
    finally:
        program.kill()
        program.communicate()


# Publishing and reading


def test_a_published_result_is_read_back_whole(store: Store) -> None:
    put(store, KEY, a="alpha", sub__b="beta")
    entry = store.get(KEY)
    assert entry is not None
    assert entry.key == KEY
    assert entry.hashes == {
        "a": hashlib.sha256(b"alpha").hexdigest(),
        "sub/b": hashlib.sha256(b"beta").hexdigest(),
    }
    assert entry.size_bytes == 9
    assert entry.meta == {"stage": "export", "wall_s": 1.5}
    assert (entry.files / "sub" / "b").read_text() == "beta"
    assert store.has(KEY)
    assert store.keys() == [KEY]
    assert left_in_tmp(store) == []


def test_nothing_is_there_until_it_is_published(store: Store) -> None:
    with store.workspace() as out:
        (out / "a").write_text("alpha")
        assert store.get(KEY) is None
        assert not store.has(KEY)
    assert store.keys() == []
    assert left_in_tmp(store) == []


def test_an_empty_result_is_a_result(store: Store) -> None:
    put(store, KEY)
    entry = store.get(KEY)
    assert entry is not None
    assert (entry.hashes, entry.size_bytes) == ({}, 0)


def test_a_workspace_is_removed_when_its_maker_fails(store: Store) -> None:
    def fail_half_way() -> None:
        with store.workspace() as out:
            (out / "half").write_text("x")
            assert len(left_in_tmp(store)) == 2
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert left_in_tmp(store) == []
    assert store.keys() == []


def test_publishing_again_replaces_the_earlier_result(store: Store) -> None:
    put(store, KEY, a="old", b="gone later")
    put(store, KEY, a="new")
    entry = store.get(KEY)
    assert entry is not None
    assert list(entry.hashes) == ["a"]
    assert (entry.files / "a").read_text() == "new"
    assert left_in_tmp(store) == []


@pytest.mark.parametrize("half", [["files/a"], ["manifest.json"], ["files/a", "manifest.json"]])
def test_publishing_over_half_an_entry_replaces_it(store: Store, half: list[str]) -> None:
    for name in half:
        path = entry_folder(store, KEY) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("broken off")
    put(store, KEY, a="whole")
    entry = store.get(KEY)
    assert entry is not None
    assert (entry.files / "a").read_text() == "whole"


def test_a_second_store_sees_what_the_first_published(store: Store, cache: Path) -> None:
    put(store, KEY, a="alpha")
    assert Store(cache).get(KEY) == store.get(KEY)


# Damage


@pytest.mark.parametrize("damage", ["changed", "truncated", "removed", "a folder"])
def test_a_damaged_file_is_found_on_reading(store: Store, damage: str) -> None:
    put(store, KEY, model="0123456789", other="fine")
    path = entry_folder(store, KEY) / "files" / "model"
    match damage:
        case "changed":
            path.write_text("0123456780")
        case "truncated":
            path.write_text("01234")
        case "removed":
            path.unlink()
        case _:
            path.unlink()
            path.mkdir()
    with pytest.raises(DamagedEntry) as caught:
        store.get(KEY)
    assert (caught.value.key, caught.value.name) == (KEY, "model")
    assert caught.value.message == f"stored result {KEY[:12]} is damaged (model does not match its hash)"


MANIFESTS = [
    b"",
    b"{",
    b"[]",
    b"3",
    b"null",
    b"{}",
    b'"files meta"',
    b'{"files": {}}',
    b'{"meta": {}}',
    b'{"files": 3, "meta": {}}',
    b'{"files": "ab", "meta": {}}',
    b'{"files": {"x": 1}, "meta": {}}',
    b'{"files": {"x\\u0000y": "0"}, "meta": {}}',
    b"\xff\xfe",
]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=repr)
def test_a_damaged_manifest_is_found_on_reading(store: Store, manifest: bytes) -> None:
    put(store, KEY, a="alpha")
    (entry_folder(store, KEY) / "manifest.json").write_bytes(manifest)
    with pytest.raises(DamagedEntry):
        store.get(KEY)
    assert [e.key for e in store.summaries()] == [KEY], "it can still be listed and cleared"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["files", "meta", "a"]) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.binary(max_size=40) | json_values.map(lambda value: json.dumps(value).encode()))
def test_whatever_a_manifest_holds_reading_says_damaged_or_verifies(manifest: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        put(store, KEY, a="alpha")
        (entry_folder(store, KEY) / "manifest.json").write_bytes(manifest)
        try:
            entry = store.get(KEY)
        except DamagedEntry:
            return
        assert entry is not None
        assert all(hash_file(entry.files / name) == digest for name, digest in entry.hashes.items())


def test_an_entry_without_a_manifest_is_no_entry(store: Store) -> None:
    put(store, KEY, a="alpha")
    (entry_folder(store, KEY) / "manifest.json").unlink()
    assert store.get(KEY) is None
    assert not store.has(KEY)
    assert [e.key for e in store.summaries()] == [KEY], "clearing finds it"
    assert store.clear()[0] == 1
    assert store.keys() == []


# Discarding and clearing


def test_discarding_removes_one_entry_and_no_other(store: Store) -> None:
    put(store, KEY, a="alpha")
    put(store, OTHER, a="beta")
    store.discard(KEY)
    assert store.get(KEY) is None
    assert store.keys() == [OTHER]
    assert left_in_tmp(store) == []
    store.discard(KEY)  # a second time is no error
    assert store.keys() == [OTHER]


def keys_by_age(store: Store, *ages_s: float, size: int = 100) -> list[str]:
    """Entries that were last used so long ago."""
    keys = []
    for index, age in enumerate(ages_s):
        key = hashlib.sha256(str(index).encode()).hexdigest()
        put(store, key, a="x" * size)
        used = time.time() - age
        os.utime(entry_folder(store, key) / "manifest.json", (used, used))
        keys.append(key)
    return keys


def test_clearing_without_limits_takes_everything(store: Store) -> None:
    keys_by_age(store, 0, 10)
    size = sum(e.size_bytes for e in store.summaries())
    assert size > 200, "manifests count too"
    assert store.clear() == (2, size, 0)
    assert store.keys() == []
    assert left_in_tmp(store) == []


def test_clearing_by_age_keeps_what_was_used_lately(store: Store) -> None:
    old, new = keys_by_age(store, 5000, 100)
    assert store.clear(older_than_s=3600)[0] == 1
    assert store.keys() == [new]
    assert store.get(old) is None


def test_touching_an_entry_makes_it_young_again(store: Store) -> None:
    (old,) = keys_by_age(store, 5000)
    store.touch(old)
    assert store.clear(older_than_s=3600) == (0, 0, 0)
    assert store.keys() == [old]


def test_touching_what_is_not_there_is_no_error(store: Store) -> None:
    store.touch(KEY)
    assert store.get(KEY) is None


def test_clearing_to_a_size_takes_the_least_recently_used_first(store: Store) -> None:
    keys = keys_by_age(store, 300, 100, 400, 200)
    store.touch(keys[2])
    one = store.summaries()[0].size_bytes
    assert store.clear(keep_bytes=2 * one + 1) == (2, 2 * one, 0)
    assert set(store.keys()) == {keys[1], keys[2]}


def test_clearing_to_nothing_takes_everything(store: Store) -> None:
    keys_by_age(store, 1, 2)
    assert store.clear(keep_bytes=0)[0] == 2


def test_clearing_by_age_and_size_does_both(store: Store) -> None:
    keys = keys_by_age(store, 9000, 300, 200, 100)
    one = store.summaries()[0].size_bytes
    assert store.clear(older_than_s=3600, keep_bytes=2 * one)[0] == 2
    assert set(store.keys()) == set(keys[2:])


def test_summaries_list_damaged_entries_as_such(store: Store) -> None:
    put(store, KEY, a="alpha")
    put(store, OTHER, a="beta")
    (entry_folder(store, KEY) / "manifest.json").write_text("{")
    assert {e.key: e.stage for e in store.summaries()} == {KEY: "damaged", OTHER: "export"}


# Entries in use

USER = """
import sys
from pathlib import Path
from pocketforge.run.store import Store
entry = Store(Path(sys.argv[1])).get(sys.argv[2])
print("ready", flush=True)
sys.stdin.read()
"""


def test_clearing_leaves_what_another_process_uses_until_it_ends(store: Store, cache: Path) -> None:
    old, used, new = keys_by_age(store, 300, 200, 100)
    one = store.summaries()[0].size_bytes
    with another_process(USER, str(cache), used) as user:
        assert store.clear(keep_bytes=2 * one) == (1, one, 0)
        assert store.clear(keep_bytes=one) == (1, one, 1), "the next one goes in its place"
        assert store.clear(older_than_s=0) == (0, 0, 1)
        assert store.clear() == (0, 0, 1)
        assert store.keys() == [used]
        assert old != new
        user.kill()
        user.wait()
        assert store.clear()[0] == 1


def test_what_this_process_just_made_or_read_stays_as_long_as_it_has_it(store: Store, cache: Path) -> None:
    with store.workspace() as out:
        (out / "a").write_text("alpha")
        made = store.publish(KEY, out, {})
    put(store, OTHER, a="beta")
    read = Store(cache).get(OTHER)
    assert read is not None
    assert Store(cache).clear() == (0, 0, 2)
    assert [(entry.files / "a").read_text() for entry in (made, read)] == ["alpha", "beta"]
    del made
    assert Store(cache).clear()[0] == 1
    assert store.keys() == [OTHER]


def test_an_entry_that_is_made_again_is_never_not_there_for_who_reads_it(store: Store, cache: Path) -> None:
    """Readers of the old one keep it open; a path of theirs always leads to one or the other."""
    put(store, KEY, a="old")
    stop, missing = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                (entry_folder(store, KEY) / "files" / "a").read_text()
            except FileNotFoundError as error:
                missing.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(40):
        put(store, KEY, a=f"new {number}")
    stop.set()
    reader.join()
    assert not missing
    assert left_in_tmp(store) == []


def test_half_done_work_that_somebody_is_at_is_not_cleared(store: Store) -> None:
    for key in (KEY, OTHER):
        (store.partial(key) / "epoch").touch()
    with store.lock(KEY):
        store.clear()
        assert (store.root / "partial" / KEY / "epoch").exists()
        assert not (store.root / "partial" / OTHER).exists()


def test_an_entry_that_somebody_removes_without_asking_is_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, KEY, a="alpha")
    real = hash_file

    def removed_meanwhile(path: Path) -> str:
        shutil.rmtree(entry_folder(store, KEY))
        return real(path)

    monkeypatch.setattr("pocketforge.run.store.hash_file", removed_meanwhile)
    assert store.get(KEY) is None


def test_an_entry_that_is_made_again_while_it_is_read_is_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, KEY, a="old")
    times = []

    def made_again_meanwhile(path: Path) -> str:
        times.append(path)
        if len(times) == 1:
            put(store, KEY, a="new one")
        return hash_file(path)

    monkeypatch.setattr("pocketforge.run.store.hash_file", made_again_meanwhile)
    entry = store.get(KEY)
    assert entry is not None
    assert (entry.size_bytes, (entry.files / "a").read_text()) == (7, "new one")


def test_too_many_open_files_are_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, KEY, a="alpha")
    monkeypatch.setattr(
        "pocketforge.run.store.hash_file",
        lambda path: (_ for _ in ()).throw(OSError(errno.EMFILE, "Too many open files")),
    )
    with pytest.raises(StoreError, match="Too many open files") as caught:
        store.get(KEY)
    assert not isinstance(caught.value, DamagedEntry)
    assert "ulimit" in caught.value.hint


# What a crash leaves

WORKER = """
import sys
from pathlib import Path
from pocketforge.run.store import Store
with Store(Path(sys.argv[1])).workspace() as out:
    (out / "half").write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_the_work_of_a_living_process_is_left_alone_and_that_of_a_dead_one_removed(cache: Path) -> None:
    with another_process(WORKER, str(cache)) as program:
        store = Store(cache)
        (work,) = (p for p in (store.root / "tmp").iterdir() if p.suffix != ".lock")
        assert (work / "files" / "half").read_text() == "half"
        program.kill()
        program.wait()
        assert (work / "files" / "half").exists(), "the dead cannot clean up, or this test shows nothing"
    assert left_in_tmp(Store(cache)) == []


def test_our_own_open_workspace_survives_a_second_store(store: Store, cache: Path) -> None:
    with store.workspace() as out:
        (out / "a").write_text("alpha")
        Store(cache)
        store.publish(KEY, out, {})
    assert store.get(KEY) is not None


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_other_leftovers_go_after_a_day(store: Store, cache: Path, kind: str) -> None:
    paths = [store.root / "tmp" / name for name in ("young", "old")]
    for path in paths:
        if kind == "folder":
            (path / "in" / "it").mkdir(parents=True)
        else:
            path.touch()
    two_days_ago = time.time() - 2 * 86_400
    os.utime(paths[1], (two_days_ago, two_days_ago))
    assert left_in_tmp(Store(cache)) == ["young"]


# Locks

HOLDER = """
import sys
from pathlib import Path
from pocketforge.run.store import Store
with Store(Path(sys.argv[1])).lock(sys.argv[2]):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_lock_excludes_another_process_and_waiting_can_be_given_up(store: Store, cache: Path) -> None:
    asked = []

    def enough() -> bool:
        asked.append(True)
        return len(asked) == 2

    with another_process(HOLDER, str(cache), KEY) as holder:
        gave_up = pytest.raises(StoreError, match=f"gave up waiting for another build that makes {KEY[:12]}")
        with gave_up, store.lock(KEY, enough):
            pytest.fail("two processes hold one lock")
        assert len(asked) == 2
        with store.lock(OTHER, lambda: True):
            pass  # another key is free
        holder.kill()
        holder.wait()
        with store.lock(KEY):  # the kernel frees what the dead held
            assert (store.root / "locks" / f"{KEY}.lock").exists()


def test_a_lock_is_free_again_after_an_error(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lock(KEY):
        raise ZeroDivisionError
    entered = False
    with store.lock(KEY, lambda: True):
        entered = True
    assert entered


def test_two_threads_of_one_build_exclude_each_other_too(store: Store, cache: Path) -> None:
    with store.lock(KEY), pytest.raises(StoreError), Store(cache).lock(KEY, lambda: True):
        pytest.fail("one lock was held twice")


# Disks that refuse


@pytest.mark.parametrize(
    ("number", "message", "hint"),
    [
        (errno.ENOSPC, "no space left on the disk of /c", "cache clear --keep-bytes"),
        (errno.EDQUOT, "no space left on the disk of /c", "cache clear --keep-bytes"),
        (errno.EROFS, "cannot write to /c: Read-only file system", "POCKETFORGE_CACHE_DIR"),
        (errno.EACCES, "cannot write to /c: Permission denied", "POCKETFORGE_CACHE_DIR"),
        (errno.ENOTDIR, "cannot write to /c: Not a directory", "POCKETFORGE_CACHE_DIR"),
        (errno.EEXIST, "cannot write to /c: File exists", "POCKETFORGE_CACHE_DIR"),
        (errno.EIO, "cannot use /c: Input/output error", "--cache-dir"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_a_disk_error_is_told_with_what_to_do(number: int, message: str, hint: str) -> None:
    error = explain_os_error(OSError(number, os.strerror(number)), Path("/c"))
    assert error.message == message
    assert hint in error.hint
    assert error.exit_code == EXIT_STAGE


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_the_option_that_chooses_another_place_is_the_one_named(number: int) -> None:
    hint = explain_os_error(OSError(number, os.strerror(number)), Path("/c"), "--out").hint
    assert "--out" in hint
    assert "--cache-dir" not in hint
    assert "POCKETFORGE_CACHE_DIR" not in hint


@pytest.mark.parametrize("where", ["", "/below"])
def test_a_file_in_the_place_of_the_cache_is_a_store_error(tmp_path: Path, where: str) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot write to") as caught:
        Store(tmp_path / f"cache{where}")
    assert "--cache-dir" in caught.value.hint


def test_a_file_in_the_place_of_an_entry_is_a_store_error(store: Store) -> None:
    (store.root / "entries" / KEY[:2]).write_text("not a folder")
    with pytest.raises(StoreError, match="cannot write to"):
        put(store, KEY, a="alpha")
    assert left_in_tmp(store) == []


ON_A_DISK_OF_ITS_OWN = """
import sys
from pathlib import Path
from pocketforge.errors import StoreError
from pocketforge.run.store import Store
import subprocess, hashlib
place, what = Path(sys.argv[1]), sys.argv[2]
store = Store(place)
def put(key, size):
    with store.workspace() as out:
        try:
            (out / "a").write_bytes(b"x" * size)
        except OSError as error:
            print("stage:", error.strerror)
        else:
            store.publish(key, out, {"filler": "y" * 4096 * 8})
keys = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(30)]
if what == "read-only":
    put(keys[0], 10)
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    attempts = [lambda: Store(place).clear(), lambda: Store(place / "other"), lambda: put(keys[1], 10),
                lambda: store.lock(keys[1]).__enter__(), lambda: store.discard(keys[0])]
    for attempt in attempts:
        try:
            attempt()
            print("no error")
        except StoreError as error:
            print(error.message, "|", error.hint)
    print("reads:", store.get(keys[0]).hashes.keys())
    # One that is opened on the read-only disk reads it, and keeps what is made somewhere else for as long as it runs.
    store = Store(place)
    print("why:", store.read_only)
    put(keys[1], 10)
    with store.lock(keys[1]):
        (store.partial(keys[1]) / "half").touch()
        store.forget_partial(keys[1])
    again = Store(place)
    sizes = [again.get(key).size_bytes for key in keys[:2]]
    print("both:", sizes, again.keys() == sorted(keys[:2]), again.has(keys[2]))
    put(keys[0], 20)
    own = again.get(keys[0]).files
    print("made again:", again.get(keys[0]).size_bytes, own.is_relative_to(place))
    again.discard(keys[0])
    print("the stored one:", again.get(keys[0]), Store(place).get(keys[0]).size_bytes)
    print(own.parents[4])
else:
    for key in keys:
        try:
            put(key, 10)
        except StoreError as error:
            print(error.message, "|", error.hint)
            break
    whole = [store.get(k) is not None for k in store.keys()]
    print("whole:", len(whole) > 0 and all(whole), "tmp:", len(list((store.root / "tmp").iterdir())))
    store.clear(keep_bytes=0)
    put(key, 10)
    print("after clearing:", store.get(key) is not None)
"""


def run_on_a_small_disk(tmp_path: Path, what: str) -> list[str]:
    """Run the script above on a file system of 256 KiB that only it sees."""
    if shutil.which("unshare") is None:
        pytest.skip("needs the program unshare (util-linux) to make a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=256k tmpfs "{disk}"'
    tried = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"needs a kernel that lets users mount in a namespace of their own: {tried.stderr.strip()}")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$0" "$@"', sys.executable, "-c", ON_A_DISK_OF_ITS_OWN,
         str(disk), what],
        env={**os.environ, "PYTHONPATH": SOURCES, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_full_disk_is_a_store_error_and_leaves_only_whole_entries(tmp_path: Path) -> None:
    full, whole, after = run_on_a_small_disk(tmp_path, "full")
    assert full.startswith("no space left on the disk of")
    assert "cache clear" in full
    assert whole == "whole: True tmp: 0"
    assert after == "after clearing: True"


def test_a_read_only_disk_is_a_store_error_and_can_still_be_read(tmp_path: Path) -> None:
    *refused, read, why, both, again, stored, own = run_on_a_small_disk(tmp_path, "read-only")
    assert len(refused) == 5
    for line in refused:
        assert line.startswith("cannot write to")
        assert "Read-only file system | choose a folder you can write to" in line
    assert read == "reads: dict_keys(['a'])"
    assert why == f"why: cannot write to {tmp_path}/disk/v1: Read-only file system"
    assert both == "both: [10, 10] True False"
    assert again == "made again: 20 False"
    assert stored == "the stored one: None 10"
    assert Path(own).name.startswith("pocketforge-cache-")
    assert not Path(own).exists(), "what was made is gone with its process"


AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from pocketforge.run.store import Store
if os.getuid() == 0:
    os.setuid(65534)
store = Store(Path(sys.argv[1]))
print(store.read_only)
print(store.get(sys.argv[2]).hashes.keys())
"""


def test_a_cache_whose_folders_may_not_be_written_to_is_read(request: pytest.FixtureRequest) -> None:
    place = tempfile.TemporaryDirectory(dir="/tmp")  # pytest's folders are for one user alone
    request.addfinalizer(place.cleanup)
    cache = Path(place.name)
    put(Store(cache), KEY, a="alpha")
    folders = [path for path in (cache, *cache.rglob("*")) if path.is_dir()]
    for path in folders:
        path.chmod(0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER, str(cache), KEY],
            env={**os.environ, "PYTHONPATH": SOURCES, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        for path in folders:
            path.chmod(0o755)
    assert done.stdout.splitlines() == [f"cannot write to {cache}/v1: Permission denied", "dict_keys(['a'])"], (
        done.stderr
    )


# Any sequence of operations


class StoreModel(RuleBasedStateMachine):
    """The store against a dict: after any operations, get() gives what the dict holds."""

    keys = st.sampled_from([hashlib.sha256(bytes([i])).hexdigest() for i in range(4)])
    contents = st.dictionaries(st.sampled_from(["a", "b", "sub/c"]), st.binary(max_size=20), max_size=3)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.model: dict[str, dict[str, bytes]] = {}
        # Publishing, touching: what was used last comes last.
        self.order: list[str] = []
        self.clock = 1_000_000.0

    @initialize()
    def open(self) -> None:
        self.store = Store(Path(self.folder))

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def used(self, key: str) -> None:
        self.order = [*(k for k in self.order if k != key), key]
        # File systems' clocks are coarse: give every use a time of its own.
        self.clock += 10
        os.utime(entry_folder(self.store, key) / "manifest.json", (self.clock, self.clock))

    @rule(key=keys, files=contents)
    def publish(self, key: str, files: dict[str, bytes]) -> None:
        with self.store.workspace() as out:
            for name, content in files.items():
                (out / name).parent.mkdir(exist_ok=True)
                (out / name).write_bytes(content)
            self.store.publish(key, out, {"n": len(files)})
        self.model[key] = files
        self.used(key)

    @rule(key=keys, content=st.binary(max_size=5))
    def fail_to_publish(self, key: str, content: bytes) -> None:
        with contextlib.suppress(ZeroDivisionError), self.store.workspace() as out:
            (out / "a").write_bytes(content)
            raise ZeroDivisionError

    @rule(key=keys)
    def discard(self, key: str) -> None:
        self.store.discard(key)
        self.model.pop(key, None)
        self.order = [k for k in self.order if k != key]

    @precondition(lambda self: self.order)
    @rule(data=st.data())
    def touch(self, data: Any) -> None:
        key = data.draw(st.sampled_from(self.order))
        self.store.touch(key)
        self.used(key)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def damage_and_remake(self, data: Any) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        (entry_folder(self.store, key) / "manifest.json").write_text("{")
        with pytest.raises(DamagedEntry):
            self.store.get(key)
        self.publish(key, {"a": b"again"})

    @rule()
    def clear_everything(self) -> None:
        assert self.store.clear()[0] == len(self.model)
        self.model.clear()
        self.order.clear()

    @rule(kept=st.integers(0, 5))
    def clear_to_the_size_of_the_last_used(self, kept: int) -> None:
        sizes = {e.key: e.size_bytes for e in self.store.summaries()}
        survivors = self.order[len(self.order) - min(kept, len(self.order)) :]
        self.store.clear(keep_bytes=sum(sizes[k] for k in survivors))
        self.model = {k: v for k, v in self.model.items() if k in survivors}
        self.order = survivors

    @rule()
    def reopen(self) -> None:
        self.store = Store(Path(self.folder))

    @invariant()
    def get_gives_what_was_published(self) -> None:
        if not hasattr(self, "store"):
            return
        assert set(self.store.keys()) == set(self.model)
        for key in self.model:
            entry = self.store.get(key)
            assert entry is not None
            assert {n: (entry.files / n).read_bytes() for n in entry.hashes} == self.model[key]
            assert entry.meta == {"n": len(self.model[key])}
        assert left_in_tmp(self.store) == []


TestAnySequenceOfOperations = StoreModel.TestCase
TestAnySequenceOfOperations.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


def test_half_done_work_outlives_its_maker_until_it_is_forgotten_or_cleared(tmp_path: Path) -> None:
    one = Store(tmp_path)
    (one.partial(KEY) / "epoch").write_text("3", encoding="utf-8")
    again = Store(tmp_path)
    assert (again.partial(KEY) / "epoch").read_text(encoding="utf-8") == "3"
    again.clear(older_than_s=3600)
    assert (again.partial(KEY) / "epoch").exists(), "it is younger than that"
    again.forget_partial(KEY)
    assert list(again.partial(KEY).iterdir()) == []
    (again.partial(KEY) / "epoch").write_text("3", encoding="utf-8")
    again.clear()
    assert list(again.partial(KEY).iterdir()) == []
