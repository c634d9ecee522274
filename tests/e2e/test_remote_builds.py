"""A store that machines share: what one built, another with an empty cache has without running a step."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Release, in_process

from pocketforge.files import hash_file
from pocketforge.run.store import Store


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hash_file(path) for path in folder.rglob("*") if path.is_file()}


def test_an_empty_cache_against_a_filled_remote_store_reuses_every_step(release: Release, tmp_path: Path) -> None:
    there, mine = tmp_path / "there", tmp_path / "mine"
    shared = {"POCKETFORGE_REMOTE_STORE": f"file://{there}"}
    sent = in_process("cache", "push", "--json", cache=release.cache, cwd=tmp_path, env=shared)
    assert sent.code == 0, sent.stderr
    out = tmp_path / "out"
    words = ("build", release.recipe, "--out", out, "--progress", "json", "--json")
    done = in_process(*words, cache=mine, cwd=tmp_path, env=shared)
    assert done.code == release.done.code == 0, done.stderr
    steps = done.json()["steps"]
    assert len(steps) > 20 and {step["status"] for step in steps} == {"reused"}
    told = [json.loads(line) for line in done.stderr.splitlines()]
    fetched = [each for each in told if each["event"] == "Transferred"]
    assert {each["key"] for each in fetched} == {step["key"] for step in steps}
    assert {each["direction"] for each in fetched} == {"fetch"}
    assert not [each for each in told if each["event"] in ("StepStarted", "Warned", "EntryRefused")]
    assert hashes(out / "release") == hashes(release.out / "release")
    there_first, here_now = Store(release.cache), Store(mine)
    for step in steps:
        first, now = there_first.get(step["key"]), here_now.get(step["key"])
        assert first is not None and now is not None and (first.hashes, first.meta) == (now.hashes, now.meta)
