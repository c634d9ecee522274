"""`cache`: what is stored, whether it is whole, and removing it, never by mistake."""

from __future__ import annotations

import io
import os
import time

import pytest

from pocketforge.run.store import Store

HOUR = 3600


@pytest.fixture
def stored(cache):
    """Three results of 100, 200 and 300 bytes, last used 1, 2 and 3 hours ago."""
    store = Store(cache)
    for number, stage in enumerate(("data", "export", "verify"), start=1):
        key = str(number) * 64
        with store.workspace() as out:
            (out / "file").write_bytes(b"x" * 100 * number)
            store.publish(key, out, {"stage": stage, "lane": "a+b" if stage == "data" else "a"})
        manifest = cache / "v1" / "entries" / key[:2] / key / "manifest.json"
        used = time.time() - number * HOUR
        os.utime(manifest, (used, used))
    return store


def test_dir_prints_only_the_folder(cli, cache, tmp_path):
    assert cli("cache", "dir").stdout == f"{cache}\n"
    assert cli("cache", "dir", "--cache-dir", tmp_path / "other").stdout == f"{tmp_path / 'other'}\n"
    # One command's option is not the next one's, nor its children's.
    assert os.environ["POCKETFORGE_CACHE_DIR"] == str(cache) and cli("cache", "dir").stdout == f"{cache}\n"


def test_list_shows_stages_sizes_and_ages_most_recent_first(cli, stored):
    rows = cli("cache", "list", "--json").json()
    assert [r["stage"] for r in rows] == ["data", "export", "verify"]
    assert [r["key"][0] for r in rows] == ["1", "2", "3"]
    for number, row in enumerate(rows, start=1):
        manifest = stored.root / "entries" / row["key"][:2] / row["key"] / "manifest.json"
        assert row["size_bytes"] == 100 * number + manifest.stat().st_size
        assert time.time() - row["last_used"] == pytest.approx(number * HOUR, abs=60)
    done = cli("cache", "list")
    total = sum(r["size_bytes"] for r in rows)
    assert done.stdout.splitlines()[-1] == f"3 results, {total:,} bytes in {stored.root.parent}"
    line = next(line for line in done.stdout.splitlines() if "data" in line)
    assert line.split()[:3] == ["1" * 12, "data", str(rows[0]["size_bytes"])]
    assert time.strftime("%Y-%m-%d %H:%M", time.localtime(rows[0]["last_used"])) in line
    assert "a (+1 more)" in line


def test_list_of_nothing(cli, cache):
    assert cli("cache", "list").stdout == f"0 results, 0 bytes in {cache}\n"
    assert cli("cache", "list", "--json").json() == []


def test_verify_finds_removes_and_reports_a_damaged_result(cli, stored):
    assert cli("cache", "verify").stdout == "3 results whole, 0 damaged\n"
    assert cli("cache", "verify", "--json").json() == {"whole": 3, "damaged": []}
    key = "2" * 64
    (stored.get(key).files / "file").write_bytes(b"y" * 200)
    done = cli("cache", "verify")
    assert done.code == 3
    assert done.stdout == "2 results whole, 1 damaged\n"
    assert "222222222222 is damaged (file does not match its hash); removed" in done.stderr
    assert not stored.has(key)
    assert cli("cache", "verify").code == 0


def test_verify_as_json_names_the_damaged_result(cli, stored):
    key = "3" * 64
    (stored.get(key).files / "file").unlink()
    done = cli("cache", "verify", "--json")
    assert done.code == 3 and done.json() == {"whole": 2, "damaged": [key]}


def answer(monkeypatch, text):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_clear_asks_before_it_removes_everything(cli, cache, stored, monkeypatch):
    answer(monkeypatch, "n\n")
    done = cli("cache", "clear")
    assert done.code == 0 and done.stdout == "removed 0 results, 0 bytes\n"
    assert f"remove every result in {cache}? [y/N]" in done.stderr
    assert len(stored.keys()) == 3
    answer(monkeypatch, "y\n")
    done = cli("cache", "clear")
    assert done.code == 0 and done.stdout.startswith("removed 3 results, ")
    assert stored.keys() == []


def test_clear_removes_nothing_when_nobody_answers(cli, stored, monkeypatch):
    answer(monkeypatch, "")
    done = cli("cache", "clear")
    assert (done.code, done.stdout) == (2, "")
    assert "hint: --yes removes without asking" in done.stderr
    assert len(stored.keys()) == 3


def test_clear_yes_does_not_ask(cli, stored, monkeypatch):
    answer(monkeypatch, "")
    total = sum(e.size_bytes for e in stored.summaries())
    done = cli("cache", "clear", "--yes", "--json")
    assert done.json() == {"removed": 3, "bytes": total, "in_use": 0}
    assert stored.keys() == []


def test_clear_by_age_keeps_what_was_used_since(cli, stored):
    done = cli("cache", "clear", "--older-than", "90m")
    assert done.stdout.startswith("removed 2 results, ")
    assert stored.keys() == ["1" * 64]


def test_clear_by_size_removes_the_least_recently_used(cli, stored):
    left = sum(e.size_bytes for e in stored.summaries() if e.key[0] != "3")
    done = cli("cache", "clear", "--keep-bytes", f"{left}B")
    assert done.stdout.startswith("removed 1 results, ")
    assert stored.keys() == ["1" * 64, "2" * 64]
    assert cli("cache", "clear", "--keep-bytes", "1kB").stdout == "removed 0 results, 0 bytes\n"


def test_clear_leaves_what_is_used_and_says_how_much(cli, stored, monkeypatch):
    used = stored.get("2" * 64)
    for words in (["--yes"], ["--keep-bytes", "0B"], ["--older-than", "0s"]):
        done = cli("cache", "clear", *words)
        assert done.code == 0
        assert done.stderr == "left 1 results that a running command uses\n"
        assert stored.keys() == [used.key]
    assert (used.files / "file").read_bytes() == b"x" * 200
    del used
    done = cli("cache", "clear", "--yes")
    assert (done.stdout.split(",")[0], done.stderr) == ("removed 1 results", "")


def test_a_cache_that_cannot_be_written_says_what_to_do(cli, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("POCKETFORGE_CACHE_DIR", str(blocked / "cache"))
    done = cli("cache", "list")
    assert (done.code, done.stdout) == (3, "")
    assert "cannot write to" in done.stderr and "--cache-dir" in done.stderr
