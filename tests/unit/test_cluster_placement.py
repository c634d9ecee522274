"""Which worker gets which step, who is refused, what a death means: decided without any cluster."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from fake_stages import make_step
from hypothesis import given
from hypothesis import strategies as st
from told_spec import ToldSpec

from pocketforge.commands.cluster import facts_of
from pocketforge.errors import DeviceUnavailable, PocketforgeError, RecipeError, StageFailed, StoreError
from pocketforge.facts import phones
from pocketforge.plan.steps import Facts
from pocketforge.run.cluster import addresses, certificates, transfer
from pocketforge.run.cluster.limits import Limits, Watchdog, resident_bytes
from pocketforge.run.cluster.mirror import Mirrors
from pocketforge.run.cluster.node import Node as WorkerNode
from pocketforge.run.cluster.offers import Asked, Offer, asked_of, from_text, lacking, to_text
from pocketforge.run.cluster.placement import Node, NodeLost, NodeUnfit, Pool, TooLittleMemory, run_somewhere
from pocketforge.run.cluster.wire import Piece, Task
from pocketforge.run.fingerprints import Fingerprints

PIECE = 64
ANYTHING = Asked()
VERSIONS = {"Python": "3.11", "torch": "2.13.0"}


def offer(name: str, *resources: str, machine: str = "", memory_bytes: int = 0, **facts: str) -> Offer:
    return Offer(name, machine or name, VERSIONS, facts, frozenset(resources), memory_bytes)


def pool_of(*offers: Offer, patience_s: float = 0.0, warned: list[str] | None = None) -> Pool:
    pool = Pool(VERSIONS, patience_s, (warned if warned is not None else []).append)
    pool.update({f"at {each.name}": each for each in offers})
    return pool


def never() -> bool:
    return False


def run(pool: Pool, asked: Asked, run_on: Callable[[Node], str]) -> str:
    return run_somewhere(pool, "export[one]", asked, run_on, never)


def name_of(node: Node) -> str:
    return node.offer.name


def test_a_worker_of_other_versions_is_refused_and_its_versions_are_said() -> None:
    warned: list[str] = []
    stale = Offer("old", "old", {"Python": "3.11", "torch": "2.12.0", "more": "1"})
    pool = pool_of(stale, offer("new"), warned=warned)
    assert run(pool, ANYTHING, name_of) == "new"
    assert warned == ["worker refused: old has torch 2.12.0 (here 2.13.0)"]
    pool.update({"at old": stale})
    with pytest.raises(StageFailed, match=r"no worker can run export\[one\].*refused: old has torch 2\.12\.0"):
        run(pool, ANYTHING, name_of)
    assert len(warned) == 1  # once


def test_a_step_asks_for_what_its_key_says_of_the_machine(tmp_path: Path) -> None:
    facts = {"host": "vm x2", "kernels": "AVX2", "emulator": "none", "phone:S1": "S1: Android 14"}
    plain = make_step("plain", ["sleep", 0], journal=tmp_path)
    assert asked_of(plain, facts) == ANYTHING
    judged = make_step("judged", ["say", "AVX2"], journal=tmp_path)
    assert asked_of(judged, facts) == Asked({"kernels": "AVX2"})
    timed = make_step("timed", ["say", "vm x2"], journal=tmp_path, exclusive=True)
    assert asked_of(timed, facts) == Asked({"host": "vm x2"}, frozenset({"host-bench"}), True)
    on_phone = make_step("phone", ["say", "S1: Android 14"], journal=tmp_path)
    assert asked_of(on_phone, facts) == Asked({"phone:S1": "S1: Android 14"}, frozenset({"phone:S1"}))
    assert isinstance(plain.spec, ToldSpec)


def test_a_build_that_trains_on_a_gpu_is_refused_by_name() -> None:
    with pytest.raises(RecipeError, match="training on NVIDIA A100 is this machine's") as refused:
        facts_of(Facts({}, {}, "here", "none", gpus=("NVIDIA A100",)))
    assert 'device = "cpu"' in refused.value.hint
    assert facts_of(Facts({}, {}, "here", "none"))["host"] == "here"


def test_timings_are_not_made_on_a_host_of_another_kind() -> None:
    timed = Asked({"host": "vm x2"}, frozenset({"host-bench"}), True)
    other = offer("other", "host-bench", host="big x64")
    assert lacking(other, timed) == "other: no host 'vm x2' (it is 'big x64')"
    assert run(pool_of(other, offer("same", "host-bench", host="vm x2")), timed, name_of) == "same"
    with pytest.raises(StageFailed, match="it is 'big x64'"):
        run(pool_of(other), timed, name_of)


def test_a_benchmark_has_its_machine_alone() -> None:
    pool = pool_of(offer("a", "host-bench", machine="m"), offer("b", "host-bench", machine="m"), offer("c"))
    timed = Asked({}, frozenset({"host-bench"}), True)
    with pool.taken("x", ANYTHING, never, {}) as first:
        assert first.offer.name == "c"  # which has the least to give
        with pool.taken("y", timed, never, {}) as second:
            found: list[str] = []
            third = threading.Thread(target=lambda: found.append(run(pool, ANYTHING, name_of)))
            third.start()
            third.join(0.3)
            assert found == []  # the other worker of that machine is idle, and stays so
        third.join(20)
        assert found == [{"a": "a", "b": "a"}[second.offer.name]]


def test_a_step_for_a_phone_goes_where_the_phone_is_and_does_not_wait_for_ever() -> None:
    asked = Asked({"phone:S1": "S1: 14"}, frozenset({"phone:S1"}))
    here = Offer("with", "with", VERSIONS, {"phone:S1": "S1: 14"}, frozenset({"phone:S1"}))
    pool = pool_of(offer("without"), here)
    assert run(pool, asked, name_of) == "with"
    pool.update({"at without": offer("without")})
    with pytest.raises(DeviceUnavailable, match=r"waited 0 s.*without: no phone:S1") as caught:
        run(pool, asked, name_of)
    assert caught.value.exit_code == 4


def test_a_worker_that_comes_in_time_gets_the_step() -> None:
    pool = pool_of(patience_s=60)
    found: list[str] = []
    waiting = threading.Thread(target=lambda: found.append(run(pool, ANYTHING, name_of)))
    waiting.start()
    pool.update({"at late": offer("late")})
    waiting.join(20)
    assert found == ["late"]


def test_a_step_whose_worker_dies_runs_on_another() -> None:
    ran: list[str] = []

    def run_on(node: Node) -> str:
        ran.append(node.offer.name)
        if len(ran) == 1:
            raise NodeLost(node.address, at_work=True)
        return "done"

    assert run(pool_of(offer("a"), offer("b")), ANYTHING, run_on) == "done"
    assert ran == ["a", "b"]


def test_a_step_that_two_workers_die_of_is_a_failure_and_a_third_lives() -> None:
    ran: list[str] = []

    def run_on(node: Node) -> str:
        ran.append(node.offer.name)
        raise NodeLost(node.address, at_work=True)

    with pytest.raises(StageFailed, match="2 workers died while they ran it: a, b"):
        run(pool_of(offer("a"), offer("b"), offer("c")), ANYTHING, run_on)
    assert ran == ["a", "b"]


def test_a_death_before_the_step_began_is_not_counted() -> None:
    ran: list[str] = []

    def run_on(node: Node) -> str:
        ran.append(node.offer.name)
        if len(ran) < 4:
            raise NodeLost(node.address, at_work=len(ran) == 1)
        return "done"

    assert run(pool_of(*map(offer, "abcd")), ANYTHING, run_on) == "done"


def test_a_step_whose_workers_are_always_lost_is_not_tried_for_ever() -> None:
    pool = pool_of(offer("a"), patience_s=60)
    tried: list[str] = []

    def run_on(node: Node) -> str:
        tried.append(node.offer.name)
        pool.lost(node.address)
        pool.update({"at a": offer("a")})
        raise NodeLost("at another", at_work=False, why="OSError: reset")

    with pytest.raises(StageFailed, match=r"10 times in a row its worker was lost, last a: OSError: reset"):
        run(pool, ANYTHING, run_on)
    assert len(tried) == 10


def test_a_worker_without_room_is_passed_over_and_told_of_where_it_is_the_last() -> None:
    def run_on(node: Node) -> str:
        if node.offer.name == "full":
            raise NodeUnfit(node.address, StoreError("worker full: no space left", "free some"))
        return name_of(node)

    assert run(pool_of(offer("full"), offer("roomy")), ANYTHING, run_on) == "roomy"
    with pytest.raises(StoreError, match="worker full: no space left"):
        run(pool_of(offer("full")), ANYTHING, run_on)


def test_a_step_that_had_too_much_memory_goes_to_a_worker_that_gives_more() -> None:
    def run_on(node: Node) -> str:
        if node.offer.memory_bytes == 10**9:
            raise TooLittleMemory(10**9)
        return name_of(node)

    small, large = offer("a", memory_bytes=10**9), offer("b", memory_bytes=4 * 10**9)
    assert run(pool_of(small, large), ANYTHING, run_on) == "b"
    with pytest.raises(StageFailed, match=r"no more than 1\.0 GB of memory"):
        run(pool_of(small), ANYTHING, run_on)


def test_nothing_waits_when_the_build_stops() -> None:
    with pytest.raises(StageFailed, match="interrupted"):
        run_somewhere(pool_of(patience_s=1000), "x", ANYTHING, name_of, lambda: True)


def test_an_offer_crosses_the_connection_whole() -> None:
    sent = offer("a", "phone:S1", "host-bench", memory_bytes=5, host="vm")
    assert from_text(to_text(sent)) == sent


@pytest.mark.parametrize("text", ["", "host:1", "http://h:1", "tls://h", "tls://h:0", "tls://h:70000", "tls://h:1/x"])
def test_an_address_is_a_whole_one(text: str) -> None:
    with pytest.raises(RecipeError, match="a scheduler's address is tls://HOST:PORT"):
        addresses.parse(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.9.9.9"])
def test_plain_tcp_is_for_loopback(host: str) -> None:
    assert str(addresses.parse(f"tcp://{host}:8786")) == f"tcp://{host}:8786"


@pytest.mark.parametrize("host", ["10.0.0.1", "build-server", "0.0.0.0", "[::]", "localhost.evil.example"])
def test_plain_tcp_elsewhere_is_refused_unless_told(host: str) -> None:
    with pytest.raises(RecipeError, match="runs code on every worker"):
        addresses.parse(f"tcp://{host}:8786")
    assert addresses.parse(f"tcp://{host}:8786", insecure=True).kind == "tcp"
    assert addresses.parse(f"tls://{host}:8786").kind == "tls"


def test_certificates_are_of_one_authority_and_its_keys_the_owners_alone(tmp_path: Path) -> None:
    made = certificates.make(tmp_path, 30)
    assert [path.name for path in made] == ["ca.pem", "ca-key.pem", "node.pem", "node-key.pem"]
    assert [oct(path.stat().st_mode & 0o777) for path in made] == ["0o644", "0o600", "0o644", "0o600"]
    addresses.Credentials(tmp_path)
    again = certificates.make(tmp_path, 30)
    assert [path.name for path in again] == ["node.pem", "node-key.pem"]
    (tmp_path / "node-key.pem").chmod(0o644)
    with pytest.raises(RecipeError, match=r"node-key\.pem can be read by others"):
        addresses.Credentials(tmp_path)
    (tmp_path / "node.pem").unlink()
    with pytest.raises(RecipeError, match=r"no certificates in .*: node\.pem not there"):
        addresses.Credentials(tmp_path)
    (tmp_path / "ca-key.pem").unlink()
    with pytest.raises(RecipeError, match="without the other"):
        certificates.make(tmp_path, 30)


@given(sizes=st.lists(st.sampled_from([0, 1, 7, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE]), max_size=3))
def test_files_arrive_as_they_were(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(transfer, "PIECE_BYTES", PIECE)
        arrive(tmp_path_factory, sizes)


def arrive(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    source, target = tmp_path_factory.mktemp("from"), tmp_path_factory.mktemp("to")
    files = {f"d{number}/f": source / str(number) for number in range(len(sizes))}
    for (name, path), size in zip(files.items(), sizes, strict=True):
        path.write_bytes((name * (size // len(name) + 1)).encode()[:size])
    for batch in transfer.pieces(files):
        assert sum(len(part.content) for part in batch) <= PIECE
        transfer.write(target, batch)
    assert {name: (target / name).read_bytes() for name in files} == {n: p.read_bytes() for n, p in files.items()}


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", ""])
def test_no_file_lands_outside_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(PocketforgeError, match="outside its folder"):
        transfer.write(tmp_path / "in", [Piece(name, 0, b"x")])
    assert list(tmp_path.iterdir()) == []


def test_users_files_go_after_a_day_without_use_and_never_under_a_step(tmp_path: Path) -> None:
    mirrors = Mirrors(tmp_path / "mirrors")
    for name in ("used", "running", "old"):
        transfer.write(mirrors.arriving(name), [Piece("data.npy", 0, b"x")])
        mirrors.finish(name, name)
    step = make_step("plain", ["sleep", 0], journal=tmp_path)
    with Fingerprints(tmp_path) as memory:
        mirrors.step(Task(step, {}, {}, "running", tmp_path, {}, (), False), memory)
    for folder in (tmp_path / "mirrors").iterdir():
        os.utime(folder, (0, 0))
    assert mirrors.is_whole("used")
    mirrors.arriving("new")  # of another build
    assert [name for name in ("used", "running", "old") if mirrors.is_whole(name)] == ["used", "running"]


def test_a_result_is_kept_until_it_was_fetched_however_little_a_worker_keeps(tmp_path: Path) -> None:
    node = WorkerNode(offer("a"), tmp_path / "store", Limits(), keep_bytes=1)
    with node.store.workspace() as out:
        (out / "big").write_bytes(b"0123456789")
        node.store.publish("a" * 64, out, {})
    assert node.give("a" * 64, "big", 3) == b"3456789"
    assert node.lacks({"a" * 64: {}}, "") == (["a" * 64], False), "before the next step it goes"
    with pytest.raises(StageFailed, match="has no big of result aaaaaaaaaaaa any more"):
        node.give("a" * 64, "big", 0)


def test_phones_of_workers_count_as_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_adb(wanted: object) -> list[phones.Connected]:
        raise DeviceUnavailable("no adb")

    monkeypatch.setattr(phones, "_connected_here", no_adb)
    far = phones.Connected("S1", "S1: Pixel 4")
    with phones.also([far]):
        assert phones.connected({"S1"}) == [far]
    with pytest.raises(DeviceUnavailable, match="no adb"):
        phones.connected()
    here = phones.Connected("S2", "S2: another")
    monkeypatch.setattr(phones, "_connected_here", lambda wanted: [here] if not wanted else [])
    with phones.also([far]):
        assert phones.connected({"S1"}) == [here, far]


class Stopped:
    """In the place of a step's processes."""

    def __init__(self) -> None:
        self.called = threading.Event()

    def stop(self) -> None:
        self.called.set()


@pytest.mark.parametrize(
    ("limits", "given_up", "says"),
    [
        (Limits(), True, "nobody waits for it"),
        (Limits(seconds=0.001), False, "it took longer than the 0 s that the worker gives a step"),
        (Limits(memory_bytes=1000), False, "it had more than the 0.0 GB that the worker gives a step"),
    ],
)
def test_a_step_over_a_limit_is_ended(limits: Limits, given_up: bool, says: str) -> None:
    processes = Stopped()
    watchdog = Watchdog(limits, cast(Any, processes), lambda: given_up)
    watchdog.pid = os.getpid()
    with watchdog:
        assert processes.called.wait(20)
    assert watchdog.verdict is not None and says in watchdog.verdict.message
    assert watchdog.memory_bytes == limits.memory_bytes


def test_a_step_within_its_limits_is_left_alone() -> None:
    processes = Stopped()
    with Watchdog(Limits(1000, 10**15), cast(Any, processes), never):
        assert not processes.called.wait(0.5)
    assert resident_bytes(os.getpid()) > 10**6 and resident_bytes(0) == 0


def test_emulated_steps_run_beside_each_other_on_one_machine() -> None:
    pool = pool_of(offer("a", "emulator", machine="m"), offer("b", "emulator", machine="m"))
    asked = Asked({}, frozenset({"emulator"}))
    with pool.taken("x", asked, never, {}) as one, pool.taken("y", asked, never, {}) as other:
        assert {one.offer.name, other.offer.name} == {"a", "b"}
