"""Remembered hashes are those of what a file holds now, whatever was done to its times; the memory is never trouble."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pocketforge.errors import ChangedInput, ModelError
from pocketforge.facts.gather import gather
from pocketforge.files import hash_file
from pocketforge.recipe.toml import load_recipe
from pocketforge.run import fingerprints
from pocketforge.run.fingerprints import FILE, Fingerprints, Stamp, is_racy
from pocketforge.run.inputs import look_at, same_content

OLD = 946_684_800


@pytest.fixture(autouse=True)
def quick_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of these tests are old enough to be remembered after a twentieth of a second."""
    monkeypatch.setattr(fingerprints, "_TICK_NS", 50_000_000)


def write(path: Path, text: str, mtime: float = OLD) -> Path:
    path.write_text(text)
    os.utime(path, (mtime, mtime))
    return path


def let_it_age() -> None:
    time.sleep(0.06)


def truth(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rows(folder: Path) -> int:
    with sqlite3.connect(folder / FILE) as data:
        return int(data.execute("SELECT count(*) FROM files").fetchone()[0])


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read, not remembered."""
    read: list[Path] = []

    def note(path: Path) -> str:
        read.append(path)
        return hash_file(path)

    monkeypatch.setattr(fingerprints, "hash_file", note)
    return read


def test_a_hash_is_remembered_across_builds_and_is_right_after_every_way_to_change_a_file(
    tmp_path: Path, hashed: list[Path]
) -> None:
    path, other = tmp_path / "weights", write(tmp_path / "other", "B" * 50)
    write(path, "A" * 50)

    def moved() -> None:
        shutil.copy2(other, tmp_path / "copy")
        (tmp_path / "copy").replace(path)

    def linked() -> None:
        path.unlink()
        path.symlink_to(write(tmp_path / "third", "C" * 50))

    def disk() -> None:
        path.unlink()
        elsewhere = Path("/dev/shm") / f"pocketforge-{os.getpid()}"
        shutil.copy2(other, elsewhere)
        path.symlink_to(elsewhere)

    changes: dict[str, Callable[[], object]] = {
        "touch -d": lambda: write(path, "B" * 50),
        "back": lambda: write(path, "A" * 50),
        "cp -p": lambda: shutil.copy2(other, path),
        "mv": moved,
        "symlink": linked,
        "another device": disk,
    }
    for name, change in {"at first": lambda: None, **changes}.items():
        change()
        let_it_age()
        for _ in range(2):
            with Fingerprints(tmp_path) as memory:
                assert memory.sha256(path) == truth(path), name
    assert hashed == [path] * 7  # once after each change
    Path("/dev/shm", f"pocketforge-{os.getpid()}").unlink()
    with Fingerprints(None) as forgetful:
        assert forgetful.sha256(path.with_name("other")) == truth(other)


def test_a_file_that_changed_moments_ago_is_read_again_each_time(
    tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a", "A")
    monkeypatch.setattr(fingerprints, "_TICK_NS", 10**12)  # however slow the machine is, it was just now
    with Fingerprints(tmp_path) as memory:
        assert [memory.sha256(path), memory.sha256(path)] == [truth(path)] * 2
    assert len(hashed) == 2 and rows(tmp_path) == 0
    monkeypatch.setattr(fingerprints, "_TICK_NS", 50_000_000)
    now = time.time_ns()
    at = Stamp(1, OLD, now - 10**9, 1, 1)
    assert not is_racy(at, now)
    assert is_racy(at._replace(ctime_ns=now + 10**12), now)  # the clock was set back
    assert is_racy(at._replace(mtime_ns=now), now)
    assert not is_racy(at._replace(mtime_ns=now + 10**15), now)  # `touch -d` to a far day says nothing


def test_a_second_change_within_a_tick_of_the_clock_is_found_by_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a", "A")
    now = time.time_ns() + 10**12
    stamp = Stamp(1, now, now, 1, 1)
    monkeypatch.setattr("pocketforge.run.fingerprints.stamp_of", lambda path: stamp)
    monkeypatch.setattr("pocketforge.run.inputs.stamp_of", lambda path: stamp)
    with Fingerprints(tmp_path) as memory:
        files = look_at(lambda: ([path], ""), memory)
        assert files.racy
        write(path, "B")
        with pytest.raises(ChangedInput, match="changed while the build ran"):
            same_content(files, "it", memory)


def test_a_file_that_is_replaced_while_it_is_read_is_read_again_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a", "A")
    times = iter(range(1))

    def read_and_swap(path: Path) -> str:
        found = hash_file(path)
        if next(times, None) is not None:
            write(tmp_path / "new", "B").replace(path)
        return found

    monkeypatch.setattr(fingerprints, "hash_file", read_and_swap)
    with Fingerprints(tmp_path) as memory:
        assert memory.sha256(path) == truth(path)
        times = iter(range(100))
        with pytest.raises(ChangedInput, match="goes on changing while it is read"):
            memory.sha256(path)


def test_what_is_no_file_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with Fingerprints(tmp_path) as memory:
        for path in (tmp_path / "pipe", Path("/dev/zero")):
            with pytest.raises(ModelError, match=f"{path} is not a file"):
                memory.sha256(path)


def test_a_memory_that_is_damaged_or_of_another_version_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, hashed: list[Path]
) -> None:
    path = write(tmp_path / "a", "A")
    let_it_age()

    def keep() -> None:
        with Fingerprints(tmp_path) as memory:
            memory.sha256(path)

    keep()
    whole = (tmp_path / FILE).read_bytes()
    half = whole[: len(whole) // 2]
    torn = whole[:4096] + os.urandom(len(whole) - 4096)
    with caplog.at_level(logging.DEBUG, "pocketforge"):
        for damage in (b"no database at all", half, torn, b"\x00" * 20_000):
            (tmp_path / FILE).write_bytes(damage)
            with Fingerprints(tmp_path) as memory:
                assert memory.sha256(path) == truth(path)
            keep()
            assert rows(tmp_path) == 1
    assert "damaged and thrown away" in caplog.text
    for change in ("PRAGMA user_version = 99", "DROP TABLE files", "ALTER TABLE files DROP COLUMN sha256"):
        with sqlite3.connect(tmp_path / FILE) as data:
            data.execute("DROP INDEX used") if "ALTER" in change else None
            data.execute(change)
        for _ in range(2):
            keep()
        assert rows(tmp_path) == 1, change
    del hashed[:]
    keep()
    assert hashed == []


def test_a_memory_that_cannot_be_used_fails_nothing(tmp_path: Path, hashed: list[Path]) -> None:
    path = write(tmp_path / "a", "A")
    let_it_age()
    (tmp_path / "taken" / FILE).mkdir(parents=True)
    for folder in (tmp_path / "taken", tmp_path / "not there"):
        with Fingerprints(folder) as memory:
            assert memory.sha256(path) == truth(path)
    with Fingerprints(tmp_path) as memory:
        memory.sha256(path)
    # Read-only: what is in it is used, what is not is read. (As root, rights do not hold: SQLite is told.)
    write(tmp_path / "b", "B")
    let_it_age()
    del hashed[:]
    with Fingerprints(tmp_path) as memory:
        assert memory._data is not None
        memory._data.execute("PRAGMA query_only = 1")
        assert [memory.sha256(path), memory.sha256(tmp_path / "b")] == [truth(path), truth(tmp_path / "b")]
    assert (hashed, rows(tmp_path)) == ([tmp_path / "b"], 1)


def test_several_builds_share_one_memory(tmp_path: Path) -> None:
    files = [write(tmp_path / f"f{n}", str(n)) for n in range(40)]
    let_it_age()
    wrong: list[object] = []

    def build() -> None:
        for _ in range(5):
            with Fingerprints(tmp_path) as memory:
                wrong.extend(
                    p for p, found in zip(files, memory.prints(files), strict=True) if found.sha256 != truth(p)
                )

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and rows(tmp_path) == 40


def test_the_memory_keeps_those_used_last_up_to_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [write(tmp_path / f"f{n}", str(n)) for n in range(120)]
    let_it_age()
    with Fingerprints(tmp_path) as memory:
        list(memory.prints(files[:100]))
    with sqlite3.connect(tmp_path / FILE) as data:
        data.execute("UPDATE files SET used = used - 30")
    with Fingerprints(tmp_path) as memory:
        list(memory.prints(files[:20]))  # used again
    monkeypatch.setattr(fingerprints, "_LIMIT", 50)
    with Fingerprints(tmp_path) as memory:
        list(memory.prints(files[100:]))
    assert rows(tmp_path) == 45
    with sqlite3.connect(tmp_path / FILE) as data:
        kept = {row[0] for row in data.execute("SELECT id FROM files")}
    assert {fingerprints._id(path) for path in (*files[:20], *files[100:])} <= kept


def test_gathering_uses_it_forgets_the_former_file_and_believes_nothing_when_refreshing(
    tmp_path: Path, small_recipe_text: str, hashed: list[Path]
) -> None:
    (tmp_path / "recipe.toml").write_text(small_recipe_text)
    for name in ("model.py", "weights.safetensors"):
        write(tmp_path / name, "x = 1\n")
    (tmp_path / "cache" / "v1").mkdir(parents=True)
    former = tmp_path / "cache" / "v1" / "fingerprints.json"
    former.write_text(json.dumps({str(tmp_path / "weights.safetensors"): [6, OLD * 10**9, 1, "0" * 64]}))
    let_it_age()
    recipe = load_recipe(tmp_path / "recipe.toml")
    first = gather(recipe, tmp_path / "cache")
    assert not former.exists() and len(hashed) == 3
    assert gather(recipe, tmp_path / "cache").digests == first.digests and len(hashed) == 3
    assert gather(recipe, tmp_path / "cache", refresh=True).digests == first.digests and len(hashed) == 6
    write(tmp_path / "weights.safetensors", "y = 1\n")
    now = gather(recipe, tmp_path / "cache").digests
    assert {role for role in now if now[role] != first.digests[role]} == {"weights"}
