"""`cache push`, `pull` and `gc`: what is stored here and there, with figures, and plain words for what went wrong."""

from __future__ import annotations

import json
import os
import re
import time

import pytest
import releases

from pocketforge.run.store import Store

KEYS = [str(number) * 64 for number in (1, 2, 3)]


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A remote store's folder, which the environment names."""
    monkeypatch.setenv("POCKETFORGE_REMOTE_STORE", f"file://{tmp_path}/there")
    return tmp_path / "there"


@pytest.fixture
def stored(cache):
    """Three results of 100, 200 and 300 bytes."""
    store = Store(cache)
    for number, key in enumerate(KEYS, start=1):
        with store.workspace() as out:
            (out / "file").write_bytes(str(number).encode() * 100 * number)
            store.publish(key, out, {"stage": "export", "lane": "a"})
    return store


def hashes(store, key):
    entry = store.get(key)
    assert entry is not None
    return entry.hashes


def test_results_go_there_and_come_to_another_cache(cli, cache, there, stored, tmp_path):
    done = cli("cache", "push", "--progress", "plain")
    assert done.code == 0, done.stderr
    assert re.fullmatch(
        rf"sent 3 results to file://{there}, 600 bytes at [0-9.]+ MB/s\n0 were there, 0 left out\n", done.stdout
    )
    assert done.stderr.count("  sent    export     a  0.00 MB at ") == 3
    again = cli("cache", "push", "--json").json()
    assert (again["sent"], again["there"], again["bytes"], again["faults"]) == (0, 3, 0, {})
    other = tmp_path / "other"
    done = cli("cache", "pull", "1111", "--cache-dir", other, "--json")
    assert (done.json()["fetched"], done.json()["bytes"]) == (1, 100)
    done = cli("cache", "pull", "--cache-dir", other)
    assert done.stdout.startswith(f"fetched 2 results from file://{there}, 500 bytes at ")
    assert done.stdout.endswith("1 were there, 0 left out\n")
    assert [hashes(Store(other), key) for key in KEYS] == [hashes(stored, key) for key in KEYS]
    # An option goes before the environment.
    done = cli("cache", "pull", "--remote-store", f"file://{tmp_path}/none", "--json")
    assert (done.code, done.json()["fetched"]) == (0, 0)


def test_what_is_poisoned_is_named_and_left_out(cli, there, stored, tmp_path):
    cli("cache", "push")
    for path in (there / "entries" / "22" / KEYS[1]).glob("[0-9a-f]*"):
        path.write_bytes(b"?" * 200)
    done = cli("cache", "pull", "--cache-dir", tmp_path / "other")
    assert done.code == 3 and done.stdout.endswith("0 were there, 1 left out\n")
    assert re.fullmatch(r"222222222222: refused: its part [0-9a-f]{12} of 200 bytes has other bytes\n", done.stderr), (
        done.stderr
    )
    assert Store(tmp_path / "other").keys() == [KEYS[0], KEYS[2]]
    assert cli("cache", "push", "--json").json()["there"] == 3, "its size is right"
    assert cli("cache", "push", "--again", "2222", "--json").json()["sent"] == 1
    assert cli("cache", "pull", "--cache-dir", tmp_path / "other").code == 0


def test_a_damaged_result_is_not_sent(cli, there, stored):
    (stored.get(KEYS[0]).files / "file").write_bytes(b"changed")
    done = cli("cache", "push", "--json")
    assert done.code == 3 and done.json()["sent"] == 2
    assert done.json()["faults"] == {KEYS[0]: "stored result 111111111111 is damaged (file does not match its hash)"}


def test_gc_by_age_and_by_size(cli, there, stored):
    cli("cache", "push")
    for days, key in enumerate(KEYS):
        used = time.time() - days * 86_400 - 60
        os.utime(there / "entries" / key[:2] / key / "manifest.json", (used, used))
    done = cli("cache", "gc")
    assert done.code == 2 and "give --older-than, --keep-bytes or both" in done.stderr
    done = cli("cache", "gc", "--older-than", "2d")
    assert done.code == 0 and done.stdout.startswith("removed 1 results and 0 unfinished files, ")
    assert re.search(rf"left 2 results, [0-9,]+ bytes in file://{there}\n", done.stdout)
    left = cli("cache", "gc", "--keep-bytes", "0B", "--json").json()
    assert (left["removed"], left["left"], left["left_bytes"]) == (2, 0, 0)
    assert json.loads((there / "store.json").read_text()) == {"pocketforge_remote_store": 1}


def test_ci_signs_and_others_only_read(cli, there, stored, tmp_path, monkeypatch):
    pair = releases.make_keys(tmp_path / "keys")
    monkeypatch.setenv("POCKETFORGE_REMOTE_PUBLIC_KEY", str(pair.public))
    for words in (["push"], ["gc", "--keep-bytes", "0B"]):
        done = cli("cache", *words)
        assert done.code == 2 and f"file://{there} is only read here" in done.stderr
    monkeypatch.delenv("POCKETFORGE_REMOTE_PUBLIC_KEY")
    cli("cache", "push", "1111")  # by somebody who signs nothing
    monkeypatch.setenv("POCKETFORGE_REMOTE_SIGNING_KEY", pair.private.read_text())
    assert cli("cache", "push", "2222", "--json").json()["sent"] == 1
    monkeypatch.delenv("POCKETFORGE_REMOTE_SIGNING_KEY")
    monkeypatch.setenv("POCKETFORGE_REMOTE_PUBLIC_KEY", str(pair.public))
    done = cli("cache", "pull", "--cache-dir", tmp_path / "other", "--json")
    assert done.code == 3 and done.json()["fetched"] == 1
    assert done.json()["faults"] == {KEYS[0]: "refused: nobody signed it, and a key is asked for"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["push"], 2, "no remote store is named"),
        (["pull", "--remote-store", "off"], 2, "no remote store is named"),
        (["push", "--remote-store", "here"], 2, "this is no URL of a remote store"),
        (["push", "9999", "--remote-store", "file:///nowhere/x"], 2, "this cache has no result whose key begins with"),
        (["pull", "9999", "--remote-store", "memory://x"], 2, "memory://x has no result whose key begins with 9999"),
        (["pull", "--remote-store", "gopher://x/y"], 2, "no remote store is reached by 'gopher'"),
        (["pull", "--remote-store", "sftp://ann:pa%40ss@127.0.0.1:9/x"], 3, "cannot read store.json from sftp://ann@"),
        (["push", "--remote-store", "file:///proc/x"], 3, "to file:///proc/x: "),
    ],
)
def test_what_cannot_be_done_is_said_in_one_error(cli, stored, monkeypatch, words, code, said):
    monkeypatch.delenv("POCKETFORGE_REMOTE_STORE", raising=False)
    done = cli("cache", *words)
    assert (done.code, done.stdout) == (code, "") and said in done.stderr
    assert done.stderr.count("error:") == 1 and "pa%40ss" not in done.stderr and "pa@ss" not in done.stderr
