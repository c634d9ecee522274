"""Builds over a small real cluster on loopback: workers are programs with a folder each, stages do as they are told."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_nodes import Cluster, cluster, gone
from told_spec import ToldSpec

from pocketforge import events
from pocketforge.commands.cluster import Cluster as ClusterOf
from pocketforge.commands.cluster import joined
from pocketforge.errors import DeviceUnavailable, StageFailed
from pocketforge.facts.phones import connected
from pocketforge.facts.versions import version_of
from pocketforge.plan.steps import Facts, Phone, Step
from pocketforge.registries import STAGES, StageInfo
from pocketforge.run.cluster import certificates, engine, link
from pocketforge.run.cluster.addresses import parse
from pocketforge.run.engine import Start
from pocketforge.run.store import Store
from pocketforge.run.walk import Outcome, run_plan

SECRET = "certificates"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler, with mutual TLS; tests start the workers that they need, and leave two."""
    folder = tmp_path_factory.mktemp("cluster")
    certificates.make(folder / SECRET, 2)
    with cluster(folder, folder / SECRET) as started:
        yield started


@pytest.fixture(scope="module")
def there(nodes: Cluster) -> Iterator[link.Link]:
    with link.connected(parse(nodes.address), nodes.folder / SECRET) as connected:
        yield connected


class Forge:
    """Builds over the cluster with a store of their own."""

    def __init__(self, folder: Path, there: link.Link) -> None:
        import fake_stages

        self.fake, self.folder, self.there = fake_stages, folder, there
        self.events: list[events.Event] = []
        self.here = engine.Here({"torch": version_of("torch")}, {}, 60)

    def step(self, name: str, *do: Any, **more: Any) -> Step:
        step = self.fake.make_step(name, *do, journal=self.folder / "journal", **more)
        # Of this test alone: workers keep results.
        return dataclasses.replace(step, key=self.fake.key_of(f"{self.folder}{name}"), needs=self._mine(more))

    def _mine(self, more: dict[str, Any]) -> dict[str, str]:
        return {name: self.fake.key_of(f"{self.folder}{name}") for name in more.get("needs", ())}

    def run(
        self, *steps: Step, facts: dict[str, str] | None = None, patience_s: float = 60.0,
        hears: Callable[[events.Event], None] = events.ignore, local: bool = False, start: Start | None = None,
    ) -> Outcome:  # fmt: skip
        def emit(event: events.Event) -> None:
            self.events.append(event)
            hears(event)

        here = dataclasses.replace(self.here, facts=facts or {}, patience_s=patience_s)
        store = Store(self.folder / ("local" if local else "cache"))
        start = None if local else start or engine.over(self.there, here)
        return run_plan(
            self.fake.make_plan(steps), store, logs=self.folder / "logs", refresh=local, engine=start, emit=emit
        )

    def warned(self) -> str:
        return "\n".join(event.message for event in self.events if isinstance(event, events.Warned))

    def pid(self, name: str) -> int:
        return next(e.pid for e in reversed(self.events) if isinstance(e, events.StepStarted) and e.lane == name)


@pytest.fixture
def forge(tmp_path: Path, there: link.Link, monkeypatch: pytest.MonkeyPatch) -> Forge:
    monkeypatch.setitem(STAGES, "fake", StageInfo("fake_stages", 1, ()))
    monkeypatch.setitem(STAGES, "reading", StageInfo("reading_stage", 1, (), user_code=True))
    monkeypatch.chdir(tmp_path)
    return Forge(tmp_path, there)


def test_results_are_those_of_a_local_build(nodes: Cluster, forge: Forge) -> None:
    nodes.worker("a", facts={"site": "plain"})
    nodes.worker("b", facts={"site": "plain"})
    steps = [
        forge.step("one", ["say", "words"], ["big", 5_000_000]),
        forge.step("two", ["progress", 0.5, "half"], needs=["one"]),
        forge.step("three", needs=["one"]),
        forge.step("four", needs=["two", "three"]),
        forge.step("bad", ["raise", "ModelError"], needs=["two"]),
        forge.step("after it", needs=["bad"]),
    ]
    outcome, local = forge.run(*steps), forge.run(*steps, local=True)
    assert {key: entry.hashes for key, entry in outcome.entries.items()} == {
        key: entry.hashes for key, entry in local.entries.items()
    }
    assert len(outcome.entries) == 4
    assert [str(error) for error in outcome.errors.values()] == [str(error) for error in local.errors.values()]
    assert {record.lane: record.status for record in outcome.records.values()}["after it"] == "skipped"
    log = next((forge.folder / "logs").glob("fake-one-*.log"))
    assert log.read_text() == "python: words\na program: words\nits stderr: words\n"
    assert events.StepProgress("fake", "two", 0.5, "half") in forge.events
    again = forge.run(*steps)
    assert {record.status for record in again.records.values()} == {"reused", "failed", "skipped"}


def reading(forge: Forge, name: str, *do: Any) -> Step:
    spec = ToldSpec({"name": name, "go": "", "do": [list(each) for each in do], "needs": []})
    return dataclasses.replace(forge.step(name), stage="reading", spec=spec, roots=(forge.folder,))


def test_files_that_the_users_code_opens_by_itself_come_after_it(forge: Forge) -> None:
    (forge.folder / "beside").mkdir()
    (forge.folder / "beside" / "config").write_text("wide")
    (forge.folder / "here").write_text("relative")
    there = str(forge.folder / "beside" / "config")
    step = reading(forge, "reads", ["read", there], ["read", "here"], ["read if there", f"{there}.none"])
    outcome = forge.run(step)
    assert outcome.errors == {}
    assert (outcome.entries[step.key].files / "result.txt").read_text() == "wide|relative|none"
    Path(there).write_text("narrow")  # noted with the result, by its place beside the recipe
    assert forge.run(step).errors == {}
    assert "config" in forge.warned()
    (forge.folder / "many").mkdir()
    listing = reading(forge, "lists", ["names", "many"])
    error = forge.run(listing).errors[listing.key]
    assert error.message == "FileNotFoundError: [Errno 2] No such file or directory: 'many'"


def test_a_step_of_a_worker_that_is_killed_runs_on_another(nodes: Cluster, forge: Forge) -> None:
    nodes.worker("third", facts={"site": "plain"})
    step = forge.step("unlucky", ["kill_worker_once"], ["worker_name"])
    outcome = forge.run(step, forge.step("other"))
    assert outcome.errors == {} and len(outcome.entries) == 2
    first, second = (e.pid for e in forge.events if isinstance(e, events.StepStarted) and e.lane == "unlucky")
    assert first != second and gone(first)  # the stage went with its worker
    assert len(forge.there.offers()) == 2


def on(step: Step, where: str) -> Step:
    """The step's key says where it runs."""
    assert isinstance(step.spec, ToldSpec)
    return dataclasses.replace(step, spec=ToldSpec({**step.spec.told, "where": where}))


def test_a_step_that_kills_two_workers_fails_alone(nodes: Cluster, forge: Forge) -> None:
    for name in ("first", "second"):
        nodes.worker(name, facts={"device": "fragile"})
    kills = on(forge.step("kills", ["kill_worker"]), "fragile")
    outcome = forge.run(kills, forge.step("other"), facts={"device": "fragile"})
    assert "2 workers died while they ran it" in outcome.errors[kills.key].message
    assert len(outcome.entries) == 1
    assert not {"first", "second"} & {offer.name for offer in forge.there.offers().values()}


def test_a_stale_worker_is_refused_and_a_full_one_says_so(nodes: Cluster, forge: Forge) -> None:
    stale = nodes.worker("stale", versions={"torch": "1.0"}, facts={"device": "large"})
    full = nodes.worker("full", limit_bytes=50_000, facts={"device": "large", "site": "small"})
    one = on(forge.step("one", ["half_write"]), "plain")
    two = on(forge.step("two", needs=["one"]), "large")
    error = forge.run(one, two, facts={"device": "large", "site": "plain"}).errors[two.key]
    assert "worker full: " in error.message and error.exit_code == 3
    assert f"stale has torch 1.0 (here {version_of('torch')})" in forge.warned()
    for program in (stale, full):
        program.kill()


def test_a_phone_is_where_it_is_and_an_error_when_it_is_lost(nodes: Cluster, forge: Forge) -> None:
    identity = {"phone:S1": "S1: Android 14"}
    holder = nodes.worker("holder", facts=identity, resources=["phone:S1"])
    step = forge.step("on the phone", ["say", identity["phone:S1"]], ["worker_name"])
    facts = Facts({}, {"torch": version_of("torch")}, "", "none", phones={"p": Phone("S1", "S1: Android 14")})
    # As `pocketforge build` goes there: with all versions, and the phones of all workers.
    with joined(ClusterOf(nodes.address, nodes.folder / SECRET)) as engine_of:
        assert "S1" in {phone.serial for phone in connected({"S1"})}
        outcome = forge.run(step, start=engine_of(facts))
    assert (outcome.entries[step.key].files / "worker").read_text() == "holder"
    holder.kill()
    lost = forge.step("lost", ["say", identity["phone:S1"]])
    error = forge.run(lost, facts=identity, patience_s=1).errors[lost.key]
    assert isinstance(error, DeviceUnavailable) and "no phone:S1" in error.message


def test_an_interrupt_leaves_nothing_running(nodes: Cluster, forge: Forge) -> None:
    step = forge.step("long", ["start_program"], ["progress", 0.5, "half"], ["wait_for", str(forge.folder / "never")])

    def hears(event: events.Event) -> None:
        if isinstance(event, events.StepProgress):
            os.kill(os.getpid(), signal.SIGINT)

    shared = forge.there
    with link.connected(parse(nodes.address), nodes.folder / SECRET) as forge.there, pytest.raises(KeyboardInterrupt):
        forge.run(step, hears=hears)
    forge.there = shared
    assert gone(forge.pid("long"))
    program = int((forge.folder / "journal").read_text().split('"program", ')[1].split(", ")[1].split("]")[0])
    assert gone(program)
    assert forge.run(forge.step("next")).errors == {}  # the workers are there for the next build


def test_who_has_no_certificate_of_the_authority_is_not_spoken_to(nodes: Cluster, tmp_path: Path) -> None:
    certificates.make(tmp_path / "others", 2)
    with (
        pytest.raises(StageFailed, match="no scheduler answers"),
        link.connected(parse(nodes.address), tmp_path / "others"),
    ):
        pytest.fail("strangers were let in")


def test_a_scheduler_that_is_gone_ends_the_build_and_a_new_one_finds_the_workers(tmp_path: Path, forge: Forge) -> None:
    """The last, with a cluster of its own."""
    with cluster(tmp_path / "own") as own:
        worker = own.worker("a")
        with link.connected(parse(own.address), tmp_path) as there:
            forge.there = there
            step = forge.step("long", ["progress", 0.5, "half"], ["wait_for", str(forge.folder / "never")])

            def hears(event: events.Event) -> None:
                if isinstance(event, events.StepProgress):
                    own.scheduler.kill()

            error = forge.run(step, hears=hears, patience_s=1).errors[step.key]
        assert "the scheduler is gone" in error.message
        assert gone(forge.pid("long"))
        assert "is gone; waiting for it" in worker.wait_for("is gone")
        worker.lines.clear()
        own.serve(own.address)
        worker.wait_for("worker a serves")
        with link.connected(parse(own.address), tmp_path) as forge.there:
            assert forge.run(forge.step("next")).errors == {}
