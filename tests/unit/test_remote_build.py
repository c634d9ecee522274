"""Builds with a remote store: steps are fetched, results are sent, and no trouble with it is the build's."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import releases
import remote_faults
from test_run import Forge, forge

from pocketforge import events
from pocketforge.commands.remote import request_of
from pocketforge.errors import RecipeError, ReleaseError, ToolMissing
from pocketforge.run.remote import BuildRemote
from pocketforge.run.remote_clear import collect
from pocketforge.run.remote_files import RemoteFiles
from pocketforge.run.remote_store import RemoteStore
from pocketforge.run.store import Entry, Store
from pocketforge.run.walk import Outcome, run_plan
from pocketforge.version import install

__all__ = ["forge"]


class Team:
    """Two machines with a cache each, and the store that they share."""

    def __init__(self, forge: Forge, files: RemoteFiles, system: remote_faults.Faulty, there: Path) -> None:
        self.forge, self.files, self.system, self.there = forge, files, system, there
        self.steps = [forge.step("data"), forge.step("export", needs=["data"]), forge.step("verify", needs=["export"])]
        self.events: list[events.Event] = []

    def build(self, machine: str, *, writes: bool = True, **more: Any) -> Outcome:
        self.events.clear()
        plan = self.forge.fake.make_plan(self.steps)
        emit = events.one_at_a_time(self.events.append)
        store = Store(self.forge.folder / machine)
        with BuildRemote(RemoteStore(self.files), emit, writes=writes) as remote:
            return run_plan(plan, store, logs=self.forge.logs, emit=emit, remote=remote, **more)

    def statuses(self, outcome: Outcome) -> dict[str, str]:
        return {name: self.forge.status(outcome, name) for name in ("data", "export", "verify")}

    def moved(self, direction: str) -> list[str]:
        return [e.lane for e in self.events if isinstance(e, events.Transferred) and e.direction == direction]

    def warnings(self) -> list[str]:
        return [e.message for e in self.events if isinstance(e, events.Warned)]

    def refused(self) -> list[events.EntryRefused]:
        return [e for e in self.events if isinstance(e, events.EntryRefused)]

    def folder(self, name: str) -> Path:
        key = self.forge.fake.key_of(name)
        return self.there / "entries" / key[:2] / key


ALL_RUN, ALL_REUSED = (dict.fromkeys(("data", "export", "verify"), word) for word in ("run", "reused"))


@pytest.fixture
def team(forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    there = tmp_path / "there"
    files, system = remote_faults.faulty(there, monkeypatch)
    return Team(forge, files, system, there)


def test_a_machine_with_an_empty_cache_reuses_what_another_made(team: Team) -> None:
    first = team.build("one")
    assert team.statuses(first) == ALL_RUN and team.moved("send") == ["data", "export", "verify"]
    second = team.build("two")
    assert team.statuses(second) == ALL_REUSED and team.moved("fetch") == ["data", "export", "verify"]
    assert team.moved("send") == [] and team.warnings() == []
    assert [team.forge.starts(name) for name in ("data", "export", "verify")] == [1, 1, 1]
    for key, entry in first.entries.items():
        assert second.entries[key].hashes == entry.hashes and second.entries[key].meta == entry.meta
    assert (first.entries.keys() == second.entries.keys()) and len(second.entries) == 3
    team.system.calls.clear()
    assert team.statuses(team.build("two")) == ALL_REUSED
    assert not team.system.calls, "what is stored here is not asked for"


def test_refresh_runs_every_step_and_sends_what_comes(team: Team) -> None:
    team.build("one")
    assert team.statuses(team.build("two", refresh=True)) == ALL_RUN
    assert team.moved("fetch") == []


def test_a_result_of_other_inputs_is_not_fetched(team: Team) -> None:
    """Its notes alone are read (files that its code opened, earlier results), and the step is run."""
    team.build("one")
    team.system.calls.clear()
    asked = []

    def fits(entry: Entry) -> bool:
        asked.append(entry.meta["stage"])
        return False

    with BuildRemote(RemoteStore(team.files), team.events.append, writes=True) as remote:
        assert not remote.fetch(team.steps[0], Store(team.forge.folder / "two"), fits, lambda: False)
    assert asked == ["fake"] and team.system.calls["read"] == 2  # whether it is a store, and the manifest


def test_a_poisoned_result_is_told_of_and_made_and_put_right(team: Team) -> None:
    team.build("one")
    (part,) = (path for path in team.folder("export").iterdir() if path.name != "manifest.json")
    part.write_bytes(b"?" * part.stat().st_size)
    outcome = team.build("two")
    assert team.statuses(outcome) == {**ALL_REUSED, "export": "run"}
    (told,) = team.refused()
    assert (told.lane, told.store) == ("export", f"file://{team.there}")
    assert told.message.endswith("bytes has other bytes") and team.warnings() == []
    assert team.moved("send") == ["export"]
    assert team.statuses(team.build("three")) == ALL_REUSED and team.refused() == []


def test_one_who_only_reads_sends_nothing(team: Team) -> None:
    assert team.statuses(team.build("one", writes=False)) == ALL_RUN
    assert team.moved("send") == [] and not team.there.exists() and team.system.calls["write"] == 0


@pytest.mark.parametrize("trouble", ["down", "forbidden", "full", "torn", "slow"])
def test_a_store_in_trouble_is_one_warning_and_nothing_else(team: Team, trouble: str) -> None:
    words = {
        "down": ["ConnectionRefusedError: ", "nothing more is fetched or sent by this build, which goes on without"],
        "forbidden": ["PermissionError: ", "nothing more is sent there by this build"],
        "full": ["No space left on device", "nothing more is sent there by this build"],
        "torn": ["bytes that were sent of a part (is it full,", "nothing more is sent there by this build"],
        "slow": ["gave no answer within 0.2 s", "nothing more is fetched or sent by this build"],
    }[trouble]
    if trouble == "slow":
        team.files = RemoteFiles(team.files.place, patience_s=0.2)
        team.system.hangs = threading.Event()
    elif trouble == "full":
        team.system.full = 400
    else:
        setattr(team.system, trouble, True)
    outcome = team.build("one")
    assert team.statuses(outcome) == ALL_RUN and not outcome.errors
    (warning,) = team.warnings()
    assert warning.startswith("remote store: ") and all(word in warning for word in words), warning
    assert f"file://{team.there}" in warning
    if team.system.hangs is not None:
        team.system.hangs.set()


def test_trouble_while_reading_stops_the_reading_alone_of_one_build(team: Team) -> None:
    team.build("one")
    team.system.down = True
    assert team.statuses(team.build("two")) == ALL_RUN and len(team.warnings()) == 1
    team.system.down = False
    assert team.statuses(team.build("three")) == ALL_REUSED and team.warnings() == []


def test_a_result_that_is_not_whole_any_more_is_made(team: Team) -> None:
    team.build("one")
    (part,) = (path for path in team.folder("export").iterdir() if path.name != "manifest.json")
    part.unlink()
    assert team.statuses(team.build("two")) == {**ALL_REUSED, "export": "run"}
    assert team.warnings() == [] and team.refused() == [] and team.moved("send") == ["export"]


def test_a_result_that_is_cleared_while_it_comes_is_made(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    team.build("one")
    fetch = RemoteStore.fetch

    def clear_first(self: RemoteStore, *arguments: Any) -> Any:
        collect(self, keep_bytes=0)
        return fetch(self, *arguments)

    monkeypatch.setattr(RemoteStore, "fetch", clear_first)
    assert team.statuses(team.build("two")) == ALL_RUN
    (warning,) = team.warnings()
    assert warning.endswith(f"its result went from file://{team.there} meanwhile; it is run")


def test_what_the_listener_raises_while_a_result_is_sent_ends_the_build(team: Team) -> None:
    class Stop(BaseException):
        pass

    def refuse(event: events.Event) -> None:
        if isinstance(event, events.Transferred):
            raise Stop

    plan, store = team.forge.fake.make_plan(team.steps), Store(team.forge.folder / "one")
    with pytest.raises(Stop), BuildRemote(RemoteStore(team.files), refuse, writes=True) as remote:
        run_plan(plan, store, logs=team.forge.logs, emit=refuse, remote=remote)


def test_events_are_json(team: Team) -> None:
    team.build("one")
    for event in team.events:
        assert json.loads(json.dumps(events.to_json(event)))["event"] == type(event).__name__


# What is asked for


def test_who_signs_writes_and_who_asks_for_a_key_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys_here = releases.make_keys(tmp_path)

    url = f"file://{tmp_path}"
    assert request_of(None) is None and request_of("off") is None
    monkeypatch.setenv("POCKETFORGE_REMOTE_STORE", url)
    plain = request_of(None)
    assert plain is not None and plain.writes and plain.sign is None and plain.check is None
    assert request_of("off") is None
    monkeypatch.setenv("POCKETFORGE_REMOTE_PUBLIC_KEY", str(keys_here.public))
    reader = request_of(None)
    assert reader is not None and not reader.writes and reader.check is not None
    monkeypatch.setenv("POCKETFORGE_REMOTE_SIGNING_KEY", keys_here.private.read_text())
    ci = request_of(None)
    assert ci is not None and ci.writes and ci.sign is not None
    assert reader.check is not None and ci.sign is not None
    assert reader.check(b"x", ci.sign(b"x")) and not reader.check(b"y", ci.sign(b"x"))
    monkeypatch.setenv("POCKETFORGE_REMOTE_READ_ONLY", "1")
    held = request_of(None)
    assert held is not None and not held.writes
    monkeypatch.setenv("POCKETFORGE_REMOTE_READ_ONLY", "yes")
    with pytest.raises(RecipeError, match="POCKETFORGE_REMOTE_READ_ONLY is 'yes'"):
        request_of(None)
    monkeypatch.delenv("POCKETFORGE_REMOTE_READ_ONLY")
    other = releases.make_keys(tmp_path / "other")
    monkeypatch.setenv("POCKETFORGE_REMOTE_PUBLIC_KEY", str(other.public))
    with pytest.raises(RecipeError, match=r"is key [0-9a-f]{16}, and POCKETFORGE_REMOTE_PUBLIC_KEY asks for"):
        request_of(None)
    monkeypatch.setenv("POCKETFORGE_REMOTE_PUBLIC_KEY", str(tmp_path / "none"))
    with pytest.raises(ReleaseError, match="cannot read the key"):
        request_of(None)


def test_a_kind_that_nobody_knows_is_a_wrong_argument() -> None:
    with pytest.raises(RecipeError, match="no remote store is reached by 'gopher'") as raised:
        request_of("gopher://host/x")
    assert "s3" in raised.value.hint and "sftp" in raised.value.hint


@pytest.mark.parametrize(("url", "package"), [("s3://b/x", "fsspec"), ("sftp://host/x", "sshfs"), ("s3://b/x", "s3fs")])
def test_a_package_that_is_not_installed_is_named_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, url: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    known = importlib.import_module("fsspec.registry")._registry if package != "fsspec" else {}
    for name, kind in list(known.items()):  # as in a new process, where nothing has asked for the kind yet
        if kind.__module__.partition(".")[0] == package:
            monkeypatch.delitem(known, name)
    with pytest.raises(ToolMissing, match=package) as raised:
        request_of(url)
    # By the packages' names: an index has no pocketforge, or another's.
    assert raised.value.hint == install("remote") and "pocketforge" not in raised.value.hint
