"""What a store remembers of its results, for listing: right whatever happened since, and a help only."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from pocketforge.report.tables import plain_table, screen_of
from pocketforge.run import listing
from pocketforge.run.listing import FILE, StoredResult
from pocketforge.run.store import Store

KEYS = [number * 64 for number in "1234"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four results, made an hour ago as far as the file system tells: one made just now is not remembered."""
    store = Store(tmp_path)
    for key in KEYS:
        put(store, key, b"x" * 100)
    return store


def put(store: Store, key: str, content: bytes, stage: str = "export") -> None:
    with store.workspace() as out:
        (out / "file").write_bytes(content)
        store.publish(key, out, {"stage": stage, "lane": "a+b"})


def manifest(store: Store, key: str) -> Path:
    return store.root / "entries" / key[:2] / key / "manifest.json"


@pytest.fixture
def remembered(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The same, listed once: what was made longer ago than a clock's tick is remembered."""
    monkeypatch.setattr(listing, "is_racy", lambda stamp, read_ns: False)
    store.summaries()
    return store


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys whose manifest is read from now on."""
    read: list[str] = []
    told = listing._told

    def noted(folder: str) -> tuple[str, str]:
        read.append(Path(folder).name)
        return told(folder)

    monkeypatch.setattr(listing, "_told", noted)
    return read


def test_a_second_listing_reads_no_manifest_and_says_the_same(
    remembered: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = reads(monkeypatch)
    results = remembered.summaries()
    assert read == []
    size_bytes = 100 + manifest(remembered, KEYS[0]).stat().st_size
    assert [(each.key, each.stage, each.lane, each.size_bytes) for each in results] == [
        (key, "export", "a+b", size_bytes) for key in KEYS
    ]
    (remembered.root / FILE).unlink()
    assert remembered.summaries() == results and read == KEYS


def test_what_changed_is_read_again(remembered: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read = reads(monkeypatch)
    put(remembered, KEYS[1], b"y" * 5000, "verify")  # made again
    manifest(remembered, KEYS[2]).write_text("{")
    used = time.time() - 500
    os.utime(manifest(remembered, KEYS[3]), (used, used))
    remembered.discard(KEYS[0])
    found = {each.key: each for each in remembered.summaries()}
    assert sorted(found) == KEYS[1:] == read
    assert found[KEYS[1]].stage == "verify" and found[KEYS[1]].size_bytes > 5000
    assert (found[KEYS[2]].stage, found[KEYS[2]].lane) == ("damaged", "")
    assert found[KEYS[3]].last_used == pytest.approx(used, abs=0.001)


def test_a_folder_in_the_place_of_a_manifest_is_listed_and_cleared(remembered: Store) -> None:
    manifest(remembered, KEYS[0]).unlink()
    manifest(remembered, KEYS[0]).mkdir()
    assert [each.stage for each in remembered.summaries()] == ["damaged", "export", "export", "export"]
    assert remembered.clear().removed == 4 and remembered.keys() == []


def test_one_of_this_moment_is_not_remembered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may change again in the same tick of the clock, and nothing would show it."""
    store.summaries()
    read = reads(monkeypatch)
    store.summaries()
    assert read == KEYS


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"[1, []]", b"[0, {}]", b'[1, {"a": []}]', b'[1, {"a": [1, 2, 3, 4, 5, 6]}]', b"\xff", b"null"],
    ids=repr,
)
def test_a_damaged_memory_costs_time_and_nothing_else(remembered: Store, content: bytes) -> None:
    results = remembered.summaries()
    (remembered.root / FILE).write_bytes(content)
    assert remembered.summaries() == results


def test_one_that_cannot_be_written_is_done_without(remembered: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    results = remembered.summaries()
    (remembered.root / FILE).unlink()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(listing, "replace_whole", full)
    assert remembered.summaries() == results
    assert not (remembered.root / FILE).exists()


def test_a_plain_table_folds_nothing_and_obeys_nothing(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        rows = [("a", "1,000"), ("\x1b[31mred\n", "2"), ("日本", "30")]
        plain_table(screen_of(file), ("name", "bytes"), rows, numbers=("bytes",))
    assert (tmp_path / "out").read_text(encoding="utf-8").splitlines() == [
        "name           bytes",
        "a              1,000",
        "\\x1b[31mred\\n      2",
        "日本              30",
    ]


def test_a_result_as_json_has_every_field(remembered: Store) -> None:
    first = remembered.summaries()[0]
    assert isinstance(first, StoredResult)
    assert first.to_json() == {name: getattr(first, name) for name in StoredResult.__slots__}
